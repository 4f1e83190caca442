/* SPDX-License-Identifier: MIT
 * gcs_copy.c: copies by the service (rewriteTo, in as many calls as it wants) and changes of metadata
 * (patch: what is not named stays; the generation stays, the metageneration grows). */
#include "backends/gcs/gcs.h"

#include "base/cleanup.h"
#include "base/url.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- copy ---- */

struct rewrite {
    const struct gcs_store *source;       /* that of `from` */
    const char *from, *to, *from_version; /* full names */
    const char *generation; /* from_version is a kept one: its; or NULL */
    const struct precond *pre;
    char *suffix;
    char *token;      /* of the call before, or NULL */
    uint64_t written; /* bytes copied so far */
};

static uint64_t number(const json_t *o, const char *name)
{
    const char *s = json_string_value(json_object_get(o, name));
    return s ? strtoull(s, NULL, 10) : 0;
}

/* One call. *ret: the new object's resource when it is done. */
static int rewrite_once(struct gcs_store *s, struct op *op, struct rewrite *w, json_t **ret)
{
    json_t *o = NULL;
    struct gcs_req r = {.op = "copy",
                        .method = "POST",
                        .in = w->source->bucket,
                        .object = w->from,
                        .suffix = w->suffix,
                        .stall_s = GCS_STALL_S};
    int rc = gcs_req_precond(&r, op, w->pre);
    if (rc < 0)
        return rc;
    if (w->generation)
        gcs_req_param(&r, "sourceGeneration", w->generation);
    else if (w->from_version)
        gcs_req_param(&r, "ifSourceGenerationMatch", w->from_version);
    if (w->token)
        gcs_req_param(&r, "rewriteToken", w->token);
    rc = gcs_do_json(s, op, &r, NULL, &o);
    if (rc < 0)
        return rc;
    const char *token = json_string_value(json_object_get(o, "rewriteToken"));
    uint64_t written = number(o, "totalBytesRewritten");
    if (json_is_true(json_object_get(o, "done"))) {
        *ret = json_incref(json_object_get(o, "resource"));
    } else if (!token || !*token || written <= w->written) {
        rc = err_set(&op->err, EIO, "copy %s/%.300s: the service's copying does not advance", s->view.uri,
                     w->from);
    } else {
        free(w->token);
        w->token = xstrdup(token);
        w->written = written;
    }
    json_decref(o);
    return rc;
}

/* 412: was it the source or the target that is not as it should be? */
static int judge(struct gcs_store *s, struct store *other, struct op *op, const struct rewrite *w, int r)
{
    struct gcs_object source = {0};
    struct err kept = op->err;
    if (r == -ENOENT && w->from_version)
        return err_set(&op->err, ESTALE, "copy %s/%.300s: it is gone", s->view.uri, w->from);
    if (r != -ESTALE || kept.status != 412 || !w->from_version || !w->pre || !w->pre->if_absent)
        return r == -ENOENT ? r : flat_cond_result(op, w->pre, r);
    int look = gcs_look(gcs_of(other), op, "copy", w->from, w->from_version, &source);
    gcs_object_done(&source);
    if (look < 0)
        return look; /* -ESTALE: the source's */
    op->err = kept;
    return flat_cond_result(op, w->pre, r);
}

bool gcs_same_service(const struct store *store, const struct store *other)
{
    return flat_same_endpoint(&((const struct gcs_store *)store)->endpoint,
                              &((const struct gcs_store *)other)->endpoint);
}

void gcs_place(const struct store *store, struct buf *ret_service, struct buf *ret_path)
{
    const struct gcs_store *s = (const struct gcs_store *)store;
    flat_place_text(&s->endpoint, s->bucket, s->prefix, ret_service, ret_path);
}

int gcs_copy(struct store *store, struct op *op, const char *from, const char *from_version, const char *to,
             const struct precond *pre, struct attr *ret)
{
    return gcs_copy_from(store, op, store, from, from_version, to, pre, ret);
}

int gcs_copy_from(struct store *store, struct op *op, struct store *other, const char *from,
                  const char *from_version, const char *to, const struct precond *pre, struct attr *ret)
{
    struct gcs_store *s = gcs_of(store);
    CLEANUP_FREE char *source = flat_object(gcs_of(other)->prefix, from), *target = flat_object(s->prefix, to);
    CLEANUP_BUF struct buf suffix = BUF_INIT;
    struct gcs_object made = {0};
    json_t *o = NULL;
    bool pinned = from_version && *from_version;
    struct gcs_version v = gcs_version(from_version);
    if (pinned && !v.generation[0] && !gcs_is_generation(from_version))
        return err_set(&op->err, ESTALE, "'%.40s' is not a version of an object here", from_version);
    buf_adds(&suffix, "/rewriteTo/b/");
    url_encode(&suffix, s->bucket, strlen(s->bucket), false);
    buf_adds(&suffix, "/o/");
    url_encode(&suffix, target, strlen(target), false);
    struct rewrite w = {.source = gcs_of(other),
                        .from = source,
                        .to = target,
                        .from_version = pinned ? from_version : NULL,
                        .generation = v.generation[0] ? v.generation : NULL,
                        .pre = pre,
                        .suffix = suffix.data};
    int r = 0;
    while (r == 0 && !o) {
        r = op_check(op);
        if (r == 0)
            r = rewrite_once(s, op, &w, &o);
    }
    free(w.token);
    r = r < 0 ? judge(s, other, op, &w, r) : gcs_take_object(s, op, "copy", o, &made);
    if (r == 0)
        r = flat_keep_time(&s->view, store, op, other, source, w.from_version, target, &made.attr);
    if (r == 0)
        attr_move(ret, &made.attr);
    gcs_object_done(&made);
    json_decref(o);
    return r;
}

