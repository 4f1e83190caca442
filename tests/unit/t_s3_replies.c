/* SPDX-License-Identifier: MIT
 * The S3 class against scripted replies: what servers do wrong, and what it learns from refusals.
 */
#include "base/clock.h"
#include "tests/unit/s3_rig.h"

static int put(struct rig *g, struct precond pre)
{
    struct source_mem m = source_mem("data", 4);
    struct attr a = ATTR_INIT;
    struct put_req q = {.key = "k", .src = &m.base, .precond = pre};
    int r = store_put(g->s, &g->op, &q, &a);
    attr_done(&a);
    return r;
}

/* ---- reading ---- */

static int announced;
static int announce(void *arg, size_t so_far)
{
    (void)arg, (void)so_far;
    announced++;
    return 0;
}

static int read_at(struct rig *g, uint64_t off, const char *version, size_t *ret_len)
{
    char to[10];
    struct read_res res = READ_RES_INIT;
    struct read_req q = {.key = "k",
                         .version = version,
                         .offset = off,
                         .iov = {to, sizeof(to)},
                         .on_data = announce};
    announced = 0;
    int r = store_read(g->s, &g->op, &q, &res);
    *ret_len = res.length;
    read_res_done(&res);
    return r;
}

#define PART(range, etag)                                                                          \
    "HTTP/1.1 206 Partial Content\r\nContent-Range: " range "\r\nETag: \"" etag                    \
    "\"\r\nContent-Length: 10" CRLF2 "0123456789"

static void test_read(void)
{
    RIG(g, "", {.reply = PART("bytes 20-29/100", "v1")},
        {.reply = PART("bytes 0-9/100", "v1"), .then = FAKE_CLOSE},
        {.reply = PART("bytes 20-29/100", "v2"), .then = FAKE_CLOSE},
        {.reply = PART("bytes 20-29/25", "v1"), .then = FAKE_CLOSE},
        {.reply = PART("bytes 20-29/*", "v1"), .then = FAKE_CLOSE});
    size_t n;
    CHECK_INT(read_at(&g, 20, "v1", &n), 0);
    CHECK_INT(n, 10);
    CHECK(announced > 0);
    CHECK(sent(&g, 0, "\r\nrange: bytes=20-29\r\n") && sent(&g, 0, "\r\nif-match: \"v1\"\r\n"));
    CHECK(sent(&g, 0, "GET /buck/p/k HTTP/1.1\r\n"));
    CHECK_INT(read_at(&g, 20, "v1", &n), -EIO); /* another range */
    CHECK_INT(announced, 0);
    CHECK_INT(read_at(&g, 20, "v1", &n), -ESTALE); /* If-Match ignored */
    CHECK_INT(announced, 0);
    CHECK_INT(read_at(&g, 20, "v1", &n), -EIO); /* beyond its own end */
    CHECK_INT(read_at(&g, 20, "v1", &n), -EIO);
    CHECK_INT(announced, 0);
    rig_stop(&g);
}

static void test_read_without_ranges(void)
{
    RIG(g, "", {.reply = "HTTP/1.1 200 OK\r\nContent-Length: 5" CRLF2 "hello"},
        {.reply = "HTTP/1.1 200 OK\r\nContent-Length: 5" CRLF2 "hello", .then = FAKE_CLOSE},
        {.reply = "HTTP/1.1 200 OK\r\nContent-Length: 11" CRLF2 "hello world", .then = FAKE_CLOSE});
    size_t n;
    CHECK_INT(read_at(&g, 0, NULL, &n), 0); /* all of a small object */
    CHECK_INT(n, 5);
    CHECK_INT(read_at(&g, 2, NULL, &n), -EIO);
    CHECK_INT(announced, 0);
    CHECK_INT(read_at(&g, 0, NULL, &n), -EIO);
    rig_stop(&g);
}

/* ---- learning ---- */

