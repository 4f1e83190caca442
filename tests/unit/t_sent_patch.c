/* SPDX-License-Identifier: MIT
 * t_sent_patch.c: which files a patch that was cut off can have left, and how the journal keeps that. */
#include "base/cleanup.h"
#include "base/sys.h"
#include "cache/sent_patch.h"
#include "tests/unit/t.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct sent_patch sent(uint64_t base, uint64_t size, bool any)
{
    struct sent_patch p = {.base_size = base, .size = size, .head = {10, any ? 10 + SENT_PROOF : 10}};
    p.head = any ? p.head : (struct range){0, 0};
    return p;
}

static bool left(uint64_t base, uint64_t size, bool any, uint64_t there)
{
    struct sent_patch p = sent(base, size, any);
    struct range tail;
    bool can = sent_patch_can_leave(&p, there, &tail);
    CHECK(tail.off <= tail.end && tail.end - tail.off <= SENT_PROOF);
    return can;
}

/* The sizes between a patch and its end; all others are of somebody else. */
static void test_what_a_patch_leaves(void)
{
    CHECK(left(30000, 30000, true, 30000));
    CHECK(!left(30000, 30000, true, 30500)); /* appended to */
    CHECK(!left(30000, 30000, true, 29999)); /* shortened */
    CHECK(left(30000, 25000, true, 30000) && left(30000, 25000, true, 25000));
    CHECK(!left(30000, 25000, true, 27000)); /* the size is set at once */
    CHECK(left(30000, 25000, false, 25000) && !left(30000, 25000, false, 30000));
    CHECK(!left(15000, 20000, true, 14999) && !left(15000, 20000, true, 20001));
    struct sent_patch p = sent(15000, 20000, true);
    struct range tail;
    CHECK(sent_patch_can_leave(&p, 19500, &tail));
    CHECK(tail.off == 19500 - SENT_PROOF && tail.end == 19500);
    CHECK(sent_patch_can_leave(&p, 15500, &tail));
    CHECK(tail.off == 15000 && tail.end == 15500);
}

static void test_what_was_sent(void)
{
    char path[] = "/tmp/quay-sent-XXXXXX";
    CLEANUP_FD int fd = mkstemp(path);
    CHECK(fd >= 0 && unlink(path) == 0);
    CHECK_INT(sys_pwrite(fd, "123456789", 9, 100), 9);
    struct patch_range range = {.offset = 100, .length = 9};
    struct patch_req req = {.ranges = &range, .n_ranges = 1, .new_size = 109};
    struct sent_patch p, other;
    CHECK_INT(sent_patch_of(&req, 100, fd, &p), 0);
    CHECK(p.head.off == 100 && p.head.end == 109);
    CHECK_INT(p.head_crc, 0xe3069283); /* CRC-32C of these digits */
    CHECK_INT(p.tail_crc, 0xe3069283);
    CHECK_INT(sys_pwrite(fd, "x", 1, 100), 1);
    CHECK_INT(sent_patch_of(&req, 100, fd, &other), 0);
    CHECK(other.head_crc != p.head_crc);
    req = (struct patch_req){.new_size = 50}; /* only cut */
    CHECK_INT(sent_patch_of(&req, 100, fd, &other), 0);
    CHECK(other.head.end == 0 && other.size == 50);
}

static void test_journal(void)
{
    struct sent_patches s = SENT_PATCHES_INIT, back;
    CHECK(sent_patches_format(&s) == NULL);
    for (uint64_t i = 0; i < SENT_MAX + 2; i++) {
        struct sent_patch p = sent(1000 + i, UINT64_MAX - i, true);
        p.tail_crc = UINT32_MAX;
        CHECK(sent_patches_add(&s, &p));
        CHECK(!sent_patches_add(&s, &p));
    }
    CHECK_INT(s.n, SENT_MAX);
    CHECK_INT(s.v[0].base_size, 1002);
    CLEANUP_FREE char *text = sent_patches_format(&s);
    sent_patches_parse(text, &back);
    CHECK_INT(back.n, s.n);
    CLEANUP_FREE char *again = sent_patches_format(&back);
    CHECK_STR(again, text);
    static const char *const bad[] = {"", "x", "1 2 3-4 5", "1 2 9-4 5 6\n", "1 2 0-5000 5 6\n"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        sent_patches_parse(bad[i], &back);
        CHECK_INT(back.n, 0);
    }
    sent_patches_parse(NULL, &back);
    CHECK_INT(back.n, 0);
}

int main(void)
{
    RUN(test_what_a_patch_leaves);
    RUN(test_what_was_sent);
    RUN(test_journal);
    return t_done();
}
