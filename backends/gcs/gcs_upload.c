/* SPDX-License-Identifier: MIT
 * gcs_upload.c: uploads in parts. The service's own resumable upload takes bytes in one order, once; the
 * store's contract wants parts at once, in any order, again, and nothing to be seen before the end. What it
 * has for that is composing: parts are objects of their own below PREFIX.quay-parts/ID/, composed at the end
 * with the condition on the target, and removed. At most 32 make one object, so more than 32 parts are
 * composed in groups of 32 first.
 *
 * PREFIX.quay-parts/ID/begin is there as long as the upload is: an object whose content is the target's name
 * and whose metadata is what the target gets. A part's etag is its generation: what is composed is what was
 * sent. Left by a client that died: the journal's next start aborts it; a lifecycle rule may as well. */
#include "backends/gcs/gcs.h"

#include "base/cleanup.h"
#include "base/clock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ID_LEN 32
#define BEGIN "begin"
#define BEGIN_BACK_MS 5000

static int check_id(struct op *op, const char *id)
{
    return strlen(id) == ID_LEN && strspn(id, "0123456789abcdef") == ID_LEN
               ? 0
               : err_set(&op->err, EINVAL, "not an upload id of this store");
}

static char *begin_name(const struct gcs_store *s, const char *id)
{
    return xasprintf("%s" GCS_PARTS "%s/" BEGIN, s->prefix, id);
}

static char *part_name(const struct gcs_store *s, const char *id, unsigned number)
{
    return xasprintf("%s" GCS_PARTS "%s/%05u", s->prefix, id, number);
}

static char *group_name(const struct gcs_store *s, const char *id, size_t group)
{
    return xasprintf("%s" GCS_PARTS "%s/group-%02zu", s->prefix, id, group);
}

/* Parts live shortly: a class with a minimum duration would bill them for it. */
static json_t *part_resource(void)
{
    return json_pack("{s:s}", "storageClass", "STANDARD");
}

/* ---- begin, part ---- */

/* Nobody else knows the id of an upload whose beginning was not confirmed. */
static void take_back_begin(struct gcs_store *s, const char *begin)
{
    struct op op;
    op_init(&op, "upload_abort", BEGIN_BACK_MS);
    (void)gcs_delete(s, &op, "upload_abort", begin, NULL);
}

int gcs_upload_begin(struct store *store, struct op *op, const struct upload_req *req, char **ret_id)
{
    struct gcs_store *s = gcs_of(store);
    char id[ID_LEN + 1];
    random_hex(id, ID_LEN);
    CLEANUP_FREE char *object = flat_object(s->prefix, req->key), *begin = begin_name(s, id);
    const struct attr plain = {.kind = ATTR_FILE, .content_type = req->attr ? req->attr->content_type : NULL};
    struct source_mem src = source_mem(object, strlen(object));
    struct gcs_object made = {0};
    json_t *meta = part_resource();
    int r = gcs_json_meta(s->posix ? req->attr : &plain, false, &op->err, meta);
    if (r == 0)
        r = gcs_insert(s, op, "upload_begin", begin, meta, &src.base, NULL, &made);
    json_decref(meta);
    gcs_object_done(&made);
    if (r == 0)
        *ret_id = xstrdup(id);
    else if (op->err.retry == ERR_RETRY_UNKNOWN || op->err.status >= 500)
        take_back_begin(s, begin);
    return r;
}

int gcs_upload_part(struct store *store, struct op *op, const char *key, const char *id,
                    const struct source *src, struct store_part *part)
{
    struct gcs_store *s = gcs_of(store);
    struct gcs_object made = {0};
    int r = check_id(op, id);
    (void)key;
    if (r < 0)
        return r;
    CLEANUP_FREE char *object = part_name(s, id, part->number);
    json_t *meta = part_resource();
    r = gcs_insert(s, op, "upload_part", object, meta, src, NULL, &made);
    json_decref(meta);
    if (r == 0)
        memcpy(part->etag, made.attr.version, sizeof(part->etag));
    gcs_object_done(&made);
    return r;
}

