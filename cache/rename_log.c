/* SPDX-License-Identifier: MIT
 * rename_log.c: see rename_log.h. One connection, which passes from thread to thread (`busy`). */
#include "cache/rename_log.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/lock.h"
#include "base/sqldb.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

struct rename_log {
    char *key;
    struct {
        struct lock lock;
        struct cond cond;
        bool busy;
        struct sqldb *db;
    } sync;
};

static const char *const schema =
    "CREATE TABLE IF NOT EXISTS rename(id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL,"
    " source TEXT NOT NULL, target TEXT NOT NULL, phase INTEGER NOT NULL, since INTEGER NOT NULL);"
    "CREATE TABLE IF NOT EXISTS rename_copy(id INTEGER NOT NULL, source TEXT NOT NULL,"
    " source_version TEXT NOT NULL, target_version TEXT NOT NULL, PRIMARY KEY(id, source))"
    " WITHOUT ROWID;";

static struct sqldb *db_take(struct rename_log *log)
{
    LOCK_SCOPE(&log->sync.lock);
    while (log->sync.busy)
        cond_wait(&log->sync.cond, &log->sync.lock);
    log->sync.busy = true;
    return log->sync.db;
}

static void db_give(struct rename_log *log)
{
    LOCK_SCOPE(&log->sync.lock);
    log->sync.busy = false;
    cond_signal(&log->sync.cond);
}

int rename_log_open(const char *cache_dir, const char *key, struct err *err, struct rename_log **ret)
{
    struct rename_log *log = xcalloc(1, sizeof(*log));
    CLEANUP_FREE char *path = xasprintf("%s/journal.db", cache_dir);
    log->key = xstrdup(key);
    lock_init(&log->sync.lock, LOCK_RANK_LEAF, "rename log");
    cond_init(&log->sync.cond);
    int r = sqldb_open(path, SQLDB_WAL_FULL, err, &log->sync.db);
    if (r == 0)
        r = sqldb_exec(log->sync.db, err, schema);
    if (r < 0) {
        rename_log_close(log);
        return r;
    }
    *ret = log;
    return 0;
}

void rename_log_close(struct rename_log *log)
{
    if (!log)
        return;
    sqldb_close(log->sync.db);
    cond_done(&log->sync.cond);
    lock_done(&log->sync.lock);
    free(log->key);
    free(log);
}

/* ---- writing ---- */

static int run(struct sqldb *db, const char *sql, const char *const *texts, size_t n_texts,
               const int64_t *numbers, size_t n_numbers, struct err *err)
{
    struct sqlstmt *st = NULL;
    int r = sqldb_prepare(db, sql, err, &st);
    if (r < 0)
        return r;
    int at = 1;
    for (size_t i = 0; i < n_numbers; i++)
        sqldb_bind_i64(st, at++, numbers[i]);
    for (size_t i = 0; i < n_texts; i++)
        sqldb_bind_text(st, at++, texts[i]);
    r = sqldb_run(st, err);
    sqldb_finalize(st);
    return r;
}

static int insert_row(struct rename_log *log, struct sqldb *db, const char *from, const char *to,
                      enum rename_phase phase, struct err *err, int64_t *ret_id)
{
    const char *const texts[] = {log->key, from, to};
    const int64_t numbers[] = {phase, (int64_t)time(NULL)};
    int r = run(db, "INSERT INTO rename(phase, since, key, source, target) VALUES (?, ?, ?, ?, ?)",
                texts, 3, numbers, 2, err);
    *ret_id = r == 0 ? sqldb_last_id(db) : 0;
    return r;
}

int rename_log_begin(struct rename_log *log, const char *from, const char *to, struct err *err,
                     int64_t *ret_id)
{
    struct sqldb *db = db_take(log);
    int r = insert_row(log, db, from, to, RENAME_COPY, err, ret_id);
    db_give(log);
    return r;
}

int rename_log_phase(struct rename_log *log, int64_t id, enum rename_phase phase, struct err *err)
{
    const int64_t numbers[] = {phase, id};
    struct sqldb *db = db_take(log);
    int r = run(db, "UPDATE rename SET phase = ? WHERE id = ?", NULL, 0, numbers, 2, err);
    db_give(log);
    return r;
}

/* Statements between begin and commit; a failure undoes them all. */
static int in_transaction(struct sqldb *db, int r, struct err *err)
{
    if (r == 0)
        r = sqldb_commit(db, err);
    if (r < 0)
        sqldb_rollback(db);
    return r;
}

