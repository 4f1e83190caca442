/* SPDX-License-Identifier: MIT
 * t_s3_parts.c: files of a size that is not known before, up to the edge of what S3 takes, through volume and S3 class to
 * a server that refuses what S3 refuses. t_stream.c has the same plan over the memory class, which has no numbers on the
 * wire and takes any; here are the class's own limits (10,000 parts, 5 MiB to 5 GiB, 5 TiB), part numbers, etags,
 * checksums and the list of 10,000 parts. The number of parts is S3's; their sizes are a 5120th, to move megabytes. */
#include "cache/stream.h"
#include "tests/unit/s3_limits.h"
#include "tests/unit/vol_fixture.h"

#define NEW (VFILE_READ | VFILE_WRITE | VFILE_CREATE | VFILE_TRUNC)
#define TIB (MIB * MIB)
#define CHUNK (64 * KIB)

static void open_limits(const char *chunk, int want, struct store_limits *ret)
{
    CLEANUP_FREE char *text = xasprintf("[store x]\nbackend = s3\nbucket = lake\nendpoint_url = http://127.0.0.1:1\n"
                                        "access_key_id = a\nsecret_access_key = b\n%s\n", chunk);
    struct stats *stats = stats_new();
    struct err err = ERR_INIT;
    struct conf *c = NULL;
    struct store *s = NULL;
    CHECK_INT(conf_parse("test.conf", text, &err, &c), 0);
    CHECK_INT(registry_open(c, conf_find(c, "store", "x"), stats, &err, &s), want);
    if (s) {
        *ret = s->limits;
        CHECK_INT(store_size_max(s), 10000 * 5 * KIB * MIB);
    }
    store_close(s);
    conf_free(c);
    stats_free(stats);
}

/* Whatever part size is configured: 10,000 parts that S3 takes, and 5 TiB in them. */
static void test_limits_of_the_class(void)
{
    static const char *const chunks[] = {"", "multipart_chunksize = 5MiB", "multipart_chunksize = 7MiB",
                                         "multipart_chunksize = 64MiB", "multipart_chunksize = 5GiB"};
    struct store_limits l = {0};
    for (size_t i = 0; i < ARRAY_LEN(chunks); i++) {
        uint64_t at = 0, off = 0, len = 0;
        open_limits(chunks[i], 0, &l);
        CHECK_INT(l.put_max, 5 * KIB * MIB);
        for (uint64_t n = 0; n < 10000; n++, at += len) {
            CHECK(stream_part(&l, n, &off, &len));
            CHECK(off == at && len >= 5 * MIB && len <= 5 * KIB * MIB);
        }
        CHECK(!stream_part(&l, 10000, &off, &len));
        CHECK(at >= 5 * TIB);
    }
    open_limits("multipart_chunksize = 5119KiB", -EINVAL, &l);
    open_limits("multipart_chunksize = 5121MiB", -EINVAL, &l);
}

static struct vx up(const struct s3_limits *s)
{
    struct vx x = vx_new();
    CLEANUP_FREE char *text = xasprintf("backend = s3\nbucket = lake\nendpoint_url = http://127.0.0.1:%d\nretries = 0\n"
                                        "access_key_id = a\nsecret_access_key = b\nmax_concurrency = 4\n"
                                        "max_connections = 8\n", s->port);
    x.limits = (struct store_limits){.upload_threshold = 2 * KIB, .part_size = s->part_min, .part_min = s->part_min,
                                     .part_max = s->part_max, .put_max = 64 * KIB}; /* parts_max is the class's */
    vx_open(&x, text);
    return x;
}

static void fill(unsigned char *buf, uint64_t at, size_t n)
{
    for (size_t i = 0; i < n; i++)
        buf[i] = (unsigned char)((at + i) * 31 + (at + i) / 253);
}

static void write_all(struct vx *x, struct vfile *f, uint64_t size)
{
    static unsigned char buf[CHUNK];
    for (uint64_t at = 0; at < size; at += CHUNK) {
        size_t n = size - at < CHUNK ? (size_t)(size - at) : CHUNK;
        fill(buf, at, n);
        vx_pwrite(x, f, buf, n, at);
    }
}

/* The parts have the content, in their order. */
static void check_content(const struct s3_limits_upload *u, uint64_t size)
{
    static unsigned char buf[CHUNK];
    uint64_t at = 0;
    CHECK_INT(u->size, size);
    for (unsigned i = 1; i <= u->n; i++) {
        const struct s3_limits_part *p = &u->parts[i];
        CHECK(p->size <= CHUNK);
        fill(buf, at, (size_t)p->size);
        CHECK_INT(p->crc, crc32c(0, buf, (size_t)p->size));
        at += p->size;
    }
    CHECK_INT(at, size);
}

