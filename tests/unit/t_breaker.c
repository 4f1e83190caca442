/* SPDX-License-Identifier: MIT
 * t_breaker.c: the breaker around a store that a test takes away and brings back. */
#include "backends/registry.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "tests/unit/t.h"

#include <stdatomic.h>

struct fake {
    struct store store;
    atomic_int answer; /* 0, or the -errno of everything */
    atomic_int status; /* with it: HTTP status of the error */
    atomic_uint calls, probes;
};

static int answer(struct fake *f, struct op *op)
{
    int r = atomic_load(&f->answer);
    if (r < 0) {
        err_set(&op->err, -r, "port 9 refuses");
        op->err.retry = ERR_RETRY_SAFE;
        op->err.status = atomic_load(&f->status);
    }
    return r;
}

static int fake_stat(struct store *s, struct op *op, const char *key, struct attr *ret)
{
    struct fake *f = (struct fake *)s;
    (void)key;
    atomic_fetch_add(&f->calls, 1);
    int r = answer(f, op);
    if (r == 0)
        ret->kind = ATTR_FILE;
    return r;
}

static int fake_list(struct store *s, struct op *op, const struct list_query *q,
                     struct list_page *ret)
{
    (void)q, (void)ret;
    return answer((struct fake *)s, op);
}

static int fake_read(struct store *s, struct op *op, const struct read_req *req,
                     struct read_res *ret)
{
    (void)req, (void)ret;
    return answer((struct fake *)s, op);
}

static int fake_probe(struct store *s, struct op *op, struct buf *ret_text)
{
    struct fake *f = (struct fake *)s;
    (void)ret_text;
    atomic_fetch_add(&f->probes, 1);
    return answer(f, op);
}

static int fake_sign(struct store *s, struct op *op, const struct sign_req *req, struct buf *ret)
{
    (void)s, (void)op, (void)req;
    buf_adds(ret, "signed");
    return 0;
}

static void fake_close(struct store *s)
{
    (void)s; /* on the test's stack */
}

static const struct store_class fake_class = {.abi = STORE_ABI,
                                              .name = "fake",
                                              .close = fake_close,
                                              .stat = fake_stat,
                                              .list = fake_list,
                                              .read = fake_read,
                                              .probe = fake_probe,
                                              .sign = fake_sign};

static struct store *around(struct fake *f, unsigned first_ms, struct stats *stats)
{
    struct breaker_options o = {.first_ms = first_ms, .max_ms = 4 * first_ms, .probe_ms = 1000};
    *f = (struct fake){
        .store = {.cls = &fake_class, .key = xstrdup("k"), .caps = CAP_WRITE | CAP_SIGN}};
    return store_wrap_breaker(&f->store, &o, stats);
}

static int stat_once(struct store *s, struct err *ret_err)
{
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    struct op op;
    op_init(&op, "stat", 0);
    int r = store_stat(s, &op, "x", &a);
    if (ret_err)
        *ret_err = op.err;
    return r;
}

static bool soon_up(struct store *s)
{
    struct store_outage out;
    for (int i = 0; i < 6000 && store_outage(s, &out); i++)
        clock_sleep_ms(10);
    return !store_outage(s, &out);
}

/* One failure is paid for; the others are refused without asking. */
static void refuses_at_once(void)
{
    struct fake f;
    struct stats *stats = stats_new();
    struct store *s = around(&f, 60000, stats);
    struct store_outage out;
    struct err err;
    CHECK_INT(stat_once(s, NULL), 0);
    CHECK(!store_outage(s, &out));
    CHECK_INT(stats_sum(stats, "quayfs_backend_up", "key", "k"), 1);
    atomic_store(&f.answer, -EHOSTUNREACH);
    CHECK_INT(stat_once(s, NULL), -EHOSTUNREACH);
    CHECK_INT(atomic_load(&f.calls), 2);
    for (int i = 0; i < 50; i++)
        CHECK_INT(stat_once(s, &err), -EHOSTUNREACH);
    CHECK_INT(atomic_load(&f.calls), 2);
    CHECK(strstr(err.text, "port 9 refuses") && strstr(err.text, "away"));
    CHECK_INT(err.retry, ERR_RETRY_SAFE);
    CHECK(store_outage(s, &out) && out.code == EHOSTUNREACH && out.since.tv_sec > 0);
    CHECK_STR(out.text, "port 9 refuses");
    CHECK_INT(stats_sum(stats, "quayfs_backend_up", "key", "k"), 0);
    store_close(s);
    stats_free(stats);
}

static void note_recovery(void *arg)
{
    atomic_fetch_add((atomic_int *)arg, 1);
}

