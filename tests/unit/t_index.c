/* SPDX-License-Identifier: MIT
 * t_index.c: the writer thread of index.db: order, waiting, failing jobs, unsound files. */
#include "cache/index.h"

#include "base/buf.h"
#include "base/clock.h"
#include "cache_fixture.h"

#include <fcntl.h>
#include <glob.h>
#include <pthread.h>

static int make_table(struct sqldb *db, void *arg, struct err *err)
{
    (void)arg;
    return sqldb_exec(db, err, "CREATE TABLE IF NOT EXISTS t (v INTEGER PRIMARY KEY)");
}

static int add_value(struct sqldb *db, void *arg, struct err *err)
{
    struct sqlstmt *st = NULL;
    int64_t *v = arg;
    int r = sqldb_prepare(db, "INSERT INTO t VALUES (?)", err, &st);
    if (r == 0) {
        sqldb_bind_i64(st, 1, *v);
        r = sqldb_run(st, err);
    }
    sqldb_finalize(st);
    free(v);
    return r;
}

static int add_then_fail(struct sqldb *db, void *arg, struct err *err)
{
    (void)add_value(db, arg, err);
    return err_set(err, EINVAL, "on purpose");
}

static int count(struct sqldb *db, void *arg, struct err *err)
{
    struct sqlstmt *st = NULL;
    int r = sqldb_prepare(db, "SELECT count(*) FROM t", err, &st);
    if (r == 0 && (r = sqldb_step(st, err)) == 1)
        *(int64_t *)arg = sqldb_i64(st, 0);
    sqldb_finalize(st);
    return r < 0 ? r : 0;
}

static int64_t *value(int64_t v)
{
    int64_t *p = xmalloc(sizeof(*p));
    *p = v;
    return p;
}

static struct cache_index *open_index(void)
{
    struct err err = ERR_INIT;
    struct cache_index *idx = NULL;
    CHECK_INT(index_open(fx_dir, &err, &idx), 0);
    CHECK_INT(index_call(idx, make_table, NULL, &err), 0);
    return idx;
}

static int64_t rows(struct cache_index *idx)
{
    struct err err = ERR_INIT;
    int64_t n = -1;
    CHECK_INT(index_call(idx, count, &n, &err), 0);
    return n;
}

static void test_posts_survive_close(void)
{
    fx_fresh_dir();
    struct cache_index *idx = open_index();
    for (int64_t i = 0; i < 5000; i++)
        index_post(idx, add_value, value(i));
    CHECK_INT(rows(idx), 5000); /* a call sees all posts before it */
    for (int64_t i = 5000; i < 5100; i++)
        index_post(idx, add_value, value(i));
    index_close(idx);
    idx = open_index();
    CHECK_INT(rows(idx), 5100);
    index_close(idx);
}

static void test_failed_job_is_undone_alone(void)
{
    fx_fresh_dir();
    struct err err = ERR_INIT;
    struct cache_index *idx = open_index();
    index_post(idx, add_value, value(1));
    index_post(idx, add_then_fail, value(2));
    index_post(idx, add_value, value(3));
    CHECK_INT(rows(idx), 2);
    CHECK_INT(index_call(idx, add_then_fail, value(4), &err), -EINVAL);
    CHECK_STR(err_text(&err), "on purpose");
    CHECK_INT(index_call(idx, add_value, value(3), &err), -EEXIST);
    CHECK_INT(rows(idx), 2);
    index_close(idx);
}

static void test_posts_are_committed_unasked(void)
{
    fx_fresh_dir();
    struct cache_index *idx = open_index();
    index_post(idx, add_value, value(1));
    struct err err = ERR_INIT;
    struct sqldb *db = NULL;
    int64_t n = 0;
    char path[PATH_MAX + 16];
    snprintf(path, sizeof(path), "%s/index.db", fx_dir);
    CHECK_INT(sqldb_open(path, SQLDB_READONLY, &err, &db), 0);
    for (int i = 0; i < 3000 && n == 0; i++) {
        clock_sleep_ms(20);
        CHECK_INT(count(db, &n, &err), 0);
    }
    CHECK_INT(n, 1);
    sqldb_close(db);
    index_close(idx);
}

