/* SPDX-License-Identifier: MIT
 * t_ledger_sqlite.c: the ledger and the sqlite driver's own behaviour. */
#include "t.h"
#include "loader_t.h"

#include "loader/ledger.h"
#include "loader/sqltext.h"

static struct database *db, *other;

static void test_check(void)
{
    struct conf *c = conf_new("x.conf");
    struct conf_section *s = conf_add_section(c, "database", "d");
    const struct database_class *cls = NULL;
    struct err e = ERR_INIT;

    CHECK_INT(database_check(s, &e, &cls), -EINVAL);
    CHECK(strstr(e.text, "needs driver"));
    conf_set(s, "driver", "sqlte");
    CHECK_INT(database_check(s, &e, &cls), -EINVAL);
    CHECK(strstr(e.text, "did you mean 'sqlite'"));
    conf_set(s, "driver", "sqlite");
    CHECK_INT(database_check(s, &e, &cls), 0);
    CHECK_STR(cls->name, "sqlite");
    struct database *none = NULL;
    CHECK_INT(database_open(s, &e, &none), -EINVAL); /* no path */
    conf_set(s, "host", "h");
    CHECK_INT(database_open(s, &e, &none), -EINVAL);
    conf_free(c);
}

static void test_describe(void)
{
    struct db_table t = DB_TABLE_INIT;

    t_sql(db, "CREATE TABLE d (id INTEGER PRIMARY KEY, a VARCHAR(10) NOT NULL, b REAL DEFAULT 1,"
              " c BOOLEAN, g AS (a || 'x'), n NUMERIC, t DATETIME, o, x BLOB)");
    CHECK_INT(database_describe(db, &t_op, "D", &t), 0);
    CHECK(t.exists);
    CHECK_STR(t.schema, "main");
    CHECK_STR(t.name, "d");
    CHECK_INT(t.n_columns, 9);
    CHECK(t.columns[0].has_default && !t.columns[0].not_null && t.columns[0].type == DB_INTEGER);
    CHECK(t.columns[1].not_null && !t.columns[1].has_default && t.columns[1].type == DB_TEXT);
    CHECK(t.columns[2].has_default && t.columns[2].type == DB_DOUBLE);
    CHECK(t.columns[3].type == DB_BOOLEAN && t.columns[4].generated);
    CHECK(t.columns[5].type == DB_NUMERIC && t.columns[6].type == DB_TIMESTAMP);
    CHECK(t.columns[7].type == DB_OTHER && t.columns[8].type == DB_BYTES);
    CHECK(db_table_column(&t, "ID") == &t.columns[0] && !db_table_column(&t, "zz"));
    db_table_done(&t);
    CHECK_INT(database_describe(db, &t_op, "nothing", &t), 0);
    CHECK(!t.exists);
    CHECK_STR(t.name, "nothing");
    db_table_done(&t);
}

static struct ledger_claim claim_for(struct db_table *t, const char *version, const char *run)
{
    return (struct ledger_claim){
        .table = t, .path = "k/a.csv", .version = version, .run = run, .job = "j", .size = 5};
}

static enum ledger_found claim(const struct ledger_claim *c, char **before)
{
    enum ledger_found found = 0;

    *before = NULL;
    CHECK_INT(ledger_claim(db, &t_op, c, &found, before), 0);
    return found;
}

static void test_ledger(void)
{
    struct db_table t = {.schema = xstrdup("main"), .name = xstrdup("t")};
    struct ledger_claim a = claim_for(&t, "v1", "r1"), b = claim_for(&t, "v2", "r2");
    struct ledger_counts n = {3, 2, 1};
    char *before = NULL;
    bool done = false;

    CHECK_INT(ledger_prepare(db, &t_op, &t), 0);
    CHECK_INT(ledger_prepare(db, &t_op, &t), 0);
    CHECK_INT(database_begin(db, &t_op, DB_BEGIN_WRITE), 0);
    CHECK_INT(claim(&a, &before), LEDGER_NEW);
    CHECK_INT(ledger_finish(db, &t_op, &a, &n), 0);
    CHECK_INT(database_commit(db, &t_op), 0);
    CHECK_VALUE(
        db,
        "SELECT target||path||version||run||rows_read||rows_loaded||rows_rejected FROM _quay_loads",
        "main.tk/a.csvv1r1321");
    CHECK_INT(ledger_settle(db, &t_op, &a, &done), 0);
    CHECK(done);
    CHECK_INT(ledger_settle(db, &t_op, &b, &done), 0);
    CHECK(!done);
    CHECK_INT(database_begin(db, &t_op, DB_BEGIN_WRITE), 0);
    CHECK_INT(claim(&a, &before), LEDGER_LOADED);
    CHECK_INT(claim(&b, &before), LEDGER_CHANGED);
    CHECK(strncmp(before, "version v1 by run r1 at ", 24) == 0);
    free(before);
    a.force = true;
    CHECK_INT(claim(&a, &before), LEDGER_CHANGED);
    free(before);
    a.clear = true;
    CHECK_INT(claim(&a, &before), LEDGER_NEW);
    database_abort(db);
    CHECK_VALUE(db, "SELECT count(*) FROM _quay_loads", "1");
    db_table_done(&t);
}

