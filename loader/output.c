/* SPDX-License-Identifier: MIT
 * output.c: see output.h.
 * States: small (all in `part`) -> uploading (parts 1..n are in the store) or spooled (in a file)
 *         -> published. Leaving small happens when the part is full and more comes. */
#include "loader/output.h"

#include "base/cleanup.h"
#include "base/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <zlib.h>
#include <zstd.h>

#define SQUEEZE (256u * 1024) /* compressed bytes made at once */

struct output {
    struct store *store;
    char *key, *path, *tmp_dir;
    struct attr attr;
    bool if_absent, published;
    enum job_compress compress;
    z_stream zlib;
    bool zlib_ready;
    ZSTD_CCtx *zstd;
    char *squeezed;
    char *part;
    size_t part_len, part_size;
    uint64_t total;
    char *upload_id;
    struct store_part *parts;
    size_t n_parts;
    uint64_t sent; /* in them */
    int spool;
    uint64_t spooled;
};

static size_t part_size_of(const struct store *s)
{
    uint64_t n = s->limits.part_size ? s->limits.part_size : OUTPUT_PART;

    if (n < s->limits.part_min)
        n = s->limits.part_min;
    if (n > OUTPUT_PART)
        n = s->limits.part_min > OUTPUT_PART ? s->limits.part_min : OUTPUT_PART;
    return (size_t)n;
}

static bool can_upload(const struct store *s)
{
    return (s->caps & CAP_UPLOAD) && s->limits.upload_threshold > 0;
}

/* Parents of a key where directories are real. */
static int make_parents(struct output *out, struct op *op)
{
    struct attr dir = {.kind = ATTR_DIR};

    if (!(out->store->caps & CAP_REAL_DIRS))
        return 0;
    for (char *slash = strchr(out->key, '/'); slash; slash = strchr(slash + 1, '/')) {
        CLEANUP_FREE char *parent = xstrndup(out->key, (size_t)(slash - out->key));
        int r = store_make_dir(out->store, op, parent, &dir);
        if (r < 0 && r != -EEXIST && r != -ENOTSUP)
            return r;
    }
    return 0;
}

static int check_absent(struct output *out, struct op *op)
{
    CLEANUP_ATTR struct attr there = ATTR_INIT;
    int r = store_stat(out->store, op, out->key, &there);

    if (r == 0)
        return err_set(&op->err, EEXIST, "%s is there already (overwrite = fail)", out->path);
    return r == -ENOENT ? 0 : r;
}

