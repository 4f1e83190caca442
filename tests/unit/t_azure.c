/* SPDX-License-Identifier: MIT
 * Azure: SharedKey and SAS against the strings in Microsoft's documentation ("Authorize with Shared Key",
 * "Create a service SAS"), listings in XML, also hostile ones, connection strings. */
#include "backends/azure/azure.h"
#include "base/cleanup.h"
#include "tests/unit/t.h"

#include <errno.h>

static void check_string(const struct sign_azure_req *r, struct http_headers *h, const char *want)
{
    struct buf got = BUF_INIT;
    sign_azure_string(r, h, &got);
    CHECK_STR(got.data, want);
    buf_done(&got);
    http_headers_done(h);
}

static void test_shared_key(void)
{
    const struct sign_s3_param get[] = {{"timeout", "20"}, {"restype", "container"}, {"comp", "metadata"}};
    struct sign_azure_req r = {.method = "GET", .account = "myaccount", .path = "/mycontainer",
                               .query = get, .n_query = 3};
    struct http_headers h = {0};
    http_headers_add(&h, "x-ms-version", "2015-02-21");
    http_headers_add(&h, "x-ms-date", "Fri, 26 Jun 2015 23:39:12 GMT");
    check_string(&r, &h, "GET\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:Fri, 26 Jun 2015 23:39:12 GMT\n"
                         "x-ms-version:2015-02-21\n/myaccount/mycontainer\ncomp:metadata\n"
                         "restype:container\ntimeout:20");

    const struct sign_s3_param put[] = {{"comp", "block"}, {"blockid", "QQ=="}};
    r = (struct sign_azure_req){.method = "PUT", .account = "a", .path = "/a/c/b%20x", .query = put,
                                .n_query = 2, .length = 12};
    http_headers_add(&h, "Range", "bytes=0-9");
    http_headers_add(&h, "If-Match", "\"0x1\"");
    http_headers_add(&h, "content-type", "text/plain");
    http_headers_add(&h, "x-ms-meta-b", "  two words ");
    http_headers_add(&h, "x-ms-meta-a", "");
    http_headers_add(&h, "user-agent", "not signed");
    check_string(&r, &h, "PUT\n\n\n12\n\ntext/plain\n\n\n\"0x1\"\n\n\nbytes=0-9\nx-ms-meta-a:\n"
                         "x-ms-meta-b:two words\n/a/a/c/b%20x\nblockid:QQ==\ncomp:block");
}

static void test_header(void)
{
    struct http_headers h = {0};
    struct sign_azure_req r = {.method = "GET", .account = "a", .path = "/c", .now = 1435361952};
    sign_azure_headers(&r, "key", 3, &h);
    CHECK_STR(http_headers_get(&h, "x-ms-date"), "Fri, 26 Jun 2015 23:39:12 GMT");
    const char *auth = http_headers_get(&h, "authorization");
    CHECK(strncmp(auth, "SharedKey a:", 12) == 0 && strlen(auth) == 12 + 44);
    http_headers_done(&h);
}

static void test_sas(void)
{
    struct sign_azure_sas s = {.account = "a", .container = "c", .blob = "d/b x", .https = true,
                               .expires = 1435361952};
    struct buf text = BUF_INIT, query = BUF_INIT;
    sign_azure_sas_string(&s, &text);
    CHECK_STR(text.data, "r\n\n2015-06-26T23:39:12Z\n/blob/a/c/d/b x\n\n\nhttps\n2021-12-02\nb\n\n\n\n\n\n\n");
    sign_azure_sas(&s, "key", 3, &query);
    CHECK(strncmp(query.data, "se=2015-06-26T23%3A39%3A12Z&sig=", 32) == 0);
    CHECK(strstr(query.data, "&sp=r&spr=https&sr=b&sv=2021-12-02"));
    buf_done(&text);
    buf_done(&query);
}

#define BLOB(name, rest) "<Blob><Name>" name "</Name>" rest "</Blob>"
#define PROPERTIES                                                                                 \
    "<Properties><Last-Modified>Fri, 26 Jun 2015 23:39:12 GMT</Last-Modified><Etag>0x8D</Etag>"    \
    "<Content-Length>5</Content-Length><Content-Type>text/csv</Content-Type></Properties>"
