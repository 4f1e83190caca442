/* SPDX-License-Identifier: MIT
 * t_stats.c: handles, sums and the Prometheus text. */
#include "base/stats.h"

#include "tests/unit/t.h"

#include <pthread.h>

static void test_render(void)
{
    struct stats *s = stats_new();
    struct stat_counter *a = stats_counter(s, "hits_total", "Reads \\ served", "key", "lake", NULL);
    struct stat_counter *b =
        stats_counter(s, "hits_total", "ignored", "key", "a\"b\\c\nd", "op", "x", NULL);
    struct stat_counter *g = stats_gauge(s, "bytes", "Bytes", NULL);
    CHECK(a != b);
    CHECK(a == stats_counter(s, "hits_total", "", "key", "lake", NULL));
    stat_add(a, 3);
    stat_add(b, 4);
    stat_set(g, -7);
    CLEANUP_BUF struct buf out = BUF_INIT;
    stats_render(s, &out);
    CHECK_STR(buf_str(&out), "# HELP hits_total Reads \\\\ served\n"
                             "# TYPE hits_total counter\n"
                             "hits_total{key=\"lake\"} 3\n"
                             "hits_total{key=\"a\\\"b\\\\c\\nd\",op=\"x\"} 4\n"
                             "# HELP bytes Bytes\n"
                             "# TYPE bytes gauge\n"
                             "bytes -7\n");
    CHECK_INT(stats_sum(s, "hits_total", NULL, NULL), 7);
    CHECK_INT(stats_sum(s, "hits_total", "key", "lake"), 3);
    CHECK_INT(stats_sum(s, "hits_total", "op", "y"), 0);
    CHECK_INT(stats_sum(s, "nothing", NULL, NULL), 0);
    stats_free(s);
    stats_free(NULL);
}

static void test_histogram(void)
{
    struct stats *s = stats_new();
    struct stat_histogram *h = stats_histogram(s, "wait_seconds", "Wait", "op", "read", NULL);
    stat_observe_ns(h, 1000000);         /* 1 ms: within its bound */
    stat_observe_ns(h, 1000001);         /* in the next */
    stat_observe_ns(h, 100000000000ULL); /* 100 s */
    CLEANUP_BUF struct buf out = BUF_INIT;
    stats_render(s, &out);
    CHECK(strstr(out.data, "wait_seconds_bucket{op=\"read\",le=\"0.001\"} 1\n"));
    CHECK(strstr(out.data, "wait_seconds_bucket{op=\"read\",le=\"0.003\"} 2\n"));
    CHECK(strstr(out.data, "wait_seconds_bucket{op=\"read\",le=\"60\"} 2\n"));
    CHECK(strstr(out.data, "wait_seconds_bucket{op=\"read\",le=\"+Inf\"} 3\n"));
    CHECK(strstr(out.data, "wait_seconds_sum{op=\"read\"} 100.002000\n"));
    CHECK(strstr(out.data, "wait_seconds_count{op=\"read\"} 3\n"));
    CHECK_INT(stats_sum(s, "wait_seconds", "op", "read"), 3);
    stats_free(s);
}

struct seen {
    unsigned n;
    uint64_t buckets[STATS_BUCKETS];
    double seconds;
    int64_t value;
};

static void see(void *arg, const struct stat_sample *x)
{
    struct seen *s = arg;
    s->n++;
    CHECK_STR(stat_label(x, "key"), "lake");
    CHECK_STR(stat_label(x, "nope"), "");
    if (x->buckets)
        memcpy(s->buckets, x->buckets, sizeof(s->buckets));
    else
        s->value = x->value;
    s->seconds += x->seconds;
}

static void test_each(void)
{
    struct stats *s = stats_new();
    struct seen seen = {0};
    stat_add(stats_counter(s, "hits_total", "Hits", "key", "lake", NULL), 5);
    struct stat_histogram *h =
        stats_histogram(s, "wait_seconds", "Wait", "op", "read", "key", "lake", NULL);
    stat_observe_ns(h, 100000);
    stat_observe_ns(h, 400000);
    stat_observe_ns(h, 90000000000ULL);
    stats_each(s, see, &seen);
    CHECK_INT(seen.n, 2);
    CHECK_INT(seen.value, 5);
    CHECK(seen.buckets[0] == 1 && seen.buckets[2] == 1 && seen.buckets[STATS_BUCKETS - 1] == 1);
    CHECK(seen.seconds > 90.0004 && seen.seconds < 90.0006);
    CHECK(stats_bound(0) == 0.0001 && stats_bound(2) == 0.0005 &&
          stats_bound(STATS_BUCKETS - 2) == 60);
    stats_free(s);
}

static void *count(void *arg)
{
    for (int i = 0; i < 2000; i++) {
        char key[8];
        snprintf(key, sizeof(key), "k%d", i % 5);
        stat_add(stats_counter(arg, "n", "N", "key", key, NULL), 1);
        if (i % 500 == 0) {
            CLEANUP_BUF struct buf out = BUF_INIT;
            stats_render(arg, &out);
        }
    }
    return NULL;
}

static void test_threads(void)
{
    struct stats *s = stats_new();
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        CHECK(pthread_create(&threads[i], NULL, count, s) == 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    CHECK_INT(stats_sum(s, "n", NULL, NULL), 8000);
    CHECK_INT(stats_sum(s, "n", "key", "k3"), 1600);
    stats_free(s);
}

int main(void)
{
    RUN(test_render);
    RUN(test_histogram);
    RUN(test_each);
    RUN(test_threads);
    return t_done();
}
