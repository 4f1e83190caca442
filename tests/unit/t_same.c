/* SPDX-License-Identifier: MIT
 * t_same.c: which two names are one object, and where only looking tells. */
#include "backends/same.h"

#include "backends/registry.h"
#include "base/cleanup.h"
#include "tests/unit/t.h"

static struct store *open_text(const char *options)
{
    CLEANUP_FREE char *text = xasprintf("[store t]\nretries = 0\n%s", options);
    struct err err = ERR_INIT;
    struct conf *c = NULL;
    struct store *s = NULL;
    if (conf_parse("t.conf", text, &err, &c) < 0 || registry_open(c, conf_find(c, "store", "t"), NULL, &err, &s) < 0)
        CHECK_STR(err.text, "");
    conf_free(c);
    return s;
}

static void check(const char *a, const char *from, const char *b, const char *to, enum same_names want, bool want_sure)
{
    struct store *s = open_text(a), *t = open_text(b);
    struct same_place x = {.store = s, .path = from}, y = {.store = t, .path = to};
    bool sure = !want_sure;
    CHECK_INT(same_by_name(&x, &y, &sure), want);
    CHECK_INT(sure, want_sure);
    store_close(s);
    store_close(t);
}

#define S3 "backend = s3\naccess_key_id = k\nsecret_access_key = s\n"
#define AT "endpoint_url = http://h.example:9000\n"

static void test_buckets(void)
{
    const char *all = S3 AT "bucket = bkt\n", *proj = S3 AT "bucket = bkt\nbase_path = /proj/\n";
    check(all, "proj/x", proj, "x", SAME_ONE, true);
    check(proj, "", all, "proj", SAME_ONE, true);
    check(all, "proj", proj, "x/y", SAME_BELOW, true);
    check(proj, "x", all, "", SAME_ABOVE, true);
    check(all, "project", proj, "", SAME_APART, true);
    check(all, "x", proj, "x", SAME_APART, true);
    check(all, "x", S3 AT "bucket = other\n", "x", SAME_APART, true);
    check(all, "x", S3 "endpoint_url = http://H.Example:9000/\nbucket = bkt\n", "x", SAME_ONE, true);
    check(all, "x", S3 "endpoint_url = http://alias:9000\nbucket = bkt\n", "x", SAME_ONE, false);
    check(all, "x", S3 "endpoint_url = http://alias:9000\nbucket = other\n", "x", SAME_APART, true);
    check(S3 "bucket = bkt\n", "x", S3 "bucket = bkt\n", "x", SAME_ONE, true);
    check(all, "x", "backend = memory\n", "x", SAME_APART, true);
}

static void test_directories(void)
{
    const char *tmp = "backend = local\nbase_path = /tmp\n";
    struct store *s = open_text(tmp);
    struct same_place in = {.store = s, .path = "d/x"}, file = {.path = "/tmp/d/x"}, dir = {.path = "/tmp"}, all = {.path = "/"};
    bool sure;
    check(tmp, "x", "backend = local\nbase_path = /\n", "tmp/x", SAME_ONE, true);
    check(tmp, "x", "backend = local\nbase_path = /proc/self/root/tmp\n", "x", SAME_ONE, true);
    check(tmp, "x", "backend = local\nbase_path = /usr\n", "x", SAME_APART, false);
    CHECK_INT(same_by_name(&in, &file, &sure), SAME_ONE);
    CHECK(sure);
    CHECK_INT(same_by_name(&in, &dir, &sure), SAME_ABOVE);
    CHECK_INT(same_by_name(&all, &in, &sure), SAME_BELOW);
    store_close(s);
}

static void test_looking(void)
{
    struct stat st = {.st_ino = 7, .st_mode = S_IFREG, .st_size = 3, .st_ctim.tv_sec = 9}, other = st, gone = st;
    struct same_place a = {.path = "/a", .st = &st}, b = {.path = "/b", .st = &other}, none = {.path = "/b"};
    struct op op;
    op_init(&op, "t", 0);
    CHECK_INT(same_by_look(&op, &a, &b), 1);
    CHECK_INT(same_by_look(&op, &a, &none), 0);
    other.st_ctim.tv_nsec = 1;
    CHECK_INT(same_by_look(&op, &a, &b), 0);
    gone.st_ino = 8;
    b.st = &gone;
    CHECK_INT(same_by_look(&op, &a, &b), 0);
}

int main(void)
{
    RUN(test_buckets);
    RUN(test_directories);
    RUN(test_looking);
    return t_done();
}
