/* SPDX-License-Identifier: MIT
 * database.c: the gate of database.h. Only here are slots called.
 *
 * States of a database (kept here, not in the drivers):
 *     disconnected --connect--> idle --begin--> transaction --load_begin/dump_begin-->
 * loading/dumping loading --load_end or load_abort--> transaction --commit or abort--> idle any
 * --ECONNRESET--> disconnected (what was open is gone) */
#include "loader/database.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/settings.h"
#include "loader/drivers.h"
#include "loader/sqltext.h"

#include <assert.h>
#include <strings.h>

static const struct database_class *const classes[] = {&db_sqlite_class, &db_postgres_class, NULL};

static const struct {
    const char *name, *driver;
} aliases[] = {{"postgresql", "postgres"}, {"pg", "postgres"}, {"sqlite3", "sqlite"}};

const struct database_class *const *database_classes(void)
{
    return classes;
}

const struct database_class *database_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(aliases); i++) {
        if (strcasecmp(aliases[i].name, name) == 0)
            name = aliases[i].driver;
    }
    for (size_t i = 0; classes[i]; i++) {
        if (strcasecmp(classes[i]->name, name) == 0)
            return classes[i];
    }
    return NULL;
}

/* The driver that a connection string names: "postgresql://..." -> postgres. */
static const struct database_class *find_by_dsn(const char *dsn)
{
    size_t n = dsn ? strcspn(dsn, ":") : 0;

    if (n == 0 || n >= 20 || !dsn[n])
        return NULL;
    CLEANUP_FREE char *scheme = xstrndup(dsn, n);
    return database_find(scheme);
}

static int unknown_driver(const struct conf_section *section, const char *driver, struct err *err)
{
    const char *names[ARRAY_LEN(classes)];
    size_t n = 0;

    for (; classes[n]; n++)
        names[n] = classes[n]->name;
    const char *near = nearest_name(driver, names, n);
    return conf_error(section, "driver", err, EINVAL,
                      "unknown driver '%s'%s%s%s (there are sqlite and postgres)", driver,
                      near ? ": did you mean '" : "", near ? near : "", near ? "'?" : "");
}

int database_check(struct conf_section *section, struct err *err, const struct database_class **ret)
{
    const struct conf_option *table = settings_database_options;
    size_t n = settings_n_database_options;
    int r = conf_check(section, &table, &n, 1, err);

    if (r < 0)
        return r;
    const char *driver = conf_str(section, "driver", NULL);
    const struct database_class *cls =
        driver ? database_find(driver) : find_by_dsn(conf_str(section, "dsn", NULL));
    if (!cls && driver)
        return unknown_driver(section, driver, err);
    if (!cls)
        return conf_error(section, NULL, err, EINVAL,
                          "[database %s] needs driver = sqlite or driver = postgres",
                          section->name);
    if (cls->missing)
        return conf_error(section, "driver", err, ENOTSUP, "%s", cls->missing);
    *ret = cls;
    return 0;
}

int database_open(struct conf_section *section, struct err *err, struct database **ret)
{
    const struct database_class *cls = NULL;
    struct database *db = NULL;
    int r = database_check(section, err, &cls);

    if (r < 0)
        return r;
    r = cls->open(section, err, &db);
    if (r < 0)
        return r;
    assert(cls->abi == DATABASE_ABI);
    db->cls = cls;
    db->name = xstrdup(section->name);
    *ret = db;
    return 0;
}

void database_close(struct database *db)
{
    if (!db)
        return;
    lock_assert_none_held();
    char *name = db->name;
    db->cls->close(db);
    free(name);
}

static int enter(struct op *op)
{
    lock_assert_none_held();
    err_clear(&op->err);
    return op_check(op);
}

/* Every slot's result passes here. */
static int leave(struct database *db, struct op *op, const char *verb, int r)
{
    if (r >= 0)
        return r;
    if (op->err.text[0] == '\0')
        err_set(&op->err, -r, "%s %s: %s", verb, db->name ? db->name : db->cls->name, strerror(-r));
    op->err.code = -r;
    if (op->err.status == 0 && r != -EINTR && r != -ETIMEDOUT)
        op->err.status = 1;
    if (r == -ECONNRESET)
        db->connected = db->in_transaction = db->loading = db->dumping = false;
    log_debug("database", "%s %s: %s", db->cls->name, verb, op->err.text);
    return r;
}

static int need(struct database *db, struct op *op, bool connected)
{
    int r = enter(op);

    if (r == 0 && connected && !db->connected) {
        r = err_set(&op->err, ECONNRESET, "%s: not connected", db->name ? db->name : "database");
        op->err.retry = ERR_RETRY_SAFE;
        op->err.status = 2;
    }
    return r;
}