/* Made by a program that keeps other rows: nothing is loaded past it. */
static void test_other_form(void)
{
    struct db_table t = {.schema = xstrdup("main"), .name = xstrdup("t")};
    t_sql(db, "ALTER TABLE _quay_loads ADD COLUMN note TEXT"); /* may be left out */
    CHECK_INT(ledger_prepare(db, &t_op, &t), 0);
    t_sql(db, "ALTER TABLE _quay_loads RENAME COLUMN version TO versions");
    CHECK_INT(ledger_prepare(db, &t_op, &t), -EPROTO);
    CHECK(strstr(t_op.err.text, "main._quay_loads has no column version: it was made by another version"));
    t_sql(db, "ALTER TABLE _quay_loads RENAME COLUMN versions TO version");
    CHECK_INT(ledger_prepare(db, &t_op, &t), 0);
    t_sql(db, "ALTER TABLE _quay_loads RENAME TO loads");
    t_sql(db, "CREATE TABLE _quay_loads (target, path, version, run, job, size, rows_read, rows_loaded, rows_rejected,"
              " loaded_at, part TEXT NOT NULL)");
    CHECK_INT(ledger_prepare(db, &t_op, &t), -EPROTO);
    CHECK(strstr(t_op.err.text, "wants a value for the unknown column part"));
    t_sql(db, "DROP TABLE _quay_loads");
    t_sql(db, "ALTER TABLE loads RENAME TO _quay_loads");
    db_table_done(&t);
}

/* Somebody else writes: the wait ends when the op is cancelled, the error is transient. */
static void test_busy(void)
{
    struct op op;

    CHECK_INT(database_begin(db, &t_op, DB_BEGIN_WRITE), 0);
    op_init(&op, "w", 200);
    CHECK_INT(database_connect(other, &t_op), 0);
    CHECK_INT(database_begin(other, &op, DB_BEGIN_WRITE), -ETIMEDOUT);
    database_abort(db);
    CHECK_INT(database_begin(other, &t_op, DB_BEGIN_WRITE), 0);
    database_abort(other);
}

static void test_cancel(void)
{
    struct op op;

    op_init(&op, "q", 300);
    CHECK_INT(database_exec(db, &op,
                            "WITH RECURSIVE x(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM x)"
                            " SELECT max(n) FROM x",
                            NULL, 0, NULL),
              -ETIMEDOUT);
}

static void test_errors(void)
{
    CHECK_INT(database_exec(db, &t_op, "SELECT * FROM nowhere", NULL, 0, NULL), -ENOENT);
    CHECK_INT(database_exec(db, &t_op, "SELEC", NULL, 0, NULL), -EINVAL);
    t_sql(db, "CREATE TABLE u (a INTEGER UNIQUE NOT NULL)");
    t_sql(db, "INSERT INTO u VALUES (1)");
    CHECK_INT(database_exec(db, &t_op, "INSERT INTO u VALUES (1)", NULL, 0, NULL), -EBADMSG);
    CHECK_STR(t_op.err.remote, "SQLITE_CONSTRAINT_UNIQUE");
    CHECK_INT(t_op.err.status, 1);
    CHECK_INT(database_exec(db, &t_op, "INSERT INTO u VALUES (NULL)", NULL, 0, NULL), -EBADMSG);
    CHECK_STR(db->bad.column, "a");
    char *path = xasprintf("%s/not.db", t_dir);
    FILE *f = fopen(path, "w");
    fprintf(f, "%01000d", 5);
    (void)fclose(f);
    struct conf *conf;
    struct database *bad = t_database("sqlite", "path", path, &conf);
    CHECK_INT(database_begin(bad, &t_op, DB_BEGIN_WRITE), -EUCLEAN);
    database_close(bad);
    conf_free(conf);
    free(path);
}

/* An export from a file that is not there does not make it. */
static void test_absent(void)
{
    char *path = xasprintf("%s/absent.db", t_dir), *text = NULL;
    struct conf *conf;
    struct database *gone = t_database("sqlite", "path", path, &conf);
    struct db_table t = DB_TABLE_INIT;

    CHECK_INT(database_connect(gone, &t_op), 0);
    CHECK_INT(database_begin(gone, &t_op, DB_BEGIN_SNAPSHOT), -ENOENT);
    CHECK_INT(database_describe(gone, &t_op, "t", &t), 0);
    CHECK(!t.exists);
    CHECK_INT(database_probe(gone, &t_op, &text), 0);
    CHECK(strstr(text, "not there yet"));
    CHECK(access(path, F_OK) != 0);
    free(text);
    db_table_done(&t);
    database_close(gone);
    conf_free(conf);
    free(path);
}

int main(void)
{
    struct conf *conf, *conf2;
    t_begin();
    char *path = xasprintf("%s/l.db", t_dir);
    db = t_database("sqlite", "path", path, &conf);
    other = t_database("sqlite", "path", path, &conf2);
    RUN(test_check);
    RUN(test_describe);
    RUN(test_ledger);
    RUN(test_other_form);
    RUN(test_busy);
    RUN(test_cancel);
    RUN(test_errors);
    RUN(test_absent);
    database_close(db);
    database_close(other);
    conf_free(conf);
    conf_free(conf2);
    free(path);
    t_end();
    return t_done();
}
