/* SPDX-License-Identifier: MIT
 * store.c: the gate: every call to a store passes here, and only here are slots called.
 *
 * What it does for all classes and wrappers alike:
 *  - asserts that the thread holds no struct lock, clears op->err, ends cancelled and late requests
 *  - refuses keys that cannot be (too long), and files where only a directory can be
 *  - refuses what the store cannot do (caps, NULL slots): -EROFS before -ENOTSUP
 *  - fills op->err where a class gave only an errno; a positive return is a bug and aborts. */
#include "backends/same.h"

#include "base/cleanup.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/name.h"

#include <assert.h>

enum key_kind {
    KEY_ANY = 1, /* object or directory, the root too */
    KEY_OBJECT,  /* an object: not "", not with a trailing '/' */
    KEY_FILE,    /* the same, but where CAP_UNNAMED says so with a trailing '/' */
    KEY_BELOW    /* anything but the root */
};

static const struct attr plain_file = {.kind = ATTR_FILE};

static const char *store_name(const struct store *s)
{
    return s->key ? s->key : s->cls->name;
}

/* Wrappers pass the op on: what the outermost store says counts. */
static int enter(struct store *s, struct op *op, enum store_halt from)
{
    assert(s && s->cls && op);
    lock_assert_none_held();
    err_clear(&op->err);
    if (!op->halt) {
        op->halt = &s->halted;
        op->halt_from = from;
        op->moved = &s->answered;
        atomic_fetch_add_explicit(&s->asked, 1, memory_order_relaxed);
    }
    return op_check(op);
}

static int gate_enter(struct store *s, struct op *op)
{
    return enter(s, op, STORE_ENDS);
}

static int question_enter(struct store *s, struct op *op)
{
    return enter(s, op, op->durable ? STORE_ENDS : STORE_ASKS_NOTHING);
}

/* Every gate function returns through here. */
static int gate_leave(struct store *s, struct op *op, const char *verb, const char *key, int r)
{
    assert(r <= 0);
    if (r == 0)
        atomic_fetch_add_explicit(&s->answered, 1, memory_order_relaxed);
    if (op->halt == &s->halted) {
        op->halt = NULL;
        op->moved = NULL;
        atomic_fetch_sub_explicit(&s->asked, 1, memory_order_relaxed);
    }
    if (r == -EPERM)
        r = -EACCES; /* -1 must not leave; the text stays */
    if (r == -EMSGSIZE)
        r = -EIO; /* a server that sends more than it was asked for */
    if (r < 0 && op->err.text[0] == '\0') {
        enum err_retry retry = op->err.code == -r ? op->err.retry : ERR_RETRY_NEVER;
        err_set(&op->err, -r, "%s %s: %s", verb, key, strerror(-r));
        op->err.retry = retry;
    } else if (r < 0) {
        op->err.code = -r;
    } else {
        err_clear(&op->err);
    }
    if (!s->next)
        log_debug("store", "%s: %s %s = %d%s%s", store_name(s), verb, key, r, r ? ": " : "",
                  r ? op->err.text : "");
    return r;
}

void store_halt(struct store *s, enum store_halt level)
{
    atomic_store(&s->halted, level);
}

uint64_t store_answered(const struct store *s)
{
    return atomic_load_explicit(&s->answered, memory_order_relaxed);
}

bool store_is_asked(const struct store *s)
{
    return atomic_load_explicit(&s->asked, memory_order_relaxed) > 0;
}

static int check_key(struct store *s, struct op *op, const char *key, enum key_kind kind)
{
    assert(key);
    size_t len = strlen(key);
    if (s->limits.key_max && len > s->limits.key_max)
        return err_set(&op->err, ENAMETOOLONG, "%.64s...: key of %zu bytes, %s stores up to %zu",
                       key, len, s->cls->name, s->limits.key_max);
    bool unnamed = kind == KEY_FILE && (s->caps & CAP_UNNAMED) && strcmp(key, "/") != 0;
    if ((kind == KEY_OBJECT || kind == KEY_FILE) &&
        (len == 0 || (path_is_unnamed(key) && !unnamed)))
        return err_set(&op->err, EISDIR, "'%s' is a directory", key);
    if (kind == KEY_BELOW && len == 0)
        return err_set(&op->err, EBUSY, "the root directory of a store stays as it is");
    return 0;
}

