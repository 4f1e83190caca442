/* SPDX-License-Identifier: MIT */
#include "backends/registry.h"
#include "backends/wrap.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "tests/unit/t.h"

/* A memory store with these faults, and the object "a/x" of ten bytes. */
static struct store *faulty(const char *spec)
{
    struct err err = ERR_INIT;
    struct conf *c = NULL;
    struct store *inner = NULL, *s = NULL;
    CHECK_INT(conf_parse("t.conf", "[store t]\nbackend = memory\nretries = 0\n", &err, &c), 0);
    CHECK_INT(registry_open(c, conf_find(c, "store", "t"), NULL, &err, &inner), 0);
    conf_free(c);
    struct op op;
    op_init(&op, "t", 0);
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    struct source_mem src = source_mem("0123456789", 10);
    struct put_req put = {.key = "a/x", .src = &src.base};
    CHECK_INT(store_put(inner, &op, &put, &a), 0);
    if (store_wrap_fault(inner, spec, &err, &s) < 0)
        CHECK_STR(err.text, "");
    return s;
}

static int do_stat(struct store *s, struct op *op, const char *key)
{
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    op_init(op, "t", 0);
    return store_stat(s, op, key, &a);
}

static ssize_t do_read(struct store *s, struct op *op, char *buf, size_t len)
{
    struct read_req req = {.key = "a/x", .iov = {.iov_base = buf, .iov_len = len}};
    struct read_res res = READ_RES_INIT;
    op_init(op, "t", 0);
    int r = store_read(s, op, &req, &res);
    ssize_t n = (ssize_t)res.length;
    read_res_done(&res);
    return r < 0 ? r : n;
}

static void test_counts(void)
{
    struct op op;
    struct store *s = faulty("op=stat,nth=3,errno=EIO");
    for (unsigned i = 1; i <= 7; i++)
        CHECK_INT(do_stat(s, &op, "a/x"), i == 3 ? -EIO : 0);
    store_close(s);
    s = faulty("op=stat,every=3,errno=EBUSY,retry=safe,retry_after=250ms");
    for (unsigned i = 1; i <= 7; i++)
        CHECK_INT(do_stat(s, &op, "a/x"), i % 3 == 0 ? -EBUSY : 0);
    CHECK_INT(do_stat(s, &op, "a/x"), 0);
    CHECK_INT(do_stat(s, &op, "a/x"), -EBUSY);
    CHECK_INT(op.err.retry, ERR_RETRY_SAFE);
    CHECK_INT(op.err.retry_after_ms, 250);
    CHECK_STR(op.err.text, "stat a/x: injected EBUSY");
    store_close(s);
    s = faulty("op=stat,after=2,errno=5");
    for (unsigned i = 1; i <= 5; i++)
        CHECK_INT(do_stat(s, &op, "a/x"), i > 2 ? -EIO : 0);
    CHECK_INT(op.err.retry, ERR_RETRY_NEVER);
    store_close(s);
}

static void test_filters(void)
{
    struct op op;
    char buf[16];
    struct store *s = faulty(" op = read , errno = EACCES ; key=b/**,errno=ENOSPC ;; ");
    CHECK_INT(do_stat(s, &op, "a/x"), 0);
    CHECK_INT(do_read(s, &op, buf, 10), -EACCES);
    CHECK_INT(do_stat(s, &op, "b/y/z"), -ENOSPC);
    CHECK_INT(do_stat(s, &op, "c"), -ENOENT);
    store_close(s);
}

static void test_truncate(void)
{
    struct op op;
    char buf[16] = "";
    struct store *s = faulty("op=read,nth=1,truncate=4");
    CHECK_INT(do_read(s, &op, buf, 10), -EIO);
    CHECK_INT(op.err.retry, ERR_RETRY_SAFE);
    CHECK(memcmp(buf, "0123\0", 5) == 0);
    CHECK_INT(do_read(s, &op, buf, 10), 10);
    store_close(s);
}

static void test_version_and_latency(void)
{
    struct op op;
    struct attr a = ATTR_INIT;
    struct store *s = faulty("op=stat,version=another; latency=30ms,op=stat");
    op_init(&op, "t", 0);
    uint64_t start = clock_now_ns();
    CHECK_INT(store_stat(s, &op, "a/x", &a), 0);
    CHECK(clock_now_ns() - start >= 29 * NS_PER_MS);
    CHECK_STR(a.version, "another");
    attr_done(&a);
    op_init(&op, "t", 5);
    CHECK_INT(store_stat(s, &op, "a/x", &a), -ETIMEDOUT); /* the wait honours the deadline */
    store_close(s);
}

static void test_lost_answer(void)
{
    struct op op;
    struct store *s =
        faulty("op=remove,nth=1,errno=EIO,lost=yes; op=read,lost=yes,errno=EIO,retry=safe");
    char buf[16];
    CHECK_INT(do_read(s, &op, buf, 10), -EIO);
    CHECK_INT(op.err.retry, ERR_RETRY_SAFE);
    op_init(&op, "t", 0);
    CHECK_INT(store_remove(s, &op, "a/x", NULL), -EIO);
    CHECK_INT(op.err.retry, ERR_RETRY_UNKNOWN);
    CHECK_INT(do_stat(s, &op, "a/x"), -ENOENT); /* it was done */
    store_close(s);
}

static void test_refused(void)
{
    static const char *const bad[] = {
        "op=raed",    "nth=0",    "every=x",     "errno=ENOTHING", "retry=perhaps", "latency=soon",
        "truncate=a", "lost=yes", "colour=blue", "read",           "key=a,key=b"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct err err = ERR_INIT;
        struct conf *c = NULL;
        struct store *s = NULL;
        CLEANUP_FREE char *text =
            xasprintf("[store t]\nbackend = memory\nfault = op=stat; %s\n", bad[i]);
        CHECK_INT(conf_parse("t.conf", text, &err, &c), 0);
        CHECK_INT(registry_open(c, conf_find(c, "store", "t"), NULL, &err, &s), -EINVAL);
        CHECK(strncmp(err.text, "t.conf:3: fault: ", 17) == 0);
        conf_free(c);
    }
}

static void test_names(void)
{
    for (unsigned i = STORE_OP_NONE + 1; i < STORE_OP_COUNT; i++)
        CHECK_INT(store_op_parse(store_op_name((enum store_op)i)), i);
    CHECK_INT(store_op_parse("none"), STORE_OP_NONE);
    CHECK_STR(errno_name(0), "ok");
    CHECK_STR(errno_name(ENOENT), "ENOENT");
    CHECK_STR(errno_name(99999), "other");
    CHECK(errno_index(99999) < ERRNO_NAMES && errno_index(EIO) < ERRNO_NAMES);
    CHECK_INT(errno_parse("ESTALE"), ESTALE);
    CHECK_INT(errno_parse("ok"), 0);
    CHECK_INT(errno_parse(""), 0);
}

int main(void)
{
    RUN(test_counts);
    RUN(test_filters);
    RUN(test_truncate);
    RUN(test_version_and_latency);
    RUN(test_lost_answer);
    RUN(test_refused);
    RUN(test_names);
    return t_done();
}
