/* SPDX-License-Identifier: MIT
 * input.c: see input.h.
 *
 * The ring: the reading thread fills slot (filled % N), the owner empties slot (emptied % N);
 * emptied <= filled <= emptied + N. A filled slot belongs to the owner until `emptied` passes it.
 * The reading thread ends at the end of the object, at an error (kept in sync.err), or when told.
 */
#include "loader/input.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/lock.h"
#include "loader/format.h"

#include <assert.h>
#include <pthread.h>
#include <zlib.h>
#include <zstd.h>

struct slot {
    char *data;
    size_t len;
};

struct reader {
    struct input in;
    struct store *store;
    char *key, *path;
    char version[ATTR_VERSION_MAX];
    uint64_t size;
    atomic_uint_fast64_t *progress;
    pthread_t thread;
    bool started;
    struct op op;                    /* the reading thread's */
    struct slot slots[INPUT_BLOCKS]; /* see the ring above */
    struct {
        struct lock lock;
        struct cond changed;
        uint64_t filled, emptied;
        bool ended, stop;
        struct err err; /* code 0: none */
    } sync;
    /* The owner's: */
    const char *at; /* not yet consumed bytes of the current slot */
    size_t left;
    bool holding;    /* a slot is current */
    uint64_t offset; /* of `at` in the object */
    bool finished;   /* no more members or frames */
    bool within;     /* inside a member or frame */
    z_stream zlib;
    bool zlib_ready;
    ZSTD_DCtx *zstd;
};

static struct reader *reader_of(struct feed *f)
{
    return (struct reader *)(void *)f;
}

/* ---- the reading thread ---- */

static int read_block(struct reader *rd, struct slot *slot, uint64_t offset)
{
    uint64_t want = rd->size - offset < INPUT_BLOCK ? rd->size - offset : INPUT_BLOCK;
    struct read_req req = {.key = rd->key, .version = rd->version, .offset = offset};
    struct read_res res = READ_RES_INIT;

    if (!slot->data)
        slot->data = malloc(rd->size < INPUT_BLOCK ? (size_t)rd->size : INPUT_BLOCK);
    if (!slot->data)
        return err_set(&rd->op.err, ENOMEM, "%s: no memory to read it", rd->path);
    req.iov = (struct iovec){slot->data, (size_t)want};
    int r = store_read(rd->store, &rd->op, &req, &res);
    if (r == 0 && res.length != want)
        r = err_set(&rd->op.err, EIO, "it ends at byte %llu, not at %llu",
                    (unsigned long long)(offset + res.length), (unsigned long long)rd->size);
    read_res_done(&res);
    if (r == -ESTALE || r == -ENOENT)
        return err_set(&rd->op.err, -r, "%s %s while it was being read", rd->path,
                       r == -ESTALE ? "changed" : "disappeared");
    if (r < 0)
        return err_prefix(&rd->op.err, "%s", rd->path);
    slot->len = (size_t)want;
    return 0;
}

/* Waits for a free slot; NULL: told to stop. */
static struct slot *free_slot(struct reader *rd)
{
    LOCK_SCOPE(&rd->sync.lock);
    while (!rd->sync.stop && rd->sync.filled == rd->sync.emptied + INPUT_BLOCKS)
        cond_wait(&rd->sync.changed, &rd->sync.lock);
    return rd->sync.stop ? NULL : &rd->slots[rd->sync.filled % INPUT_BLOCKS];
}

static void *read_thread(void *arg)
{
    struct reader *rd = arg;
    struct slot *slot;
    int r = 0;

    for (uint64_t offset = 0; offset < rd->size && (slot = free_slot(rd)); offset += slot->len) {
        r = read_block(rd, slot, offset);
        if (r < 0)
            break;
        lock_acquire(&rd->sync.lock);
        rd->sync.filled++;
        cond_broadcast(&rd->sync.changed);
        lock_release(&rd->sync.lock);
    }
    lock_acquire(&rd->sync.lock);
    rd->sync.ended = true;
    if (r < 0)
        rd->sync.err = rd->op.err;
    cond_broadcast(&rd->sync.changed);
    lock_release(&rd->sync.lock);
    return NULL;
}