/* May a change of this kind be asked for at all? `slot` is whether the class has the function. */
static int check_write(struct store *s, struct op *op, uint32_t cap, bool slot, const char *verb)
{
    if (!(s->caps & CAP_WRITE))
        return err_set(&op->err, EROFS, "store '%s' is read-only", store_name(s));
    if (!slot || (s->caps & cap) != cap)
        return err_set(&op->err, ENOTSUP, "%s is not supported by backend '%s'", verb,
                       s->cls->name);
    return 0;
}

static int check_precond(struct store *s, struct op *op, const struct precond *pre)
{
    if (!pre || (!pre->if_match && !pre->if_absent))
        return 0;
    if (pre->if_match && pre->if_absent)
        return err_set(&op->err, EINVAL, "if_match and if_absent exclude each other");
    if (!(s->caps & CAP_IF_MATCH))
        return err_set(&op->err, ENOTSUP, "store '%s' does not honour preconditions",
                       store_name(s));
    return 0;
}

static int check_match(struct store *s, struct op *op, const char *if_match)
{
    struct precond pre = {.if_match = if_match};
    return check_precond(s, op, &pre);
}

/* The kind of object that a put or an upload stores. */
static int check_kind(struct store *s, struct op *op, const struct attr *attr)
{
    if (attr->kind == ATTR_DIR)
        return err_set(&op->err, EISDIR, "a directory is not put but made");
    if (attr->kind == ATTR_SYMLINK && !(s->caps & CAP_SYMLINK))
        return err_set(&op->err, ENOTSUP, "symbolic links are not supported by backend '%s'",
                       s->cls->name);
    return 0;
}

void store_close(struct store *s)
{
    if (!s)
        return;
    lock_assert_none_held();
    char *key = take_ptr(&s->key), *base_uri = take_ptr(&s->base_uri);
    s->cls->close(s);
    free(key);
    free(base_uri);
}

/* ---- reading ---- */

int store_stat(struct store *s, struct op *op, const char *key, struct attr *ret)
{
    int r = question_enter(s, op);
    if (r == 0)
        r = check_key(s, op, key, KEY_ANY);
    if (r == 0)
        r = s->cls->stat(s, op, key, ret);
    return gate_leave(s, op, "stat", key, r);
}

int store_list(struct store *s, struct op *op, const struct list_query *q, struct list_page *ret)
{
    int r = question_enter(s, op);
    if (r == 0)
        r = check_key(s, op, q->prefix, KEY_ANY);
    if (r == 0 && q->cursor && q->after)
        r = err_set(&op->err, EINVAL, "list: cursor and after exclude each other");
    if (r == 0)
        r = s->cls->list(s, op, q, ret);
    return gate_leave(s, op, "list", q->prefix, r);
}

/* A read of no bytes still tells whether that version is there; classes need not know this case. */
static int read_nothing(struct store *s, struct op *op, const struct read_req *req,
                        struct read_res *ret)
{
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    int r = s->cls->stat(s, op, req->key, &a);
    if (r < 0)
        return r;
    if (a.kind == ATTR_DIR)
        return err_set(&op->err, EISDIR, "'%s' is a directory", req->key);
    if (req->version && req->version[0] && strcmp(req->version, a.version) != 0)
        return err_set(&op->err, ESTALE, "%s has changed", req->key);
    attr_move(&ret->attr, &a);
    ret->length = 0;
    return 0;
}

