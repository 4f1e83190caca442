/* SPDX-License-Identifier: MIT */
#include "backends/attr.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "tests/unit/t.h"

static struct attr sample(void)
{
    struct attr a = {.kind = ATTR_SYMLINK,
                     .known = ATTR_HAS_MODE | ATTR_HAS_UID | ATTR_HAS_MTIME | ATTR_META,
                     .mode = 04755,
                     .uid = 4294967294U,
                     .gid = 7, /* not known */
                     .size = 1ULL << 40,
                     .mtime = {.tv_sec = -5, .tv_nsec = 999999999},
                     .content_type = xstrdup("text/plain; charset=\"\xff\"")};
    snprintf(a.version, sizeof(a.version), "etag \"1\"-\xe9");
    attr_xattr_set(&a, "user.a", "1", 1);
    attr_xattr_set(&a, "user.zero\xfe", "a\0b", 3);
    return a;
}

static void test_xattrs(void)
{
    struct attr a = ATTR_INIT;
    CHECK(!attr_xattr(&a, "user.x"));
    attr_xattr_set(&a, "user.x", "one", 3);
    attr_xattr_set(&a, "user.y", NULL, 0);
    attr_xattr_set(&a, "user.x", "two!", 4);
    CHECK_INT(a.n_xattrs, 2);
    CHECK(a.known & ATTR_HAS_XATTRS);
    CHECK_INT(attr_xattr(&a, "user.x")->size, 4);
    CHECK(memcmp(attr_xattr(&a, "user.x")->value, "two!", 4) == 0);
    CHECK_INT(attr_xattr(&a, "user.y")->size, 0);
    CHECK(!attr_xattr_remove(&a, "user.z"));
    CHECK(attr_xattr_remove(&a, "user.x"));
    CHECK(!attr_xattr(&a, "user.x") && attr_xattr(&a, "user.y"));
    attr_done(&a);
    CHECK_INT(a.n_xattrs, 0);
    attr_done(&a);
}

static void test_copy_and_move(void)
{
    CLEANUP_ATTR struct attr a = sample(), b = ATTR_INIT, c = ATTR_INIT;
    attr_copy(&b, &a);
    attr_xattr_set(&a, "user.a", "changed", 7);
    CHECK_INT(attr_xattr(&b, "user.a")->size, 1); /* deep */
    CHECK(b.content_type != a.content_type);
    CHECK_STR(b.content_type, a.content_type);
    CHECK_STR(b.version, a.version);
    CHECK_INT(b.known, a.known);
    attr_move(&c, &b);
    CHECK(b.kind == ATTR_UNSET && !b.xattrs && !b.content_type);
    CHECK_INT(c.n_xattrs, 2);
}

static void test_apply(void)
{
    CLEANUP_ATTR struct attr a = sample(), change = ATTR_INIT;
    change.known = ATTR_HAS_GID | ATTR_HAS_ATIME | ATTR_META;
    change.gid = 9;
    change.atime.tv_sec = 77;
    change.mode = 0111; /* not named by known */
    attr_apply(&a, &change);
    CHECK_INT(a.mode, 04755);
    CHECK_INT(a.gid, 9);
    CHECK_INT(a.atime.tv_sec, 77);
    CHECK_INT(a.n_xattrs, 2);
    CHECK(a.known & ATTR_HAS_GID);
    CHECK_INT(a.kind, ATTR_SYMLINK);
    attr_xattr_set(&change, "user.only", "x", 1);
    attr_apply(&a, &change);
    CHECK_INT(a.n_xattrs, 1);
    CHECK(attr_xattr(&a, "user.only"));
}

static void test_json_round_trip(void)
{
    CLEANUP_ATTR struct attr a = sample(), b = ATTR_INIT;
    CLEANUP_FREE char *text = attr_to_json(&a);
    CHECK(attr_from_json(text, &b));
    CHECK_INT(b.kind, a.kind);
    CHECK_INT(b.known, a.known);
    CHECK_INT(b.mode, 04755);
    CHECK_INT(b.uid, 4294967294U);
    CHECK_INT(b.size, a.size);
    CHECK_INT(b.mtime.tv_sec, -5);
    CHECK_INT(b.mtime.tv_nsec, 999999999);
    CHECK_STR(b.version, a.version);
    CHECK_STR(b.content_type, a.content_type);
    CHECK_INT(b.n_xattrs, 2);
    CHECK(memcmp(attr_xattr(&b, "user.zero\xfe")->value, "a\0b", 3) == 0);

    struct attr empty = ATTR_INIT;
    CLEANUP_ATTR struct attr got = ATTR_INIT;
    CLEANUP_FREE char *nothing = attr_to_json(&empty);
    CHECK(attr_from_json(nothing, &got));
    CHECK(got.kind == ATTR_UNSET && got.known == 0);
}

static void test_json_refused(void)
{
    static const char *const bad[] = {
        "",
        "null",
        "[]",
        "{",
        "{\"kind\":9}",
        "{\"kind\":\"file\"}",
        "{\"mode\":99999}",
        "{\"size\":-1}",
        "{\"uid\":99999999999}",
        "{\"mtime\":5}",
        "{\"mtime\":[1,1000000000]}",
        "{\"version\":7}",
        "{\"version\":\"%zz\"}",
        "{\"xattrs\":[]}",
        "{\"xattrs\":{\"user.a\":\"not base64!\"}}",
        "{\"xattrs\":{\"user.a\":5}}",
        "{\"kind\":1,\"kind\":1}",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct attr a = ATTR_INIT;
        if (attr_from_json(bad[i], &a))
            CHECK_STR("accepted", bad[i]);
        CHECK(a.kind == ATTR_UNSET && !a.xattrs && !a.version[0]);
    }
    char big[400], version[300];
    memset(version, 'v', 299);
    version[299] = '\0';
    snprintf(big, sizeof(big), "{\"version\":\"%s\"}", version);
    struct attr a = ATTR_INIT;
    CHECK(!attr_from_json(big, &a));
}

int main(void)
{
    RUN(test_xattrs);
    RUN(test_copy_and_move);
    RUN(test_apply);
    RUN(test_json_round_trip);
    RUN(test_json_refused);
    return t_done();
}