static void test_learns(void)
{
    struct timespec now = {.tv_sec = 784111777}; /* 1994-11-06 08:49:37 */
    struct rig g;
    struct fake_step steps[6] = {
        {.reply = error_reply("403 Forbidden", "Date: Sun, 06 Nov 1994 10:49:37 GMT\r\n",
                              "<Error><Code>RequestTimeTooSkewed</Code></Error>")},
        {.reply = OK0},
        {.reply = error_reply(
             "400 Bad Request", "",
             "<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-x-1</Region></Error>")},
        {.reply =
             error_reply("501 Not Implemented", "", "<Error><Code>NotImplemented</Code></Error>")},
        {.reply = OK0},
        {.reply = OK0}};
    clock_set_wall_for_test(&now);
    rig_start(&g, steps, 6, "");
    CHECK_INT(put(&g, (struct precond){0}), 0);
    CHECK(sent(&g, 0, "x-amz-date: 19941106T084937Z") &&
          sent(&g, 1, "x-amz-date: 19941106T104937Z"));
    CHECK(sent(&g, 1, "x-amz-checksum-crc32c: "));
    CHECK_INT(put(&g, (struct precond){0}), 0);
    CHECK(sent(&g, 2, "/us-east-1/s3/") && sent(&g, 3, "/eu-x-1/s3/"));
    CHECK(sent(&g, 3, "x-amz-checksum-crc32c") && !sent(&g, 4, "x-amz-checksum-crc32c"));
    CHECK_INT(put(&g, (struct precond){0}), 0); /* remembered */
    CHECK(!sent(&g, 5, "x-amz-checksum-crc32c") && sent(&g, 5, "/eu-x-1/s3/"));
    CHECK(sent(&g, 5, CRLF2 "data"));
    clock_set_wall_for_test(NULL);
    rig_stop(&g);
    for (int i = 0; i < 4; i++)
        if (i != 1)
            free((void *)(uintptr_t)steps[i].reply);
}

/* A region becomes part of a host name: nonsense is not believed. */
static void test_hostile_region(void)
{
    struct rig g;
    struct fake_step step = {.reply = error_reply("400 Bad Request", "",
                                                  "<Error><Code>AuthorizationHeaderMalformed</"
                                                  "Code><Region>evil.example/</Region></Error>")};
    rig_start(&g, &step, 1, "");
    CHECK_INT(put(&g, (struct precond){0}), -EIO);
    CHECK(strstr(g.op.err.text, "region") != NULL);
    rig_stop(&g);
    free((void *)(uintptr_t)step.reply);
}

/* ---- conditions ---- */

#define NO_OLD "HTTP/1.1 200 OK\r\nContent-Length: 37" CRLF2 "<ListBucketResult></ListBucketResult>"

static void test_conditions_ignored(void)
{
    RIG(g, "", {.reply = OK0}, {.reply = OK0}, {.reply = DONE204}, /* the probe: twice the same */
        {.reply = NO_OLD}, {.reply = GONE}, {.reply = OK0},        /* no older ones; look, put */
        {.reply = "HTTP/1.1 200 OK\r\nETag: \"v1\"\r\nContent-Length: 4" CRLF2});
    CHECK_INT(put(&g, (struct precond){.if_absent = true}), 0);
    CHECK(sent(&g, 0, "PUT /buck/p/.quay-probe-") && sent(&g, 1, "if-none-match: *"));
    CHECK(sent(&g, 2, "DELETE /buck/p/.quay-probe-"));
    CHECK(sent(&g, 3, "prefix=p%2F.quay-probe-"));
    CHECK(sent(&g, 4, "HEAD /buck/p/k ") && !sent(&g, 5, "if-none-match"));
    CHECK_INT(put(&g, (struct precond){.if_absent = true}), -EEXIST);
    CHECK_INT(g.f.n_requests, 7);
    rig_stop(&g);
}

#define LOST "HTTP/1.1 412 Precondition Failed\r\nContent-Length: 0" CRLF2

static void test_conditions_honoured(void)
{
    RIG(g, "", {.reply = OK0}, {.reply = LOST}, {.reply = DONE204}, {.reply = NO_OLD}, {.reply = OK0},
        {.reply = LOST}, {.reply = LOST}, {.reply = GONE}, {.reply = "HTTP/1.1 304 Not Modified" CRLF2});
    CHECK_INT(put(&g, (struct precond){.if_absent = true}), 0);
    CHECK(sent(&g, 4, "if-none-match: *"));
    CHECK_INT(put(&g, (struct precond){.if_absent = true}), -EEXIST);
    CHECK_INT(put(&g, (struct precond){.if_match = "v0"}), -ESTALE);
    CHECK(sent(&g, 6, "if-match: \"v0\""));
    CHECK_INT(put(&g, (struct precond){.if_match = "v0"}), -ESTALE);
    CHECK_INT(put(&g, (struct precond){.if_absent = true}), -EEXIST);
    rig_stop(&g);
}

