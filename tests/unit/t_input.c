/* SPDX-License-Identifier: MIT
 * t_input.c: objects as decompressed streams: members, frames, truncation, corruption, replaced
 * objects; and output.h on the way back. */
#include "t.h"
#include "loader_t.h"

#include "base/cleanup.h"
#include "loader/input.h"
#include "loader/output.h"

#include <zlib.h>
#include <zstd.h>

static struct store *store;

static void gzip(struct buf *b, const char *p, size_t len)
{
    z_stream z = {0};

    CHECK(deflateInit2(&z, 6, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY) == Z_OK);
    z.next_in = (Bytef *)(uintptr_t)p;
    z.avail_in = (uInt)len;
    z.avail_out = (uInt)deflateBound(&z, len) + 100;
    z.next_out = (Bytef *)buf_reserve(b, z.avail_out);
    CHECK(deflate(&z, Z_FINISH) == Z_STREAM_END);
    b->len += z.total_out;
    CHECK(deflateEnd(&z) == Z_OK);
}

static void zstd(struct buf *b, const char *p, size_t len)
{
    char *out = buf_reserve(b, ZSTD_compressBound(len));
    size_t n = ZSTD_compress(out, ZSTD_compressBound(len), p, len, 3);

    CHECK(!ZSTD_isError(n));
    b->len += n;
}

/* Reads it all; 0 and the text, or the error with what came before. */
static int read_all(const char *key, enum job_compress compress, size_t cap, struct buf *out)
{
    struct attr a = ATTR_INIT;
    struct input *in = NULL;
    size_t n = 0;

    CHECK_INT(store_stat(store, &t_op, key, &a), 0);
    struct input_req req = {
        .store = store, .key = key, .path = key, .attr = &a, .compress = compress};
    int r = input_open(&req, &t_op, &in);
    while (r == 0) {
        char *to = buf_reserve(out, cap);
        r = in->feed.read(&in->feed, &t_op, to, cap, &n);
        if (r < 0 || n == 0)
            break;
        out->len += n;
    }
    input_close(in);
    attr_done(&a);
    return r;
}

static void check(const void *data, size_t len, const char *want, size_t want_len)
{
    struct attr a = t_put(store, "in/x", data, len);

    for (size_t cap = 1; cap < 200000; cap = cap * 37) {
        CLEANUP_BUF struct buf out = BUF_INIT;
        if (cap == 1 && want_len > 100000)
            continue;
        CHECK_INT(read_all("in/x", JOB_COMPRESS_AUTO, cap, &out), 0);
        CHECK_INT(out.len, want_len);
        CHECK(want_len == 0 || memcmp(out.data, want, want_len) == 0);
    }
    attr_done(&a);
}

static void check_error(const void *data, size_t len, enum job_compress compress, const char *part)
{
    struct attr a = t_put(store, "in/bad", data, len);
    CLEANUP_BUF struct buf out = BUF_INIT;

    CHECK(read_all("in/bad", compress, 1000, &out) < 0);
    if (!strstr(t_op.err.text, part)) {
        fprintf(stderr, "got: %s, want: %s\n", t_op.err.text, part);
        exit(1);
    }
    attr_done(&a);
}

static void big_text(struct buf *b, size_t len)
{
    unsigned state = 1;

    while (b->len < len) {
        state = state * 1103515245 + 12345;
        buf_addf(b, "%u,%u\n", state >> 8, (unsigned)b->len);
    }
}

static void test_plain(void)
{
    CLEANUP_BUF struct buf big = BUF_INIT;

    check("", 0, "", 0);
    check("hello", 5, "hello", 5);
    big_text(&big, 30u << 20); /* more than the ring */
    check(big.data, big.len, big.data, big.len);
}

