/* SPDX-License-Identifier: MIT
 * wrap.c: see wrap.h. Below the tables: one slot function for each operation, and call_forward(),
 * its inverse. */
#include "backends/wrap.h"

#include "base/cleanup.h"

#include <assert.h>

static const char *const op_names[STORE_OP_COUNT] = {
    [STORE_OP_NONE] = "none",
    [STORE_OP_STAT] = "stat",
    [STORE_OP_LIST] = "list",
    [STORE_OP_READ] = "read",
    [STORE_OP_PROBE] = "probe",
    [STORE_OP_PUT] = "put",
    [STORE_OP_PATCH] = "patch",
    [STORE_OP_UPLOAD_BEGIN] = "upload_begin",
    [STORE_OP_UPLOAD_PART] = "upload_part",
    [STORE_OP_UPLOAD_COPY_PART] = "upload_copy_part",
    [STORE_OP_UPLOAD_FINISH] = "upload_finish",
    [STORE_OP_UPLOAD_ABORT] = "upload_abort",
    [STORE_OP_REMOVE] = "remove",
    [STORE_OP_REMOVE_MANY] = "remove_many",
    [STORE_OP_COPY] = "copy",
    [STORE_OP_RENAME] = "rename",
    [STORE_OP_EXCHANGE] = "exchange",
    [STORE_OP_SET_META] = "set_meta",
    [STORE_OP_GET_TAGS] = "get_tags",
    [STORE_OP_SET_TAGS] = "set_tags",
    [STORE_OP_MAKE_DIR] = "make_dir",
    [STORE_OP_REMOVE_DIR] = "remove_dir",
    [STORE_OP_SPACE] = "space",
    [STORE_OP_SIGN] = "sign",
    [STORE_OP_LIST_VERSIONS] = "list_versions",
    [STORE_OP_STAT_VERSION] = "stat_version",
};

const char *store_op_name(enum store_op kind)
{
    return op_names[kind];
}

enum store_op store_op_parse(const char *name)
{
    for (unsigned i = STORE_OP_NONE + 1; i < STORE_OP_COUNT; i++)
        if (strcmp(op_names[i], name) == 0)
            return (enum store_op)i;
    return STORE_OP_NONE;
}

#define E(name)                                                                                    \
    {                                                                                              \
        name, #name                                                                                \
    }
static const struct {
    int code;
    const char *name;
} errnos[] = {
    {0, "ok"},       {-1, "other"}, E(ENOENT),       E(EACCES),     E(EIO),          E(ETIMEDOUT),
    E(EHOSTUNREACH), E(EBUSY),      E(ESTALE),       E(EEXIST),     E(ENOTSUP),      E(EROFS),
    E(ENOSPC),       E(ENOTDIR),    E(EISDIR),       E(ENOTEMPTY),  E(ENAMETOOLONG), E(EINTR),
    E(EINVAL),       E(EFBIG),      E(ECONNREFUSED), E(ECONNRESET), E(EPROTO),       E(EMSGSIZE),
    E(ENOMEM),       E(EDQUOT),     E(EAGAIN),       E(EXDEV),      E(ELOOP),        E(EMFILE),
    E(ENFILE),       E(ENODATA),    E(ERANGE),       E(E2BIG),      E(EUCLEAN),      E(ENETUNREACH),
};
#undef E
_Static_assert(ARRAY_LEN(errnos) <= ERRNO_NAMES, "grow ERRNO_NAMES");

unsigned errno_index(int code)
{
    for (unsigned i = 0; i < ARRAY_LEN(errnos); i++)
        if (errnos[i].code == code)
            return i;
    return 1;
}

const char *errno_name(int code)
{
    return errnos[errno_index(code)].name;
}

int errno_parse(const char *name)
{
    for (unsigned i = 2; i < ARRAY_LEN(errnos); i++)
        if (strcmp(errnos[i].name, name) == 0)
            return errnos[i].code;
    char *end;
    long v = strtol(name, &end, 10);
    return name[0] && !*end && v > 0 && v < 4096 ? (int)v : 0;
}

void wrapper_init(struct wrapper *w, const struct store_class *cls, struct store *next,
                  int (*around)(struct wrapper *w, struct op *op, struct call *c))
{
    w->base = (struct store){
        .cls = cls,
        .key = next->key ? xstrdup(next->key) : NULL,
        .base_uri = next->base_uri ? xstrdup(next->base_uri) : NULL,
        .caps = next->caps,
        .limits = next->limits,
        .next = next,
    };
    w->around = around;
}