int store_read(struct store *s, struct op *op, const struct read_req *req, struct read_res *ret)
{
    int r = question_enter(s, op);
    if (r == 0)
        r = check_key(s, op, req->key, KEY_FILE);
    if (r == 0 && (req->offset > INT64_MAX || req->iov.iov_len > INT64_MAX - req->offset))
        r = err_set(&op->err, EINVAL, "read %s: offset out of range", req->key);
    if (r == 0 && req->iov.iov_len == 0)
        r = read_nothing(s, op, req, ret);
    else if (r == 0)
        r = s->cls->read(s, op, req, ret);
    assert(r < 0 || ret->length <= req->iov.iov_len);
    return gate_leave(s, op, "read", req->key, r);
}

static int probe_by_listing(struct store *s, struct op *op, struct buf *ret_text)
{
    struct list_query q = {.prefix = "", .max = 1};
    struct list_page page = LIST_PAGE_INIT;
    int r = s->cls->list(s, op, &q, &page);
    list_page_done(&page);
    if (r == 0)
        buf_addf(ret_text, "%s answers", s->base_uri ? s->base_uri : s->cls->name);
    return r;
}

int store_probe(struct store *s, struct op *op, struct buf *ret_text)
{
    int r = question_enter(s, op);
    if (r == 0)
        r = s->cls->probe ? s->cls->probe(s, op, ret_text) : probe_by_listing(s, op, ret_text);
    return gate_leave(s, op, "probe", "", r);
}

int store_space(struct store *s, struct op *op, struct store_space *ret)
{
    int r = question_enter(s, op);
    if (r == 0 && !s->cls->space)
        r = err_set(&op->err, ENOTSUP, "backend '%s' does not tell its space", s->cls->name);
    if (r == 0)
        r = s->cls->space(s, op, ret);
    return gate_leave(s, op, "space", "", r);
}

int store_sign(struct store *s, struct op *op, const struct sign_req *req, struct buf *ret_url)
{
    int r = gate_enter(s, op);
    if (r == 0)
        r = check_key(s, op, req->key, req->write ? KEY_OBJECT : KEY_FILE);
    if (r == 0 && (!s->cls->sign || !(s->caps & CAP_SIGN)))
        r = err_set(&op->err, ENOTSUP, "Signed URL generation not supported by this backend");
    if (r == 0 && req->write && !(s->caps & CAP_WRITE))
        r = err_set(&op->err, EROFS, "store '%s' is read-only", store_name(s));
    if (r == 0)
        r = s->cls->sign(s, op, req, ret_url);
    return gate_leave(s, op, "sign", req->key, r);
}

/* ---- kept versions ---- */

static int check_versions(struct store *s, struct op *op, bool slot)
{
    if (slot && (s->caps & CAP_VERSIONS))
        return 0;
    return err_set(&op->err, ENOTSUP, "backend '%s' keeps no versions", s->cls->name);
}

int store_list_versions(struct store *s, struct op *op, const char *key, const char *cursor,
                        unsigned max, struct version_page *ret)
{
    int r = question_enter(s, op);
    if (r == 0)
        r = check_key(s, op, key, KEY_OBJECT);
    if (r == 0)
        r = check_versions(s, op, s->cls->list_versions != NULL);
    if (r == 0)
        r = s->cls->list_versions(s, op, key, cursor, max, ret);
    return gate_leave(s, op, "list_versions", key, r);
}

int store_stat_version(struct store *s, struct op *op, const char *key, const char *id, struct attr *ret)
{
    int r = question_enter(s, op);
    if (r == 0)
        r = check_key(s, op, key, KEY_OBJECT);
    if (r == 0)
        r = check_versions(s, op, s->cls->stat_version != NULL);
    if (r == 0)
        r = s->cls->stat_version(s, op, key, id, ret);
    return gate_leave(s, op, "stat_version", key, r);
}

