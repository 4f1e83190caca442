/* SPDX-License-Identifier: MIT
 * wrap.h: what the wrappers (retry, metrics, limit, fault, readonly) share. Only for backends/.
 *
 * Every slot of a wrapper packs its arguments into a struct call and hands it to the wrapper's one
 * function `around`, which does its work and passes the call on with call_forward() as often as it
 * likes. So a wrapper is one function, and a new operation is added in wrap.c only.
 *
 *     struct my { struct wrapper base; ... };
 *     static const struct store_class my_class = {.abi = STORE_ABI, .name = "my", WRAP_SLOTS};
 *     struct my *w = xcalloc(1, sizeof(*w)); wrapper_init(&w->base, &my_class, next, my_around);
 *
 * Ownership: a wrapper owns `next`; close frees both, and calls `done` first where it is set.
 * Threads: as store.h says: `around` runs concurrently. */
#ifndef QUAY_BACKENDS_WRAP_H
#define QUAY_BACKENDS_WRAP_H

#include "backends/store.h"

enum store_op {
    STORE_OP_NONE = 0,
    STORE_OP_STAT,
    STORE_OP_LIST,
    STORE_OP_READ,
    STORE_OP_PROBE,
    STORE_OP_PUT,
    STORE_OP_PATCH,
    STORE_OP_UPLOAD_BEGIN,
    STORE_OP_UPLOAD_PART,
    STORE_OP_UPLOAD_COPY_PART,
    STORE_OP_UPLOAD_FINISH,
    STORE_OP_UPLOAD_ABORT,
    STORE_OP_REMOVE,
    STORE_OP_REMOVE_MANY,
    STORE_OP_COPY,
    STORE_OP_RENAME,
    STORE_OP_EXCHANGE,
    STORE_OP_SET_META,
    STORE_OP_GET_TAGS,
    STORE_OP_SET_TAGS,
    STORE_OP_MAKE_DIR,
    STORE_OP_REMOVE_DIR,
    STORE_OP_SPACE,
    STORE_OP_SIGN,
    STORE_OP_LIST_VERSIONS,
    STORE_OP_STAT_VERSION,
    STORE_OP_COUNT
};

const char *store_op_name(enum store_op kind);  /* "upload_part" */
enum store_op store_op_parse(const char *name); /* STORE_OP_NONE: no such name */

/* "EIO" for a positive errno, "other" for one without a name here; 0 = "ok". The index is dense,
 * below ERRNO_NAMES, for tables of counters. */
#define ERRNO_NAMES 40
const char *errno_name(int code);
unsigned errno_index(int code);
int errno_parse(const char *name); /* "EIO" or "5" -> 5; 0 = unknown */

struct call {
    enum store_op kind;
    const char *key; /* the object it is about (copy, rename: from; exchange: the first); "" for probe and space */
    union {
        struct {
            struct attr *ret;
        } stat;
        struct {
            const struct list_query *q;
            struct list_page *ret;
        } list;
        struct {
            const struct read_req *req;
            struct read_res *ret;
        } read;
        struct {
            struct buf *ret;
        } probe;
        struct {
            const struct put_req *req;
            struct attr *ret;
        } put;
        struct {
            const struct patch_req *req;
            struct attr *ret;
        } patch;
        struct {
            const struct upload_req *req;
            char **ret_id;
        } begin;
        struct {
            const char *id;
            const struct source *src;
            struct store_part *part;
        } part;
        struct {
            const char *id, *from, *from_version;
            uint64_t offset;
            struct store_part *part;
        } copy_part;
        struct {
            const char *id;
            const struct store_part *parts;
            size_t n;
            const struct precond *pre;
            struct attr *ret;
        } finish;
        struct {
            const char *id;
        } abort;
        struct {
            const char *if_match;
        } remove;
        struct {
            const char *const *keys;
            size_t n;
            struct remove_result *results;
        } remove_many;
        struct {
            const char *from_version, *to;
            const struct precond *pre;
            struct attr *ret;
            struct store *source; /* NULL: of this store */
        } copy;
        struct {
            const char *to;
            bool no_replace;
        } rename;
        struct {
            const char *with;
        } exchange;
        struct {
            const char *if_match;
            const struct attr *change;
            struct attr *ret;
        } set_meta;
        struct {
            struct attr *ret;
        } get_tags;
        struct {
            const struct attr *tags;
        } set_tags;
        struct {
            const struct attr *attr;
        } make_dir;
        struct {
            struct store_space *ret;
        } space;
        struct {
            const struct sign_req *req;
            struct buf *ret;
        } sign;
        struct {
            const char *cursor;
            unsigned max;
            struct version_page *ret;
        } list_versions;
        struct {
            const char *id;
            struct attr *ret;
        } stat_version;
    } u;
};