void wrap_close(struct store *s)
{
    struct wrapper *w = (struct wrapper *)s;
    if (w->done)
        w->done(w);
    store_close(s->next);
    free(w);
}

static int around(struct store *s, struct op *op, struct call c)
{
    struct wrapper *w = (struct wrapper *)s;
    return w->around(w, op, &c);
}

/* ---- slots: arguments -> struct call ---- */

int wrap_stat(struct store *s, struct op *op, const char *key, struct attr *ret)
{
    return around(s, op, (struct call){.kind = STORE_OP_STAT, .key = key, .u.stat = {ret}});
}

int wrap_list(struct store *s, struct op *op, const struct list_query *q, struct list_page *ret)
{
    return around(s, op,
                  (struct call){.kind = STORE_OP_LIST, .key = q->prefix, .u.list = {q, ret}});
}

int wrap_read(struct store *s, struct op *op, const struct read_req *req, struct read_res *ret)
{
    return around(s, op,
                  (struct call){.kind = STORE_OP_READ, .key = req->key, .u.read = {req, ret}});
}

int wrap_probe(struct store *s, struct op *op, struct buf *ret_text)
{
    return around(s, op, (struct call){.kind = STORE_OP_PROBE, .key = "", .u.probe = {ret_text}});
}

int wrap_put(struct store *s, struct op *op, const struct put_req *req, struct attr *ret)
{
    return around(s, op, (struct call){.kind = STORE_OP_PUT, .key = req->key, .u.put = {req, ret}});
}

int wrap_patch(struct store *s, struct op *op, const struct patch_req *req, struct attr *ret)
{
    return around(s, op,
                  (struct call){.kind = STORE_OP_PATCH, .key = req->key, .u.patch = {req, ret}});
}

int wrap_upload_begin(struct store *s, struct op *op, const struct upload_req *req, char **ret_id)
{
    return around(
        s, op,
        (struct call){.kind = STORE_OP_UPLOAD_BEGIN, .key = req->key, .u.begin = {req, ret_id}});
}

int wrap_upload_part(struct store *s, struct op *op, const char *key, const char *id,
                     const struct source *src, struct store_part *part)
{
    return around(
        s, op, (struct call){.kind = STORE_OP_UPLOAD_PART, .key = key, .u.part = {id, src, part}});
}

int wrap_upload_copy_part(struct store *s, struct op *op, const char *key, const char *id,
                          const char *from, const char *from_version, uint64_t offset,
                          struct store_part *part)
{
    return around(s, op,
                  (struct call){.kind = STORE_OP_UPLOAD_COPY_PART,
                                .key = key,
                                .u.copy_part = {id, from, from_version, offset, part}});
}

int wrap_upload_finish(struct store *s, struct op *op, const char *key, const char *id,
                       const struct store_part *parts, size_t n, const struct precond *pre,
                       struct attr *ret)
{
    return around(s, op,
                  (struct call){.kind = STORE_OP_UPLOAD_FINISH,
                                .key = key,
                                .u.finish = {id, parts, n, pre, ret}});
}

int wrap_upload_abort(struct store *s, struct op *op, const char *key, const char *id)
{
    return around(s, op, (struct call){.kind = STORE_OP_UPLOAD_ABORT, .key = key, .u.abort = {id}});
}

int wrap_remove(struct store *s, struct op *op, const char *key, const char *if_match)
{
    return around(s, op,
                  (struct call){.kind = STORE_OP_REMOVE, .key = key, .u.remove = {if_match}});
}

int wrap_remove_many(struct store *s, struct op *op, const char *const *keys, size_t n,
                     struct remove_result *results)
{
    return around(s, op,
                  (struct call){.kind = STORE_OP_REMOVE_MANY,
                                .key = keys[0],
                                .u.remove_many = {keys, n, results}});
}

int wrap_copy(struct store *s, struct op *op, const char *from, const char *from_version,
              const char *to, const struct precond *pre, struct attr *ret)
{
    return around(
        s, op,
        (struct call){.kind = STORE_OP_COPY, .key = from, .u.copy = {from_version, to, pre, ret, NULL}});
}