static int start_compression(struct output *out, struct op *op)
{
    if (out->compress == JOB_COMPRESS_GZIP) {
        out->zlib_ready =
            deflateInit2(&out->zlib, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK;
        if (!out->zlib_ready)
            return err_set(&op->err, ENOMEM, "%s: no memory for gzip", out->path);
    } else if (out->compress == JOB_COMPRESS_ZSTD) {
        out->zstd = ZSTD_createCCtx();
        if (!out->zstd)
            return err_set(&op->err, ENOMEM, "%s: no memory for zstd", out->path);
        (void)ZSTD_CCtx_setParameter(out->zstd, ZSTD_c_checksumFlag, 1);
    }
    if (out->compress == JOB_COMPRESS_GZIP || out->compress == JOB_COMPRESS_ZSTD)
        out->squeezed = xmalloc(SQUEEZE);
    return 0;
}

int output_open(const struct output_req *req, struct op *op, struct output **ret)
{
    struct output *out = xcalloc(1, sizeof(*out));
    int r;

    out->store = req->store;
    out->key = xstrdup(req->key);
    out->path = xstrdup(req->path);
    out->tmp_dir = xstrdup(req->tmp_dir);
    out->attr.kind = ATTR_FILE;
    out->attr.content_type = req->content_type ? xstrdup(req->content_type) : NULL;
    out->if_absent = req->if_absent;
    out->compress = req->compress;
    out->spool = -1;
    out->part_size = part_size_of(req->store);
    out->part = malloc(out->part_size);
    r = out->part ? 0 : err_set(&op->err, ENOMEM, "%s: no memory to write it", req->path);
    if (r == 0 && out->if_absent)
        r = check_absent(out, op);
    if (r == 0)
        r = make_parents(out, op);
    if (r == 0)
        r = start_compression(out, op);
    if (r < 0) {
        output_close(out);
        return r;
    }
    *ret = out;
    return 0;
}

static int send_part(struct output *out, struct op *op)
{
    struct source_mem src = source_mem(out->part, out->part_len);
    int r = 0;

    if (!out->upload_id) {
        struct upload_req req = {.key = out->key, .attr = &out->attr};
        r = store_upload_begin(out->store, op, &req, &out->upload_id);
    }
    if (r < 0)
        return r;
    out->parts = xrealloc(out->parts, (out->n_parts + 1) * sizeof(*out->parts));
    struct store_part *p = &out->parts[out->n_parts];
    *p = (struct store_part){
        .number = (unsigned)out->n_parts + 1, .offset = out->sent, .size = out->part_len};
    r = store_upload_part(out->store, op, out->key, out->upload_id, &src.base, p);
    if (r < 0)
        return r;
    out->n_parts++;
    out->sent += out->part_len;
    out->part_len = 0;
    return 0;
}

/* A store takes a limited number of parts: they grow once many were sent. */
static int grow_part(struct output *out, struct op *op)
{
    uint32_t max = out->store->limits.parts_max ? out->store->limits.parts_max : 10000;

    if (out->n_parts == 0 || out->n_parts % (max / 5 + 1) != 0)
        return 0;
    if (out->store->limits.part_max && out->part_size * 2 > out->store->limits.part_max)
        return 0;
    char *bigger = realloc(out->part, out->part_size * 2);
    if (!bigger)
        return err_set(&op->err, ENOMEM, "%s: no memory for larger parts", out->path);
    out->part = bigger;
    out->part_size *= 2;
    return 0;
}

static int spool_part(struct output *out, struct op *op)
{
    if (out->spool < 0) {
        CLEANUP_FREE char *name = xasprintf("%s/.export-XXXXXX", out->tmp_dir);
        out->spool = mkostemp(name, O_CLOEXEC);
        if (out->spool < 0)
            return err_set(&op->err, errno, "%s: cannot make a temporary file: %s", out->tmp_dir,
                           strerror(errno));
        (void)unlink(name);
    }
    ssize_t n = sys_pwrite(out->spool, out->part, out->part_len, out->spooled);
    if (n < 0)
        return err_set(&op->err, (int)-n, "%s: temporary file: %s", out->tmp_dir,
                       strerror((int)-n));
    out->spooled += out->part_len;
    out->part_len = 0;
    return 0;
}

static int add_bytes(struct output *out, struct op *op, const char *p, size_t len)
{
    while (len > 0) {
        int r = 0;
        if (out->part_len == out->part_size)
            r = can_upload(out->store) ? send_part(out, op) : spool_part(out, op);
        if (r == 0 && out->part_len == 0 && out->upload_id)
            r = grow_part(out, op);
        if (r < 0)
            return r;
        size_t n = out->part_size - out->part_len < len ? out->part_size - out->part_len : len;
        memcpy(out->part + out->part_len, p, n);
        out->part_len += n;
        out->total += n;
        p += n;
        len -= n;
    }
    return 0;
}

static int squeeze_gzip(struct output *out, struct op *op, const void *data, size_t len, bool end)
{
    int code;

    out->zlib.next_in = (Bytef *)(uintptr_t)data;
    out->zlib.avail_in = (uInt)len;
    do {
        out->zlib.next_out = (Bytef *)out->squeezed;
        out->zlib.avail_out = SQUEEZE;
        code = deflate(&out->zlib, end ? Z_FINISH : Z_NO_FLUSH);
        int r = add_bytes(out, op, out->squeezed, SQUEEZE - out->zlib.avail_out);
        if (r < 0)
            return r;
    } while (out->zlib.avail_out == 0 || (end && code != Z_STREAM_END));
    return 0;
}

static int squeeze_zstd(struct output *out, struct op *op, const void *data, size_t len, bool end)
{
    ZSTD_inBuffer in = {data, len, 0};
    size_t left;

    do {
        ZSTD_outBuffer to = {out->squeezed, SQUEEZE, 0};
        left = ZSTD_compressStream2(out->zstd, &to, &in, end ? ZSTD_e_end : ZSTD_e_continue);
        if (ZSTD_isError(left))
            return err_set(&op->err, EIO, "%s: zstd: %s", out->path, ZSTD_getErrorName(left));
        int r = add_bytes(out, op, out->squeezed, to.pos);
        if (r < 0)
            return r;
    } while (in.pos < in.size || (end && left));
    return 0;
}

static int squeeze(struct output *out, struct op *op, const void *data, size_t len, bool end)
{
    if (out->compress == JOB_COMPRESS_GZIP)
        return squeeze_gzip(out, op, data, len, end);
    if (out->compress == JOB_COMPRESS_ZSTD)
        return squeeze_zstd(out, op, data, len, end);
    return add_bytes(out, op, data, len);
}

int output_write(struct output *out, struct op *op, const void *data, size_t len)
{
    const char *p = data;

    while (len > 0) { /* zlib counts in 32 bits */
        size_t n = len < (1u << 30) ? len : 1u << 30;
        int r = squeeze(out, op, p, n, false);
        if (r < 0)
            return r;
        p += n;
        len -= n;
    }
    return 0;
}

static int publish(struct output *out, struct op *op)
{
    struct precond pre = {.if_absent = out->if_absent && (out->store->caps & CAP_IF_MATCH)};
    struct put_req put = {.key = out->key, .attr = &out->attr, .precond = pre};
    struct source_mem mem = source_mem(out->part, out->part_len);
    struct attr done = ATTR_INIT;
    int r;

    if (out->upload_id) {
        r = out->part_len ? send_part(out, op) : 0;
        if (r == 0)
            r = store_upload_finish(out->store, op, out->key, out->upload_id, out->parts,
                                    out->n_parts, &pre, &done);
    } else if (out->spool >= 0) {
        r = out->part_len ? spool_part(out, op) : 0;
        struct source_fd fd = source_fd(out->spool, 0, out->spooled);
        put.src = &fd.base;
        if (r == 0)
            r = store_put(out->store, op, &put, &done);
    } else {
        put.src = &mem.base;
        r = store_put(out->store, op, &put, &done);
    }
    attr_done(&done);
    return r;
}

int output_finish(struct output *out, struct op *op, uint64_t *ret_bytes)
{
    int r = squeeze(out, op, "", 0, true);

    if (r == 0)
        r = publish(out, op);
    if (r == -EEXIST)
        return err_set(&op->err, EEXIST, "%s is there already (overwrite = fail)", out->path);
    if (r < 0)
        return err_prefix(&op->err, "%s", out->path);
    out->published = true;
    *ret_bytes = out->total;
    return 0;
}

void output_close(struct output *out)
{
    struct op own;

    if (!out)
        return;
    if (out->upload_id && !out->published) {
        op_init(&own, "abort upload", 30000);
        (void)store_upload_abort(out->store, &own, out->key, out->upload_id);
    }
    if (out->zlib_ready)
        (void)deflateEnd(&out->zlib);
    (void)ZSTD_freeCCtx(out->zstd);
    if (out->spool >= 0)
        (void)close(out->spool);
    attr_done(&out->attr);
    free(out->squeezed);
    free(out->part);
    free(out->parts);
    free(out->upload_id);
    free(out->key);
    free(out->path);
    free(out->tmp_dir);
    free(out);
}
