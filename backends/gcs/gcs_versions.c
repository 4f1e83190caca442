/* SPDX-License-Identifier: MIT
 * gcs_versions.c: noncurrent generations of objects: listings with versions=true, reads with generation=.
 *
 * A listing has the generations of a name in rising order; one that is not current any more has timeDeleted, and
 * that no live one follows is the deletion. Whether the bucket keeps versions is asked for once it is needed
 * (versioning of the bucket's resource), and again UNVERSIONED_S later when it did not; where that is not allowed, or it
 * keeps none, noncurrent generations that are there all the same (kept until versioning was switched off) are shown.
 * Facts: the API references of Objects: list, get, rewrite, and Buckets: get. */
#include "backends/gcs/gcs.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/date.h"

#include <errno.h>
#include <string.h>

#define UNVERSIONED_S 300

struct gcs_version gcs_version(const char *version)
{
    struct gcs_version v = {0};
    CLEANUP_FREE char *id = NULL;
    char etag[ATTR_VERSION_MAX];
    if (kept_version_split(version, &id, etag))
        (void)snprintf(v.generation, sizeof(v.generation), "%.23s", id);
    return v;
}

void gcs_version_told(const struct gcs_version *v, struct attr *attr)
{
    if (v->generation[0])
        (void)kept_version_make(v->generation, v->generation, attr->version);
}

static bool bucket_keeps(struct gcs_store *s, struct op *op)
{
    uint64_t seen = atomic_load(&s->unversioned_ns);
    json_t *o = NULL;
    if (atomic_load(&s->versioned) || (seen && clock_now_ns() - seen < UNVERSIONED_S * NS_PER_S))
        return atomic_load(&s->versioned);
    struct gcs_req r = {.op = "list_versions", .method = "GET", .bucket = true};
    gcs_req_param(&r, "fields", "versioning");
    if (gcs_do_json(s, op, &r, NULL, &o) < 0) { /* not allowed, perhaps: the listing tells */
        err_clear(&op->err);
        return false;
    }
    bool keeps = json_is_true(json_object_get(json_object_get(o, "versioning"), "enabled"));
    atomic_store(&s->versioned, keeps);
    atomic_store(&s->unversioned_ns, clock_now_ns());
    json_decref(o);
    return keeps;
}

static int bad_listing(struct gcs_store *s, struct op *op, const char *object)
{
    int r = err_set(&op->err, EIO, "list_versions %s/%.300s: the reply is not a listing of versions", s->view.uri,
                    object);
    op->err.retry = ERR_RETRY_SAFE;
    return r;
}

struct generations {
    struct version_page page; /* in rising order */
    struct timespec deleted;  /* when the last one was; 0: it is live */
    bool over;                /* names behind the object's were reached */
};

static bool take_generation(const json_t *o, const char *object, struct generations *to)
{
    struct gcs_object got = {0};
    if (gcs_json_object(o, false, &got) < 0)
        return false;
    int order = strcmp(got.name, object);
    const char *gone = json_string_value(json_object_get(o, "timeDeleted"));
    to->over = to->over || order > 0;
    if (order == 0) {
        struct kept_version *k = version_page_add(&to->page, got.attr.version);
        k->attr = (struct attr){.kind = ATTR_FILE, .size = got.attr.size, .mtime = got.created};
        (void)kept_version_make(k->id, k->id, k->attr.version);
        to->deleted = (struct timespec){0};
        if (gone && !date_parse_iso(gone, &to->deleted))
            to->deleted = got.created;
    }
    gcs_object_done(&got);
    return true;
}

static int ask(struct gcs_store *s, struct op *op, const char *object, char **token, struct generations *to)
{
    json_t *o = NULL, *v;
    size_t i;
    struct gcs_req r = {.op = "list_versions", .method = "GET"};
    gcs_req_param(&r, "prefix", object);
    gcs_req_param(&r, "delimiter", "/");
    gcs_req_param(&r, "versions", "true");
    gcs_req_param(&r, "fields", "nextPageToken,items(name,generation,size,timeCreated,timeDeleted)");
    if (*token)
        gcs_req_param(&r, "pageToken", *token);
    int rc = gcs_do_json(s, op, &r, NULL, &o);
    if (rc < 0)
        return rc;
    json_array_foreach(json_object_get(o, "items"), i, v)
    {
        if (rc == 0 && !take_generation(v, object, to))
            rc = bad_listing(s, op, object);
    }
    const char *next = json_string_value(json_object_get(o, "nextPageToken"));
    if (rc == 0 && next && *token && strcmp(next, *token) == 0)
        rc = bad_listing(s, op, object);
    free(*token);
    *token = next && *next && !to->over ? xstrdup(next) : NULL;
    json_decref(o);
    return rc;
}

/* Newest first, behind the deletion if that was last. */
static void give(struct generations *g, struct version_page *ret)
{
    if (g->deleted.tv_sec) {
        struct kept_version *k = version_page_add(ret, "deleted");
        k->deleted = true;
        k->attr.mtime = g->deleted;
    }
    for (size_t i = g->page.count; i > 0; i--) {
        struct kept_version *from = &g->page.v[i - 1];
        attr_move(&version_page_add(ret, from->id)->attr, &from->attr);
    }
}

int gcs_list_versions(struct store *store, struct op *op, const char *key, const char *cursor, unsigned max,
                      struct version_page *ret)
{
    struct gcs_store *s = gcs_of(store);
    CLEANUP_FREE char *object = flat_object(s->prefix, key);
    CLEANUP_FREE char *token = NULL;
    struct generations g = {0};
    bool keeps = bucket_keeps(s, op);
    int r = 0;
    (void)cursor; /* all of them at once: the newest are the last */
    (void)max;
    do
        r = ask(s, op, object, &token, &g);
    while (r == 0 && token);
    if (r == 0 && !keeps && g.page.count == 1 && !g.deleted.tv_sec)
        r = err_set(&op->err, ENOTSUP, "%s: the bucket keeps no versions", s->view.uri);
    if (r == 0)
        give(&g, ret);
    version_page_done(&g.page);
    return r;
}

int gcs_stat_version(struct store *store, struct op *op, const char *key, const char *id, struct attr *ret)
{
    struct gcs_store *s = gcs_of(store);
    CLEANUP_FREE char *object = flat_object(s->prefix, key);
    struct gcs_object got = {0};
    char version[ATTR_VERSION_MAX];
    if (!gcs_is_generation(id) || !kept_version_make(id, id, version))
        return err_set(&op->err, ENOENT, "%s/%.300s: no version %.40s", s->view.uri, object, id);
    int r = gcs_look(s, op, "stat_version", object, version, &got);
    if (r == -ESTALE)
        r = err_set(&op->err, ENOENT, "%s/%.300s: no version %s", s->view.uri, object, id);
    if (r == 0) {
        got.attr.changed_s = got.created.tv_sec;
        attr_move(ret, &got.attr);
    }
    gcs_object_done(&got);
    return r;
}