static void test_gzip(void)
{
    CLEANUP_BUF struct buf z = BUF_INIT;
    CLEANUP_BUF struct buf big = BUF_INIT;

    gzip(&z, "hello ", 6);
    gzip(&z, "", 0);
    gzip(&z, "world", 5);
    check(z.data, z.len, "hello world", 11);
    buf_add(&z, "\0\0\0\0", 4); /* tape padding */
    check(z.data, z.len, "hello world", 11);
    buf_reset(&z);
    big_text(&big, 12u << 20);
    gzip(&z, big.data, big.len);
    check(z.data, z.len, big.data, big.len);
}

static void test_zstd(void)
{
    CLEANUP_BUF struct buf z = BUF_INIT;
    CLEANUP_BUF struct buf big = BUF_INIT;

    zstd(&z, "hello ", 6);
    buf_add(&z,
            "\x50\x2A\x4D\x18\x03\x00\x00\x00"
            "abc",
            11); /* a skippable frame */
    zstd(&z, "world", 5);
    check(z.data, z.len, "hello world", 11);
    buf_reset(&z);
    big_text(&big, 12u << 20);
    zstd(&z, big.data, big.len);
    check(z.data, z.len, big.data, big.len);
}

static void test_faults(void)
{
    CLEANUP_BUF struct buf z = BUF_INIT;
    CLEANUP_BUF struct buf text = BUF_INIT;

    big_text(&text, 5000);
    gzip(&z, text.data, text.len);
    check_error(z.data, z.len - 1, JOB_COMPRESS_AUTO, "gzip data is truncated");
    check_error(z.data, z.len / 2, JOB_COMPRESS_AUTO, "gzip data is truncated");
    z.data[z.len / 2] ^= 0x55;
    check_error(z.data, z.len, JOB_COMPRESS_AUTO, "gzip data is corrupt at byte");
    z.data[z.len / 2] ^= 0x55;
    z.data[z.len - 5] ^= 1; /* the checksum */
    check_error(z.data, z.len, JOB_COMPRESS_AUTO, "gzip data is corrupt");
    z.data[z.len - 5] ^= 1;
    buf_adds(&z, "garbage");
    check_error(z.data, z.len, JOB_COMPRESS_AUTO, "followed by something else");
    buf_reset(&z);
    zstd(&z, text.data, text.len);
    check_error(z.data, z.len - 1, JOB_COMPRESS_AUTO, "zstd data is truncated");
    buf_adds(&z, "garbage");
    check_error(z.data, z.len, JOB_COMPRESS_AUTO, "zstd data is corrupt");
    check_error("plain", 5, JOB_COMPRESS_GZIP, "is not gzip");
}

static void test_replaced(void)
{
    CLEANUP_BUF struct buf big = BUF_INIT;
    struct input *in = NULL;
    char *block = xmalloc(INPUT_BLOCK);
    size_t n = 1;
    int r;

    big_text(&big, 10 * INPUT_BLOCK);
    struct attr a = t_put(store, "in/r", big.data, big.len);
    struct input_req req = {.store = store, .key = "in/r", .path = "mem/in/r", .attr = &a};
    CHECK_INT(input_open(&req, &t_op, &in), 0);
    struct attr b = t_put(store, "in/r", big.data, big.len);
    while ((r = in->feed.read(&in->feed, &t_op, block, INPUT_BLOCK, &n)) == 0 && n)
        continue;
    CHECK_INT(r, -ESTALE);
    CHECK(strstr(t_op.err.text, "mem/in/r changed while it was being read"));
    input_close(in);
    free(block);
    attr_done(&a);
    attr_done(&b);
}

static void test_cancel(void)
{
    CLEANUP_BUF struct buf big = BUF_INIT;
    struct input *in = NULL;
    struct op op;
    char byte[100];
    size_t n;

    big_text(&big, 9 * INPUT_BLOCK);
    struct attr a = t_put(store, "in/c", big.data, big.len);
    struct input_req req = {.store = store, .key = "in/c", .path = "mem/in/c", .attr = &a};
    CHECK_INT(input_open(&req, &t_op, &in), 0);
    input_close(in); /* while the reader waits for a free slot */
    op_init(&op, "x", 0);
    op_cancel(&op);
    int r = input_open(&req, &op, &in);
    if (r == 0) {
        r = in->feed.read(&in->feed, &op, byte, sizeof(byte), &n);
        input_close(in);
    }
    CHECK(r == 0 || r == -EINTR); /* bytes that are there may still be given */
    attr_done(&a);
}

