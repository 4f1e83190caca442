/* SPDX-License-Identifier: MIT
 * t_s3_copy.c: a copy with a condition is an upload of the store's own. Whoever watches is told of each, whatever becomes
 * of it; where nobody does, none is left. */
#include "backends/registry.h"
#include "base/log.h"
#include "tests/unit/s3_rig.h"

#define XML(length) "HTTP/1.1 200 OK\r\nContent-Length: " length CRLF2
#define SOURCE "HTTP/1.1 200 OK\r\nETag: \"v1\"\r\nx-amz-meta-mtime: 1000\r\nContent-Length: 4" CRLF2
#define LOST "HTTP/1.1 412 Precondition Failed\r\nContent-Length: 0" CRLF2
#define NO_OLD XML("37") "<ListBucketResult></ListBucketResult>"
#define BEGUN XML("85") \
    "<InitiateMultipartUploadResult><UploadId>U</UploadId></InitiateMultipartUploadResult>"
#define COPIED XML("48") "<CopyPartResult><ETag>e1</ETag></CopyPartResult>"
#define MADE XML("79") \
    "<CompleteMultipartUploadResult><ETag>x-1</ETag></CompleteMultipartUploadResult>"
#define FAILED "HTTP/1.1 500 Oops\r\nContent-Length: 0" CRLF2
#define REFUSED "HTTP/1.1 403 Forbidden\r\nContent-Length: 0" CRLF2
#define PROBED {.reply = OK0}, {.reply = LOST}, {.reply = DONE204}, {.reply = NO_OLD}

struct told {
    struct upload_watch watch;
    struct buf text;
};

static void note_begun(void *arg, const char *key, const char *id, uint64_t size)
{
    struct told *t = arg;
    buf_addf(&t->text, "begun %s %s %llu;", key, id, (unsigned long long)size);
}

static void note_ended(void *arg, const char *key, const char *id, bool finished)
{
    struct told *t = arg;
    buf_addf(&t->text, "%s %s %s;", finished ? "finished" : "left", key, id);
}

static int copy(struct rig *g, struct told *t)
{
    const struct precond pre = {.if_absent = true};
    struct attr a = ATTR_INIT;
    if (t) {
        *t = (struct told){.watch = {.begun = note_begun, .ended = note_ended, .arg = t}};
        store_watch_uploads(g->s, &t->watch);
    }
    int r = store_copy(g->s, &g->op, "a", "v1", "d/b", &pre, &a);
    attr_done(&a);
    return r;
}

static void check_told(struct told *t, const char *what)
{
    CHECK_STR(buf_str(&t->text), what);
    buf_done(&t->text);
}

static void test_finished(void)
{
    struct told t;
    RIG(g, "tags = no\n", {.reply = SOURCE}, PROBED, {.reply = BEGUN}, {.reply = COPIED}, {.reply = GONE}, {.reply = MADE});
    CHECK_INT(copy(&g, &t), 0);
    CHECK(sent(&g, 5, "POST /buck/p/d/b?uploads") && sent(&g, 8, "POST /buck/p/d/b?uploadId=U "));
    CHECK(sent(&g, 8, "if-none-match: *"));
    check_told(&t, "begun d/b pU 4;finished d/b pU;");
    rig_stop(&g);
}

/* It is for who watches to abort it, also when that cannot be done now. */
static void test_a_part_is_refused(void)
{
    struct told t;
    RIG(g, "tags = no\n", {.reply = SOURCE}, PROBED, {.reply = BEGUN}, {.reply = REFUSED});
    CHECK_INT(copy(&g, &t), -EACCES);
    CHECK_INT(g.f.n_requests, 7);
    check_told(&t, "begun d/b pU 4;left d/b pU;");
    rig_stop(&g);
}

static void test_somebody_was_first(void)
{
    struct told t;
    RIG(g, "tags = no\n", {.reply = SOURCE}, PROBED, {.reply = BEGUN}, {.reply = COPIED}, {.reply = SOURCE});
    CHECK_INT(copy(&g, &t), -EEXIST);
    check_told(&t, "begun d/b pU 4;left d/b pU;");
    rig_stop(&g);
}

static void test_unknown_outcome(void)
{
    struct told t;
    RIG(g, "tags = no\n", {.reply = SOURCE}, PROBED, {.reply = BEGUN}, {.reply = COPIED}, {.reply = GONE}, {.reply = FAILED});
    CHECK_INT(copy(&g, &t), -EIO);
    CHECK_INT(g.op.err.retry, ERR_RETRY_UNKNOWN);
    check_told(&t, "begun d/b pU 4;left d/b pU;");
    rig_stop(&g);
}

/* Nobody else knows of it: it is aborted, and what the copy failed of is what is told. */
static void test_nobody_watches(void)
{
    RIG(g, "tags = no\n", {.reply = SOURCE}, PROBED, {.reply = BEGUN}, {.reply = COPIED}, {.reply = GONE}, {.reply = FAILED},
        {.reply = DONE204});
    CHECK_INT(copy(&g, NULL), -EIO);
    CHECK_INT(g.op.err.retry, ERR_RETRY_UNKNOWN);
    CHECK(sent(&g, 9, "DELETE /buck/p/d/b?uploadId=U "));
    rig_stop(&g);
}

/* Through wrappers: of each attempt. */
static void test_each_attempt(void)
{
    struct told t;
    const struct retry_options once_more = {.retries = 1, .delay_ms = 1, .max_delay_ms = 1};
    RIG(g, "tags = no\n", {.reply = SOURCE}, PROBED, {.reply = BEGUN}, {.reply = FAILED},
        {.reply = SOURCE}, {.reply = BEGUN}, {.reply = COPIED}, {.reply = GONE}, {.reply = MADE});
    g.s = store_wrap_retry(g.s, &once_more);
    CHECK_INT(copy(&g, &t), 0);
    check_told(&t, "begun d/b pU 4;left d/b pU;begun d/b pU 4;finished d/b pU;");
    rig_stop(&g);
}

int main(void)
{
    log_set_level(LOG_LEVEL_ERROR);
    RUN(test_finished);
    RUN(test_a_part_is_refused);
    RUN(test_somebody_was_first);
    RUN(test_unknown_outcome);
    RUN(test_nobody_watches);
    RUN(test_each_attempt);
    return t_done();
}