/* The server has stopped when this returns. */
static void store_file(struct s3_limits *s, uint64_t size)
{
    struct attr a = ATTR_INIT;
    struct vx x = up(s);
    CHECK_INT(x.store->limits.parts_max, S3_LIMITS_PARTS);
    struct vfile *f = vx_fopen(&x, "f", NEW, 0);
    write_all(&x, f, size);
    int r = vx_fclose(&x, f);
    if (r < 0)
        fprintf(stderr, "close: %s\n", err_text(&x.op.err));
    CHECK_INT(r, 0);
    CHECK_INT(vx_stat(&x, "f", &a), 0);
    CHECK_INT(a.size, size);
    attr_done(&a);
    vx_done(&x);
    s3_limits_stop(s);
    CHECK_INT(s->refused, 0);
}

/* A server for parts of 1 to 4 KiB. Returns what its plan holds, up to the last byte of part 10,000. */
static uint64_t start_small(struct s3_limits *s, struct store_limits *plan)
{
    uint64_t off = 0, len = 0;
    *s = (struct s3_limits){.part_min = KIB, .part_max = 4 * KIB};
    *plan = (struct store_limits){.part_size = KIB, .part_min = KIB, .part_max = 4 * KIB, .parts_max = S3_LIMITS_PARTS};
    s3_limits_start(s);
    CHECK(stream_part(plan, S3_LIMITS_PARTS - 1, &off, &len));
    return off + len;
}

/* The last byte of part 10,000: each part went once, as it was planned while nobody knew where the file would end. */
static void test_ten_thousand_parts_on_the_wire(void)
{
    struct s3_limits s;
    struct store_limits plan;
    uint64_t off, len, size = start_small(&s, &plan);
    store_file(&s, size);
    CHECK_INT(s.n_uploads, 1);
    CHECK_INT(s.uploads[0].n, S3_LIMITS_PARTS);
    for (unsigned i = 1; i <= S3_LIMITS_PARTS; i++) {
        CHECK(stream_part(&plan, i - 1, &off, &len));
        CHECK_INT(s.uploads[0].parts[i].times, 1);
        CHECK_INT(s.uploads[0].parts[i].size, len);
    }
    check_content(&s.uploads[0], size);
    s3_limits_done(&s);
}

/* One byte more: the plan is at its end, the store is not. The parts are planned anew, and nothing of the first stays. */
static void test_a_byte_behind_the_plan(void)
{
    struct s3_limits s;
    struct store_limits plan;
    uint64_t size = start_small(&s, &plan) + 1;
    store_file(&s, size);
    CHECK_INT(s.n_uploads, 2);
    CHECK(s.uploads[0].aborted && !s.uploads[0].n);
    CHECK(s.object == &s.uploads[1] && s.object->n <= S3_LIMITS_PARTS);
    check_content(s.object, size);
    s3_limits_done(&s);
}

/* What no plan can hold is told to the write, and costs no request. */
static void test_larger_than_the_store(void)
{
    struct s3_limits s;
    struct store_limits plan;
    (void)start_small(&s, &plan);
    uint64_t most = S3_LIMITS_PARTS * s.part_max;
    struct vx x = up(&s);
    struct vfile *f = vx_fopen(&x, "f", NEW, 0);
    unsigned before = s3_limits_requests(&s);
    CHECK_INT(vfile_write(f, &x.op, most, "x", 1), -EFBIG);
    CHECK(strstr(err_text(&x.op.err), "10000 parts of 4096"));
    CHECK_INT(vfile_truncate(f, &x.op, most + 1), -EFBIG);
    CHECK_INT(s3_limits_requests(&s), before);
    CHECK_INT(volume_unlink(x.v, &x.op, "f"), 0);
    CHECK_INT(vx_fclose(&x, f), 0);
    vx_done(&x);
    s3_limits_stop(&s);
    CHECK_INT(s.n_uploads, 0);
    s3_limits_done(&s);
}

int main(void)
{
    log_set_level(LOG_LEVEL_ERROR);
    RUN(test_limits_of_the_class);
    RUN(test_ten_thousand_parts_on_the_wire);
    RUN(test_a_byte_behind_the_plan);
    RUN(test_larger_than_the_store);
    return t_done();
}