static void write_back(enum job_compress compress, size_t len)
{
    CLEANUP_BUF struct buf text = BUF_INIT;
    CLEANUP_BUF struct buf back = BUF_INIT;
    struct output *out = NULL;
    uint64_t bytes = 0;

    if (len)
        big_text(&text, len);
    struct output_req req = {.store = store,
                             .key = "out/a",
                             .path = "mem/out/a",
                             .tmp_dir = t_dir,
                             .compress = compress};
    CHECK_INT(output_open(&req, &t_op, &out), 0);
    for (size_t at = 0; at < text.len; at += 100000)
        CHECK_INT(output_write(out, &t_op, text.data + at,
                               text.len - at < 100000 ? text.len - at : 100000),
                  0);
    struct attr a = ATTR_INIT;
    CHECK_INT(store_stat(store, &t_op, "out/a", &a), -ENOENT); /* nothing is visible */
    CHECK_INT(output_finish(out, &t_op, &bytes), 0);
    output_close(out);
    CHECK_INT(store_stat(store, &t_op, "out/a", &a), 0);
    CHECK_INT(a.size, bytes);
    attr_done(&a);
    CHECK_INT(read_all("out/a", JOB_COMPRESS_AUTO, 65536, &back), 0);
    CHECK_INT(back.len, text.len);
    CHECK(text.len == 0 || memcmp(back.data, text.data, text.len) == 0);
    CHECK_INT(store_remove(store, &t_op, "out/a", NULL), 0);
}

static void test_output(void)
{
    static const enum job_compress all[] = {JOB_COMPRESS_NONE, JOB_COMPRESS_GZIP,
                                            JOB_COMPRESS_ZSTD};

    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        write_back(all[i], 0);
        write_back(all[i], 1000);
        write_back(all[i], 3 * OUTPUT_PART);
    }
}

static void test_output_abort(void)
{
    struct output *out = NULL;
    struct attr a = ATTR_INIT;
    char *block = xcalloc(1, OUTPUT_PART);
    uint64_t bytes;

    struct output_req req = {.store = store,
                             .key = "out/b",
                             .path = "mem/out/b",
                             .tmp_dir = t_dir,
                             .compress = JOB_COMPRESS_NONE};
    CHECK_INT(output_open(&req, &t_op, &out), 0);
    CHECK_INT(output_write(out, &t_op, block, OUTPUT_PART), 0);
    CHECK_INT(output_write(out, &t_op, block, OUTPUT_PART), 0);
    output_close(out);
    CHECK_INT(store_stat(store, &t_op, "out/b", &a), -ENOENT);
    a = t_put(store, "out/b", "x", 1);
    attr_done(&a);
    req.if_absent = true;
    CHECK_INT(output_open(&req, &t_op, &out), -EEXIST);
    req.key = "out/c";
    CHECK_INT(output_open(&req, &t_op, &out), 0);
    a = t_put(store, "out/c", "x", 1); /* somebody was quicker */
    attr_done(&a);
    CHECK_INT(output_finish(out, &t_op, &bytes), -EEXIST);
    output_close(out);
    free(block);
}

int main(void)
{
    struct conf *conf;

    t_begin();
    store = t_store(&conf);
    RUN(test_plain);
    RUN(test_gzip);
    RUN(test_zstd);
    RUN(test_faults);
    RUN(test_replaced);
    RUN(test_cancel);
    RUN(test_output);
    RUN(test_output_abort);
    store_close(store);
    conf_free(conf);
    t_end();
    return t_done();
}