int store_check_change(struct store *s, struct op *op, const char *key)
{
    int r = gate_enter(s, op);
    if (r == 0 && !(s->caps & CAP_WRITE))
        r = err_set(&op->err, EROFS, "store '%s' is read-only", store_name(s));
    for (struct store *w = s; w && r == 0; w = w->next)
        if (w->cls->check_change)
            r = w->cls->check_change(w, op, key);
    return gate_leave(s, op, "change", key, r);
}

/* ---- whole objects ---- */

int store_put(struct store *s, struct op *op, const struct put_req *req, struct attr *ret)
{
    struct put_req q = *req;
    int r = gate_enter(s, op);
    if (!q.attr)
        q.attr = &plain_file;
    if (r == 0)
        r = check_key(s, op, q.key, KEY_OBJECT);
    if (r == 0)
        r = check_write(s, op, 0, s->cls->put != NULL, "put");
    if (r == 0)
        r = check_precond(s, op, &q.precond);
    if (r == 0)
        r = check_kind(s, op, q.attr);
    if (r == 0 && s->limits.put_max && q.src->size > s->limits.put_max)
        r = err_set(&op->err, EFBIG, "put %s: %llu bytes, one put may have %llu", q.key,
                    (unsigned long long)q.src->size, (unsigned long long)s->limits.put_max);
    if (r == 0)
        r = s->cls->put(s, op, &q, ret);
    return gate_leave(s, op, "put", q.key, r);
}

static int check_ranges(struct op *op, const struct patch_req *req)
{
    for (size_t i = 0; i < req->n_ranges; i++) {
        const struct patch_range *p = &req->ranges[i];
        if (p->length > INT64_MAX || p->offset > INT64_MAX - p->length ||
            p->offset + p->length > req->src->size || p->offset + p->length > req->new_size)
            return err_set(&op->err, EINVAL, "patch %s: range %zu is outside of the data", req->key,
                           i);
    }
    return 0;
}

int store_patch(struct store *s, struct op *op, const struct patch_req *req, struct attr *ret)
{
    int r = gate_enter(s, op);
    if (r == 0)
        r = check_key(s, op, req->key, KEY_OBJECT);
    if (r == 0)
        r = check_write(s, op, CAP_PATCH, s->cls->patch != NULL, "patch");
    if (r == 0)
        r = check_match(s, op, req->if_match);
    if (r == 0)
        r = check_ranges(op, req);
    if (r == 0)
        r = s->cls->patch(s, op, req, ret);
    return gate_leave(s, op, "patch", req->key, r);
}

int store_remove(struct store *s, struct op *op, const char *key, const char *if_match)
{
    int r = gate_enter(s, op);
    if (r == 0)
        r = check_key(s, op, key, KEY_FILE);
    if (r == 0)
        r = check_write(s, op, 0, s->cls->remove != NULL, "remove");
    if (r == 0)
        r = check_match(s, op, if_match);
    if (r == 0)
        r = s->cls->remove(s, op, key, if_match);
    return gate_leave(s, op, "remove", key, r);
}

static int remove_one_by_one(struct store *s, struct op *op, const char *const *keys, size_t n,
                             struct remove_result *results)
{
    for (size_t i = 0; i < n; i++) {
        int r = op_check(op);
        if (r < 0)
            return r;
        err_clear(&op->err);
        r = s->cls->remove(s, op, keys[i], NULL);
        results[i].code = r == -EPERM ? EACCES : -r;
    }
    return 0;
}

static int remove_in_batches(struct store *s, struct op *op, const char *const *keys, size_t n,
                             struct remove_result *results)
{
    size_t most = s->limits.delete_max ? s->limits.delete_max : n;
    for (size_t i = 0; i < n; i += most) {
        size_t count = n - i < most ? n - i : most;
        int r = op_check(op);
        if (r == 0)
            r = s->cls->remove_many(s, op, keys + i, count, results + i);
        if (r < 0)
            return r;
    }
    return 0;
}

