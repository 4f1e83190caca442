/* SPDX-License-Identifier: MIT
 * Attributes <-> x-amz-meta-*: round trips, and what s3fs and rclone write. */
#include "backends/s3/s3.h"
#include "tests/unit/t.h"

#include <errno.h>

static void test_round_trip(void)
{
    struct attr a = {.kind = ATTR_FILE,
                     .mode = 0640,
                     .uid = 1000,
                     .gid = 100,
                     .known = ATTR_HAS_MODE | ATTR_HAS_UID | ATTR_HAS_GID | ATTR_HAS_MTIME |
                              ATTR_HAS_ATIME | ATTR_HAS_XATTRS,
                     .mtime = {1700000000, 123456789},
                     .atime = {1600000000, 0}};
    struct attr b = ATTR_INIT;
    struct http_headers h = {0};
    struct err e = ERR_INIT;
    attr_xattr_set(&a, "user.comment", "h\xC3\xA9llo\n", 7);
    attr_xattr_set(&a, "user.empty", "", 0);
    attr_xattr_set(&a, "user.meta.owner", "team a", 6);
    a.content_type = xstrdup("text/csv");
    CHECK_INT(s3_meta_to_headers(&a, S3_META_OBJECT, &e, &h), 0);
    CHECK_STR(http_headers_get(&h, "x-amz-meta-mode"), "33184"); /* S_IFREG | 0640 */
    CHECK_STR(http_headers_get(&h, "x-amz-meta-owner"), "team a");
    CHECK_STR(http_headers_get(&h, "content-type"), "text/csv");
    b.kind = ATTR_FILE;
    s3_meta_from_headers(&h, true, &b);
    CHECK_INT(b.known, a.known | ATTR_META);
    CHECK(b.mode == 0640 && b.uid == 1000 && b.gid == 100);
    CHECK(b.mtime.tv_sec == 1700000000 && b.mtime.tv_nsec == 123456789);
    CHECK_INT(b.atime.tv_sec, 1600000000);
    CHECK_INT(b.n_xattrs, 3);
    CHECK_INT(attr_xattr(&b, "user.comment")->size, 7);
    CHECK_INT(attr_xattr(&b, "user.empty")->size, 0);
    CHECK(memcmp(attr_xattr(&b, "user.meta.owner")->value, "team a", 6) == 0);
    CHECK_STR(b.content_type, "text/csv");
    attr_done(&a);
    attr_done(&b);
    http_headers_done(&h);
}

/* As s3fs 1.9x writes them. */
static void test_s3fs(void)
{
    struct attr a = {.kind = ATTR_FILE};
    struct http_headers h = {0};
    http_headers_add(&h, "x-amz-meta-mode", "41471"); /* S_IFLNK | 0777 */
    http_headers_add(&h, "x-amz-meta-uid", "0");
    http_headers_add(&h, "x-amz-meta-gid", "0");
    http_headers_add(&h, "x-amz-meta-mtime", "1605000000.5");
    http_headers_add(&h, "x-amz-meta-ctime", "1605000001");
    http_headers_add(&h, "x-amz-meta-xattr", "%7b%22user.a%22%3a%22Yg%3d%3d%22%7d");
    s3_meta_from_headers(&h, true, &a);
    CHECK_INT(a.kind, ATTR_SYMLINK);
    CHECK_INT(a.mode, 0777);
    CHECK_INT(a.mtime.tv_nsec, 500000000);
    CHECK_INT(a.n_xattrs, 1);
    CHECK(memcmp(attr_xattr(&a, "user.a")->value, "b", 1) == 0);
    attr_done(&a);
    http_headers_done(&h);
}

static void from_one(const char *name, const char *value, struct attr *ret)
{
    struct http_headers h = {0};
    *ret = (struct attr){.kind = ATTR_FILE};
    http_headers_add(&h, name, value);
    s3_meta_from_headers(&h, true, ret);
    http_headers_done(&h);
}

/* Its mtime has as many decimals as it needs; what is no time is not taken for one. */
static void test_rclone_mtime(void)
{
    static const struct {
        const char *text;
        long long s;
        long ns;
    } cases[] = {{"1700000000", 1700000000, 0},           {"1700000000.123456789", 1700000000, 123456789},
                 {"1700000000.000000001", 1700000000, 1}, {"1700000000.12", 1700000000, 120000000},
                 {"0", 0, 0},                             {"-1.25", -2, 750000000},
                 {"-1700000000.5", -1700000001, 500000000}};
    static const char *const bad[] = {"", "x", "1.7e9", "1,700,000,000", "17:00", "99999999999999"};
    struct attr a = ATTR_INIT;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        from_one("x-amz-meta-mtime", cases[i].text, &a);
        CHECK_INT(a.known, ATTR_HAS_MTIME | ATTR_META);
        CHECK_INT(a.mtime.tv_sec, cases[i].s);
        CHECK_INT(a.mtime.tv_nsec, cases[i].ns);
        attr_done(&a);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        from_one("x-amz-meta-mtime", bad[i], &a);
        CHECK_INT(a.known, ATTR_META);
        attr_done(&a);
    }
}