int wrap_copy_from(struct store *s, struct op *op, struct store *source, const char *from,
                   const char *from_version, const char *to, const struct precond *pre, struct attr *ret)
{
    return around(s, op,
                  (struct call){.kind = STORE_OP_COPY,
                                .key = from,
                                .u.copy = {from_version, to, pre, ret, source}});
}

int wrap_rename(struct store *s, struct op *op, const char *from, const char *to, bool no_replace)
{
    return around(
        s, op, (struct call){.kind = STORE_OP_RENAME, .key = from, .u.rename = {to, no_replace}});
}

int wrap_exchange(struct store *s, struct op *op, const char *a, const char *b)
{
    return around(s, op, (struct call){.kind = STORE_OP_EXCHANGE, .key = a, .u.exchange = {b}});
}

int wrap_set_meta(struct store *s, struct op *op, const char *key, const char *if_match,
                  const struct attr *change, struct attr *ret)
{
    return around(s, op,
                  (struct call){.kind = STORE_OP_SET_META,
                                .key = key,
                                .u.set_meta = {if_match, change, ret}});
}

int wrap_get_tags(struct store *s, struct op *op, const char *key, struct attr *ret)
{
    return around(s, op,
                  (struct call){.kind = STORE_OP_GET_TAGS, .key = key, .u.get_tags = {ret}});
}

int wrap_set_tags(struct store *s, struct op *op, const char *key, const struct attr *tags)
{
    return around(s, op,
                  (struct call){.kind = STORE_OP_SET_TAGS, .key = key, .u.set_tags = {tags}});
}

int wrap_make_dir(struct store *s, struct op *op, const char *key, const struct attr *attr)
{
    return around(s, op,
                  (struct call){.kind = STORE_OP_MAKE_DIR, .key = key, .u.make_dir = {attr}});
}

int wrap_remove_dir(struct store *s, struct op *op, const char *key)
{
    return around(s, op, (struct call){.kind = STORE_OP_REMOVE_DIR, .key = key});
}

int wrap_space(struct store *s, struct op *op, struct store_space *ret)
{
    return around(s, op, (struct call){.kind = STORE_OP_SPACE, .key = "", .u.space = {ret}});
}

int wrap_sign(struct store *s, struct op *op, const struct sign_req *req, struct buf *ret_url)
{
    return around(s, op,
                  (struct call){.kind = STORE_OP_SIGN, .key = req->key, .u.sign = {req, ret_url}});
}

int wrap_list_versions(struct store *s, struct op *op, const char *key, const char *cursor,
                       unsigned max, struct version_page *ret)
{
    return around(s, op,
                  (struct call){.kind = STORE_OP_LIST_VERSIONS,
                                .key = key,
                                .u.list_versions = {cursor, max, ret}});
}

int wrap_stat_version(struct store *s, struct op *op, const char *key, const char *id, struct attr *ret)
{
    return around(s, op,
                  (struct call){.kind = STORE_OP_STAT_VERSION, .key = key, .u.stat_version = {id, ret}});
}

/* ---- struct call -> the next store ---- */

static int forward_upload(struct store *next, struct op *op, const struct call *c)
{
    const char *key = c->key;
    switch (c->kind) {
    case STORE_OP_UPLOAD_BEGIN:
        return store_upload_begin(next, op, c->u.begin.req, c->u.begin.ret_id);
    case STORE_OP_UPLOAD_PART:
        return store_upload_part(next, op, key, c->u.part.id, c->u.part.src, c->u.part.part);
    case STORE_OP_UPLOAD_COPY_PART:
        return store_upload_copy_part(next, op, key, c->u.copy_part.id, c->u.copy_part.from,
                                      c->u.copy_part.from_version, c->u.copy_part.offset,
                                      c->u.copy_part.part);
    case STORE_OP_UPLOAD_FINISH:
        return store_upload_finish(next, op, key, c->u.finish.id, c->u.finish.parts, c->u.finish.n,
                                   c->u.finish.pre, c->u.finish.ret);
    case STORE_OP_UPLOAD_ABORT:
        return store_upload_abort(next, op, key, c->u.abort.id);
    default:
        assert(c->kind == STORE_OP_NONE); /* every other operation is above */
        return -EINVAL;
    }
}