/* Sent twice by the client because the connection broke: 412 may be our own first one. */
static void test_condition_resent(void)
{
    RIG(g, "", {.reply = OK0}, {.reply = LOST}, {.reply = DONE204}, {.reply = NO_OLD},
        {.then = FAKE_CLOSE}, {.reply = LOST});
    CHECK_INT(put(&g, (struct precond){.if_absent = true}), -EIO);
    CHECK_INT(g.op.err.retry, ERR_RETRY_UNKNOWN);
    CHECK_INT(g.f.n_requests, 6);
    rig_stop(&g);
}

/* ---- errors ---- */

static void test_throttled(void)
{
    RIG(g, "", {.reply = "HTTP/1.1 503 Slow Down\r\nRetry-After: 2\r\nContent-Length: 0" CRLF2},
        {.reply = "HTTP/1.1 500 Oops\r\nContent-Length: 0" CRLF2},
        {.reply = "HTTP/1.1 403 Forbidden\r\nContent-Length: 0" CRLF2},
        {.reply = "HTTP/1.1 507 Full\r\nContent-Length: 0" CRLF2});
    CHECK_INT(put(&g, (struct precond){0}), -EBUSY);
    CHECK(g.op.err.retry == ERR_RETRY_SAFE && g.op.err.retry_after_ms == 2000 &&
          g.op.err.status == 503);
    CHECK_INT(put(&g, (struct precond){0}), -EIO);
    CHECK_INT(g.op.err.retry, ERR_RETRY_SAFE);
    CHECK_INT(put(&g, (struct precond){0}), -EACCES);
    CHECK_INT(put(&g, (struct precond){0}), -ENOSPC);
    rig_stop(&g);
}

static void test_no_bucket(void)
{
    struct rig g;
    struct attr a = ATTR_INIT;
    struct fake_step steps[2] = {
        {.reply = GONE},
        {.reply = error_reply("404 Not Found", "",
                              "<Error><Code>NoSuchBucket</Code>"
                              "<Message>no\tsuch\nbucket</Message></Error>")}};
    rig_start(&g, steps, 2, "");
    CHECK_INT(store_stat(g.s, &g.op, "k", &a), -EIO); /* and not "not there" */
    CHECK_STR(g.op.err.remote, "NoSuchBucket");
    CHECK(strstr(g.op.err.text, "create the bucket") && !strchr(g.op.err.text, '\n'));
    rig_stop(&g);
    free((void *)(uintptr_t)steps[1].reply);
}

static void test_complete_fails_late(void)
{
    struct rig g;
    struct attr a = ATTR_INIT;
    struct store_part part = {.number = 1, .size = 4, .etag = "e1"};
    const char *fault = "<Error><Code>InternalError</Code></Error>";
    struct fake_step steps[2] = {
        {.reply = error_reply("200 OK", "", fault)},
        {.reply = error_reply("200 OK", "",
                              "<CompleteMultipartUploadResult>"
                              "<ETag>&quot;x-1&quot;</ETag></CompleteMultipartUploadResult>")}};
    rig_start(&g, steps, 2, "");
    CHECK_INT(store_upload_finish(g.s, &g.op, "k", "pID", &part, 1, NULL, &a), -EIO);
    CHECK_INT(g.op.err.retry, ERR_RETRY_UNKNOWN);
    CHECK(sent(&g, 0, "POST /buck/p/k?uploadId=ID "));
    CHECK(sent(&g, 0, "<Part><ETag>&quot;e1&quot;</ETag><PartNumber>1</PartNumber></Part>"));
    (void)snprintf(part.etag, sizeof(part.etag), "e1;AAAAAA==");
    CHECK_INT(store_upload_finish(g.s, &g.op, "k", "cID", &part, 1, NULL, &a), 0);
    CHECK(
        sent(&g, 1, "<Part><ChecksumCRC32C>AAAAAA==</ChecksumCRC32C><ETag>&quot;e1&quot;</ETag>"));
    CHECK_STR(a.version, "x-1");
    CHECK_INT(store_upload_abort(g.s, &g.op, "k", "bad id"), -EINVAL);
    attr_done(&a);
    rig_stop(&g);
    free((void *)(uintptr_t)steps[0].reply);
    free((void *)(uintptr_t)steps[1].reply);
}