int database_connect(struct database *db, struct op *op)
{
    int r = enter(op);

    if (r == 0 && !db->connected) {
        r = db->cls->connect(db, op);
        db->connected = r == 0;
        if (r < 0 && op->err.status == 0 && r != -EINTR && r != -ETIMEDOUT)
            op->err.status = 2;
    }
    return leave(db, op, "connect", r);
}

int database_probe(struct database *db, struct op *op, char **ret_text)
{
    int r = database_connect(db, op);

    if (r == 0 && db->cls->probe)
        r = leave(db, op, "probe", db->cls->probe(db, op, ret_text));
    else if (r == 0)
        *ret_text = xstrdup(db->cls->name);
    return r;
}

int database_begin(struct database *db, struct op *op, enum db_begin how)
{
    int r = database_connect(db, op);

    if (r < 0)
        return r;
    assert(!db->in_transaction);
    r = db->cls->begin(db, op, how);
    db->in_transaction = r == 0;
    return leave(db, op, "begin", r);
}

int database_commit(struct database *db, struct op *op)
{
    assert(!db->loading && !db->dumping);
    int r = need(db, op, true);

    if (r < 0) {
        database_abort(db);
        return r;
    }
    assert(db->in_transaction);
    r = db->cls->commit(db, op);
    if (r < 0 && r != -ECONNRESET)
        db->cls->abort(db);
    db->in_transaction = false;
    return leave(db, op, "commit", r);
}

void database_abort(struct database *db)
{
    lock_assert_none_held();
    if (db->loading)
        database_load_abort(db);
    if (db->dumping)
        database_dump_end(db);
    if (db->in_transaction)
        db->cls->abort(db);
    db->in_transaction = false;
}

int database_exec(struct database *db, struct op *op, const char *sql, const char *const *params,
                  size_t n_params, struct db_rows *ret)
{
    int r = need(db, op, true);

    assert(!db->loading && !db->dumping);
    if (r == 0)
        r = db->cls->exec(db, op, sql, params, n_params, ret);
    return leave(db, op, "exec", r);
}

int database_describe(struct database *db, struct op *op, const char *table, struct db_table *ret)
{
    int r = need(db, op, true);

    if (r == 0)
        r = db->cls->describe(db, op, table, ret);
    return leave(db, op, "describe", r);
}

int database_load_begin(struct database *db, struct op *op, const struct db_load *spec)
{
    int r = need(db, op, true);

    assert(!db->loading && !db->dumping && spec->n_columns > 0);
    assert(!spec->csv || (db->caps & DB_COPY_CSV));
    if (r == 0 && spec->n_key && !(db->caps & DB_UPSERT))
        r = err_set(&op->err, ENOTSUP, "driver %s cannot upsert", db->cls->name);
    if (r == 0) {
        r = db->cls->load_begin(db, op, spec);
        db->loading = r == 0;
    }
    return leave(db, op, "load", r);
}

int database_load_row(struct database *db, struct op *op, const struct cell *cells)
{
    assert(db->loading);
    return leave(db, op, "load", db->cls->load_row(db, op, cells));
}

int database_load_bytes(struct database *db, struct op *op, const void *data, size_t len)
{
    int r = enter(op);

    assert(db->loading);
    if (r == 0)
        r = db->cls->load_bytes(db, op, data, len);
    return leave(db, op, "load", r);
}

int database_load_end(struct database *db, struct op *op, uint64_t *ret_rows)
{
    int r = enter(op);

    assert(db->loading);
    if (r == 0)
        r = db->cls->load_end(db, op, ret_rows);
    if (r == 0)
        db->loading = false;
    return leave(db, op, "load", r);
}

void database_load_abort(struct database *db)
{
    if (db->loading)
        db->cls->load_abort(db);
    db->loading = false;
}

int database_dump_begin(struct database *db, struct op *op, const struct db_dump *spec,
                        struct db_table *ret_columns)
{
    int r = need(db, op, true);

    assert(!db->loading && !db->dumping && !spec->table != !spec->query);
    assert(!spec->csv || (db->caps & DB_DUMP_CSV));
    if (r == 0) {
        r = db->cls->dump_begin(db, op, spec, ret_columns);
        db->dumping = r == 0;
    }
    return leave(db, op, "export", r);
}

int database_dump_row(struct database *db, struct op *op, const struct cell **ret)
{
    assert(db->dumping);
    return leave(db, op, "export", db->cls->dump_row(db, op, ret));
}