/* What `rclone copy --metadata` of a local file makes, and the sum that it adds to multipart uploads. */
static void test_rclone_metadata(void)
{
    static const char *const headers[][2] = {{"x-amz-meta-mtime", "1683824051.523399602"},
                                             {"x-amz-meta-atime", "2023-05-11T17:54:11.25+01:00"},
                                             {"x-amz-meta-btime", "2023-05-11T17:54:11.523399602+01:00"},
                                             {"x-amz-meta-mode", "100640"},
                                             {"x-amz-meta-uid", "1000"},
                                             {"x-amz-meta-gid", "100"},
                                             {"x-amz-meta-md5chksum", "1B2M2Y8AsgTpgAmY7PhCfg=="}};
    struct attr a = {.kind = ATTR_FILE};
    struct http_headers h = {0};
    for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++)
        http_headers_add(&h, headers[i][0], headers[i][1]);
    s3_meta_from_headers(&h, true, &a);
    CHECK_INT(a.kind, ATTR_FILE);
    CHECK_INT(a.mode, 0640);
    CHECK_INT(a.uid, 1000);
    CHECK_INT(a.gid, 100);
    CHECK(a.mtime.tv_sec == 1683824051 && a.mtime.tv_nsec == 523399602);
    CHECK(a.atime.tv_sec == 1683824051 && a.atime.tv_nsec == 250000000);
    CHECK_INT(a.n_xattrs, 2); /* kept as they are */
    CHECK_INT(attr_xattr(&a, "user.meta.btime")->size, strlen(headers[2][1]));
    CHECK_INT(attr_xattr(&a, "user.meta.md5chksum")->size, strlen(headers[6][1]));
    attr_done(&a);
    http_headers_done(&h);
}

static void check_mode(const char *text, unsigned mode, enum attr_kind kind)
{
    struct attr a = ATTR_INIT;
    from_one("x-amz-meta-mode", text, &a);
    CHECK_INT(a.known, ATTR_HAS_MODE | ATTR_META);
    CHECK_INT(a.mode, mode);
    CHECK_INT(a.kind, kind);
    attr_done(&a);
}

/* s3fs's and rclone's: neither is taken for the other. */
static void test_decimal_and_octal_modes(void)
{
    char text[16];
    for (unsigned mode = 0; mode <= 07777; mode++) {
        (void)snprintf(text, sizeof(text), "%u", 0040000 | mode);
        check_mode(text, mode, ATTR_FILE); /* of a directory: its marker is known by its name */
        for (unsigned link = 0; link < 2; link++) {
            unsigned st_mode = (link ? 0120000 : 0100000) | mode;
            enum attr_kind kind = link ? ATTR_SYMLINK : ATTR_FILE;
            (void)snprintf(text, sizeof(text), "%u", st_mode);
            check_mode(text, mode, kind);
            (void)snprintf(text, sizeof(text), "%o", st_mode);
            check_mode(text, mode, kind);
            (void)snprintf(text, sizeof(text), "0%o", st_mode); /* as its documentation has it */
            check_mode(text, mode, kind);
        }
    }
}

static void test_modes(void)
{
    static const struct {
        const char *text;
        unsigned known, mode;
    } cases[] = {{"420", ATTR_HAS_MODE, 0644},
                 {"33188", ATTR_HAS_MODE, 0644},
                 {"", 0, 0},
                 {"-1", 0, 0},
                 {"0x1a4", 0, 0},
                 {"99999999999", 0, 0},
                 {"99999", 0, 0},
                 {"200644", 0, 0},
                 {"420 ", 0, 0}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct attr a = {.kind = ATTR_FILE};
        struct http_headers h = {0};
        http_headers_add(&h, "x-amz-meta-mode", cases[i].text);
        s3_meta_from_headers(&h, true, &a);
        CHECK_INT(a.known, cases[i].known | ATTR_META);
        CHECK_INT(a.mode, cases[i].mode);
        attr_done(&a);
        http_headers_done(&h);
    }
}

static void test_kinds(void)
{
    struct http_headers h = {0};
    struct attr link = {.kind = ATTR_SYMLINK},
                dir = {.kind = ATTR_DIR, .known = ATTR_HAS_MODE, .mode = 0750};
    CHECK_INT(s3_meta_to_headers(&link, S3_META_OBJECT, NULL, &h), 0);
    CHECK_STR(http_headers_get(&h, "x-amz-meta-mode"), "41471");
    http_headers_done(&h);
    CHECK_INT(s3_meta_to_headers(&dir, S3_META_DIR, NULL, &h), 0);
    CHECK_STR(http_headers_get(&h, "x-amz-meta-mode"), "16872");
    CHECK_STR(http_headers_get(&h, "content-type"), "application/x-directory");
    http_headers_done(&h);
    CHECK_INT(s3_meta_to_headers(NULL, S3_META_OBJECT, NULL, &h), 0);
    CHECK_INT(h.n, 0);
}