static int insert_copies(struct sqldb *db, int64_t id, const struct rename_copy *copies, size_t n, struct err *err)
{
    struct sqlstmt *st = NULL;
    int r = sqldb_prepare(db, "INSERT OR REPLACE INTO rename_copy(id, source, source_version,"
                              " target_version) VALUES (?, ?, ?, ?)", err, &st);
    for (size_t i = 0; i < n && r == 0; i++) {
        sqldb_bind_i64(st, 1, id);
        sqldb_bind_text(st, 2, copies[i].from);
        sqldb_bind_text(st, 3, copies[i].from_version);
        sqldb_bind_text(st, 4, copies[i].to_version);
        r = sqldb_run(st, err);
    }
    if (st)
        sqldb_finalize(st);
    return r;
}

int rename_log_copied(struct rename_log *log, int64_t id, const struct rename_copy *copies, size_t n,
                      struct err *err)
{
    struct sqldb *db = db_take(log);
    int r = sqldb_begin(db, err);
    if (r == 0)
        r = insert_copies(db, id, copies, n, err);
    r = in_transaction(db, r, err);
    db_give(log);
    return r;
}

int rename_log_begin_file(struct rename_log *log, const char *from, const char *version, const char *to,
                          struct err *err, int64_t *ret_id)
{
    const struct rename_copy copy = {.from = from, .from_version = version, .to_version = ""};
    int64_t id = 0;
    struct sqldb *db = db_take(log);
    int r = sqldb_begin(db, err);
    if (r == 0)
        r = insert_row(log, db, from, to, RENAME_FILE, err, &id);
    if (r == 0)
        r = insert_copies(db, id, &copy, 1, err);
    r = in_transaction(db, r, err);
    db_give(log);
    *ret_id = r == 0 ? id : 0;
    return r;
}

int rename_log_end(struct rename_log *log, int64_t id, struct err *err)
{
    struct sqldb *db = db_take(log);
    int r = sqldb_begin(db, err);
    if (r == 0)
        r = run(db, "DELETE FROM rename_copy WHERE id = ?", NULL, 0, &id, 1, err);
    if (r == 0)
        r = run(db, "DELETE FROM rename WHERE id = ?", NULL, 0, &id, 1, err);
    r = in_transaction(db, r, err);
    db_give(log);
    return r;
}

/* ---- reading ---- */

int rename_log_rows(struct rename_log *log, struct err *err, struct rename_row **ret)
{
    struct sqlstmt *st = NULL;
    struct rename_row **tail = ret;
    struct sqldb *db = db_take(log);
    int r = sqldb_prepare(db, "SELECT id, source, target, phase FROM rename WHERE key = ?"
                              " ORDER BY id", err, &st);
    *ret = NULL;
    if (r == 0)
        sqldb_bind_text(st, 1, log->key);
    while (r == 0 && (r = sqldb_step(st, err)) == 1) {
        struct rename_row *row = xcalloc(1, sizeof(*row));
        row->id = sqldb_i64(st, 0);
        row->from = xstrdup(sqldb_text(st, 1));
        row->to = xstrdup(sqldb_text(st, 2));
        row->phase = (enum rename_phase)sqldb_i64(st, 3);
        *tail = row;
        tail = &row->next;
        r = 0;
    }
    if (st)
        sqldb_finalize(st);
    db_give(log);
    return r;
}

void rename_rows_free(struct rename_row *rows)
{
    while (rows) {
        struct rename_row *row = rows;
        rows = row->next;
        free(row->from);
        free(row->to);
        free(row);
    }
}

void rename_made_free(void *made)
{
    struct rename_made *m = made;
    if (!m)
        return;
    free(m->from_version);
    free(m->to_version);
    free(m);
}

int rename_log_copies(struct rename_log *log, int64_t id, struct err *err, struct strmap *ret)
{
    struct sqlstmt *st = NULL;
    struct sqldb *db = db_take(log);
    int r = sqldb_prepare(db, "SELECT source, source_version, target_version FROM rename_copy"
                              " WHERE id = ?", err, &st);
    if (r == 0)
        sqldb_bind_i64(st, 1, id);
    while (r == 0 && (r = sqldb_step(st, err)) == 1) {
        struct rename_made *m = xcalloc(1, sizeof(*m));
        m->from_version = xstrdup(sqldb_text(st, 1));
        m->to_version = xstrdup(sqldb_text(st, 2));
        rename_made_free(strmap_put(ret, sqldb_text(st, 0), m));
        r = 0;
    }
    if (st)
        sqldb_finalize(st);
    db_give(log);
    return r;
}
