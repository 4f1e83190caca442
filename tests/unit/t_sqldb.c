/* SPDX-License-Identifier: MIT
 * t_sqldb.c: SQLite behind our errors. */
#include "base/sqldb.h"

#include "base/buf.h"
#include "base/clock.h"
#include "tests/unit/t.h"

#include <errno.h>
#include <stdbool.h>
#include <unistd.h>

static char dir[] = "/tmp/t_sqldb.XXXXXX";
static char file[64];
static struct err err;

static struct sqldb *open_db(void)
{
    struct sqldb *db = NULL;
    int r = sqldb_open(file, SQLDB_WAL_NORMAL, &err, &db);
    if (r < 0)
        fprintf(stderr, "%s\n", err.text);
    CHECK_INT(r, 0);
    return db;
}

static void test_rows(void)
{
    struct sqldb *db = open_db();
    struct sqlstmt *st, *get, *left;
    CHECK_INT(sqldb_exec(db, &err, "CREATE TABLE t (k TEXT PRIMARY KEY, n INTEGER, b BLOB)"), 0);
    CHECK_INT(sqldb_begin(db, &err), 0);
    CHECK_INT(sqldb_prepare(db, "INSERT INTO t VALUES (?, ?, ?)", &err, &st), 0);
    for (int i = 0; i < 3; i++) {
        char key[8];
        snprintf(key, sizeof(key), "k%d", i);
        sqldb_bind_text(st, 1, key);
        sqldb_bind_i64(st, 2, 1LL << 40 | i);
        sqldb_bind_blob(st, 3, "\0\1", (size_t)i);
        CHECK_INT(sqldb_run(st, &err), 0);
        CHECK_INT(sqldb_last_id(db), i + 1);
    }
    CHECK_INT(sqldb_commit(db, &err), 0);
    sqldb_bind_text(st, 1, "k1");
    CHECK_INT(sqldb_run(st, &err), -EEXIST);
    CHECK(strstr(err.text, "UNIQUE") != NULL);
    sqldb_finalize(st);
    sqldb_finalize(NULL);
    CHECK_INT(sqldb_prepare(db, "SELECT k, n, b FROM t WHERE n > ? ORDER BY k", &err, &get), 0);
    sqldb_bind_i64(get, 1, 1LL << 40);
    size_t n = 9;
    CHECK_INT(sqldb_step(get, &err), 1);
    CHECK_STR(sqldb_text(get, 0), "k1");
    CHECK(sqldb_i64(get, 1) == (1LL << 40 | 1));
    CHECK(memcmp(sqldb_blob(get, 2, &n), "\0", 1) == 0);
    CHECK_INT(n, 1);
    CHECK_INT(sqldb_step(get, &err), 1);
    CHECK_INT(sqldb_step(get, &err), 0);
    sqldb_reset(get);
    CHECK_INT(sqldb_step(get, &err), 0); /* NULL is greater than nothing: bindings are gone */
    CHECK_INT(sqldb_begin(db, &err), 0);
    CHECK_INT(sqldb_exec(db, &err, "DELETE FROM t"), 0);
    CHECK_INT(sqldb_changes(db), 3);
    sqldb_rollback(db);
    sqldb_rollback(db); /* nothing to do */
    CHECK_INT(sqldb_prepare(db, "SELECT NULL", &err, &left), 0);
    CHECK_INT(sqldb_step(left, &err), 1);
    CHECK_STR(sqldb_text(left, 0), "");
    CHECK_INT(sqldb_exec(db, &err, "SELEC"), -EINVAL);
    CHECK_INT(sqldb_prepare(db, "SELECT x FROM nowhere", &err, &st), -EINVAL);
    CHECK_INT(sqldb_prepare(db, "", &err, &st), -EINVAL);
    sqldb_close(db); /* finalizes get and left */
    sqldb_close(NULL);
}

/* A statement that is kept has the bindings of its last use only, also after one that failed. */
static void test_kept(void)
{
    static const char put[] = "INSERT INTO kept VALUES (?, ?)";
    struct sqldb *db = open_db();
    struct sqlstmt *st = NULL, *again = NULL, *other = NULL;
    CHECK_INT(sqldb_kept(db, put, &err, &st), -EINVAL); /* no such table: nothing is kept */
    CHECK_INT(sqldb_exec(db, &err, "CREATE TABLE kept (k TEXT PRIMARY KEY, n INTEGER)"), 0);
    for (int i = 0; i < 3; i++) {
        CHECK_INT(sqldb_kept(db, put, &err, &again), 0);
        CHECK(i == 0 || again == st);
        st = again;
        sqldb_bind_text(st, 1, i == 2 ? "b" : "a");
        if (i == 0)
            sqldb_bind_i64(st, 2, 7);
        CHECK_INT(sqldb_run(st, &err), i == 1 ? -EEXIST : 0);
    }
    CHECK_INT(sqldb_kept(db, "SELECT n FROM kept ORDER BY k", &err, &other), 0);
    CHECK(other != st);
    CHECK_INT(sqldb_step(other, &err), 1);
    CHECK_INT(sqldb_i64(other, 0), 7);
    CHECK_INT(sqldb_step(other, &err), 1);
    CHECK_INT(sqldb_type(other, 0), SQLDB_NULL);
    sqldb_close(db);
}