static void probes_bring_it_back(void)
{
    struct fake f;
    atomic_int recovered = 0;
    struct store *s = around(&f, 5, NULL);
    store_on_recovery(s, note_recovery, &recovered);
    for (int round = 1; round <= 3; round++) {
        atomic_store(&f.answer, -EHOSTUNREACH);
        CHECK_INT(stat_once(s, NULL), -EHOSTUNREACH);
        unsigned before = atomic_load(&f.probes);
        for (int i = 0; i < 6000 && atomic_load(&f.probes) < before + 2; i++)
            clock_sleep_ms(10);
        CHECK(atomic_load(&f.probes) >= before + 2);
        atomic_store(&f.answer, 0);
        CHECK(soon_up(s));
        CHECK_INT(stat_once(s, NULL), 0);
        for (int i = 0; i < 6000 && atomic_load(&recovered) < round; i++)
            clock_sleep_ms(10);
        CHECK_INT(atomic_load(&recovered), round);
    }
    store_close(s);
}

/* The next scheduled probe is far away, but who needs the store finds it. */
static void the_first_call_finds_it_again(void)
{
    struct fake f;
    struct store *s = around(&f, 60000, NULL);
    atomic_store(&f.answer, -EHOSTUNREACH);
    CHECK_INT(stat_once(s, NULL), -EHOSTUNREACH);
    atomic_store(&f.answer, 0);
    int r = -1;
    for (int i = 0; i < 6000 && (r = stat_once(s, NULL)) < 0; i++)
        clock_sleep_ms(10);
    CHECK_INT(r, 0);
    CHECK_INT(atomic_load(&f.probes), 1);
    store_close(s);
}

/* A call without an answer: the others go on while a probe looks, which opens it or does not. */
static void a_timeout_is_looked_into(void)
{
    struct fake f;
    struct store_outage out;
    struct store *s = around(&f, 5, NULL);
    atomic_store(&f.answer, -ETIMEDOUT);
    CHECK_INT(stat_once(s, NULL), -ETIMEDOUT);
    for (int i = 0; i < 6000 && !store_outage(s, &out); i++)
        clock_sleep_ms(10);
    CHECK(store_outage(s, &out) && out.code == ETIMEDOUT);
    CHECK_INT(stat_once(s, NULL), -EHOSTUNREACH);
    atomic_store(&f.answer, 0);
    CHECK(soon_up(s));
    store_close(s);
}

static void what_the_store_says_is_passed_on(void)
{
    struct fake f;
    struct store_outage out;
    struct store *s = around(&f, 5, NULL);
    static const int codes[] = {-ENOENT, -EACCES, -EIO, -EBUSY, -EINTR};
    atomic_store(&f.status, 500);
    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        atomic_store(&f.answer, codes[i]);
        for (int n = 0; n < 3; n++)
            CHECK_INT(stat_once(s, NULL), codes[i]);
        CHECK(!store_outage(s, &out));
    }
    CHECK_INT(atomic_load(&f.probes), 0);
    store_close(s);
}

static void what_needs_no_store_goes_on(void)
{
    struct fake f;
    struct store *s = around(&f, 60000, NULL);
    CLEANUP_BUF struct buf url = BUF_INIT;
    struct sign_req req = {.key = "x", .expires_s = 60};
    struct store_space space;
    struct op op;
    atomic_store(&f.answer, -EHOSTUNREACH);
    CHECK_INT(stat_once(s, NULL), -EHOSTUNREACH);
    op_init(&op, "sign", 0);
    CHECK_INT(store_sign(s, &op, &req, &url), 0);
    CHECK_STR(url.data, "signed");
    CHECK_INT(store_space(s, &op, &space), -ENOTSUP);
    atomic_store(&f.answer, 0);
    CHECK_INT(store_probe(s, &op, &url), 0); /* a person asks: that is an answer, too */
    CHECK(soon_up(s));
    store_close(s);
}

/* Closing ends a prober that waits, and one that is cancelled in the middle. */
static void closes_while_away(void)
{
    for (int i = 0; i < 20; i++) {
        struct fake f;
        struct store *s = around(&f, i % 2 ? 60000 : 1, NULL);
        atomic_store(&f.answer, -EHOSTUNREACH);
        CHECK_INT(stat_once(s, NULL), -EHOSTUNREACH);
        store_close(s);
    }
}

int main(void)
{
    RUN(refuses_at_once);
    RUN(probes_bring_it_back);
    RUN(the_first_call_finds_it_again);
    RUN(a_timeout_is_looked_into);
    RUN(what_the_store_says_is_passed_on);
    RUN(what_needs_no_store_goes_on);
    RUN(closes_while_away);
    return t_done();
}