static int forward_write(struct store *next, struct op *op, const struct call *c)
{
    const char *key = c->key;
    switch (c->kind) {
    case STORE_OP_PUT:
        return store_put(next, op, c->u.put.req, c->u.put.ret);
    case STORE_OP_PATCH:
        return store_patch(next, op, c->u.patch.req, c->u.patch.ret);
    case STORE_OP_REMOVE:
        return store_remove(next, op, key, c->u.remove.if_match);
    case STORE_OP_REMOVE_MANY:
        return store_remove_many(next, op, c->u.remove_many.keys, c->u.remove_many.n,
                                 c->u.remove_many.results);
    case STORE_OP_COPY:
        if (c->u.copy.source)
            return store_copy_from(next, op, c->u.copy.source, key, c->u.copy.from_version,
                                   c->u.copy.to, c->u.copy.pre, c->u.copy.ret);
        return store_copy(next, op, key, c->u.copy.from_version, c->u.copy.to, c->u.copy.pre,
                          c->u.copy.ret);
    case STORE_OP_RENAME:
        return store_rename(next, op, key, c->u.rename.to, c->u.rename.no_replace);
    case STORE_OP_EXCHANGE:
        return store_exchange(next, op, key, c->u.exchange.with);
    case STORE_OP_SET_META:
        return store_set_meta(next, op, key, c->u.set_meta.if_match, c->u.set_meta.change,
                              c->u.set_meta.ret);
    case STORE_OP_SET_TAGS:
        return store_set_tags(next, op, key, c->u.set_tags.tags);
    case STORE_OP_MAKE_DIR:
        return store_make_dir(next, op, key, c->u.make_dir.attr);
    case STORE_OP_REMOVE_DIR:
        return store_remove_dir(next, op, key);
    default:
        return forward_upload(next, op, c);
    }
}

int call_forward(struct store *next, struct op *op, const struct call *c)
{
    switch (c->kind) {
    case STORE_OP_STAT:
        return store_stat(next, op, c->key, c->u.stat.ret);
    case STORE_OP_LIST:
        return store_list(next, op, c->u.list.q, c->u.list.ret);
    case STORE_OP_READ:
        return store_read(next, op, c->u.read.req, c->u.read.ret);
    case STORE_OP_PROBE:
        return store_probe(next, op, c->u.probe.ret);
    case STORE_OP_GET_TAGS:
        return store_get_tags(next, op, c->key, c->u.get_tags.ret);
    case STORE_OP_SPACE:
        return store_space(next, op, c->u.space.ret);
    case STORE_OP_SIGN:
        return store_sign(next, op, c->u.sign.req, c->u.sign.ret);
    case STORE_OP_LIST_VERSIONS:
        return store_list_versions(next, op, c->key, c->u.list_versions.cursor,
                                   c->u.list_versions.max, c->u.list_versions.ret);
    case STORE_OP_STAT_VERSION:
        return store_stat_version(next, op, c->key, c->u.stat_version.id, c->u.stat_version.ret);
    default:
        return forward_write(next, op, c);
    }
}

struct attr *call_attr(const struct call *c)
{
    switch (c->kind) {
    case STORE_OP_STAT:
        return c->u.stat.ret;
    case STORE_OP_READ:
        return &c->u.read.ret->attr;
    case STORE_OP_PUT:
        return c->u.put.ret;
    case STORE_OP_PATCH:
        return c->u.patch.ret;
    case STORE_OP_UPLOAD_FINISH:
        return c->u.finish.ret;
    case STORE_OP_COPY:
        return c->u.copy.ret;
    case STORE_OP_SET_META:
        return c->u.set_meta.ret;
    case STORE_OP_STAT_VERSION:
        return c->u.stat_version.ret;
    default:
        return NULL;
    }
}

uint64_t call_bytes_read(const struct call *c)
{
    return c->kind == STORE_OP_READ ? c->u.read.ret->length : 0;
}

uint64_t call_bytes_written(const struct call *c)
{
    uint64_t n = 0;
    switch (c->kind) {
    case STORE_OP_PUT:
        return c->u.put.req->src->size;
    case STORE_OP_UPLOAD_PART:
        return c->u.part.part->size;
    case STORE_OP_PATCH:
        for (size_t i = 0; i < c->u.patch.req->n_ranges; i++)
            n += c->u.patch.req->ranges[i].length;
        return n;
    default:
        return 0;
    }
}
