/* SPDX-License-Identifier: MIT
 * What S3 says in XML, and hostile XML. */
#include "backends/s3/s3.h"
#include "tests/unit/t.h"

#include <errno.h>

#define HEAD "<?xml version=\"1.0\" encoding=\"UTF-8\"?>"
#define NS " xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\""

static int list_of(const char *xml, struct flat_result *r)
{
    return s3_xml_list(xml, strlen(xml), r);
}

static void test_list(void)
{
    struct flat_result r = {0};
    CHECK_INT(
        list_of(
            HEAD
            "<ListBucketResult" NS "><Name>b</Name><Prefix>a%2F</Prefix>"
            "<IsTruncated>true</IsTruncated><NextContinuationToken>t&amp;1</NextContinuationToken>"
            "<Contents><Key>a/x+y%2B%C3%A9%0A</Key><LastModified>2026-11-21T16:06:46.725Z"
            "</LastModified><ETag>&#34;d41d&#34;</ETag><Size>18446744073709551615</Size>"
            "<Owner><ID>1</ID></Owner></Contents>"
            "<CommonPrefixes><Prefix>a/b%25/</Prefix></CommonPrefixes>"
            "<EncodingType>url</EncodingType></ListBucketResult>",
            &r),
        0);
    CHECK_INT(r.n, 2);
    CHECK(r.truncated);
    CHECK_STR(r.token, "t&1");
    CHECK_STR(r.v[0].object, "a/x y+\xC3\xA9\n");
    CHECK(r.v[0].size == UINT64_MAX);
    CHECK_STR(r.v[0].etag, "d41d");
    CHECK_INT(r.v[0].mtime.tv_nsec, 725000000);
    CHECK(!r.v[0].is_prefix && !r.v[0].has_meta);
    CHECK_STR(r.v[1].object, "a/b%/");
    CHECK(r.v[1].is_prefix);
    flat_result_done(&r);
}

static void test_list_not_encoded(void)
{
    struct flat_result r = {0};
    CHECK_INT(
        list_of(
            "<x:ListBucketResult xmlns:x=\"u\"><x:Contents><x:Key>a+b%41</x:Key><x:Size>1</x:Size>"
            "</x:Contents></x:ListBucketResult>",
            &r),
        0);
    CHECK_STR(r.v[0].object, "a+b%41");
    CHECK(!r.truncated && !r.token);
    flat_result_done(&r);
}

static void test_list_meta(void)
{
    struct flat_result r = {0};
    CHECK_INT(
        list_of("<ListBucketResult><Contents><Key>k</Key><Size>3</Size><UserMetadata>"
                "<content-type>text/plain</content-type><X-Amz-Meta-Mode>33188</X-Amz-Meta-Mode>"
                "<X-Amz-Meta-Size>9</X-Amz-Meta-Size></UserMetadata><ETag>e</ETag></Contents>"
                "<Contents><Key>l</Key><Size>0</Size></Contents></ListBucketResult>",
                &r),
        0);
    CHECK(r.v[0].has_meta && !r.v[1].has_meta);
    CHECK_STR(http_headers_get(&r.v[0].meta, "x-amz-meta-mode"), "33188");
    CHECK_STR(http_headers_get(&r.v[0].meta, "content-type"), "text/plain");
    CHECK_INT(r.v[0].size, 3);
    CHECK_STR(r.v[0].etag, "e");
    flat_result_done(&r);
}

static void test_list_bad(void)
{
    static const char *const bad[] = {
        "",
        "x",
        "<ListBucketResult>",
        "<Error><Code>x</Code></Error>",
        "<ListBucketResult><Contents><Size>1</Size></Contents></ListBucketResult>",
        "<ListBucketResult><Contents><Key>a</Key><Size>-1</Size></Contents></ListBucketResult>",
        "<ListBucketResult><Contents><Key>a</Key><Size>1x</Size></Contents></ListBucketResult>",
        "<ListBucketResult><Contents><Key>a%zz</Key></Contents><EncodingType>url</EncodingType>"
        "</ListBucketResult>",
        "<ListBucketResult><Contents><Key>%00</Key></Contents><EncodingType>url</EncodingType>"
        "</ListBucketResult>",
        "<!DOCTYPE a [<!ENTITY e \"x\">]><ListBucketResult><Contents><Key>&e;</Key></Contents>"
        "</ListBucketResult>",
        "<!DOCTYPE a SYSTEM \"file:///etc/passwd\"><ListBucketResult/>",
        "<a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a><a></a></a></a></a></a></a></a></a></a></"
        "a></a>"
        "</a></a></a></a></a></a>",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct flat_result r = {0};
        CHECK_INT(list_of(bad[i], &r), -EBADMSG);
        CHECK(r.n == 0 && r.v == NULL && r.token == NULL);
    }
}

