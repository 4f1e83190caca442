/* SPDX-License-Identifier: MIT
 * t_stream.c: files that leave while they are written: the plan of their parts, changes behind the writer,
 * failures of every step, metadata, and a disk that is too small for them. */
#include "cache/stream.h"
#include "tests/unit/vol_fixture.h"

#define RW (VFILE_READ | VFILE_WRITE)
#define NEW (VFILE_READ | VFILE_WRITE | VFILE_CREATE | VFILE_TRUNC)
#define S3_LIKE (CAP_PATCH | CAP_RENAME_FILE)
#define SIZE (60 * KIB)

/* ---- the plan ---- */

static uint64_t check_plan(struct store_limits l)
{
    uint64_t at = 0, off = 0, len = 0, before = 0, parts = l.parts_max ? l.parts_max : 10000;
    for (uint64_t i = 0; i < parts; i++) {
        CHECK(stream_part(&l, i, &off, &len));
        CHECK_INT(off, at);
        CHECK(len >= before && len >= l.part_min && (!l.part_max || len <= l.part_max));
        before = len;
        at += len;
    }
    CHECK(!stream_part(&l, parts, &off, &len));
    return at;
}

static void test_plan(void)
{
    struct store_limits s3 = {.part_size = 16 * MIB, .part_min = 5 * MIB, .part_max = 5 * KIB * MIB,
                              .parts_max = 10000};
    uint64_t off = 0, len = 0, five_tib = 5 * MIB * MIB;
    CHECK(check_plan(s3) >= five_tib);
    CHECK(stream_part(&s3, 800, &off, &len) && len == 16 * MIB); /* 12 GiB in parts of the wanted size */
    s3.part_size = 5 * MIB;
    CHECK(check_plan(s3) >= five_tib);
    s3.part_size = 1; /* the least that the store takes */
    CHECK(check_plan(s3) >= five_tib);
    s3.part_size = 5 * KIB * MIB;
    CHECK_INT(check_plan(s3), 10000 * s3.part_max);
    CHECK_INT(check_plan((struct store_limits){.part_size = 10, .parts_max = 3}), 70);
    CHECK_INT(check_plan((struct store_limits){.part_size = 1, .part_max = 2, .parts_max = 24}), 2 + 44);
}

/* ---- writing ---- */

static struct vx up(const char *more)
{
    struct vx x = vx_new();
    CLEANUP_FREE char *text = xasprintf("backend = memory\nretries = 0\n%s", more);
    x.mask = S3_LIKE;
    x.limits = (struct store_limits){
        .upload_threshold = 8 * KIB, .part_size = 4 * KIB, .part_min = 1 * KIB};
    vx_open(&x, text);
    return x;
}

static unsigned char content[SIZE];

static void make_content(void)
{
    for (size_t i = 0; i < SIZE; i++)
        content[i] = (unsigned char)(i * 31 + i / 253);
}

static void write_all(struct vx *x, struct vfile *f)
{
    make_content();
    for (size_t at = 0; at < SIZE; at += 1000)
        vx_pwrite(x, f, content + at, SIZE - at < 1000 ? SIZE - at : 1000, at);
}

static void change(struct vx *x, struct vfile *f, const char *text, size_t at)
{
    memcpy(content + at, text, strlen(text));
    vx_pwrite(x, f, text, strlen(text), at);
}

static void check_stored(struct vx *x, const char *path, size_t size)
{
    static unsigned char got[SIZE + 1];
    struct read_req req = {.key = path, .iov = {.iov_base = got, .iov_len = sizeof(got)}};
    struct read_res res = READ_RES_INIT;
    CHECK_INT(store_read(x->store, &x->op, &req, &res), 0);
    CHECK_INT(res.length, size);
    CHECK(memcmp(got, content, size) == 0);
    read_res_done(&res);
}