/* ---- compose ---- */

static int add_source(struct op *op, json_t *list, const char *name, const char *generation)
{
    if (!gcs_is_generation(generation))
        return err_set(&op->err, ESTALE, "'%.40s' is not the etag of a part of this store", generation);
    json_t *o = json_pack("{s:s, s:s, s:{s:s}}", "name", name, "generation", generation,
                          "objectPreconditions", "ifGenerationMatch", generation);
    if (!o)
        return err_set(&op->err, EINVAL, "'%.300s': names are UTF-8", name);
    (void)json_array_append_new(list, o);
    return 0;
}

/* Joins `sources` (taken) into `object`, whose resource begins with `target` (taken). */
static int compose(struct gcs_store *s, struct op *op, const char *object, json_t *sources, json_t *target,
                   const struct precond *pre, struct gcs_object *ret)
{
    json_t *o = NULL;
    json_t *body = json_pack("{s:s, s:o, s:o}", "kind", "storage#composeRequest", "sourceObjects", sources,
                             "destination", target);
    struct gcs_req r = {.op = "upload_finish",
                        .method = "POST",
                        .object = object,
                        .suffix = "/compose",
                        .once = true,
                        .stall_s = GCS_STALL_S};
    int rc = gcs_req_precond(&r, op, pre);
    if (rc < 0) {
        json_decref(body);
        return rc;
    }
    rc = gcs_do_json(s, op, &r, body, &o);
    if (rc == 0)
        rc = gcs_take_object(s, op, "upload_finish", o, ret);
    json_decref(o);
    return rc;
}

static int add_parts(struct gcs_store *s, struct op *op, const char *id, const struct store_part *parts,
                     size_t n, json_t *list)
{
    for (size_t i = 0; i < n; i++) {
        CLEANUP_FREE char *name = part_name(s, id, parts[i].number);
        int r = add_source(op, list, name, parts[i].etag);
        if (r < 0)
            return r;
    }
    return 0;
}

static int add_group(struct gcs_store *s, struct op *op, const char *id, size_t group,
                     const struct store_part *parts, size_t n, json_t *list)
{
    CLEANUP_FREE char *name = group_name(s, id, group);
    struct gcs_object made = {0};
    json_t *sources = json_array();
    int r = add_parts(s, op, id, parts, n, sources);
    if (r < 0)
        json_decref(sources);
    else
        r = compose(s, op, name, sources, part_resource(), NULL, &made);
    if (r < 0 && op->err.retry == ERR_RETRY_UNKNOWN)
        op->err.retry = ERR_RETRY_SAFE; /* the target is not touched yet */
    if (r == 0)
        r = add_source(op, list, name, made.attr.version);
    gcs_object_done(&made);
    return r;
}

static int add_all(struct gcs_store *s, struct op *op, const char *id, const struct store_part *parts,
                   size_t n, json_t *list)
{
    if (n <= GCS_COMPOSE_MAX)
        return add_parts(s, op, id, parts, n, list);
    for (size_t i = 0; i < n; i += GCS_COMPOSE_MAX) {
        size_t m = n - i < GCS_COMPOSE_MAX ? n - i : GCS_COMPOSE_MAX;
        int r = op_check(op);
        if (r == 0)
            r = add_group(s, op, id, i / GCS_COMPOSE_MAX, parts + i, m, list);
        if (r < 0)
            return r;
    }
    return 0;
}

