/* SPDX-License-Identifier: MIT
 * Signature Version 4 against what AWS published: the examples of the S3 documentation ("Signature
 * Calculations for the Authorization Header", "Authenticating Requests: Using Query Parameters")
 * and facts of the aws-sig-v4 test suite. */
#include "backends/sign_s3.h"
#include "tests/unit/t.h"

#define ID "AKIAIOSFODNN7EXAMPLE"
#define SECRET "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
#define NOW 1369353600 /* 20130524T000000Z */
#define HOST "examplebucket.s3.amazonaws.com"

static struct sign_s3_key doc_key(void)
{
    struct sign_s3_key k;
    sign_s3_key(SECRET, "20130524T000000Z", "us-east-1", "s3", &k);
    return k;
}

static void check_authorization(const struct sign_s3_req *r, struct http_headers *h,
                                const char *signed_, const char *signature)
{
    struct sign_s3_key k = doc_key();
    char want[512];
    sign_s3_headers(r, &k, h);
    (void)snprintf(want, sizeof(want),
                   "AWS4-HMAC-SHA256 Credential=" ID "/20130524/us-east-1/s3/aws4_request, "
                   "SignedHeaders=%s, Signature=%s",
                   signed_, signature);
    CHECK_STR(http_headers_get(h, "authorization"), want);
    CHECK_STR(http_headers_get(h, "x-amz-date"), "20130524T000000Z");
    http_headers_done(h);
}

