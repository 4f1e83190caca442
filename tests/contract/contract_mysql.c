/* SPDX-License-Identifier: MIT
 * contract_mysql.c: the suite over backend = mysql, against the server of QUAY_MYSQL_PORT (on 127.0.0.1), QUAY_MYSQL_USER,
 * QUAY_MYSQL_PASSWORD and QUAY_MYSQL_DB, which is empty. Without them it fails: pytest runs it with a server. */
#include "tests/contract/suite.h"

static const char *need(const char *name)
{
    const char *v = getenv(name);
    if (!v || !*v) {
        fprintf(stderr, "%s is not set\n", name);
        exit(1);
    }
    return v;
}

static char *section(const char *more)
{
    return xasprintf("[store t]\nbackend = mysql\nhost = 127.0.0.1\nport = %s\nuser = %s\ndbname = %s\n%s%s%s%s",
                     need("QUAY_MYSQL_PORT"), need("QUAY_MYSQL_USER"), need("QUAY_MYSQL_DB"),
                     strstr(more, "password") ? "" : "password = ",
                     strstr(more, "password") ? "" : need("QUAY_MYSQL_PASSWORD"), "\n", more);
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
    run_suite("mysql", "");
}

static void with_trouble(void)
{
    run_suite("mysql, fault", "table = Other_Table\nretries = 12\nretry_delay = 1ms\nmax_connections = 3\n"
                                 "fault = every=10,errno=EIO,retry=safe\n");
}

static void refusals(void)
{
    CLEANUP_FREE char *text = section("table = ro\n"), *ro = section("table = ro\nread_only = yes\n");
    struct suite suite = {.store = open_store(text, NULL), .label = "mysql, readonly"}, *s = &suite;
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
    struct suite suite = {.store = open_store(text, NULL), .label = "mysql"}, *s = &suite;
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
