/* SPDX-License-Identifier: MIT
 * t_url.c: percent-encoding and URL splitting. */
#include "base/url.h"

#include "tests/unit/t.h"

static void check_encode(const char *in, bool keep_slash, const char *want)
{
    CLEANUP_BUF struct buf b = BUF_INIT;
    url_encode(&b, in, strlen(in), keep_slash);
    CHECK_STR(buf_str(&b), want);
}

static void test_encode(void)
{
    check_encode("", false, "");
    check_encode("azAZ09-._~", false, "azAZ09-._~");
    check_encode("a b/c+d", true, "a%20b/c%2Bd");
    check_encode("a b/c+d", false, "a%20b%2Fc%2Bd");
    check_encode("\xC3\xA4%", false, "%C3%A4%25");
}

static void check_decode(const char *in, const char *want)
{
    CLEANUP_BUF struct buf b = BUF_INIT;
    buf_adds(&b, "x");
    bool ok = url_decode(&b, in, strlen(in));
    CHECK(ok == (want != NULL));
    CHECK_STR(buf_str(&b) + 1, want ? want : "");
}

static void test_decode(void)
{
    check_decode("a%20b+c%2f", "a b+c/");
    check_decode("%", NULL);
    check_decode("ab%2", NULL);
    check_decode("%zz", NULL);
    check_decode("a%00", NULL);
    check_decode("%41", "A");
    CLEANUP_BUF struct buf all = BUF_INIT, back = BUF_INIT;
    char bytes[255];
    for (int i = 0; i < 255; i++)
        bytes[i] = (char)(i + 1);
    url_encode(&all, bytes, 255, false);
    CHECK(url_decode(&back, all.data, all.len));
    CHECK(back.len == 255 && memcmp(back.data, bytes, 255) == 0);
}

static void check_url(const char *in, const char *scheme, const char *user, const char *host,
                      int port, const char *path, const char *query)
{
    struct url u;
    CHECK(url_parse(in, &u));
    CHECK_STR(u.scheme, scheme);
    CHECK_STR(u.user, user);
    CHECK_STR(u.host, host);
    CHECK_INT(u.port, port);
    CHECK_STR(u.path, path);
    CHECK_STR(u.query, query);
    url_done(&u);
}

static void test_parse(void)
{
    check_url("s3://bucket/a/b c#d", "s3", "", "bucket", 0, "/a/b c#d", "");
    check_url("HTTPS://Host:8443/x?y=1&z", "https", "", "Host", 8443, "/x", "y=1&z");
    check_url("sftp://me@[::1]:22", "sftp", "me", "::1", 22, "", "");
    check_url("file:///etc/x", "file", "", "", 0, "/etc/x", "");
    check_url("http://h?q/x", "http", "", "h", 0, "", "q/x");
    check_url("http://h:/x", "http", "", "h", 0, "/x", "");
    static const char *const bad[] = {"",
                                      "bucket/a",
                                      "/a://b",
                                      "://x",
                                      "1a://x",
                                      "http:/x",
                                      "http://a:b@h/",
                                      "http://h:99999/",
                                      "http://h:0/",
                                      "http://h:8x/",
                                      "http://[::1/",
                                      "http://[::1]x/",
                                      "http://h h/",
                                      "http://h/\r\nX: y",
                                      "http://h\\@evil/"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct url u;
        if (url_parse(bad[i], &u)) {
            fprintf(stderr, "accepted: %s\n", bad[i]);
            exit(1);
        }
    }
}

int main(void)
{
    RUN(test_encode);
    RUN(test_decode);
    RUN(test_parse);
    return t_done();
}