int store_remove_many(struct store *s, struct op *op, const char *const *keys, size_t n,
                      struct remove_result *results)
{
    int r = gate_enter(s, op);
    for (size_t i = 0; i < n && r == 0; i++) {
        results[i].code = 0;
        r = check_key(s, op, keys[i], KEY_FILE);
    }
    if (r == 0)
        r = check_write(s, op, 0, s->cls->remove || s->cls->remove_many, "remove");
    if (r == 0 && n > 0)
        r = s->cls->remove_many ? remove_in_batches(s, op, keys, n, results)
                                : remove_one_by_one(s, op, keys, n, results);
    return gate_leave(s, op, "remove_many", n ? keys[0] : "", r);
}

int store_copy(struct store *s, struct op *op, const char *from, const char *from_version,
               const char *to, const struct precond *pre, struct attr *ret)
{
    static const struct precond none = {0};
    int r = gate_enter(s, op);
    if (r == 0)
        r = check_key(s, op, from, KEY_FILE);
    if (r == 0)
        r = check_key(s, op, to, KEY_FILE);
    if (r == 0)
        r = check_write(s, op, CAP_COPY, s->cls->copy != NULL, "copy");
    if (r == 0)
        r = check_precond(s, op, pre);
    if (r == 0)
        r = s->cls->copy(s, op, from, from_version, to, pre ? pre : &none, ret);
    return gate_leave(s, op, "copy", from, r);
}

bool store_copies_from(const struct store *s, const struct store *source)
{
    while (s->next)
        s = s->next;
    while (source->next)
        source = source->next;
    return s->cls == source->cls && s->cls->copy_from && s->cls->same_service(s, source);
}

/* Two stores may show one object. */
static int check_apart(struct store *s, struct op *op, struct store *source, const char *from, const char *to)
{
    struct same_place a = {.store = source, .path = from}, b = {.store = s, .path = to};
    bool sure;
    if (same_by_name(&a, &b, &sure) != SAME_ONE || !sure)
        return 0;
    int r = err_set(&op->err, EINVAL, "%s/%s and %s/%s are the same file", source->base_uri, from, s->base_uri, to);
    snprintf(op->err.remote, sizeof(op->err.remote), STORE_SAME_FILE);
    return r;
}

int store_copy_from(struct store *s, struct op *op, struct store *source, const char *from,
                    const char *from_version, const char *to, const struct precond *pre, struct attr *ret)
{
    static const struct precond none = {0};
    while (source->next)
        source = source->next;
    int r = gate_enter(s, op);
    if (r == 0)
        r = check_key(source, op, from, KEY_FILE);
    if (r == 0)
        r = check_key(s, op, to, KEY_FILE);
    if (r == 0 && !store_copies_from(s, source))
        r = err_set(&op->err, EXDEV, "no service holds both %s and %s", source->base_uri, s->base_uri);
    if (r == 0)
        r = check_apart(s, op, source, from, to);
    if (r == 0)
        r = check_write(s, op, CAP_COPY, true, "copy");
    if (r == 0)
        r = check_precond(s, op, pre);
    if (r == 0)
        r = s->cls->copy_from(s, op, source, from, from_version, to, pre ? pre : &none, ret);
    return gate_leave(s, op, "copy", from, r);
}

int store_rename(struct store *s, struct op *op, const char *from, const char *to, bool no_replace)
{
    bool can = (s->caps & (CAP_RENAME_FILE | CAP_RENAME_DIR)) && s->cls->rename;
    int r = gate_enter(s, op);
    if (r == 0)
        r = check_key(s, op, from, KEY_BELOW);
    if (r == 0)
        r = check_key(s, op, to, KEY_BELOW);
    if (r == 0)
        r = check_write(s, op, 0, can, "rename");
    if (r == 0)
        r = s->cls->rename(s, op, from, to, no_replace);
    return gate_leave(s, op, "rename", from, r);
}