/* ---- set_meta ---- */

/* The resource itself: its metadata as it is stored. */
static int fetch(struct gcs_store *s, struct op *op, const char *object, struct gcs_object *ret,
                 json_t **ret_json)
{
    struct gcs_req r = {.op = "set_meta", .method = "GET", .object = object};
    json_t *o = NULL;
    int rc = gcs_do_json(s, op, &r, NULL, &o);
    if (rc == 0)
        rc = gcs_take_object(s, op, "set_meta", o, ret);
    if (rc < 0)
        json_decref(o);
    else
        *ret_json = o;
    return rc;
}

/* Xattrs are replaced: metadata that holds old ones, and is not written anew, goes. */
static void drop_old_xattrs(const json_t *old, json_t *metadata)
{
    const char *name;
    json_t *v;
    json_object_foreach(json_object_get(old, "metadata"), name, v)
    {
        bool holds = strcmp(name, "xattr") == 0 || !flat_meta_is_own(name);
        if (holds && !json_object_get(metadata, name))
            (void)json_object_set_new(metadata, name, json_null());
    }
}

static int make_patch(struct op *op, const struct gcs_object *now, const json_t *old,
                      const struct attr *change, json_t **ret)
{
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    json_t *patch = json_object(), *metadata;
    if (change->known & ATTR_XATTR_EDITS) { /* one text holds them all */
        attr_copy(&a, &now->attr);
        a.known = ATTR_HAS_XATTRS;
        attr_apply(&a, change);
    } else {
        attr_copy(&a, change);
    }
    free(a.content_type);
    a.content_type = NULL;
    a.kind = now->attr.kind;
    if (!(a.known & ATTR_HAS_MODE) && (now->attr.known & ATTR_HAS_MODE)) { /* a symlink's is written again */
        a.mode = now->attr.mode;
        a.known |= ATTR_HAS_MODE;
    }
    int r = gcs_json_meta(&a, false, &op->err, patch);
    if (r < 0) {
        json_decref(patch);
        return r;
    }
    metadata = json_object_get(patch, "metadata");
    if (!metadata) {
        metadata = json_object();
        (void)json_object_set_new(patch, "metadata", metadata);
    }
    if (a.known & ATTR_HAS_XATTRS)
        drop_old_xattrs(old, metadata);
    *ret = patch;
    return 0;
}

static int send_patch(struct gcs_store *s, struct op *op, const char *object, const struct gcs_object *now,
                      json_t *patch, struct gcs_object *ret)
{
    json_t *o = NULL;
    struct gcs_req r = {.op = "set_meta", .method = "PATCH", .object = object};
    gcs_req_param(&r, "ifGenerationMatch", now->attr.version);
    if (now->metageneration[0])
        gcs_req_param(&r, "ifMetagenerationMatch", now->metageneration);
    int rc = gcs_do_json(s, op, &r, patch, &o);
    if (rc == 0)
        rc = gcs_take_object(s, op, "set_meta", o, ret);
    json_decref(o);
    return rc;
}

int gcs_set_file_meta(struct store *store, struct op *op, const char *object, const char *if_match,
                      const struct attr *change, struct attr *ret)
{
    struct gcs_store *s = gcs_of(store);
    struct gcs_object now = {0}, made = {0};
    json_t *old = NULL, *patch = NULL;
    int r = fetch(s, op, object, &now, &old);
    if (r == 0 && if_match && *if_match && strcmp(now.attr.version, if_match) != 0)
        r = err_set(&op->err, ESTALE, "set_meta %s/%.300s: the version there is '%s', not '%.40s'",
                    s->view.uri, object, now.attr.version, if_match);
    if (r == 0)
        r = make_patch(op, &now, old, change, &patch);
    if (r == 0)
        r = send_patch(s, op, object, &now, patch, &made);
    if (r == -ESTALE && op->err.status == 412) /* changed since we looked: nothing was done */
        r = -EAGAIN;
    if (r == 0)
        attr_move(ret, &made.attr);
    json_decref(old);
    gcs_object_done(&now);
    gcs_object_done(&made);
    return r;
}

int gcs_check_meta(const struct store *store, const struct attr *a, struct err *err)
{
    const struct gcs_store *s = (const struct gcs_store *)store;
    return s->posix ? flat_meta_check(a, &gcs_meta_rules, false, err) : 0;
}

int gcs_set_meta(struct store *store, struct op *op, const char *key, const char *if_match,
                   const struct attr *change, struct attr *ret)
{
    return flat_set_meta(&gcs_of(store)->view, store, op, key, if_match, change, ret);
}
