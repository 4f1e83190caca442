/* SPDX-License-Identifier: MIT
 * contract_postgres.c: the suite over backend = postgres, against the server of QUAY_PG_DSN (a string or URI of libpq
 * to an empty database; PGPASSWORD may hold the password). Without it it fails: pytest runs it with a server. */
#include "tests/contract/suite.h"

static char *section(const char *more)
{
    const char *dsn = getenv("QUAY_PG_DSN");
    if (!dsn || !*dsn) {
        fprintf(stderr, "QUAY_PG_DSN is not set\n");
        exit(1);
    }
    return xasprintf("[store t]\nbackend = postgres\ndsn = %s\n%s", dsn, more);
}

static void run_suite(const char *label, const char *more)
{
    CLEANUP_FREE char *text = section(more);
    struct suite s;
    suite_init(&s, label, open_store(text, NULL));
    suite_run(&s);
    suite_done(&s);
}

static void whole(void)
{
    run_suite("postgres", "");
}

static void with_trouble(void)
{
    run_suite("postgres, fault", "table = Other_Table\nretries = 12\nretry_delay = 1ms\nmax_connections = 3\n"
                                 "fault = every=10,errno=EIO,retry=safe\n");
}

static void refusals(void)
{
    CLEANUP_FREE char *text = section("table = ro\n"), *ro = section("table = ro\nread_only = yes\n");
    struct suite suite = {.store = open_store(text, NULL), .label = "postgres, readonly"}, *s = &suite;
    op_init(&s->op, "suite", 0);
    put_text(s, "object", "content", NULL);
    suite_done(s);
    s->store = open_store(ro, NULL);
    suite_refusals(s, "object", "content");
    suite_done(s);
}

static void wrong_password(void)
{
    CLEANUP_FREE char *text = section("password = not-the-password\nretries = 0\n");
    struct suite suite = {.store = open_store(text, NULL), .label = "postgres"}, *s = &suite;
    struct attr a = ATTR_INIT;
    op_init(&s->op, "suite", 0);
    FAILS(store_stat(s->store, &s->op, "x", &a), EACCES);
    CHECK(!strstr(s->op.err.text, "not-the-password"));
    suite_done(s);
}

int main(void)
{
    RUN(whole);
    RUN(with_trouble);
    RUN(refusals);
    RUN(wrong_password);
    return t_done();
}