/* ---- the owner ---- */

/* Makes the next bytes of the object current: 1, 0 at its end, -errno. */
static int next_bytes(struct reader *rd, struct op *op)
{
    if (rd->left)
        return 1;
    lock_acquire(&rd->sync.lock);
    if (rd->holding) {
        rd->sync.emptied++;
        cond_broadcast(&rd->sync.changed);
    }
    rd->holding = false;
    int r = 0;
    while (r == 0 && rd->sync.filled == rd->sync.emptied && !rd->sync.ended) {
        (void)cond_wait_until(&rd->sync.changed, &rd->sync.lock, clock_now_ns() + 200 * NS_PER_MS);
        r = op_check(op);
    }
    if (r == 0 && rd->sync.filled > rd->sync.emptied) {
        const struct slot *slot = &rd->slots[rd->sync.emptied % INPUT_BLOCKS];
        rd->at = slot->data;
        rd->left = slot->len;
        rd->holding = true;
        r = 1;
    } else if (r == 0 && rd->sync.err.code) {
        op->err = rd->sync.err;
        r = -rd->sync.err.code;
    }
    lock_release(&rd->sync.lock);
    return r;
}

static void consume(struct reader *rd, size_t n)
{
    rd->at += n;
    rd->left -= n;
    rd->offset += n;
    if (rd->progress)
        atomic_store_explicit(rd->progress, rd->offset, memory_order_relaxed);
}

static int corrupt(struct reader *rd, struct op *op, const char *kind, const char *what)
{
    int r = err_set(&op->err, EIO, "%s: %s data %s at byte %llu", rd->path, kind, what,
                    (unsigned long long)rd->offset);
    op->err.status = 1;
    return r;
}

static int read_plain(struct reader *rd, struct op *op, void *buf, size_t cap, size_t *ret_len)
{
    int r = next_bytes(rd, op);

    if (r <= 0)
        return r;
    size_t n = rd->left < cap ? rd->left : cap;
    memcpy(buf, rd->at, n);
    consume(rd, n);
    *ret_len = n;
    return 0;
}

/* Between gzip members: another one, zero padding up to the end, or an error. 1 another one, 0 the
 * end. */
static int gzip_next(struct reader *rd, struct op *op)
{
    int r;

    while ((r = next_bytes(rd, op)) == 1 && *rd->at == 0)
        consume(rd, 1);
    if (r <= 0)
        return r;
    if ((unsigned char)*rd->at != 0x1F)
        return corrupt(rd, op, "gzip", "is followed by something else");
    (void)inflateReset(&rd->zlib);
    rd->within = true;
    return 1;
}

static int read_gzip(struct reader *rd, struct op *op, void *buf, size_t cap, size_t *ret_len)
{
    if (!rd->zlib_ready && inflateInit2(&rd->zlib, 15 + 16) != Z_OK)
        return err_set(&op->err, ENOMEM, "%s: no memory for gzip", rd->path);
    rd->zlib_ready = true;
    rd->zlib.next_out = buf;
    rd->zlib.avail_out = (uInt)cap;
    while (rd->zlib.avail_out == cap && !rd->finished) {
        int r = rd->within ? next_bytes(rd, op) : gzip_next(rd, op);
        if (r < 0)
            return r;
        if (r == 0 && rd->within)
            return corrupt(rd, op, "gzip", "is truncated: it ends");
        if (r == 0) {
            rd->finished = true;
            break;
        }
        rd->zlib.next_in = (Bytef *)(uintptr_t)rd->at;
        rd->zlib.avail_in = (uInt)rd->left;
        int code = inflate(&rd->zlib, Z_NO_FLUSH);
        consume(rd, rd->left - rd->zlib.avail_in);
        if (code == Z_STREAM_END)
            rd->within = false;
        else if (code != Z_OK && code != Z_BUF_ERROR)
            return corrupt(rd, op, "gzip", "is corrupt");
    }
    *ret_len = cap - rd->zlib.avail_out;
    return 0;
}

