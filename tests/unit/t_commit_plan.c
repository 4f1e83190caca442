/* SPDX-License-Identifier: MIT
 * t_commit_plan.c: how changes are sent: cases by hand, and the rules of uploads for random ones. */
#include "cache/commit_plan.h"
#include "tests/unit/t.h"

#include <errno.h>

#define MIB (1024ULL * 1024)
#define GIB (1024 * MIB)

static const struct store_limits s3 = {.put_max = 5 * GIB,
                                       .upload_threshold = 16 * MIB,
                                       .part_size = 16 * MIB,
                                       .part_min = 5 * MIB,
                                       .part_max = 5 * GIB,
                                       .parts_max = 10000};

#define S3_CAPS (CAP_WRITE | CAP_UPLOAD | CAP_COPY_PART | CAP_IF_MATCH)

static struct commit_plan plan(uint32_t caps, const struct store_limits *l, uint64_t size,
                               uint64_t base, const struct ranges *staged)
{
    struct plan_input in = {.caps = caps,
                            .limits = l,
                            .size = size,
                            .has_base = base > 0,
                            .base_size = base,
                            .base_len = base < size ? base : size,
                            .staged = staged};
    struct commit_plan p = COMMIT_PLAN_INIT;
    CHECK_INT(commit_plan_make(&in, &p), 0);
    return p;
}

static void test_small(void)
{
    struct ranges none = RANGES_INIT, some = RANGES_INIT;
    ranges_add(&some, 100, 200);
    struct commit_plan p = plan(S3_CAPS, &s3, 0, 0, &none);
    CHECK_INT(p.kind, PLAN_PUT);
    commit_plan_done(&p);
    p = plan(S3_CAPS, &s3, 1000, 500, &some);
    CHECK_INT(p.kind, PLAN_PUT);
    CHECK_INT(p.fill.n, 2);
    CHECK_INT(p.fill.bytes, 400); /* [0,100) and [200,500); behind the base are zeros */
    commit_plan_done(&p);
    p = plan(S3_CAPS | CAP_PATCH, &s3, 1000, 500, &some);
    CHECK_INT(p.kind, PLAN_PATCH);
    CHECK_INT(p.n_ranges, 1);
    CHECK_INT(p.fill.n, 0);
    commit_plan_done(&p);
    ranges_add(&some, 0, 1000);
    p = plan(S3_CAPS | CAP_PATCH, &s3, 1000, 500, &some);
    CHECK_INT(p.kind, PLAN_PUT); /* all of it is new: whole or not at all */
    commit_plan_done(&p);
    ranges_done(&some);
}

/* Cut to 100 and grown to 400 again: [100, 400) is zeros, which the store does not know. */
static void test_patch_zeros(void)
{
    struct ranges staged = RANGES_INIT;
    ranges_add(&staged, 10, 20);
    struct plan_input in = {.caps = S3_CAPS | CAP_PATCH, .limits = &s3, .size = 400,
                            .has_base = true, .base_size = 500, .base_len = 100, .staged = &staged};
    struct commit_plan p = COMMIT_PLAN_INIT;
    CHECK_INT(commit_plan_make(&in, &p), 0);
    CHECK_INT(p.kind, PLAN_PATCH);
    CHECK_INT(p.n_ranges, 2);
    CHECK_INT(p.ranges[1].offset, 100);
    CHECK_INT(p.ranges[1].length, 300);
    commit_plan_done(&p);
    in.caps = S3_CAPS;
    CHECK_INT(commit_plan_make(&in, &p), 0);
    CHECK_INT(p.kind, PLAN_PUT);
    CHECK_INT(p.fill.bytes, 90);
    commit_plan_done(&p);
    ranges_done(&staged);
}

static void test_small_edit_of_large(void)
{
    struct ranges staged = RANGES_INIT;
    ranges_add(&staged, 200 * MIB, 200 * MIB + 8);
    struct commit_plan p = plan(S3_CAPS, &s3, 512 * MIB, 512 * MIB, &staged);
    CHECK_INT(p.kind, PLAN_UPLOAD);
    uint64_t data = 0;
    for (size_t i = 0; i < p.n_parts; i++)
        data += p.parts[i].copy ? 0 : p.parts[i].len;
    CHECK_INT(data, 5 * MIB); /* one part of the smallest size */
    CHECK_INT(p.fill.bytes, 5 * MIB - 8);
    CHECK(p.n_parts <= 8);
    commit_plan_done(&p);
    ranges_done(&staged);
}