/* Two requests have met. A PUT is sent again, with its condition; an upload has to be begun anew. */
static void test_requests_that_meet(void)
{
    struct rig g;
    struct attr a = ATTR_INIT;
    struct store_part part = {.number = 1, .size = 4, .etag = "e1"};
    char *met = error_reply("409 Conflict", "", "<Error><Code>ConditionalRequestConflict</Code></Error>");
    struct fake_step steps[] = {{.reply = OK0}, {.reply = LOST}, {.reply = DONE204}, {.reply = NO_OLD},
                                {.reply = met}, {.reply = met}, {.reply = GONE}, {.reply = met}};
    rig_start(&g, steps, sizeof(steps) / sizeof(steps[0]), "");
    CHECK_INT(put(&g, (struct precond){.if_match = "v0"}), -EBUSY);
    CHECK_INT(g.op.err.retry, ERR_RETRY_SAFE);
    CHECK(sent(&g, 4, "if-match: \"v0\""));
    CHECK_INT(put(&g, (struct precond){.if_absent = true}), -EBUSY);
    CHECK_INT(g.op.err.retry, ERR_RETRY_SAFE);
    struct precond pre = {.if_absent = true};
    CHECK_INT(store_upload_finish(g.s, &g.op, "k", "pID", &part, 1, &pre, &a), -ESTALE);
    CHECK_INT(g.op.err.retry, ERR_RETRY_NEVER);
    CHECK(sent(&g, 6, "HEAD /buck/p/k ") && sent(&g, 7, "POST /buck/p/k?uploadId=ID "));
    attr_done(&a);
    rig_stop(&g);
    free(met);
}

/* ---- listing ---- */

static int list_reply(const char *xml, const char *cursor, struct list_page *page,
                      struct buf *ret_request)
{
    struct rig g;
    struct fake_step step = {.reply = error_reply("200 OK", "", xml)};
    struct list_query q = {.prefix = "a/", .cursor = cursor};
    rig_start(&g, &step, 1, "");
    int r = store_list(g.s, &g.op, &q, page);
    if (ret_request)
        buf_adds(ret_request, g.f.requests[0].data);
    rig_stop(&g);
    free((void *)(uintptr_t)step.reply);
    return r;
}

static void test_list_entries(void)
{
    struct list_page p = LIST_PAGE_INIT;
    struct buf b = BUF_INIT;
    CHECK_INT(
        list_reply("<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>t2"
                   "</NextContinuationToken><Contents><Key>p/a/</Key><Size>0</Size></Contents>"
                   "<Contents><Key>p/a/b</Key><Size>1</Size></Contents>"
                   "<Contents><Key>p/a/b-c</Key><Size>1</Size></Contents>"
                   "<CommonPrefixes><Prefix>p/a//</Prefix></CommonPrefixes>"
                   "<CommonPrefixes><Prefix>p/a/b/</Prefix></CommonPrefixes></ListBucketResult>",
                   "t1", &p, &b),
        0);
    CHECK(p.dir_exists);
    CHECK_STR(p.cursor, "t2");
    CHECK_INT(p.count, 4);
    CHECK_STR(p.entries[0].key, "a/"); /* "a//" without one slash */
    CHECK_INT(p.entries[0].attr.kind, ATTR_DIR);
    CHECK_STR(p.entries[1].key, "a/b");
    CHECK_INT(p.entries[1].attr.kind, ATTR_FILE);
    CHECK_STR(p.entries[2].key, "a/b-c");
    CHECK_STR(p.entries[3].key, "a/b");
    CHECK_INT(p.entries[3].attr.kind, ATTR_DIR);
    CHECK(strstr(b.data,
                 "GET /buck?continuation-token=t1&delimiter=%2F&encoding-type=url&list-type=2"
                 "&max-keys=1000&prefix=p%2Fa%2F HTTP") != NULL);
    list_page_done(&p);
    buf_done(&b);
}

#define TRUNCATED "<ListBucketResult><IsTruncated>true</IsTruncated>"

static void test_list_bad(void)
{
    static const char *const bad[] = {
        TRUNCATED "<NextContinuationToken>t1</NextContinuationToken></ListBucketResult>",
        TRUNCATED "</ListBucketResult>",
        "<ListBucketResult><Contents><Key>elsewhere</Key></Contents></ListBucketResult>",
        "<html>proxy</html>",
        "{}",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct list_page p = LIST_PAGE_INIT;
        CHECK_INT(list_reply(bad[i], "t1", &p, NULL), -EIO);
        CHECK(p.count == 0 && p.cursor == NULL);
    }
}