static int read_zstd(struct reader *rd, struct op *op, void *buf, size_t cap, size_t *ret_len)
{
    ZSTD_outBuffer out = {buf, cap, 0};

    if (!rd->zstd)
        rd->zstd = ZSTD_createDCtx();
    if (!rd->zstd)
        return err_set(&op->err, ENOMEM, "%s: no memory for zstd", rd->path);
    while (out.pos == 0) {
        int r = next_bytes(rd, op);
        if (r < 0)
            return r;
        ZSTD_inBuffer in = {rd->at, rd->left, 0};
        if (r == 0 && !rd->within)
            break;
        size_t code = ZSTD_decompressStream(rd->zstd, &out, &in);
        if (ZSTD_isError(code))
            return corrupt(rd, op, "zstd", "is corrupt");
        if (r == 0 && out.pos == 0)
            return corrupt(rd, op, "zstd", "is truncated: it ends");
        rd->within = code != 0;
        consume(rd, in.pos);
    }
    *ret_len = out.pos;
    return 0;
}

static int input_read(struct feed *f, struct op *op, void *buf, size_t cap, size_t *ret_len)
{
    struct reader *rd = reader_of(f);

    *ret_len = 0;
    if (cap > 1u << 30)
        cap = 1u << 30;
    switch (rd->in.compress) {
    case JOB_COMPRESS_GZIP:
        return read_gzip(rd, op, buf, cap, ret_len);
    case JOB_COMPRESS_ZSTD:
        return read_zstd(rd, op, buf, cap, ret_len);
    default:
        return read_plain(rd, op, buf, cap, ret_len);
    }
}

/* Looks at the first bytes; an option that the content contradicts is an error. */
static int find_compression(struct reader *rd, struct op *op, enum job_compress wanted)
{
    int r = next_bytes(rd, op);

    if (r < 0)
        return r;
    enum job_compress found = format_compress_of_content(rd->at, rd->left);
    rd->in.compress = wanted == JOB_COMPRESS_AUTO ? found : wanted;
    if (rd->in.compress != JOB_COMPRESS_NONE && rd->in.compress != found && rd->size > 0) {
        r = err_set(&op->err, EINVAL, "%s is not %s: use compress = auto", rd->path,
                    format_compress_name(wanted));
        op->err.status = 1;
        return r;
    }
    rd->within = rd->in.compress == JOB_COMPRESS_GZIP && rd->size > 0;
    return 0;
}

int input_open(const struct input_req *req, struct op *op, struct input **ret)
{
    struct reader *rd = xcalloc(1, sizeof(*rd));

    rd->in.feed.read = input_read;
    rd->store = req->store;
    rd->key = xstrdup(req->key);
    rd->path = xstrdup(req->path);
    rd->size = req->attr->size;
    rd->progress = req->progress;
    memcpy(rd->version, req->attr->version, sizeof(rd->version));
    lock_init(&rd->sync.lock, LOCK_RANK_LEAF, "input");
    cond_init(&rd->sync.changed);
    op_init(&rd->op, "load", 0);
    int r = -pthread_create(&rd->thread, NULL, read_thread, rd);
    rd->started = r == 0;
    if (r < 0)
        err_set(&op->err, -r, "%s: cannot start a thread: %s", req->path, strerror(-r));
    if (r == 0)
        r = find_compression(rd, op, req->compress);
    if (r < 0) {
        input_close(&rd->in);
        return r;
    }
    *ret = &rd->in;
    return 0;
}

void input_close(struct input *in)
{
    if (!in)
        return;
    struct reader *rd = reader_of(&in->feed);
    op_cancel(&rd->op);
    lock_acquire(&rd->sync.lock);
    rd->sync.stop = true;
    cond_broadcast(&rd->sync.changed);
    lock_release(&rd->sync.lock);
    if (rd->started)
        (void)pthread_join(rd->thread, NULL);
    for (int i = 0; i < INPUT_BLOCKS; i++)
        free(rd->slots[i].data);
    if (rd->zlib_ready)
        (void)inflateEnd(&rd->zlib);
    (void)ZSTD_freeDCtx(rd->zstd);
    cond_done(&rd->sync.changed);
    lock_done(&rd->sync.lock);
    free(rd->key);
    free(rd->path);
    free(rd);
}
