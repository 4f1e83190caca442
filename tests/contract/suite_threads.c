/* SPDX-License-Identifier: MIT
 * suite_threads.c: many threads on one store, and cancelling. */
#include "tests/contract/suite.h"

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#define THREADS 8
#define ROUNDS 25
#define SHARED_MAX 300000

struct worker {
    struct suite *s;
    char prefix[128];
    unsigned number;
    struct op op;
    pthread_t thread;
};

static void must(const struct worker *w, const char *what, int r)
{
    if (r == 0)
        return;
    fprintf(stderr, "thread %u: %s is %d: %s\n", w->number, what, r, err_text(&w->op.err));
    _exit(1); /* the others go on: nothing is taken down under them */
}

/* Objects of this thread alone: each step sees the step before. */
static void private_objects(struct worker *w, unsigned round)
{
    struct store *st = w->s->store;
    char key[200], text[64], buf[64];
    snprintf(key, sizeof(key), "%smine-%u-%u", w->prefix, w->number, round % 5);
    snprintf(text, sizeof(text), "thread %u round %u", w->number, round);
    struct source_mem src = source_mem(text, strlen(text));
    struct put_req put = {.key = key, .src = &src.base};
    CLEANUP_ATTR struct attr a = ATTR_INIT, b = ATTR_INIT;
    must(w, "put", store_put(st, &w->op, &put, &a));
    must(w, "stat", store_stat(st, &w->op, key, &b));
    CHECK_STR(b.version, a.version);
    struct read_req req = {
        .key = key, .version = a.version, .iov = {.iov_base = buf, .iov_len = sizeof(buf)}};
    struct read_res res = READ_RES_INIT;
    must(w, "read", store_read(st, &w->op, &req, &res));
    CHECK_INT(res.length, strlen(text));
    CHECK(memcmp(buf, text, res.length) == 0);
    read_res_done(&res);
    if (round % 5 == 4)
        must(w, "remove", store_remove(st, &w->op, key, NULL));
    if (round % 10 != 9)
        return;
    struct list_query q = {.prefix = w->prefix, .max = 3};
    struct list_page page = LIST_PAGE_INIT;
    must(w, "list", store_list(st, &w->op, &q, &page));
    list_page_done(&page);
}

/* One object that two threads overwrite, each time with one letter: a reader never sees two. */
static void write_shared(struct worker *w, unsigned round)
{
    size_t len = 1000 + (round * 7919 + w->number) % (SHARED_MAX - 1000);
    CLEANUP_FREE char *data = xmalloc(len), *key = xasprintf("%sshared", w->prefix);
    memset(data, 'a' + (char)((round * 2 + w->number) % 26), len);
    struct source_mem src = source_mem(data, len);
    struct put_req put = {.key = key, .src = &src.base};
    struct attr a = ATTR_INIT;
    must(w, "put shared", store_put(w->s->store, &w->op, &put, &a));
    attr_done(&a);
}

static bool is_uniform(const char *data, size_t len)
{
    for (size_t i = 1; i < len; i++)
        if (data[i] != data[0])
            return false;
    return true;
}

static void read_shared(struct worker *w)
{
    CLEANUP_FREE char *buf = xmalloc(SHARED_MAX), *key = xasprintf("%sshared", w->prefix);
    struct read_req req = {.key = key, .iov = {.iov_base = buf, .iov_len = SHARED_MAX}};
    struct read_res res = READ_RES_INIT;
    must(w, "read shared", store_read(w->s->store, &w->op, &req, &res));
    CHECK(res.length >= 1000 && res.length == res.attr.size);
    CHECK(is_uniform(buf, res.length));
    char first = buf[0];
    /* In two pieces under one version: the same letter, or stale. */
    struct read_req more = {.key = key,
                            .version = res.attr.version,
                            .offset = 500,
                            .iov = {.iov_base = buf, .iov_len = SHARED_MAX}};
    struct read_res rest = READ_RES_INIT;
    int r = store_read(w->s->store, &w->op, &more, &rest);
    if (r != -ESTALE) {
        must(w, "read on", r);
        CHECK_INT(rest.length, res.length - 500);
        CHECK(buf[0] == first && is_uniform(buf, rest.length));
    }
    read_res_done(&rest);
    read_res_done(&res);
}