/* Passes the call to a store, through its gate. */
int call_forward(struct store *next, struct op *op, const struct call *c);
/* The attributes that a successful call returned, or NULL. */
struct attr *call_attr(const struct call *c);
/* Payload bytes of a successful call. */
uint64_t call_bytes_read(const struct call *c);
uint64_t call_bytes_written(const struct call *c);

struct wrapper {
    struct store base;
    int (*around)(struct wrapper *w, struct op *op, struct call *c);
    void (*done)(struct wrapper *w); /* frees what is behind base, or NULL */
};

/* Copies key, base_uri, caps and limits of `next`, which it then owns. */
void wrapper_init(struct wrapper *w, const struct store_class *cls, struct store *next,
                  int (*around)(struct wrapper *w, struct op *op, struct call *c));

void wrap_close(struct store *s);
int wrap_stat(struct store *s, struct op *op, const char *key, struct attr *ret);
int wrap_list(struct store *s, struct op *op, const struct list_query *q, struct list_page *ret);
int wrap_read(struct store *s, struct op *op, const struct read_req *req, struct read_res *ret);
int wrap_probe(struct store *s, struct op *op, struct buf *ret_text);
int wrap_put(struct store *s, struct op *op, const struct put_req *req, struct attr *ret);
int wrap_patch(struct store *s, struct op *op, const struct patch_req *req, struct attr *ret);
int wrap_upload_begin(struct store *s, struct op *op, const struct upload_req *req, char **ret_id);
int wrap_upload_part(struct store *s, struct op *op, const char *key, const char *id,
                     const struct source *src, struct store_part *part);
int wrap_upload_copy_part(struct store *s, struct op *op, const char *key, const char *id,
                          const char *from, const char *from_version, uint64_t offset,
                          struct store_part *part);
int wrap_upload_finish(struct store *s, struct op *op, const char *key, const char *id,
                       const struct store_part *parts, size_t n, const struct precond *pre,
                       struct attr *ret);
int wrap_upload_abort(struct store *s, struct op *op, const char *key, const char *id);
int wrap_remove(struct store *s, struct op *op, const char *key, const char *if_match);
int wrap_remove_many(struct store *s, struct op *op, const char *const *keys, size_t n,
                     struct remove_result *results);
int wrap_copy(struct store *s, struct op *op, const char *from, const char *from_version,
              const char *to, const struct precond *pre, struct attr *ret);
int wrap_copy_from(struct store *s, struct op *op, struct store *source, const char *from,
                   const char *from_version, const char *to, const struct precond *pre, struct attr *ret);
int wrap_rename(struct store *s, struct op *op, const char *from, const char *to, bool no_replace);
int wrap_exchange(struct store *s, struct op *op, const char *a, const char *b);
int wrap_set_meta(struct store *s, struct op *op, const char *key, const char *if_match,
                  const struct attr *change, struct attr *ret);
int wrap_get_tags(struct store *s, struct op *op, const char *key, struct attr *ret);
int wrap_set_tags(struct store *s, struct op *op, const char *key, const struct attr *tags);
int wrap_make_dir(struct store *s, struct op *op, const char *key, const struct attr *attr);
int wrap_remove_dir(struct store *s, struct op *op, const char *key);
int wrap_space(struct store *s, struct op *op, struct store_space *ret);
int wrap_sign(struct store *s, struct op *op, const struct sign_req *req, struct buf *ret_url);
int wrap_list_versions(struct store *s, struct op *op, const char *key, const char *cursor,
                       unsigned max, struct version_page *ret);
int wrap_stat_version(struct store *s, struct op *op, const char *key, const char *id, struct attr *ret);

/* For the initialiser of a wrapper's class. */
#define WRAP_SLOTS                                                                                 \
    .close = wrap_close, .stat = wrap_stat, .list = wrap_list, .read = wrap_read,                  \
    .probe = wrap_probe, .put = wrap_put, .patch = wrap_patch, .upload_begin = wrap_upload_begin,  \
    .upload_part = wrap_upload_part, .upload_copy_part = wrap_upload_copy_part,                    \
    .upload_finish = wrap_upload_finish, .upload_abort = wrap_upload_abort, .remove = wrap_remove, \
    .remove_many = wrap_remove_many, .copy = wrap_copy, .copy_from = wrap_copy_from,               \
    .rename = wrap_rename, .exchange = wrap_exchange, .set_meta = wrap_set_meta, .get_tags = wrap_get_tags,               \
    .set_tags = wrap_set_tags, .make_dir = wrap_make_dir, .remove_dir = wrap_remove_dir,           \
    .space = wrap_space, .sign = wrap_sign, .list_versions = wrap_list_versions,                   \
    .stat_version = wrap_stat_version

#endif