#define LIST(inner) "<EnumerationResults><Blobs>" inner "</Blobs><NextMarker/></EnumerationResults>"

static int list_of(const char *text, struct flat_result *r)
{
    return azure_xml_list(text, strlen(text), r);
}

static void test_listing(void)
{
    struct flat_result r = {0};
    CHECK_INT(list_of("\xEF\xBB\xBF<?xml version=\"1.0\"?><EnumerationResults><Prefix>d/</Prefix><Blobs>" BLOB(
                          "d/f &amp; g", PROPERTIES "<Metadata><mode>33188</mode><Owner>x</Owner></Metadata>")
                      "<BlobPrefix><Name>d/e/</Name></BlobPrefix></Blobs><NextMarker>m</NextMarker>"
                      "</EnumerationResults>", &r), 0);
    CHECK_INT(r.n, 2);
    CHECK_STR(r.v[0].object, "d/f & g");
    CHECK_STR(r.v[0].etag, "0x8D");
    CHECK_INT(r.v[0].size, 5);
    CHECK_INT(r.v[0].mtime.tv_sec, 1435361952);
    CHECK_STR(http_headers_get(&r.v[0].meta, "x-ms-meta-mode"), "33188");
    CHECK_STR(http_headers_get(&r.v[0].meta, "x-ms-meta-owner"), "x");
    CHECK_STR(http_headers_get(&r.v[0].meta, "content-type"), "text/csv");
    CHECK(r.v[1].is_prefix && r.truncated);
    CHECK_STR(r.token, "m");
    flat_result_done(&r);
    CHECK_INT(list_of(LIST(""), &r), 0);
    CHECK(r.n == 0 && !r.truncated && !r.token);
    flat_result_done(&r);
}

static void test_hostile_listings(void)
{
    static const char *const bad[] = {
        "",
        "<html/>",
        LIST(BLOB("", PROPERTIES)),
        LIST("<Blob>" PROPERTIES "</Blob>"),
        LIST(BLOB("x", "")),
        LIST(BLOB("x", "<Properties><Content-Length>5</Content-Length></Properties>")),
        LIST(BLOB("x", "<Properties><Etag>e</Etag><Content-Length>-5</Content-Length></Properties>")),
        LIST("<BlobPrefix/>"),
        "<!DOCTYPE x><EnumerationResults/>",
        LIST(BLOB("x", PROPERTIES)) "x",
    };
    struct flat_result r = {0};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        CHECK_INT(list_of(bad[i], &r), -EBADMSG);
    CHECK(r.n == 0 && !r.v);
}

static void test_connection_strings(void)
{
    struct azure_creds c = {0};
    struct err e = ERR_INIT;
    CHECK_INT(azure_creds_parse("DefaultEndpointsProtocol=https;AccountName=acc;AccountKey=a2V5;"
                                "BlobEndpoint=http://127.0.0.1:10000/acc;", &e, &c), 0);
    CHECK_STR(c.account, "acc");
    CHECK(c.key_len == 3 && memcmp(c.key, "key", 3) == 0);
    CHECK_STR(c.endpoint, "http://127.0.0.1:10000/acc");
    azure_creds_done(&c);
    CHECK_INT(azure_creds_parse("SharedAccessSignature=sv=2021-12-02&sig=a%2Bb", &e, &c), 0);
    CHECK_STR(c.sas, "sv=2021-12-02&sig=a%2Bb");
    azure_creds_done(&c);
    CHECK_INT(azure_creds_parse("AccountName=acc", &e, &c), -EINVAL);
    CHECK_INT(azure_creds_parse("AccountName=acc;AccountKey=not base64!", &e, &c), -EINVAL);
    CHECK_INT(azure_creds_parse("nonsense", &e, &c), -EINVAL);
    CHECK_INT(azure_creds_parse("SharedAccessSignature=sig=x\r\nhost: evil", &e, &c), -EINVAL);
    CHECK(!c.account && !c.key && !c.sas);
}

int main(void)
{
    RUN(test_shared_key);
    RUN(test_header);
    RUN(test_sas);
    RUN(test_listing);
    RUN(test_hostile_listings);
    RUN(test_connection_strings);
    return t_done();
}
