/* SPDX-License-Identifier: MIT
 * contract_wrappers.c: a wrapped store keeps the contract: the suite through each wrapper, through
 * a retry wrapper over a store that fails every tenth time, and the refusals of the read-only one.
 */
#include "tests/contract/suite.h"

#include "backends/local/local.h"
#include "backends/memory/memory.h"

/* A store of a class without any wrapper. */
static struct store *bare(const struct store_class *cls, const char *more)
{
    struct err err = ERR_INIT;
    struct conf *c = conf_new("test");
    struct conf_section *section = conf_add_section(c, "store", "t");
    struct store *s = NULL;
    if (more)
        conf_set(section, "base_path", more);
    if (cls->open(section, NULL, &err, &s) < 0) {
        fprintf(stderr, "%s\n", err_text(&err));
        exit(1);
    }
    conf_free(c);
    s->key = xstrdup("t");
    return s;
}

static struct store *with_fault(struct store *next, const char *spec)
{
    struct err err = ERR_INIT;
    struct store *s = NULL;
    if (store_wrap_fault(next, spec, &err, &s) < 0) {
        fprintf(stderr, "%s\n", err_text(&err));
        exit(1);
    }
    return s;
}

static struct store *with_retry(struct store *next, unsigned retries)
{
    struct retry_options o = {
        .retries = retries, .delay_ms = 1, .max_delay_ms = 4, .timeout_ms = 30000};
    return store_wrap_retry(next, &o);
}

static struct store *with_breaker(struct store *next)
{
    struct breaker_options o = {.first_ms = 1, .max_ms = 4, .probe_ms = 1000};
    return store_wrap_breaker(next, &o, NULL);
}

static void run_suite(const char *label, struct store *store)
{
    struct suite s;
    suite_init(&s, label, store);
    suite_run(&s);
    suite_done(&s);
}

static void plain_wrappers(void)
{
    run_suite("memory", bare(&memory_class, NULL));
    run_suite("retry", with_retry(bare(&memory_class, NULL), 3));
    run_suite("breaker", with_breaker(bare(&memory_class, NULL)));
    run_suite("fault, none", with_fault(bare(&memory_class, NULL), ""));
}

static void metrics(void)
{
    struct stats *stats = stats_new();
    struct store *store = store_wrap_metrics(bare(&memory_class, NULL), stats);
    struct store_health health = {0};
    struct suite s;
    suite_init(&s, "metrics", store);
    suite_run(&s);
    CHECK(stats_sum(stats, "quayfs_backend_requests_total", "op", "put") > 1000);
    CHECK(stats_sum(stats, "quayfs_backend_requests_total", "status", "ENOENT") > 10);
    CHECK(stats_sum(stats, "quayfs_backend_requests_total", "key", "other") == 0);
    CHECK(stats_sum(stats, "quayfs_backend_written_bytes_total", "key", "t") > 20 << 20);
    CHECK(stats_sum(stats, "quayfs_backend_read_bytes_total", NULL, NULL) > 20 << 20);
    CHECK_INT(stats_sum(stats, "quayfs_backend_inflight", NULL, NULL), 0);
    CHECK(store_health(store, &health));
    CHECK(health.last_ok.tv_sec > 0 && health.errors_in_row == 0);
    suite_done(&s);
    stats_free(stats);
}

/* Failures that a store may have at any time, and the retry wrapper hides wherever they fall. (No silence: of that it
 * takes two attempts only, and two rules could meet in one request.) */
static const char *const trouble =
    "every=10,errno=EIO,retry=safe; op=read,every=7,truncate=5; "
    "op=stat,every=9,errno=EBUSY,retry=safe;"
    "op=remove,key=*/dirs/**,every=3,errno=EIO,lost=yes; "
    "op=upload_part,every=4,errno=ECONNRESET,lost=yes;"
    "op=upload_abort,every=2,errno=ECONNRESET,lost=yes; op=list,every=5,errno=EIO,lost=yes";

static void trouble_is_hidden(void)
{
    run_suite("retry, fault", with_retry(with_fault(bare(&memory_class, NULL), trouble), 12));
    run_suite("breaker, retry, fault",
              with_breaker(with_retry(with_fault(bare(&memory_class, NULL), trouble), 12)));
    CLEANUP_FREE char *dir = temp_dir();
    struct stats *stats = stats_new();
    struct store *store = with_retry(with_fault(bare(&local_class, dir), trouble), 12);
    run_suite("metrics, retry, fault, local", store_wrap_metrics(store, stats));
    stats_free(stats);
    temp_dir_remove(dir);
}

static void refusals(void)
{
    struct store *store = bare(&memory_class, NULL);
    struct suite suite = {.store = store, .label = "readonly"}, *s = &suite;
    op_init(&s->op, "suite", 0);
    put_text(s, "object", "content", NULL);
    s->store = store_wrap_readonly(store);
    suite_refusals(s, "object", "content");
    suite_done(s);

    CLEANUP_FREE char *dir = temp_dir(), *file = xasprintf("%s/object", dir);
    FILE *f = fopen(file, "w");
    CHECK(f && fputs("content", f) >= 0 && fclose(f) == 0);
    CLEANUP_FREE char *text =
        xasprintf("[store t]\nbackend = local\nbase_path = %s\nread_only = yes\n", dir);
    s->store = open_store(text, NULL);
    suite_refusals(s, "object", "content");
    suite_done(s);
    temp_dir_remove(dir);
}

int main(void)
{
    RUN(plain_wrappers);
    RUN(metrics);
    RUN(trouble_is_hidden);
    RUN(refusals);
    return t_done();
}
