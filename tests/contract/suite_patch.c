/* SPDX-License-Identifier: MIT
 * suite_patch.c: ranges written in place. */
#include "tests/contract/suite.h"

enum { SIZE = 100000, OLD = 1, NEW = 2 };

static void put_old(struct suite *s, const char *name, struct attr *ret)
{
    struct pattern_source src = pattern_source(SIZE, OLD);
    struct put_req put = {.key = K(s, name), .src = &src.base};
    OK(store_put(s->store, &s->op, &put, ret));
}

static int patch(struct suite *s, const char *name, const char *if_match,
                 const struct patch_range *ranges, size_t n, uint64_t new_size,
                 const struct attr *attr, struct attr *ret)
{
    struct pattern_source src = pattern_source(new_size > SIZE ? new_size : SIZE, NEW);
    struct patch_req req = {.key = K(s, name),
                            .if_match = if_match,
                            .src = &src.base,
                            .ranges = ranges,
                            .n_ranges = n,
                            .new_size = new_size,
                            .attr = attr};
    return store_patch(s->store, &s->op, &req, ret);
}

/* Every byte is the new one within the ranges, the old one elsewhere, zero past the old end. */
static void check_patched(struct suite *s, const char *name, const struct attr *a,
                          const struct patch_range *ranges, size_t n, size_t size)
{
    CLEANUP_FREE unsigned char *buf = xmalloc(size + 1);
    CHECK_INT(a->size, size);
    CHECK_INT(read_at(s, name, a->version, 0, buf, size + 1), size);
    for (size_t i = 0; i < size; i++) {
        unsigned char want = i < SIZE ? pattern(i, OLD) : 0;
        for (size_t k = 0; k < n; k++)
            if (i >= ranges[k].offset && i < ranges[k].offset + ranges[k].length)
                want = pattern(i, NEW);
        CHECK(buf[i] == want);
    }
}

static void middle(struct suite *s)
{
    CLEANUP_ATTR struct attr before = ATTR_INIT, after = ATTR_INIT, seen = ATTR_INIT;
    const struct patch_range ranges[] = {{10, 100}, {5000, 1}, {99990, 10}};
    char buf[4];
    put_old(s, "middle", &before);
    OK(patch(s, "middle", before.version, ranges, 3, SIZE, NULL, &after));
    CHECK(strcmp(before.version, after.version) != 0);
    check_patched(s, "middle", &after, ranges, 3, SIZE);
    OK(stat_key(s, "middle", &seen));
    CHECK_STR(seen.version, after.version);
    FAILS((int)read_at(s, "middle", before.version, 0, buf, 4), ESTALE);
}

static void sizes(struct suite *s)
{
    CLEANUP_ATTR struct attr a = ATTR_INIT, b = ATTR_INIT, c = ATTR_INIT, d = ATTR_INIT;
    const struct patch_range tail = {SIZE + 500, 100};
    put_old(s, "grow", &a);
    OK(patch(s, "grow", a.version, &tail, 1, SIZE + 600, NULL, &b)); /* a hole of zeros between */
    check_patched(s, "grow", &b, &tail, 1, SIZE + 600);
    OK(patch(s, "grow", b.version, NULL, 0, 1234, NULL, &c));
    check_patched(s, "grow", &c, NULL, 0, 1234);
    OK(patch(s, "grow", NULL, NULL, 0, 0, NULL, &d));
    CHECK_INT(d.size, 0);
}

static void with_metadata(struct suite *s)
{
    CLEANUP_ATTR struct attr a = ATTR_INIT, b = ATTR_INIT, c = ATTR_INIT;
    struct attr change = {
        .known = ATTR_HAS_MODE | ATTR_HAS_MTIME, .mode = 0606, .mtime = {.tv_sec = 1333333333}};
    const struct patch_range one = {0, 1};
    put_old(s, "meta", &a);
    OK(patch(s, "meta", a.version, &one, 1, SIZE, &change, &b));
    CHECK_INT(b.mode, 0606);
    CHECK_INT(b.mtime.tv_sec, 1333333333);
    /* Again, with the same times: the version moves all the same. */
    const struct patch_range two = {0, 2};
    OK(patch(s, "meta", b.version, &two, 1, SIZE, &change, &c));
    CHECK(strcmp(b.version, c.version) != 0);
}

