/* SPDX-License-Identifier: MIT
 * t_sqltext.c: quoting. */
#include "t.h"

#include "base/buf.h"
#include "loader/drivers.h"
#include "loader/sqltext.h"

#include <errno.h>

static const struct sql_dialect dollar = {.name = "d", .param = '$', .escape_strings = true};
static const struct sql_dialect question = {.name = "q", .param = '?'};

static void test_quoting(void)
{
    struct buf b = BUF_INIT;

    sql_addf(&b, &dollar, "%I %I %L %L %P %T %T %%", "a\"; DROP TABLE x --", "", "it's", "b\\'", 3,
             "s", "t", NULL, "u");
    CHECK_STR(b.data, "\"a\"\"; DROP TABLE x --\" \"\" 'it''s' E'b\\\\''' $3 \"s\".\"t\" \"u\" %");
    buf_reset(&b);
    sql_addf(&b, &question, "%L %P", "b\\'", 3);
    CHECK_STR(b.data, "'b\\''' ?3");
    buf_done(&b);
}

static void check_split(const char *text, const char *schema, const char *name)
{
    char *s = NULL, *n = NULL;
    struct err e = ERR_INIT;

    CHECK_INT(sql_split_table(text, &e, &s, &n), 0);
    if (schema)
        CHECK_STR(s, schema);
    else
        CHECK(!s);
    CHECK_STR(n, name);
    free(s);
    free(n);
}

static void test_split(void)
{
    static const char *const bad[] = {"",    ".",    "a.",   ".a",    "a.b.c",
                                      "\"a", "a\"b", "\"\"", "\"a\"b"};
    char *s = NULL, *n = NULL;

    check_split("t", NULL, "t");
    check_split("s.t", "s", "t");
    check_split("\"s.x\".t", "s.x", "t");
    check_split("\"a\"\"b\"", NULL, "a\"b");
    check_split("My Table", NULL, "My Table");
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        CHECK_INT(sql_split_table(bad[i], NULL, &s, &n), -EINVAL);
    CHECK(!s && !n);
}

static void test_statements(void)
{
    struct db_table t = {.schema = xstrdup("s"), .name = xstrdup("t")};
    struct buf b = BUF_INIT;
    const struct sql_dialect *d = db_sqlite_class.dialect;

    (void)db_table_add(&t, "k", DB_INTEGER);
    (void)db_table_add(&t, "v", DB_TEXT);
    t.columns[0].not_null = true;
    sql_create_table(&b, d, &t);
    CHECK_STR(b.data, "CREATE TABLE \"s\".\"t\" (\"k\" INTEGER NOT NULL, \"v\" TEXT)");
    const struct db_column *columns[] = {&t.columns[0], &t.columns[1]};
    const char *key[] = {"k", "v"};
    struct db_load load = {.table = &t, .columns = columns, .n_columns = 2, .key = key, .n_key = 1};
    buf_reset(&b);
    sql_insert(&b, d, &load);
    CHECK_STR(
        b.data,
        "INSERT INTO \"s\".\"t\" (\"k\", \"v\") VALUES (?1, ?2) ON CONFLICT (\"k\") DO UPDATE "
        "SET \"v\" = excluded.\"v\"");
    load.n_key = 2;
    buf_reset(&b);
    sql_on_conflict(&b, d, &load);
    CHECK_STR(b.data, " ON CONFLICT (\"k\", \"v\") DO NOTHING");
    struct db_csv csv = {.delimiter = '\t', .quote = '\'', .escape = '\\', .null = "\\N"};
    load.csv = &csv;
    buf_reset(&b);
    sql_copy_in(&b, &dollar, "s", "t", &load);
    CHECK_STR(b.data,
              "COPY \"s\".\"t\" (\"k\", \"v\") FROM STDIN (FORMAT csv, DELIMITER '\t', QUOTE '''', "
              "ESCAPE E'\\\\', NULL E'\\\\N')");
    buf_done(&b);
    db_table_done(&t);
}

int main(void)
{
    RUN(test_quoting);
    RUN(test_split);
    RUN(test_statements);
    return t_done();
}