int store_exchange(struct store *s, struct op *op, const char *a, const char *b)
{
    int r = gate_enter(s, op);
    if (r == 0)
        r = check_key(s, op, a, KEY_BELOW);
    if (r == 0)
        r = check_key(s, op, b, KEY_BELOW);
    if (r == 0 && (path_within(a, b) || path_below(b, a)))
        r = err_set(&op->err, EINVAL, "'%s' and '%s': one is in the other", a, b);
    if (r == 0)
        r = check_write(s, op, CAP_EXCHANGE, s->cls->exchange != NULL, "exchange");
    if (r == 0)
        r = s->cls->exchange(s, op, a, b);
    return gate_leave(s, op, "exchange", a, r);
}

int store_set_meta(struct store *s, struct op *op, const char *key, const char *if_match,
                   const struct attr *change, struct attr *ret)
{
    int r = gate_enter(s, op);
    if (r == 0)
        r = check_key(s, op, key, KEY_ANY);
    if (r == 0)
        r = check_write(s, op, CAP_SET_META, s->cls->set_meta != NULL, "changing metadata");
    if (r == 0)
        r = check_match(s, op, if_match);
    if (r == 0)
        r = s->cls->set_meta(s, op, key, if_match, change, ret);
    return gate_leave(s, op, "set_meta", key, r);
}

int store_get_tags(struct store *s, struct op *op, const char *key, struct attr *ret)
{
    int r = question_enter(s, op);
    if (r == 0)
        r = check_key(s, op, key, KEY_FILE);
    if (r == 0 && (!(s->caps & CAP_TAGS) || !s->cls->get_tags))
        r = err_set(&op->err, ENOTSUP, "tags are not supported by backend '%s'", s->cls->name);
    if (r == 0)
        r = s->cls->get_tags(s, op, key, ret);
    return gate_leave(s, op, "get_tags", key, r);
}

int store_set_tags(struct store *s, struct op *op, const char *key, const struct attr *tags)
{
    int r = gate_enter(s, op);
    if (r == 0)
        r = check_key(s, op, key, KEY_FILE);
    if (r == 0)
        r = check_write(s, op, CAP_TAGS, s->cls->set_tags != NULL, "setting tags");
    if (r == 0)
        r = s->cls->set_tags(s, op, key, tags);
    return gate_leave(s, op, "set_tags", key, r);
}

/* ---- multipart ---- */

int store_upload_begin(struct store *s, struct op *op, const struct upload_req *req, char **ret_id)
{
    struct upload_req q = *req;
    int r = gate_enter(s, op);
    if (!q.attr)
        q.attr = &plain_file;
    if (r == 0)
        r = check_key(s, op, q.key, KEY_OBJECT);
    if (r == 0)
        r = check_write(s, op, CAP_UPLOAD, s->cls->upload_begin != NULL, "multipart upload");
    if (r == 0)
        r = check_kind(s, op, q.attr);
    if (r == 0)
        r = s->cls->upload_begin(s, op, &q, ret_id);
    return gate_leave(s, op, "upload_begin", q.key, r);
}

static int check_part(struct store *s, struct op *op, const char *key,
                      const struct store_part *part)
{
    int r = check_key(s, op, key, KEY_OBJECT);
    if (r < 0)
        return r;
    if (part->number == 0 || (s->limits.parts_max && part->number > s->limits.parts_max))
        return err_set(&op->err, EFBIG, "%s: part %u, a multipart upload has 1 to %u", key,
                       part->number, s->limits.parts_max);
    if (s->limits.part_max && part->size > s->limits.part_max)
        return err_set(&op->err, EFBIG, "%s: part of %llu bytes, at most %llu", key,
                       (unsigned long long)part->size, (unsigned long long)s->limits.part_max);
    return 0;
}

int store_upload_part(struct store *s, struct op *op, const char *key, const char *id,
                      const struct source *src, struct store_part *part)
{
    int r = gate_enter(s, op);
    if (r == 0)
        r = check_part(s, op, key, part);
    if (r == 0 && part->size != src->size)
        r = err_set(&op->err, EINVAL, "%s: part %u: its size is not that of its source", key,
                    part->number);
    if (r == 0)
        r = check_write(s, op, CAP_UPLOAD, s->cls->upload_part != NULL, "multipart upload");
    if (r == 0)
        r = s->cls->upload_part(s, op, key, id, src, part);
    return gate_leave(s, op, "upload_part", key, r);
}

