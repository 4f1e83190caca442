/* SPDX-License-Identifier: MIT
 * t_sftp_version.c: versions made of whole seconds and sizes, and the marks that keep contents
 * apart. */
#include "backends/sftp/sftp_version.h"
#include "tests/unit/t.h"

static struct versions v;

static void put(const char *key, struct version_id before, struct version_id after)
{
    versions_change(&v, key);
    versions_changed(&v, key, &before, &after);
}

static const char *text(const char *key, uint32_t mtime, uint64_t size)
{
    static char out[8][ATTR_VERSION_MAX];
    static unsigned next;
    char *to = out[next++ % 8];
    versions_text(&v, key, &(struct version_id){.mtime = mtime, .size = size}, to);
    return to;
}

#define NOTHING ((struct version_id){.size = UINT64_MAX})
#define ID(m, s) ((struct version_id){.mtime = (m), .size = (s)})

static void plain(void)
{
    CHECK_STR(text("k", 0x5f000000, 0x1000), "5f000000-1000");
    CHECK(versions_match(&v, "k", "5f000000-1000", &ID(0x5f000000, 0x1000)));
    CHECK(versions_match(&v, "k", "", &ID(1, 1)) && versions_match(&v, "k", NULL, &ID(1, 1)));
    CHECK(!versions_match(&v, "k", "5f000000-1000", &ID(0x5f000001, 0x1000)));
    CHECK(!versions_match(&v, "k", "5f000000-1000", &ID(0x5f000000, 0x1001)));
    static const char *const bad[] = {
        "x",      "5f000000", "5f000000-", "5f000000-1000-", "5f000000-1000-1-2", "5f000000-1000 ",
        "0-0-0-0"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        CHECK(!versions_match(&v, "k", bad[i], &ID(0x5f000000, 0x1000)));
}

static void same_second(void)
{
    char a[ATTR_VERSION_MAX], b[ATTR_VERSION_MAX], c[ATTR_VERSION_MAX];
    put("s", NOTHING, ID(7, 3));
    snprintf(a, sizeof(a), "%s", text("s", 7, 3));
    CHECK_STR(a, "7-3");
    put("s", ID(7, 3), ID(7, 3));
    snprintf(b, sizeof(b), "%s", text("s", 7, 3));
    CHECK(strcmp(a, b) != 0 && !versions_match(&v, "s", a, &ID(7, 3)) &&
          versions_match(&v, "s", b, &ID(7, 3)));
    put("s", ID(7, 3), ID(7, 4)); /* another size between */
    put("s", ID(7, 4), ID(7, 3));
    snprintf(c, sizeof(c), "%s", text("s", 7, 3));
    CHECK(strcmp(a, c) != 0 && strcmp(b, c) != 0);
    CHECK(!versions_match(&v, "s", a, &ID(7, 3)) && !versions_match(&v, "s", b, &ID(7, 3)));
    CHECK_STR(text("another", 7, 3), "7-3");
    put("f", ID(9, 9), ID(9, 9)); /* over what somebody else left there */
    CHECK(strcmp(text("f", 9, 9), "9-9") != 0);
}

static void metadata(void)
{
    put("m", NOTHING, ID(10, 5));
    versions_same(&v, "m", &ID(10, 5), &ID(20, 5));
    CHECK(versions_match(&v, "m", "a-5", &ID(20, 5)));
    CHECK(versions_match(&v, "m", text("m", 20, 5), &ID(20, 5)));
    versions_same(&v, "m", &ID(20, 5), &ID(30, 5));
    CHECK(versions_match(&v, "m", "a-5", &ID(30, 5)));
    versions_same(&v, "m", &ID(30, 5), &ID(10, 5)); /* back to a time it had */
    CHECK(versions_match(&v, "m", text("m", 10, 5), &ID(10, 5)));
    char was[ATTR_VERSION_MAX];
    put("u", ID(8, 5), ID(10, 5));
    snprintf(was, sizeof(was), "%s", text("u", 10, 5));
    versions_same(&v, "u", &ID(10, 5), &ID(20, 5));
    put("u", ID(20, 5), ID(10, 5)); /* another content, with the time that the last one had first */
    CHECK(strcmp(text("u", 10, 5), was) != 0 && !versions_match(&v, "u", was, &ID(10, 5)));
    versions_same(&v, "w", &ID(10, 5), &ID(20, 5)); /* not written here */
    put("w", ID(20, 5), ID(10, 5));
    CHECK(!versions_match(&v, "w", "a-5", &ID(10, 5)));
    versions_same(&v, "x", &ID(10, 5), &ID(20, 5));
    put("x", ID(20, 5), ID(25, 5));
    versions_same(&v, "x", &ID(25, 5), &ID(10, 5));
    CHECK(!versions_match(&v, "x", "a-5", &ID(10, 5)));
    put("m", ID(10, 5), ID(30, 5)); /* another content */
    CHECK(!versions_match(&v, "m", "a-5", &ID(30, 5)) && !versions_match(&v, "m", "1e-5", &ID(30, 5)));
    CHECK(versions_match(&v, "m", text("m", 30, 5), &ID(30, 5)));
}

/* Story: a file was given back a time that it had had, so its version had a mark. A kill left a change of it staged, and the
 * next process, which knew of no mark, took the file for another client's. */
static void restart(void)
{
    struct versions next;
    char mark[ATTR_VERSION_MAX], is[ATTR_VERSION_MAX];
    put("r", ID(7, 3), ID(7, 3));
    snprintf(mark, sizeof(mark), "%s", text("r", 7, 3));
    versions_init(&next);
    next.process = (v.process + 1) % 0x10000;
    CHECK(!versions_match(&next, "r", mark, &ID(8, 3)) && !versions_match(&next, "r", mark, &ID(7, 4)));
    CHECK(versions_match(&next, "r", mark, &ID(7, 3)));
    versions_text(&next, "r", &ID(7, 3), is);
    CHECK_STR(is, mark);
    versions_change(&next, "r");
    versions_changed(&next, "r", &ID(7, 3), &ID(7, 3));
    CHECK(!versions_match(&next, "r", mark, &ID(7, 3)));
    versions_same(&next, "q", &ID(7, 3), &ID(9, 3)); /* its time was set before anybody came with the mark */
    CHECK(versions_match(&next, "q", mark, &ID(9, 3)));
    versions_change(&next, "p");
    versions_changed(&next, "p", &ID(6, 3), &ID(7, 3)); /* a content of this process */
    CHECK(!versions_match(&next, "p", mark, &ID(7, 3)));
    versions_done(&next);
    put("r", ID(7, 3), ID(8, 3));
    CHECK(!versions_match(&v, "forgotten", mark, &ID(7, 3))); /* a mark of its own that it does not know any more */
}

/* Nanoseconds and an inode, as commands tell them. */
static void inodes(void)
{
    const struct version_id a = {.mtime = 1500000000123456789, .inode = 0xabc, .size = 3};
    struct version_id b = a, later = a;
    char text_a[ATTR_VERSION_MAX], text_b[ATTR_VERSION_MAX];
    b.inode++;
    versions_text(&v, "i", &a, text_a);
    CHECK_STR(text_a, "14d1120d8271cd15.abc-3");
    CHECK(versions_match(&v, "i", text_a, &a) && !versions_match(&v, "i", text_a, &b));
    CHECK(!versions_match(&v, "i", "14d1120d8271cd15-3", &a) &&
          !versions_match(&v, "i", "14d1120d8271cd15.-3", &a) &&
          !versions_match(&v, "i", "14d1120d8271cd15.abc.1-3", &a));
    put("i", NOTHING, a);
    put("i", a, b);
    versions_text(&v, "i", &b, text_b);
    CHECK(strcmp(text_a, text_b) != 0 && !versions_match(&v, "i", text_a, &b));
    put("i", b, a);                              /* the first one's inode again */
    versions_text(&v, "i", &a, text_b);
    CHECK(strcmp(text_a, text_b) != 0 && !versions_match(&v, "i", text_a, &a));
    for (unsigned i = 1; i <= 2 * VERSION_WAYS; i++) { /* more inodes than are remembered; then the first again */
        b.inode = i < 2 * VERSION_WAYS ? a.inode + i : a.inode;
        put("i", a, b);
        versions_text(&v, "i", &b, text_b);
        CHECK(strcmp(text_a, text_b) != 0);
    }
    later.mtime += 5;
    versions_same(&v, "i", &a, &later);
    CHECK(versions_match(&v, "i", text_b, &later) && !versions_match(&v, "i", text_a, &later));
}

static void moving(void)
{
    put("from", NOTHING, ID(7, 3));
    put("to", NOTHING, ID(7, 3));
    struct version_id both = ID(7, 3);
    versions_moved(&v, "from", "to", &both, &both);
    CHECK(!versions_match(&v, "to", "7-3", &ID(7, 3)));
    put("marked", ID(7, 3), ID(7, 3));
    char mark[ATTR_VERSION_MAX];
    snprintf(mark, sizeof(mark), "%s", text("marked", 7, 3));
    struct version_id none = NOTHING;
    versions_moved(&v, "marked", "there", &none, &both);
    CHECK_STR(text("there", 7, 3), mark);
}

static void stability(void)
{
    uint64_t before, after;
    CHECK(versions_stable(&v, "st", &before));
    versions_change(&v, "st");
    CHECK(!versions_stable(&v, "st", &after));
    versions_unchanged(&v, "st");
    CHECK(versions_stable(&v, "st", &after));
    CHECK(before != after);
}

int main(void)
{
    versions_init(&v);
    RUN(plain);
    RUN(same_second);
    RUN(metadata);
    RUN(restart);
    RUN(inodes);
    RUN(moving);
    RUN(stability);
    versions_done(&v);
    return t_done();
}