static void test_get_object(void)
{
    struct http_headers h = {0};
    struct sign_s3_req r = {.method = "GET",
                            .host = HOST,
                            .path = "/test.txt",
                            .access_key = ID,
                            .payload_hash = SIGN_S3_EMPTY,
                            .now = NOW};
    http_headers_add(&h, "Range", "bytes=0-9");
    check_authorization(&r, &h, "host;range;x-amz-content-sha256;x-amz-date",
                        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
}

static void test_put_object(void)
{
    struct http_headers h = {0};
    struct sign_s3_req r = {.method = "PUT",
                            .host = HOST,
                            .path = "/test%24file.text",
                            .access_key = ID,
                            .now = NOW,
                            .payload_hash =
                                "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"};
    http_headers_add(&h, "x-amz-storage-class", "REDUCED_REDUNDANCY");
    http_headers_add(&h, "Date", "Fri, 24 May 2013 00:00:00 GMT");
    check_authorization(&r, &h, "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
                        "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd");
}

static void test_get_lifecycle(void)
{
    struct http_headers h = {0};
    struct sign_s3_param q[] = {{"lifecycle", ""}};
    struct sign_s3_req r = {.method = "GET",
                            .host = HOST,
                            .path = "/",
                            .access_key = ID,
                            .query = q,
                            .n_query = 1,
                            .payload_hash = SIGN_S3_EMPTY,
                            .now = NOW};
    check_authorization(&r, &h, "host;x-amz-content-sha256;x-amz-date",
                        "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
}

static void test_list_objects(void)
{
    struct http_headers h = {0};
    struct sign_s3_param q[] = {{"prefix", "J"}, {"max-keys", "2"}};
    struct sign_s3_req r = {.method = "GET",
                            .host = HOST,
                            .path = "/",
                            .access_key = ID,
                            .query = q,
                            .n_query = 2,
                            .payload_hash = SIGN_S3_EMPTY,
                            .now = NOW};
    check_authorization(&r, &h, "host;x-amz-content-sha256;x-amz-date",
                        "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
}

static void test_presigned(void)
{
    struct buf b = BUF_INIT;
    struct sign_s3_key k = doc_key();
    struct sign_s3_req r = {
        .method = "GET", .host = HOST, .path = "/test.txt", .access_key = ID, .now = NOW};
    sign_s3_presign(&r, &k, 86400, &b);
    CHECK_STR(b.data, "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=" ID
                      "%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z"
                      "&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature="
                      "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404");
    buf_done(&b);
}

/* "Examples of how to derive a signing key". */
static void test_key(void)
{
    struct sign_s3_key k;
    char hex[65];
    sign_s3_key("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "20150830", "us-east-1", "iam", &k);
    hex_encode(k.key, sizeof(k.key), hex);
    CHECK_STR(hex, "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9");
}

static void canonical_hash(const struct sign_s3_req *r, const struct http_headers *h, char out[65])
{
    struct buf c = BUF_INIT, names = BUF_INIT, q = BUF_INIT;
    sign_s3_query(&q, r->query, r->n_query);
    sign_s3_canonical(r, buf_str(&q), h, SIGN_S3_EMPTY, &c, &names);
    sha256_hex(c.data, c.len, out);
    buf_done(&c);
    buf_done(&names);
    buf_done(&q);
}

/* aws-sig-v4 suite, get-vanilla. */
static void test_suite_vanilla(void)
{
    struct http_headers h = {0};
    struct sign_s3_req r = {.method = "GET", .host = "example.amazonaws.com", .path = "/"};
    char hash[65];
    http_headers_add(&h, "X-Amz-Date", "20150830T123600Z");
    canonical_hash(&r, &h, hash);
    CHECK_STR(hash, "bb579772317eb040ac9ed261061d46c1f17a8133879d6129b6e1c25292927e63");
    http_headers_done(&h);
}

/* aws-sig-v4 suite: get-header-value-trim, get-vanilla-query-order-*. */
static void test_canonical_form(void)
{
    struct http_headers h = {0};
    struct buf c = BUF_INIT, names = BUF_INIT, q = BUF_INIT;
    struct sign_s3_param p[] = {{"b", "2"}, {"a", "z"}, {"a", "A b/c+\xC3\xA9"}, {"a-b", NULL}};
    struct sign_s3_req r = {.method = "GET", .host = "example.amazonaws.com", .path = "/a//../b"};
    http_headers_add(&h, "My-Header2", " \"a   b   c\" ");
    http_headers_add(&h, "My-Header1", " value1");
    sign_s3_query(&q, p, 4);
    CHECK_STR(q.data, "a=A%20b%2Fc%2B%C3%A9&a=z&a-b=&b=2");
    sign_s3_canonical(&r, q.data, &h, "HASH", &c, &names);
    CHECK_STR(names.data, "host;my-header1;my-header2");
    CHECK_STR(c.data,
              "GET\n/a//../b\na=A%20b%2Fc%2B%C3%A9&a=z&a-b=&b=2\nhost:example.amazonaws.com\n"
              "my-header1:value1\nmy-header2:\"a b c\"\n\nhost;my-header1;my-header2\nHASH");
    http_headers_done(&h);
    buf_done(&c);
    buf_done(&names);
    buf_done(&q);
}

static void test_token(void)
{
    struct http_headers h = {0};
    struct buf b = BUF_INIT;
    struct sign_s3_key k = doc_key();
    struct sign_s3_req r = {.method = "GET",
                            .host = HOST,
                            .path = "/x",
                            .access_key = ID,
                            .token = "t+/=",
                            .payload_hash = SIGN_S3_UNSIGNED,
                            .now = NOW};
    sign_s3_headers(&r, &k, &h);
    CHECK_STR(http_headers_get(&h, "x-amz-security-token"), "t+/=");
    CHECK(strstr(http_headers_get(&h, "authorization"), ";x-amz-security-token,") != NULL);
    http_headers_done(&h);
    sign_s3_presign(&r, &k, 60, &b);
    CHECK(strstr(b.data, "&X-Amz-Security-Token=t%2B%2F%3D&") != NULL);
    buf_done(&b);
}

int main(void)
{
    RUN(test_get_object);
    RUN(test_put_object);
    RUN(test_get_lifecycle);
    RUN(test_list_objects);
    RUN(test_presigned);
    RUN(test_key);
    RUN(test_suite_vanilla);
    RUN(test_canonical_form);
    RUN(test_token);
    return t_done();
}