static int64_t synchronous(struct sqldb *db)
{
    struct sqlstmt *st = NULL;
    CHECK_INT(sqldb_prepare(db, "PRAGMA synchronous", &err, &st), 0);
    CHECK_INT(sqldb_step(st, &err), 1);
    int64_t n = sqldb_i64(st, 0);
    sqldb_finalize(st);
    return n;
}

/* SQLite's FULL is 2, NORMAL 1. */
static void test_durable(void)
{
    struct sqldb *db = NULL;
    CHECK_INT(sqldb_open(file, SQLDB_WAL_FULL, &err, &db), 0);
    for (int i = 0; i < 2; i++) {
        CHECK_INT(sqldb_set_durable(db, true, &err), 0);
        CHECK_INT(synchronous(db), 2);
        CHECK_INT(sqldb_set_durable(db, false, &err), 0);
        CHECK_INT(sqldb_set_durable(db, false, &err), 0);
        CHECK_INT(synchronous(db), 1);
    }
    sqldb_close(db);
}

static void test_readonly(void)
{
    struct sqldb *db = NULL;
    CHECK_INT(sqldb_open(file, SQLDB_READONLY, &err, &db), 0);
    CHECK_INT(sqldb_exec(db, &err, "DELETE FROM t"), -EROFS);
    sqldb_close(db);
    CHECK_INT(sqldb_open("/nonexistent/x.db", SQLDB_WAL_FULL, &err, &db), -ENOENT);
    CHECK(strncmp(err.text, "/nonexistent/x.db: SQLite: ", 27) == 0);
}

static void test_busy(void)
{
    struct sqldb *a = open_db(), *b = open_db();
    CHECK_INT(sqldb_begin(a, &err), 0);
    uint64_t start = clock_now_ns();
    CHECK_INT(sqldb_begin(b, &err), -EBUSY);
    CHECK(clock_now_ns() - start > 4 * NS_PER_S);
    sqldb_rollback(a);
    CHECK_INT(sqldb_begin(b, &err), 0);
    CHECK_INT(sqldb_commit(b, &err), 0);
    sqldb_close(a);
    sqldb_close(b);
}

static bool exists(const char *suffix)
{
    char path[128];
    snprintf(path, sizeof(path), "%s%s", file, suffix);
    return access(path, F_OK) == 0;
}

static void test_unsound(void)
{
    struct timespec now = {.tv_sec = 1369353600};
    struct sqldb *db = NULL;
    clock_set_wall_for_test(&now);
    for (int i = 0; i < 2; i++) {
        FILE *f = fopen(file, "w");
        CHECK(f && fputs("this is not a database, however long one looks at it\n", f) >= 0);
        fclose(f);
        CHECK_INT(sqldb_open(file, SQLDB_WAL_FULL, &err, &db), -EUCLEAN);
        char *wal = xasprintf("%s-wal", file);
        f = fopen(wal, "w");
        CHECK(f && fclose(f) == 0);
        free(wal);
        CHECK_INT(sqldb_move_aside(file, &err), 0);
        CHECK(!exists("") && !exists("-wal") && exists(".broken-20130524T000000Z"));
        CHECK(exists(".broken-20130524T000000Z-wal"));
    }
    CHECK(exists(".broken-20130524T000000Z-2"));
    CHECK_INT(sqldb_move_aside(file, &err), 0); /* nothing there */
    sqldb_close(open_db());
}

static void test_form(void)
{
    struct sqldb *db = open_db();
    CHECK_INT(sqldb_claim_form(db, file, 2, "Do this", &err), 0); /* new */
    CHECK_INT(sqldb_claim_form(db, file, 2, "Do this", &err), 0);
    CHECK_INT(sqldb_claim_form(db, file, 1, "Do this", &err), -ENOTSUP);
    CHECK(strstr(err.text, file) && strstr(err.text, "it has form 2") && strstr(err.text, "up to 1") &&
          strstr(err.text, "Do this"));
    CHECK_INT(sqldb_claim_form(db, file, 3, "Do this", &err), 0); /* older */
    CHECK_INT(sqldb_claim_form(db, file, 2, "Do this", &err), -ENOTSUP);
    sqldb_close(db);
}

int main(void)
{
    CHECK(mkdtemp(dir) != NULL);
    snprintf(file, sizeof(file), "%s/x.db", dir);
    RUN(test_rows);
    RUN(test_kept);
    RUN(test_durable);
    RUN(test_readonly);
    RUN(test_busy);
    RUN(test_unsound);
    RUN(test_form);
    char *rm = xasprintf("rm -r %s", dir);
    CHECK_INT(system(rm), 0);
    free(rm);
    return t_done();
}