int database_dump_bytes(struct database *db, struct op *op, const char **ret, size_t *ret_len)
{
    assert(db->dumping && db->cls->dump_bytes);
    return leave(db, op, "export", db->cls->dump_bytes(db, op, ret, ret_len));
}

void database_dump_end(struct database *db)
{
    if (db->dumping)
        db->cls->dump_end(db);
    db->dumping = false;
}

void database_cancel(struct database *db)
{
    if (db->cls->cancel)
        db->cls->cancel(db);
}

static int exec_name(struct database *db, struct op *op, const char *fmt, const char *name)
{
    CLEANUP_BUF struct buf sql = BUF_INIT;

    sql_addf(&sql, db->cls->dialect, fmt, name);
    return database_exec(db, op, sql.data, NULL, 0, NULL);
}

int database_savepoint(struct database *db, struct op *op, const char *name)
{
    return exec_name(db, op, "SAVEPOINT %I", name);
}

int database_release(struct database *db, struct op *op, const char *name)
{
    return exec_name(db, op, "RELEASE SAVEPOINT %I", name);
}

int database_rollback_to(struct database *db, struct op *op, const char *name)
{
    int r = exec_name(db, op, "ROLLBACK TO SAVEPOINT %I", name);

    return r < 0 ? r : database_release(db, op, name);
}

int database_create_table(struct database *db, struct op *op, const struct db_table *table)
{
    CLEANUP_BUF struct buf sql = BUF_INIT;

    sql_create_table(&sql, db->cls->dialect, table);
    return database_exec(db, op, sql.data, NULL, 0, NULL);
}

int database_drop_table(struct database *db, struct op *op, const struct db_table *table)
{
    CLEANUP_BUF struct buf sql = BUF_INIT;

    sql_addf(&sql, db->cls->dialect, "DROP TABLE %T", table->schema, table->name);
    return database_exec(db, op, sql.data, NULL, 0, NULL);
}

static int exec_on_table(struct database *db, struct op *op, const char *verb,
                         const struct db_table *table)
{
    CLEANUP_BUF struct buf sql = BUF_INIT;

    buf_adds(&sql, verb);
    sql_addf(&sql, db->cls->dialect, "%T", table->schema, table->name);
    return database_exec(db, op, sql.data, NULL, 0, NULL);
}

/* TRUNCATE is quick but refused for a table that others refer to, and a privilege of its own. */
int database_empty_table(struct database *db, struct op *op, const struct db_table *table)
{
    int r = database_savepoint(db, op, "quay_empty");

    if (r < 0)
        return r;
    r = exec_on_table(db, op, db->cls->dialect->empty_table, table);
    bool refused =
        r < 0 && (strcmp(op->err.remote, "0A000") == 0 || strcmp(op->err.remote, "42501") == 0);
    if (r == 0 || !refused)
        return r < 0 ? r : database_release(db, op, "quay_empty");
    r = database_rollback_to(db, op, "quay_empty");
    return r < 0 ? r : exec_on_table(db, op, "DELETE FROM ", table);
}

void db_table_done(struct db_table *t)
{
    for (size_t i = 0; i < t->n_columns; i++) {
        free(t->columns[i].name);
        free(t->columns[i].declared);
    }
    free(t->columns);
    free(t->schema);
    free(t->name);
    *t = DB_TABLE_INIT;
}

void db_rows_done(struct db_rows *r)
{
    for (size_t i = 0; i < r->n; i++) {
        for (size_t j = 0; j < r->n_columns; j++)
            free(r->v[i][j]);
        free(r->v[i]);
    }
    free(r->v);
    *r = DB_ROWS_INIT;
}

struct db_column *db_table_add(struct db_table *t, const char *name, enum db_type type)
{
    t->columns = xrealloc(t->columns, (t->n_columns + 1) * sizeof(*t->columns));
    t->columns[t->n_columns] = (struct db_column){.name = xstrdup(name), .type = type};
    return &t->columns[t->n_columns++];
}

const struct db_column *db_table_column(const struct db_table *t, const char *name)
{
    const struct db_column *found = NULL;
    size_t n = 0;

    for (size_t i = 0; i < t->n_columns; i++) {
        if (strcmp(t->columns[i].name, name) == 0)
            return &t->columns[i];
        if (strcasecmp(t->columns[i].name, name) == 0) {
            found = &t->columns[i];
            n++;
        }
    }
    return n == 1 ? found : NULL;
}

const char *db_type_name(enum db_type type)
{
    static const char *const names[] = {
        "unset",   "boolean", "integer",   "double",
        "numeric", "date",    "timestamp", "timestamp with time zone",
        "text",    "json",    "bytes",     "other"};
    return names[type];
}