static void *poster(void *arg)
{
    void **a = arg;
    int64_t base = *(int64_t *)a[1] * 1000;
    struct err err = ERR_INIT;
    for (int64_t i = 0; i < 300; i++)
        if (i % 50 == 0)
            CHECK_INT(index_call(a[0], add_value, value(base + i), &err), 0);
        else
            index_post(a[0], add_value, value(base + i));
    return NULL;
}

static void test_threads(void)
{
    fx_fresh_dir();
    struct cache_index *idx = open_index();
    pthread_t t[6];
    void *args[6][2];
    int64_t no[6];
    for (int i = 0; i < 6; i++) {
        no[i] = i;
        args[i][0] = idx;
        args[i][1] = &no[i];
        CHECK_INT(pthread_create(&t[i], NULL, poster, args[i]), 0);
    }
    for (int i = 0; i < 6; i++)
        pthread_join(t[i], NULL);
    CHECK_INT(rows(idx), 1800);
    index_close(idx);
}

static size_t n_broken(void)
{
    char pattern[PATH_MAX + 32];
    glob_t g = {0};
    snprintf(pattern, sizeof(pattern), "%s/index.db.broken-*", fx_dir);
    size_t n = glob(pattern, 0, NULL, &g) == 0 ? g.gl_pathc : 0;
    globfree(&g);
    return n;
}

static void test_unsound_file_is_moved_aside(void)
{
    fx_fresh_dir();
    char path[PATH_MAX + 16];
    snprintf(path, sizeof(path), "%s/index.db", fx_dir);
    FILE *f = fopen(path, "w");
    CHECK(f);
    for (int i = 0; i < 5000; i++)
        fputs("this is not a database ", f);
    fclose(f);
    struct cache_index *idx = open_index();
    CHECK_INT(rows(idx), 0);
    index_close(idx);
    CHECK(n_broken() >= 1);
}

static int set_version(struct sqldb *db, void *arg, struct err *err)
{
    return sqldb_exec(db, err, *(int *)arg > 1 ? "UPDATE schema_version SET version = 99"
                                               : "UPDATE schema_version SET version = -1");
}

static void test_newer_schema_is_refused(void)
{
    fx_fresh_dir();
    struct err err = ERR_INIT;
    struct cache_index *idx = open_index(), *none = NULL;
    size_t broken = n_broken();
    index_post(idx, add_value, value(1));
    CHECK_INT(index_call(idx, set_version, &(int){99}, &err), 0);
    index_close(idx);
    CHECK_INT(index_open(fx_dir, &err, &none), -ENOTSUP);
    CHECK(strstr(err.text, "/index.db was written by a newer quayfs: it has form 99") != NULL);
    CHECK(strstr(err.text, "Start that quayfs again") != NULL);
    CHECK_INT(n_broken(), broken); /* nothing was touched */
}

static void test_older_schema_is_moved_aside(void)
{
    fx_fresh_dir();
    struct err err = ERR_INIT;
    struct cache_index *idx = open_index();
    index_post(idx, add_value, value(1));
    CHECK_INT(index_call(idx, set_version, &(int){1}, &err), 0);
    index_close(idx);
    idx = open_index();
    CHECK_INT(rows(idx), 0);
    index_close(idx);
    CHECK(n_broken() >= 1);
}

int main(void)
{
    RUN(test_posts_survive_close);
    RUN(test_failed_job_is_undone_alone);
    RUN(test_posts_are_committed_unasked);
    RUN(test_threads);
    RUN(test_unsound_file_is_moved_aside);
    RUN(test_newer_schema_is_refused);
    RUN(test_older_schema_is_moved_aside);
    return t_done();
}