/* Bytes of parts that are or may be at the store are written again, cut off and grown again. */
static void test_changes_behind(void)
{
    struct vx x = up("");
    unsigned char got[100];
    struct vfile *f = vx_fopen(&x, "f", NEW, 0);
    write_all(&x, f);
    change(&x, f, "header", 0);
    change(&x, f, "across two parts", 8 * KIB - 5);
    CHECK_INT(vx_pread(f, got, 100, 8 * KIB - 50), 100);
    CHECK(memcmp(got, content + 8 * KIB - 50, 100) == 0);
    CHECK_INT(vfile_truncate(f, &x.op, 21000), 0);
    CHECK_INT(vfile_truncate(f, &x.op, 40000), 0);
    memset(content + 21000, 0, SIZE - 21000);
    change(&x, f, "the end", 50000);
    CHECK_INT(vfile_fallocate(f, &x.op, 3 /* PUNCH_HOLE | KEEP_SIZE */, 5000, 300), 0);
    memset(content + 5000, 0, 300);
    CHECK_INT(vx_fclose(&x, f), 0);
    check_stored(&x, "f", 50007);
    f = vx_fopen(&x, "f", NEW, 0); /* again, over it; then it ends small: no upload after all */
    write_all(&x, f);
    CHECK_INT(vfile_truncate(f, &x.op, 10), 0);
    CHECK_INT(vx_fclose(&x, f), 0);
    check_stored(&x, "f", 10);
    f = vx_fopen(&x, "gone", NEW, 0);
    write_all(&x, f);
    CHECK_INT(volume_unlink(x.v, &x.op, "gone"), 0);
    CHECK_INT(vx_fclose(&x, f), 0);
    CHECK(vx_foreign_get(&x, "gone") == NULL);
    f = vx_fopen(&x, "synced", NEW, 0);
    write_all(&x, f);
    CHECK_INT(vfile_fsync(f, &x.op), 0);
    check_stored(&x, "synced", SIZE);
    change(&x, f, "after it", 30000);
    CHECK_INT(vx_fclose(&x, f), 0);
    check_stored(&x, "synced", SIZE);
    vx_done(&x);
}

/* One failure of each step. Those that hit a job are made good by the close; whether they do, is open. The
 * close succeeds, or it fails and the file goes out later. */