/* What cannot be a header of its own goes into the xattr list. */
static void test_foreign(void)
{
    static const char *const inside[][2] = {
        {"user.meta.mode", "1"},  {"user.meta.Upper", "v"},       {"user.meta.a", "line\nbreak"},
        {"user.meta.b", " lead"}, {"user.meta.c", "two  blanks"}, {"user.meta.", "x"},
        {"user.meta.d", ""}};
    for (size_t i = 0; i < sizeof(inside) / sizeof(inside[0]); i++) {
        struct attr a = {.kind = ATTR_FILE, .known = ATTR_HAS_XATTRS}, b = {.kind = ATTR_FILE};
        struct http_headers h = {0};
        attr_xattr_set(&a, inside[i][0], inside[i][1], strlen(inside[i][1]));
        CHECK_INT(s3_meta_to_headers(&a, S3_META_OBJECT, NULL, &h), 0);
        CHECK_INT(h.n, 1);
        CHECK_STR(h.v[0].name, "x-amz-meta-xattr");
        s3_meta_from_headers(&h, true, &b);
        CHECK_INT(b.n_xattrs, 1);
        CHECK_STR(b.xattrs[0].name, inside[i][0]);
        attr_done(&a);
        attr_done(&b);
        http_headers_done(&h);
    }
}

static void test_limits(void)
{
    struct attr a = {.kind = ATTR_FILE, .known = ATTR_HAS_XATTRS};
    struct http_headers h = {0};
    struct err e = ERR_INIT;
    char big[2000] = {0};
    attr_xattr_set(&a, "user.big", big, sizeof(big));
    CHECK_INT(s3_meta_to_headers(&a, S3_META_OBJECT, &e, &h), -E2BIG);
    http_headers_done(&h);
    attr_done(&a);
    a = (struct attr){.kind = ATTR_FILE, .content_type = xstrdup("a\r\nx-evil: 1")};
    CHECK_INT(s3_meta_to_headers(&a, S3_META_OBJECT, &e, &h), -EINVAL);
    attr_done(&a);
    http_headers_done(&h);
}

static void test_hostile(void)
{
    static const char *const bad[] = {
        "", "%", "%7b", "[1]", "{\"a\":1}", "{\"a\":\"***\"}", "{\"\":\"YQ==\"}"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct attr a = {.kind = ATTR_FILE};
        struct http_headers h = {0};
        http_headers_add(&h, "x-amz-meta-xattr", bad[i]);
        s3_meta_from_headers(&h, true, &a);
        CHECK_INT(a.n_xattrs, 0);
        attr_done(&a);
        http_headers_done(&h);
    }
}

static void test_etag(void)
{
    char v[ATTR_VERSION_MAX], e[ATTR_VERSION_MAX + 2];
    flat_version_of_etag("\"abc-3\"", v);
    CHECK_STR(v, "abc-3");
    flat_etag_of_version(v, e);
    CHECK_STR(e, "\"abc-3\"");
    flat_version_of_etag("W/\"x\"", v);
    flat_etag_of_version(v, e);
    CHECK_STR(e, "W/\"x\"");
    flat_version_of_etag("bare", v);
    CHECK_STR(v, "bare");
    flat_version_of_etag("\"", v);
    CHECK_STR(v, "\"");
}

/* How long a version has been there, by the server's clock whatever ours says. */
static void test_age(void)
{
    struct http_res res = HTTP_RES_INIT;
    struct attr a = ATTR_INIT;
    http_headers_add(&res.headers, "date", "Thu, 01 Jan 2009 00:01:05 GMT");
    http_headers_add(&res.headers, "last-modified", "Thu, 01 Jan 2009 00:00:00 GMT");
    s3_attr_from_reply(&res, 1, true, &a);
    CHECK_INT(a.age_ms, 65000);
    CHECK_INT(a.mtime.tv_sec, 1230768000);
    attr_done(&a);
    http_res_done(&res);
    res = HTTP_RES_INIT;
    http_headers_add(&res.headers, "last-modified", "Thu, 01 Jan 2009 00:00:00 GMT");
    s3_attr_from_reply(&res, 1, true, &a);
    CHECK_INT(a.age_ms, 0); /* not told */
    attr_done(&a);
    http_res_done(&res);
}

int main(void)
{
    RUN(test_round_trip);
    RUN(test_s3fs);
    RUN(test_rclone_mtime);
    RUN(test_rclone_metadata);
    RUN(test_decimal_and_octal_modes);
    RUN(test_modes);
    RUN(test_kinds);
    RUN(test_foreign);
    RUN(test_limits);
    RUN(test_hostile);
    RUN(test_etag);
    RUN(test_age);
    return t_done();
}