int store_upload_copy_part(struct store *s, struct op *op, const char *key, const char *id,
                           const char *from, const char *from_version, uint64_t offset,
                           struct store_part *part)
{
    int r = gate_enter(s, op);
    if (r == 0)
        r = check_part(s, op, key, part);
    if (r == 0)
        r = check_key(s, op, from, KEY_OBJECT);
    if (r == 0)
        r = check_write(s, op, CAP_COPY_PART, s->cls->upload_copy_part != NULL, "copying a part");
    if (r == 0)
        r = s->cls->upload_copy_part(s, op, key, id, from, from_version, offset, part);
    return gate_leave(s, op, "upload_copy_part", key, r);
}

int store_upload_finish(struct store *s, struct op *op, const char *key, const char *id,
                        const struct store_part *parts, size_t n, const struct precond *pre,
                        struct attr *ret)
{
    static const struct precond none = {0};
    int r = gate_enter(s, op);
    if (r == 0)
        r = check_key(s, op, key, KEY_OBJECT);
    if (r == 0)
        r = check_write(s, op, CAP_UPLOAD, s->cls->upload_finish != NULL, "multipart upload");
    if (r == 0)
        r = check_precond(s, op, pre);
    if (r == 0 && n == 0)
        r = err_set(&op->err, EINVAL, "%s: a multipart upload has at least one part", key);
    for (size_t i = 1; i < n && r == 0; i++)
        if (parts[i].number <= parts[i - 1].number)
            r = err_set(&op->err, EINVAL, "%s: parts are not in order", key);
    uint64_t end = 0;
    for (size_t i = 0; i < n && r == 0; end += parts[i++].size)
        if (parts[i].offset != end)
            r = err_set(&op->err, EINVAL, "%s: part %u does not begin where the one before it ends", key,
                        parts[i].number);
    if (r == 0)
        r = s->cls->upload_finish(s, op, key, id, parts, n, pre ? pre : &none, ret);
    return gate_leave(s, op, "upload_finish", key, r);
}

int store_upload_abort(struct store *s, struct op *op, const char *key, const char *id)
{
    int r = gate_enter(s, op);
    if (r == 0)
        r = check_key(s, op, key, KEY_OBJECT);
    if (r == 0)
        r = check_write(s, op, CAP_UPLOAD, s->cls->upload_abort != NULL, "multipart upload");
    if (r == 0)
        r = s->cls->upload_abort(s, op, key, id);
    return gate_leave(s, op, "upload_abort", key, r);
}

/* ---- directories ---- */

int store_make_dir(struct store *s, struct op *op, const char *key, const struct attr *attr)
{
    static const struct attr plain_dir = {.kind = ATTR_DIR};
    int r = gate_enter(s, op);
    if (r == 0)
        r = check_key(s, op, key, KEY_ANY);
    if (r == 0 && key[0] == '\0')
        r = err_set(&op->err, EEXIST, "the root directory is there");
    if (r == 0)
        r = check_write(s, op, 0, s->cls->make_dir != NULL, "making a directory");
    if (r == 0)
        r = s->cls->make_dir(s, op, key, attr ? attr : &plain_dir);
    return gate_leave(s, op, "make_dir", key, r);
}

int store_remove_dir(struct store *s, struct op *op, const char *key)
{
    int r = gate_enter(s, op);
    if (r == 0)
        r = check_key(s, op, key, KEY_BELOW);
    if (r == 0)
        r = check_write(s, op, 0, s->cls->remove_dir != NULL, "removing a directory");
    if (r == 0)
        r = s->cls->remove_dir(s, op, key);
    return gate_leave(s, op, "remove_dir", key, r);
}