static void test_failures(void)
{
    static const struct {
        const char *rule;
        bool passes; /* surely */
    } cases[] = {
        {"op=upload_part,nth=2,errno=EIO", false},
        {"op=upload_part,nth=14,errno=EIO", false},
        {"op=upload_begin,nth=1,errno=EHOSTUNREACH", false},
        {"op=upload_finish,nth=1,errno=EIO", false},
        {"op=upload_finish,nth=1,errno=ETIMEDOUT,lost=yes,retry=unknown", true},
        {"op=upload_finish,nth=1,errno=ETIMEDOUT,retry=unknown", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        CLEANUP_FREE char *more = xasprintf("fault = %s\n", cases[i].rule);
        struct vx x = up(more);
        struct vfile *f = vx_fopen(&x, "f", NEW, 0);
        write_all(&x, f);
        int r = vfile_flush(f, &x.op);
        if (cases[i].passes)
            CHECK_INT(r, 0);
        if (r == 0)
            check_stored(&x, "f", SIZE);
        CHECK_INT(vfile_flush(f, &x.op), 0); /* what stayed staged is whole */
        check_stored(&x, "f", SIZE);
        vfile_release(f);
        vx_done(&x);
    }
}

/* The last part that there is, and one byte more: then the parts are planned anew for the size. */
static void test_last_part(void)
{
    struct vx x = vx_new();
    uint64_t off = 0, len = 0;
    x.mask = S3_LIKE;
    x.limits = (struct store_limits){
        .upload_threshold = 2 * KIB, .part_size = KIB, .part_min = KIB, .parts_max = 9};
    vx_open(&x, "backend = memory\nretries = 0\nfault = op=upload_part,latency=1ms\n");
    make_content();
    CHECK(stream_part(&x.store->limits, 5, &off, &len));
    CHECK_INT(off, 31 * KIB);
    x.store->limits.parts_max = 5; /* they double: 31 KiB in all */
    for (size_t more = 0; more < 2; more++) {
        struct vfile *f = vx_fopen(&x, "f", NEW, 0);
        for (size_t at = 0; at < off; at += KIB)
            vx_pwrite(&x, f, content + at, KIB, at);
        if (more)
            vx_pwrite(&x, f, content + off, 1, off);
        CHECK_INT(vx_fclose(&x, f), 0);
        check_stored(&x, "f", off + more);
    }
    vx_done(&x);
}

static void write_zeros(struct vx *x, struct vfile *f, uint64_t from, uint64_t end, int want)
{
    static unsigned char zeros[64 * KIB];
    for (uint64_t at = from; at < end; at += sizeof(zeros)) {
        size_t n = end - at < sizeof(zeros) ? (size_t)(end - at) : sizeof(zeros);
        ssize_t r = vfile_write(f, &x->op, at, zeros, n);
        CHECK_INT(r, want ? want : (ssize_t)n);
    }
}

/* A plan that grows from 1 KiB to 4 KiB ends with part number 10,000; one byte more is planned anew; what no plan can
 * hold is told to the write. */
static void test_ten_thousand_parts(void)
{
    struct vx x = vx_new();
    uint64_t off = 0, len = 0;
    struct attr a = ATTR_INIT;
    x.mask = S3_LIKE;
    x.limits = (struct store_limits){.upload_threshold = 2 * KIB, .part_size = KIB, .part_min = KIB,
                                     .part_max = 4 * KIB, .put_max = 64 * KIB, .parts_max = 10000};
    vx_open(&x, "backend = memory\nretries = 0\n");
    CHECK(stream_part(&x.store->limits, 9999, &off, &len));
    uint64_t all = off + len, most = 10000 * 4 * KIB;
    CHECK(all < most);
    CHECK_INT(store_size_max(x.store), most);
    for (uint64_t more = 0; more < 2; more++) {
        struct vfile *f = vx_fopen(&x, "f", NEW, 0);
        vx_pwrite(&x, f, "begin", 5, 0);
        write_zeros(&x, f, 5, all - 3, 0);
        vx_pwrite(&x, f, "end+", 3 + more, all - 3);
        CHECK_INT(vx_fclose(&x, f), 0);
        CHECK_INT(vx_stat(&x, "f", &a), 0);
        CHECK_INT(a.size, all + more);
        attr_done(&a);
        char got[8] = "";
        struct read_req req = {.key = "f", .offset = all - 4, .iov = {.iov_base = got, .iov_len = 8}};
        struct read_res res = READ_RES_INIT;
        CHECK_INT(store_read(x.store, &x.op, &req, &res), 0);
        CHECK_INT(res.length, 4 + more);
        CHECK(memcmp(got, "\0end+", 4 + more) == 0);
        read_res_done(&res);
    }
    struct vfile *f = vx_fopen(&x, "g", NEW, 0);
    CHECK_INT(vfile_truncate(f, &x.op, most + 1), -EFBIG);
    CHECK(strstr(err_text(&x.op.err), "10000 parts of 4096"));
    write_zeros(&x, f, most, most + 1, -EFBIG);
    CHECK_INT(vfile_fallocate(f, &x.op, 0, most, 1), -EFBIG);
    write_zeros(&x, f, 0, most, 0);
    write_zeros(&x, f, most, most + 1, -EFBIG);
    CHECK_INT(vx_fclose(&x, f), 0);
    CHECK_INT(vx_stat(&x, "g", &a), 0);
    CHECK_INT(a.size, most);
    attr_done(&a);
    vx_done(&x);
}

/* The upload began with other metadata. */
static void test_metadata(void)
{
    struct vx x = up("");
    struct attr set = {.known = ATTR_HAS_MODE | ATTR_HAS_MTIME, .mode = 0600,
                       .mtime = {.tv_sec = 1600000000, .tv_nsec = 5}};
    struct attr a = ATTR_INIT;
    struct vfile *f = vx_fopen(&x, "f", NEW, 0);
    write_all(&x, f);
    CHECK_INT(vfile_set_attr(f, &x.op, &set), 0);
    CHECK_INT(vx_fclose(&x, f), 0);
    check_stored(&x, "f", SIZE);
    CHECK_INT(store_stat(x.store, &x.op, "f", &a), 0);
    CHECK_INT(a.mode, 0600);
    CHECK_INT(a.mtime.tv_sec, 1600000000);
    CHECK_INT(a.mtime.tv_nsec, 5);
    CHECK_INT(vx_stat(&x, "f", &a), 0);
    CHECK_INT(a.mode, 0600);
    attr_done(&a);
    vx_done(&x);
}

#define REFUSED "op=upload_finish,%s=1,errno=ESTALE"

/* The store refuses to finish an upload, but nobody has changed the file: it is no conflict, and it is sent again. What
 * goes on being refused stays staged. */
static void test_refused(void)
{
    for (unsigned how = 0; how < 3; how++) {
        bool replaced = how > 0, stays = how == 2;
        CLEANUP_FREE char *more = xasprintf("fault = " REFUSED "\n", stays ? "every" : "nth");
        struct vx x = up(more);
        if (replaced)
            vx_foreign_put(&x, "f", "before");
        struct vfile *f = vx_fopen(&x, "f", NEW, 0);
        write_all(&x, f);
        CHECK_INT(vfile_flush(f, &x.op), stays ? -EIO : 0);
        CHECK(!stays || strstr(err_text(&x.op.err), "nobody has changed"));
        CHECK_STR(vx_foreign_ls(&x, ""), "f");
        if (!stays)
            check_stored(&x, "f", SIZE);
        vfile_release(f);
        CHECK_INT(vx_close_ms(&x, 1), stays);
        vx_done(&x);
    }
}

/* Another client makes the file meanwhile: both are kept, nothing of the upload stays. */
static void test_conflict(void)
{
    struct vx x = up("");
    struct vfile *f = vx_fopen(&x, "f", NEW, 0);
    write_all(&x, f);
    vx_foreign_put(&x, "f", "theirs");
    CHECK_INT(vx_fclose(&x, f), -ESTALE);
    CHECK_STR(vx_foreign_get(&x, "f"), "theirs");
    char *both = vx_foreign_ls(&x, "");
    CHECK(strncmp(both, "f f.conflict-", 13) == 0 && !strstr(both, "incomplete"));
    CLEANUP_FREE char *copy = xstrdup(both + 2);
    check_stored(&x, copy, SIZE);
    vx_done(&x);
}

/* ---- a disk that is too small ---- */

static struct vx up_small(const char *more)
{
    struct vx x = vx_new();
    CLEANUP_FREE char *text = xasprintf("backend = memory\nretries = 0\n%s", more);
    x.mask = S3_LIKE;
    x.max_size = 32 * KIB;
    x.limits = (struct store_limits){
        .upload_threshold = 8 * KIB, .part_size = 4 * KIB, .part_min = 1 * KIB};
    vx_open(&x, text);
    return x;
}

/* A byte that is at the store only. Which parts are freed depends on which arrived first: there are some, and
 * never the first. */
static uint64_t freed_byte(struct vfile *f)
{
    char got[1];
    for (uint64_t at = 0; at < SIZE; at += 4 * KIB) {
        ssize_t r = vx_pread(f, got, 1, at);
        CHECK(r == 1 || (r == -EIO && at >= 4 * KIB));
        if (r == -EIO)
            return at;
    }
    CHECK_STR("nothing was freed", "a part");
    return 0;
}

static void test_small_disk(void)
{
    struct vx x = up_small("");
    struct cache_usage u;
    char got[16];
    struct vfile *f = vx_fopen(&x, "f", NEW, 0);
    write_all(&x, f); /* twice what the cache may take */
    cache_get_usage(x.c, NULL, &u);
    CHECK(u.bytes + u.dirty_bytes <= 32 * KIB);
    uint64_t gone = freed_byte(f);
    CHECK_INT(vx_pread(f, got, 16, SIZE - 16), 16);
    CHECK(memcmp(got, content + SIZE - 16, 16) == 0);
    CHECK_INT(vfile_write(f, &x.op, gone, "x", 1), -ENOSPC);
    CHECK_INT(vfile_truncate(f, &x.op, gone), -ENOSPC);
    change(&x, f, "header", 10); /* the first part stays */
    CHECK_INT(vx_fclose(&x, f), 0);
    check_stored(&x, "f", SIZE);
    f = vx_fopen(&x, "f", VFILE_READ, 0);
    CHECK_INT(vx_pread(f, got, 16, gone), 16);
    CHECK(memcmp(got, content + gone, 16) == 0);
    CHECK_INT(vx_fclose(&x, f), 0);
    vx_done(&x);
}

/* The store fails at the end: what is at the store and what is here stay together, and go out later. */
static void test_small_disk_failure(void)
{
    struct vx x = up_small("fault = op=upload_finish,nth=1,errno=EIO\n");
    struct vfile *f = vx_fopen(&x, "f", NEW, 0);
    write_all(&x, f);
    CHECK_INT(vfile_flush(f, &x.op), -EIO);
    CHECK(vx_foreign_get(&x, "f") == NULL);
    CHECK_INT(vx_fclose(&x, f), 0);
    check_stored(&x, "f", SIZE);
    vx_done(&x);
}

/* The store refuses to finish the upload that has the only copy of some bytes: only finishing it can help. */
static void test_small_disk_refused(void)
{
    struct vx x = up_small("fault = op=upload_finish,nth=1,errno=ESTALE\n");
    struct vfile *f = vx_fopen(&x, "f", NEW, 0);
    write_all(&x, f);
    CHECK_INT(vx_fclose(&x, f), 0);
    check_stored(&x, "f", SIZE);
    CHECK_STR(vx_foreign_ls(&x, ""), "f");
    vx_done(&x);
    x = up_small("fault = op=upload_finish,every=1,errno=ESTALE\n");
    f = vx_fopen(&x, "f", NEW, 0);
    write_all(&x, f);
    CHECK_INT(vfile_flush(f, &x.op), -EIO);
    CHECK(strstr(err_text(&x.op.err), "parts of it are only in"));
    CHECK_STR(vx_foreign_ls(&x, ""), "");
    vfile_release(f);
    CHECK_INT(vx_close_ms(&x, 1), 1); /* staged, with what is at the store */
    vx_done(&x);
}

/* Nobody takes the parts: the writer is told that there is no room, and nothing is lost silently. */
static void test_small_disk_no_store(void)
{
    struct vx x = up_small("fault = op=upload_part,errno=EIO\n");
    struct vfile *f = vx_fopen(&x, "f", NEW, 0);
    make_content();
    ssize_t r = 0;
    for (size_t at = 0; at < SIZE && r >= 0; at += 1000)
        r = vfile_write(f, &x.op, at, content + at, 1000);
    CHECK_INT(r, -ENOSPC);
    vfile_release(f);
    CHECK_INT(vx_close(&x), 1); /* staged */
    vx_done(&x);
}

int main(void)
{
    log_set_level(LOG_LEVEL_ERROR);
    RUN(test_plan);
    RUN(test_changes_behind);
    RUN(test_failures);
    RUN(test_last_part);
    RUN(test_ten_thousand_parts);
    RUN(test_metadata);
    RUN(test_refused);
    RUN(test_conflict);
    RUN(test_small_disk);
    RUN(test_small_disk_failure);
    RUN(test_small_disk_refused);
    RUN(test_small_disk_no_store);
    return t_done();
}