static void test_long_text(void)
{
    struct buf b = BUF_INIT;
    struct flat_result r = {0};
    buf_adds(&b, "<ListBucketResult><Contents><Key>");
    for (int i = 0; i < 70000; i++)
        buf_addc(&b, 'k');
    buf_adds(&b, "</Key></Contents></ListBucketResult>");
    CHECK_INT(list_of(b.data, &r), -EBADMSG);
    buf_done(&b);
}

static void test_field(void)
{
    const char *e = HEAD
        "<Error><Code>NoSuchKey</Code><Message>The &lt;key&gt; is not there.</Message></Error>";
    char *v = xml_field(e, strlen(e), "Message");
    CHECK_STR(v, "The <key> is not there.");
    free(v);
    CHECK(xml_field(e, strlen(e), "Region") == NULL);
    CHECK(xml_field("<html><p>", 9, "p") == NULL);
    CHECK(xml_field("<Code>root</Code>", 17, "Code") == NULL);
}

static void test_error_reply(void)
{
    struct http_res res = {.status = 301};
    struct s3_error e;
    buf_adds(&res.body, HEAD "<Error><Code>PermanentRedirect</Code><Message>m</Message></Error>");
    http_headers_add(&res.headers, "X-Amz-Bucket-Region", "eu-west-3");
    s3_error_read(&res, &e);
    CHECK_STR(e.code, "PermanentRedirect");
    CHECK_STR(e.region, "eu-west-3");
    http_res_done(&res);
    http_headers_add(&res.headers, "X-Minio-Error-Code", "NoSuchKey");
    s3_error_read(&res, &e);
    CHECK_STR(e.code, "NoSuchKey");
    http_res_done(&res);
}

static void test_delete(void)
{
    const char *x =
        "<DeleteResult" NS "><Deleted><Key>ok</Key></Deleted><Error><Key>a&amp;b</Key>"
        "<Code>AccessDenied</Code><Message>no</Message></Error><Error><Key>c</Key></Error>"
        "</DeleteResult>";
    struct s3_delete_errors e = {0};
    CHECK_INT(s3_xml_delete(x, strlen(x), &e), 0);
    CHECK_INT(e.n, 2);
    CHECK_STR(e.v[0].object, "a&b");
    CHECK_STR(e.v[0].code, "AccessDenied");
    CHECK(e.v[1].code == NULL);
    s3_delete_errors_done(&e);
    CHECK_INT(s3_xml_delete("<Other/>", 8, &e), -EBADMSG);
}

static void test_write(void)
{
    struct buf b = BUF_INIT;
    xml_escape(&b, "a<b>&\"c\"\r\n\xC3\xA9");
    CHECK_STR(b.data, "a&lt;b&gt;&amp;&quot;c&quot;&#13;&#10;\xC3\xA9");
    buf_done(&b);
    CHECK(xml_can_hold("plain \t\r\n \xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80"));
    CHECK(!xml_can_hold("\x01"));
    CHECK(!xml_can_hold("\xFF"));
    CHECK(!xml_can_hold("\xC3"));
    CHECK(!xml_can_hold("\xC0\x80"));
    CHECK(!xml_can_hold("\xED\xA0\x80"));
    CHECK(!xml_can_hold("\xEF\xBF\xBE"));
    CHECK(!xml_can_hold("\xF4\x90\x80\x80"));
}

int main(void)
{
    RUN(test_list);
    RUN(test_list_not_encoded);
    RUN(test_list_meta);
    RUN(test_list_bad);
    RUN(test_long_text);
    RUN(test_field);
    RUN(test_error_reply);
    RUN(test_delete);
    RUN(test_write);
    return t_done();
}