static void *work(void *arg)
{
    struct worker *w = arg;
    op_init(&w->op, "worker", 0);
    for (unsigned i = 0; i < ROUNDS; i++) {
        if (w->number < 2)
            write_shared(w, i);
        else if (w->number < 5)
            read_shared(w);
        private_objects(w, i);
    }
    return NULL;
}

static void all_at_once(struct suite *s, void *(*run)(void *worker))
{
    struct worker w[THREADS];
    for (unsigned i = 0; i < THREADS; i++) {
        w[i] = (struct worker){.s = s, .number = i};
        snprintf(w[i].prefix, sizeof(w[i].prefix), "%s", s->prefix);
        CHECK(pthread_create(&w[i].thread, NULL, run, &w[i]) == 0);
    }
    for (unsigned i = 0; i < THREADS; i++)
        CHECK(pthread_join(w[i].thread, NULL) == 0);
}

static void many_threads(struct suite *s)
{
    CLEANUP_FREE char *text = xmalloc(2000);
    memset(text, 'z', 1999);
    text[1999] = '\0';
    put_text(s, "shared", text, NULL);
    all_at_once(s, work);
}

/* One object that is put, changed and removed by all at once, also where there is one connection:
 * who waits for the others' change does not hold what they need to make it. Once sftp's put held
 * its connection while it waited, and each deadline passed. */
static void must_or_gone(const struct worker *w, const char *what, int r)
{
    must(w, what, r == -ENOENT || r == -ESTALE || r == -ENOTSUP ? 0 : r);
}

static void *contend(void *arg)
{
    struct worker *w = arg;
    CLEANUP_FREE char *key = xasprintf("%scontended", w->prefix);
    struct attr change = {.known = ATTR_HAS_MODE, .mode = 0600 | w->number};
    for (unsigned i = 0; i < ROUNDS; i++) {
        op_init(&w->op, "worker", 60000);
        struct source_mem src = source_mem("contended", 9);
        struct put_req put = {.key = key, .src = &src.base};
        CLEANUP_ATTR struct attr made = ATTR_INIT, changed = ATTR_INIT;
        must(w, "put contended", store_put(w->s->store, &w->op, &put, &made));
        if (w->number % 2)
            must_or_gone(w, "remove contended", store_remove(w->s->store, &w->op, key, NULL));
        else
            must_or_gone(w, "set_meta contended",
                         store_set_meta(w->s->store, &w->op, key, NULL, &change, &changed));
    }
    return NULL;
}

static void *cancel_soon(void *arg)
{
    clock_sleep_ms(50);
    op_cancel(arg);
    return NULL;
}

/* A transfer under way ends before its time, and leaves nothing. */
static void cancel_a_put(struct suite *s)
{
    struct pattern_source src = pattern_source(16ULL * 1024 * 1024, 1);
    struct put_req put = {.key = K(s, "cancelled"), .src = &src.base};
    struct attr a = ATTR_INIT;
    struct op op;
    pthread_t thread;
    src.sleep_ms = 30;
    op_init(&op, "put", 0);
    CHECK(pthread_create(&thread, NULL, cancel_soon, &op) == 0);
    CHECK_INT(store_put(s->store, &op, &put, &a), -EINTR);
    CHECK_INT(op.err.code, EINTR);
    CHECK(pthread_join(thread, NULL) == 0);
    check_gone(s, "cancelled");
}

/* The source cannot be read: its error comes back, and nothing was stored. */
static int broken_read(const struct source *src, uint64_t off, void *buf, size_t len)
{
    (void)src, (void)off, (void)buf, (void)len;
    return -EIO;
}

static void broken_source(struct suite *s)
{
    struct source src = {.read_at = broken_read, .size = 5000};
    struct put_req put = {.key = K(s, "broken"), .src = &src};
    struct attr a = ATTR_INIT;
    FAILS(store_put(s->store, &s->op, &put, &a), EIO);
    check_gone(s, "broken");
    put_text(s, "kept", "as before", NULL);
    put.key = K(s, "kept");
    FAILS(store_put(s->store, &s->op, &put, &a), EIO);
    check_text(s, "kept", "as before");
}

void suite_threads(struct suite *s)
{
    suite_begin(s, "threads");
    many_threads(s);
    all_at_once(s, contend);
    cancel_a_put(s);
    broken_source(s);
}