static void test_sign(void)
{
    RIG(g, "session_token = tok\n", {.reply = OK0});
    struct buf b = BUF_INIT;
    struct sign_req q = {.key = "a b", .expires_s = 604800};
    CHECK_INT(store_sign(g.s, &g.op, &q, &b), 0);
    CHECK(strstr(b.data, "/buck/p/a%20b?X-Amz-Algorithm=AWS4-HMAC-SHA256&") &&
          !strstr(b.data, SECRET));
    q.expires_s = 604801;
    CHECK_INT(store_sign(g.s, &g.op, &q, &b), -EINVAL);
    q.expires_s = 0;
    CHECK_INT(store_sign(g.s, &g.op, &q, &b), -EINVAL);
    buf_done(&b);
    rig_stop(&g);
}

static void expect_open(const char *lines, int want, const char *text)
{
    struct conf *c = NULL;
    struct err e = ERR_INIT;
    struct store *s = NULL;
    const struct conf_option uri = {"uri", CONF_STRING};
    const struct conf_option *tables[] = {s3_class.options, &uri};
    size_t counts[] = {s3_class.n_options, 1};
    char *all = xasprintf("[store x]\nkey = AKID\nsecret = " SECRET "\n%s", lines);
    CHECK_INT(conf_parse("q.conf", all, &e, &c), 0);
    struct conf_section *sec = conf_find(c, "store", "x");
    CHECK_INT(conf_check(sec, tables, counts, 2, &e), 0);
    CHECK_INT(s3_class.open(sec, NULL, &e, &s), want);
    if (want == 0)
        CHECK_STR(s->base_uri, text);
    else
        CHECK(strstr(e.text, text) && strncmp(e.text, "q.conf:", 7) == 0 &&
              !strstr(e.text, SECRET));
    store_close(s);
    conf_free(c);
    free(all);
}

static void test_open(void)
{
    expect_open("bucket = bbb\n", 0, "s3://bbb");
    expect_open("bucket = bbb\nbase_path = /a/b/\n", 0, "s3://bbb/a/b");
    expect_open("base_path = bbb/a\n", 0, "s3://bbb/a");
    expect_open("base_path = s3://bbb/a/\n", 0, "s3://bbb/a");
    expect_open("uri = s3://bbb\n", 0, "s3://bbb");
    expect_open("uri = minio://bbb/x/\nbase_path = y\n", 0, "s3://bbb/x/y");
    expect_open("", -EINVAL, "'bucket'");
    expect_open("bucket = b/c\n", -EINVAL, "not a bucket name");
    expect_open("uri = s3://bbb\nbucket = bbb\n", -EINVAL, "leave out 'bucket'");
    expect_open("bucket = bbb\nendpoint_url = ftp://x\n", -EINVAL, "http(s)://");
    expect_open("bucket = bbb\nendpoint_url = http://u@x/\n", -EINVAL, "without user");
    expect_open("bucket = bbb\nregion = a.b/c\n", -EINVAL, "not a region");
    expect_open("bucket = bbb\nmultipart_chunksize = 1MiB\n", -EINVAL, "5 MiB");
    expect_open("bucket = bbb\nca_file = /nonexistent\n", -ENOENT, "ca_file");
}

static void test_addressing(void)
{
    struct buf b = BUF_INIT;
    struct s3_store s = {.bucket = (char[]){"buck"}, .root = (char[]){""}};
    s3_host(&s, "eu-west-1", &b);
    buf_addc(&b, ' ');
    s3_path(&s, "a//b c\xC3\xA9/..", &b);
    CHECK_STR(b.data, "buck.s3.eu-west-1.amazonaws.com /a//b%20c%C3%A9/..");
    buf_reset(&b);
    s3_host(&s, "cn-north-1", &b);
    s3_path(&s, NULL, &b);
    CHECK_STR(b.data, "buck.s3.cn-north-1.amazonaws.com.cn/");
    buf_reset(&b);
    s.path_style = true;
    s.endpoint = (char[]){"h:9"};
    s.root = (char[]){"/gw"};
    s3_host(&s, "r", &b);
    s3_path(&s, NULL, &b);
    buf_addc(&b, ' ');
    s3_path(&s, "k", &b);
    CHECK_STR(b.data, "h:9/gw/buck /gw/buck/k");
    buf_done(&b);
}

int main(void)
{
    RUN(test_read);
    RUN(test_read_without_ranges);
    RUN(test_learns);
    RUN(test_hostile_region);
    RUN(test_conditions_ignored);
    RUN(test_conditions_honoured);
    RUN(test_condition_resent);
    RUN(test_throttled);
    RUN(test_no_bucket);
    RUN(test_complete_fails_late);
    RUN(test_requests_that_meet);
    RUN(test_list_entries);
    RUN(test_list_bad);
    RUN(test_sign);
    RUN(test_open);
    RUN(test_addressing);
    return t_done();
}