static void test_append(void)
{
    struct ranges staged = RANGES_INIT;
    ranges_add(&staged, 1 * GIB, 1 * GIB + 100);
    struct commit_plan p = plan(S3_CAPS, &s3, 1 * GIB + 100, 1 * GIB, &staged);
    CHECK_INT(p.kind, PLAN_UPLOAD);
    CHECK_INT(p.fill.n, 0);
    CHECK(!p.parts[p.n_parts - 1].copy);
    CHECK_INT(p.parts[p.n_parts - 1].len, 100);
    commit_plan_done(&p);
    p = plan(CAP_WRITE | CAP_UPLOAD, &s3, 1 * GIB + 100, 1 * GIB, &staged); /* no copies */
    CHECK_INT(p.fill.bytes, 1 * GIB);
    commit_plan_done(&p);
    ranges_done(&staged);
}

static void test_limits(void)
{
    struct ranges staged = RANGES_INIT;
    ranges_add(&staged, 0, 40000 * GIB);
    struct commit_plan p = plan(S3_CAPS, &s3, 40000 * GIB, 0, &staged);
    CHECK(p.n_parts <= 10000);
    CHECK(p.parts[0].len <= 5 * GIB);
    commit_plan_done(&p);
    struct plan_input in = {.caps = S3_CAPS, .limits = &s3, .size = 50001 * GIB, .staged = &staged};
    CHECK_INT(commit_plan_make(&in, &p), -EFBIG);
    p = plan(S3_CAPS, &s3, 160000 * MIB, 0, &staged); /* exactly parts_max parts */
    CHECK_INT(p.n_parts, 10000);
    commit_plan_done(&p);
    p = plan(S3_CAPS, &s3, 160000 * MIB + 1, 0, &staged);
    CHECK(p.n_parts < 10000);
    commit_plan_done(&p);
    struct store_limits one = {.put_max = 1000};
    in = (struct plan_input){.caps = CAP_WRITE, .limits = &one, .size = 1001, .staged = &staged};
    CHECK_INT(commit_plan_make(&in, &p), -EFBIG);
    in.size = 1000;
    CHECK_INT(commit_plan_make(&in, &p), 0);
    CHECK_INT(p.kind, PLAN_PUT);
    commit_plan_done(&p);
    p = plan(S3_CAPS, &s3, 16 * MIB, 0, &staged); /* not larger than the threshold */
    CHECK_INT(p.kind, PLAN_PUT);
    commit_plan_done(&p);
    p = plan(S3_CAPS, &s3, 16 * MIB + 1, 0, &staged);
    CHECK_INT(p.kind, PLAN_UPLOAD);
    commit_plan_done(&p);
    ranges_done(&staged);
}

static void check_rules(const struct plan_input *in, const struct commit_plan *p)
{
    const struct store_limits *l = in->limits;
    uint64_t pos = 0;
    CHECK(p->n_parts <= l->parts_max);
    for (size_t i = 0; i < p->n_parts; i++) {
        const struct plan_part *part = &p->parts[i];
        CHECK_INT(part->off, pos);
        CHECK(part->len > 0 && part->len <= l->part_max);
        CHECK(part->len >= l->part_min || i + 1 == p->n_parts);
        if (part->copy) {
            CHECK(part->off + part->len <= in->base_len);
            CHECK_INT(ranges_overlap(in->staged, part->off, part->off + part->len), 0);
        }
        for (uint64_t at = part->off, end; at < part->off + part->len && !part->copy; at = end) {
            uint64_t limit = part->off + part->len;
            bool staged = ranges_run(in->staged, at, limit, &end);
            if (!staged && at < in->base_len)
                CHECK(ranges_has(&p->fill, at, end < in->base_len ? end : in->base_len));
        }
        pos += part->len;
    }
    CHECK_INT(pos, in->size);
}

static void test_random(void)
{
    struct store_limits l = {.upload_threshold = 1, .part_size = 64, .part_min = 20,
                             .part_max = 400, .parts_max = 100};
    unsigned seed = 4711;
    for (int round = 0; round < 5000; round++) {
        struct ranges staged = RANGES_INIT;
        seed = seed * 1103515245u + 12345u;
        uint64_t size = 2 + (seed >> 8) % 4000, base = (seed >> 20) % 4000;
        for (unsigned i = 0; i < (seed >> 4) % 12; i++) {
            seed = seed * 1103515245u + 12345u;
            uint64_t off = (seed >> 8) % size, end = off + 1 + (seed >> 20) % 90;
            ranges_add(&staged, off, end < size ? end : size);
        }
        struct plan_input in = {.caps = S3_CAPS, .limits = &l, .size = size, .has_base = base > 0,
                                .base_size = base, .base_len = base < size ? base : size,
                                .staged = &staged};
        struct commit_plan p = COMMIT_PLAN_INIT;
        CHECK_INT(commit_plan_make(&in, &p), 0);
        CHECK_INT(p.kind, PLAN_UPLOAD);
        check_rules(&in, &p);
        commit_plan_done(&p);
        ranges_done(&staged);
    }
}

int main(void)
{
    RUN(test_small);
    RUN(test_patch_zeros);
    RUN(test_small_edit_of_large);
    RUN(test_append);
    RUN(test_limits);
    RUN(test_random);
    return t_done();
}