static void refused(struct suite *s)
{
    CLEANUP_ATTR struct attr a = ATTR_INIT, b = ATTR_INIT;
    struct attr none = ATTR_INIT;
    const struct patch_range one = {0, 10}, outside = {SIZE - 1, 2};
    put_old(s, "stale", &a);
    put_old(s, "stale", &b);
    FAILS(patch(s, "stale", a.version, &one, 1, SIZE, NULL, &none), ESTALE);
    FAILS(patch(s, "stale", b.version, &outside, 1, SIZE, NULL, &none), EINVAL);
    FAILS(patch(s, "absent", NULL, &one, 1, SIZE, NULL, &none), ENOENT);
    check_patched(s, "stale", &b, NULL, 0, SIZE);
    check_gone(s, "absent");
}

struct torn_source { /* ends in the middle: cannot be read any more, or the request is given up */
    struct source base;
    struct pattern_source src;
    struct op *op; /* to be cancelled there; NULL: EIO */
    uint64_t end;
};

static int torn_read_at(const struct source *source, uint64_t off, void *buf, size_t len)
{
    struct torn_source *t = (struct torn_source *)(uintptr_t)source;
    bool over = off + len > t->end;
    if (over && !t->op)
        return -EIO;
    if (over)
        op_cancel(t->op);
    return t->src.base.read_at(&t->src.base, off, buf, len);
}

/* Story: a patch over SFTP was given up for the sake of a later change of the same file, which then met the version
 * that the half patch had left, and took it for another client's. */
static void torn(struct suite *s, const char *name, bool cancelled)
{
    enum { BIG = 9 << 20 };
    CLEANUP_ATTR struct attr before = ATTR_INIT, left = ATTR_INIT, seen = ATTR_INIT, after = ATTR_INIT;
    const struct patch_range ranges[] = {{1000, 50}, {SIZE, BIG - SIZE}};
    struct torn_source src = {.base = {.read_at = torn_read_at, .size = BIG}, .src = pattern_source(BIG, NEW),
                              .end = BIG - 100000};
    struct patch_req req = {.key = K(s, name), .src = &src.base, .ranges = ranges, .n_ranges = 2, .new_size = BIG};
    struct op op;
    op_init(&op, "patch", 0);
    src.op = cancelled ? &op : NULL;
    put_old(s, name, &before);
    req.if_match = before.version;
    int r = store_patch(s->store, &op, &req, &left);
    if (cancelled && r == 0) { /* too late: where it takes no time */
        check_patched(s, name, &left, ranges, 2, BIG);
        return;
    }
    CHECK_INT(r, cancelled ? -EINTR : -EIO);
    OK(stat_key(s, name, &seen));
    if (!left.version[0] && getenv("QUAY_SUITE_TORN_UNKNOWN"))
        return;
    if (!left.version[0]) { /* nothing happened */
        CHECK_STR(seen.version, before.version);
    } else {
        CHECK_STR(seen.version, left.version);
        CHECK_INT(seen.size, left.size);
        CHECK(strcmp(left.version, before.version) != 0);
    }
    OK(patch(s, name, seen.version, ranges, 2, BIG, NULL, &after));
    check_patched(s, name, &after, ranges, 2, BIG);
}

void suite_patch(struct suite *s)
{
    suite_begin(s, "patch");
    if (!has(s, CAP_PATCH)) {
        struct attr none = ATTR_INIT;
        FAILS(patch(s, "x", NULL, NULL, 0, 1, NULL, &none), ENOTSUP);
        return;
    }
    middle(s);
    sizes(s);
    with_metadata(s);
    refused(s);
    torn(s, "torn-source", false);
    torn(s, "torn-cancelled", true);
}
