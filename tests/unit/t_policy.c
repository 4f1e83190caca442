/* SPDX-License-Identifier: MIT
 * t_policy.c: [loader] allow. */
#include "loader/policy.h"

#include "tests/unit/t.h"

#include <errno.h>

static struct policy *parse(const char *text)
{
    struct err err = ERR_INIT;
    struct policy *p = NULL;

    if (policy_parse(text, &err, &p) < 0) {
        fprintf(stderr, "%s\n", err_text(&err));
        exit(1);
    }
    return p;
}

static int ask(const struct policy *p, const char *db, const char *table, enum job_mode mode,
               const char *path)
{
    char d[64], t[64];
    struct job_op op = {.direction = JOB_IMPORT, .db = d, .table = t, .mode = mode};

    (void)snprintf(d, sizeof(d), "%s", db);
    (void)snprintf(t, sizeof(t), "%s", table);
    return policy_check(p, &op, path, NULL);
}

static int ask_export(const struct policy *p, const char *table, const char *query, const char *path)
{
    char d[] = "dw", t[64], q[64];
    struct job_op op = {.direction = JOB_EXPORT, .db = d};

    (void)snprintf(t, sizeof(t), "%s", table ? table : "");
    (void)snprintf(q, sizeof(q), "%s", query ? query : "");
    op.table = table ? t : NULL;
    op.query = query ? q : NULL;
    return policy_check(p, &op, path, NULL);
}

static void test_absent_allows_all(void)
{
    struct policy *p = parse(NULL);

    CHECK_INT(ask(p, "any", "thing", JOB_REPLACE, "x/y"), 0);
    CHECK_INT(ask_export(p, NULL, "select 1", "x/y"), 0);
    policy_free(p);
    p = parse(""); /* given but empty: nothing is allowed */
    CHECK_INT(ask(p, "any", "thing", JOB_APPEND, NULL), -EACCES);
    policy_free(p);
}

static void test_rules(void)
{
    struct policy *p = parse("dw.staging_*:append+replace, dw.orders:append@lake/in/**\n lab "
                             "dw.report:export");

    CHECK_INT(ask(p, "dw", "staging_a", JOB_REPLACE, "any/x"), 0);
    CHECK_INT(ask(p, "dw", "staging_a", JOB_TRUNCATE, "any/x"), -EACCES);
    CHECK_INT(ask(p, "dw", "orders", JOB_APPEND, "lake/in/2026/a.csv"), 0);
    CHECK_INT(ask(p, "dw", "orders", JOB_APPEND, NULL), 0);
    CHECK_INT(ask(p, "dw", "orders", JOB_APPEND, "lake/other/a.csv"), -EACCES);
    CHECK_INT(ask(p, "dw", "public.orders", JOB_APPEND, "lake/in/a.csv"), -EACCES);
    CHECK_INT(ask(p, "dw", "secrets", JOB_APPEND, NULL), -EACCES);
    CHECK_INT(ask(p, "lab", "anything", JOB_CREATE, "x/y"), 0);
    CHECK_INT(ask(p, "lab2", "anything", JOB_CREATE, "x/y"), -EACCES);
    CHECK_INT(ask_export(p, "report", NULL, "lake/out.csv"), 0);
    CHECK_INT(ask_export(p, "orders", NULL, "lake/out.csv"), -EACCES);
    CHECK_INT(ask_export(p, NULL, "select 1", "lake/out.csv"), -EACCES);
    policy_free(p);
}

/* A query names no table, so that a rule about tables must not let one through. */
static void test_query_needs_its_own_rule(void)
{
    struct policy *p = parse("dw.orders:all");

    CHECK_INT(ask_export(p, NULL, "select * from secrets", "lake/x"), -EACCES);
    policy_free(p);
    p = parse("dw:query@lake/out/*");
    CHECK_INT(ask_export(p, NULL, "select 1", "lake/out/a.csv"), 0);
    CHECK_INT(ask_export(p, NULL, "select 1", "lake/in/a.csv"), -EACCES);
    CHECK_INT(ask_export(p, "orders", NULL, "lake/out/a.csv"), -EACCES);
    policy_free(p);
}

static void test_bad_rules(void)
{
    static const char *const texts[] = {":append", "dw.", "dw:", "dw@", "dw:append+", "dw:apend"};
    struct err err = ERR_INIT;
    struct policy *p = NULL;

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        CHECK_INT(policy_parse(texts[i], &err, &p), -EINVAL);
    CHECK(strstr(err_text(&err), "did you mean 'append'") != NULL);
}

int main(void)
{
    RUN(test_absent_allows_all);
    RUN(test_rules);
    RUN(test_query_needs_its_own_rule);
    RUN(test_bad_rules);
    return t_done();
}
