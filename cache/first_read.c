/* SPDX-License-Identifier: MIT
 * first_read.c: one round trip for opening and reading a small file.
 *
 * Close-to-open wants an answer of the store at every open. When the object is known to be small (by a
 * listing or a lookup of any age: it is a guess and decides nothing else) and somebody opens it to read it,
 * that answer is the reply to a GET of the whole object without a condition. Its headers are the current
 * attributes and version, its body is of that version: the reply is one, so the two cannot disagree.
 *   as it was, or shrunk   all of it came
 *   grown                  its beginning came: it is given as that; the rest is fetched with If-Match
 *   without a version      only a body that is whole is given: later GETs could not be told from it
 *   gone, refused, broken  store_stat is asked, which knows about directories and says what is wrong
 * Memory: a buffer of the budget if there is room at once, else there is no first read. */
#include "cache/volume_int.h"

#include "base/clock.h"

#include <errno.h>

struct asking {
    struct op *op;
    unsigned timeout_ms;
};

/* The size that was known last; 0: not known, or not one to be fetched whole. */
static size_t known_size(struct volume *v, const char *path, char version[ATTR_VERSION_MAX])
{
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    if (meta_get(v->meta, path, false, UINT64_MAX, false, &a, NULL) != META_THERE ||
        a.kind != ATTR_FILE || a.size > READER_WHOLE_MAX)
        return 0;
    memcpy(version, a.version, sizeof(a.version));
    return (size_t)a.size;
}

bool first_read_wanted(struct volume *v, const char *path)
{
    char version[ATTR_VERSION_MAX];
    if (!(v->store->caps & CAP_READ_META) || (v->store->caps & CAP_LOCAL_FD) ||
        path_is_unnamed(path))
        return false;
    size_t size = known_size(v, path, version);
    return size && !seen_is(v, path, version) &&
           !(v->keep_blocks && cache_has(v->cache, v->key, path, version, size));
}

/* The deadline is one without progress. */
static int on_data(void *arg, size_t so_far)
{
    struct asking *g = arg;
    (void)so_far;
    if (g->op->deadline_ns)
        g->op->deadline_ns = clock_now_ns() + g->timeout_ms * NS_PER_MS;
    return atomic_load(&g->op->cancelled);
}

static int read_now(struct volume *v, struct op *op, const char *path, struct first_read *body,
                    struct read_res *ret)
{
    struct asking g = {.op = op, .timeout_ms = v->policy.timeout_ms};
    uint64_t deadline = op->deadline_ns;
    struct read_req req = {.key = path,
                           .iov = {.iov_base = body->buf, .iov_len = body->size},
                           .on_data = on_data,
                           .on_data_arg = &g};
    if (g.timeout_ms && !deadline)
        op->deadline_ns = clock_now_ns() + g.timeout_ms * NS_PER_MS;
    else
        req.on_data = NULL;
    int r = store_read(v->store, op, &req, ret);
    op->deadline_ns = deadline;
    return r;
}

int first_read_ask(struct volume *v, struct op *op, const char *path, struct attr *ret,
                   struct first_read *body)
{
    char version[ATTR_VERSION_MAX];
    struct read_res res = READ_RES_INIT;
    size_t size = known_size(v, path, version);
    size = (size + CACHE_BUFFER_UNIT - 1) / CACHE_BUFFER_UNIT * CACHE_BUFFER_UNIT;
    void *buf = size ? cache_buffer_get(v->cache, size, false) : NULL;
    if (!buf)
        return 1;
    *body = (struct first_read){.buf = buf, .size = size};
    int r = read_now(v, op, path, body, &res);
    if (r == 0) {
        body->len = res.length;
        attr_move(ret, &res.attr);
        return 0;
    }
    first_read_drop(v, body);
    if (r == -EINTR || r == -ETIMEDOUT || r == -EHOSTUNREACH || r == -EIO)
        return r;
    err_clear(&op->err);
    return 1;
}

void first_read_give(struct volume *v, struct first_read *body, const struct attr *a,
                     struct reader *reader)
{
    bool whole = body->len == a->size;
    if (!body->buf || (!whole && a->version[0] == '\0')) {
        first_read_drop(v, body);
        return;
    }
    reader_give(reader, body->buf, body->size, body->len);
    *body = FIRST_READ_INIT;
}

void first_read_drop(struct volume *v, struct first_read *body)
{
    cache_buffer_put(v->cache, body->buf, body->size);
    *body = FIRST_READ_INIT;
}