/* What `begin` holds for the target. */
static int read_begin(struct gcs_store *s, struct op *op, const char *id, json_t **ret)
{
    CLEANUP_FREE char *begin = begin_name(s, id);
    json_t *o = NULL, *target;
    struct gcs_req r = {.op = "upload_finish", .method = "GET", .object = begin};
    gcs_req_param(&r, "fields", "contentType,metadata");
    int rc = gcs_do_json(s, op, &r, NULL, &o);
    if (rc == -ENOENT)
        return err_set(&op->err, ESTALE, "the upload %s was ended by someone else", id);
    if (rc < 0)
        return rc;
    target = json_object();
    if (json_is_string(json_object_get(o, "contentType")))
        (void)json_object_set(target, "contentType", json_object_get(o, "contentType"));
    if (json_is_object(json_object_get(o, "metadata")))
        (void)json_object_set(target, "metadata", json_object_get(o, "metadata"));
    if (s->storage_class)
        (void)json_object_set_new(target, "storageClass", json_string(s->storage_class));
    json_decref(o);
    *ret = target;
    return 0;
}

/* Removes everything below ID/ (`begin` is behind the parts). What cannot be removed stays: the first failure is given. */
static int sweep(struct gcs_store *s, struct op *op, const char *id)
{
    CLEANUP_FREE char *prefix = xasprintf("%s" GCS_PARTS "%s/", s->prefix, id);
    for (;;) {
        struct flat_result l = {0};
        int r = gcs_list_raw(s, op, "upload_abort", prefix, NULL, GCS_PAGE_MAX, &l);
        for (size_t i = 0; r == 0 && i < l.n; i++) {
            r = gcs_delete(s, op, "upload_abort", l.v[i].object, NULL);
            if (r == -ENOENT)
                r = 0;
        }
        bool more = l.truncated && l.n > 0;
        flat_result_done(&l);
        if (r < 0 || !more)
            return r;
    }
}

/* The object is there: what fails now costs space, and is not the write's failure. */
static void clean_up(struct gcs_store *s, const char *id)
{
    struct op op;
    op_init(&op, "upload_finish", 60000);
    (void)sweep(s, &op, id);
}

static int finish(struct gcs_store *s, struct op *op, const char *key, const char *id,
                  const struct store_part *parts, size_t n, const struct precond *pre,
                  struct gcs_object *ret)
{
    CLEANUP_FREE char *object = flat_object(s->prefix, key);
    json_t *target = NULL, *sources = json_array();
    int r = read_begin(s, op, id, &target);
    if (r == 0)
        r = add_all(s, op, id, parts, n, sources);
    if (r < 0) {
        json_decref(sources);
        json_decref(target);
        return r == -ENOENT ? err_set(&op->err, ESTALE, "a part of the upload %s is gone", id) : r;
    }
    r = compose(s, op, object, sources, target, pre, ret);
    if (r == -ENOENT)
        r = err_set(&op->err, ESTALE, "a part of the upload %s is gone", id);
    return r;
}

int gcs_upload_finish(struct store *store, struct op *op, const char *key, const char *id,
                      const struct store_part *parts, size_t n, const struct precond *pre,
                      struct attr *ret)
{
    struct gcs_store *s = gcs_of(store);
    struct gcs_object made = {0};
    uint64_t size = 0;
    int r = check_id(op, id);
    if (r == 0)
        r = flat_cond_result(op, pre, finish(s, op, key, id, parts, n, pre, &made));
    if (r < 0)
        return r;
    for (size_t i = 0; i < n; i++)
        size += parts[i].size;
    if (made.attr.size != size) {
        r = err_set(&op->err, EIO, "upload_finish %s/%s%s: %llu bytes were composed, not %llu", s->view.uri,
                    s->prefix, key, (unsigned long long)made.attr.size, (unsigned long long)size);
    } else {
        attr_move(ret, &made.attr);
        clean_up(s, id);
    }
    gcs_object_done(&made);
    return r;
}

int gcs_upload_abort(struct store *store, struct op *op, const char *key, const char *id)
{
    int r = check_id(op, id);
    (void)key;
    return r < 0 ? r : sweep(gcs_of(store), op, id);
}
