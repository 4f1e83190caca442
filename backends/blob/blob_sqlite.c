/* SPDX-License-Identifier: MIT
 * blob_sqlite.c: backend = sqlite: the driver over base/sqldb.h, and the class. The database is in WAL mode with
 * synchronous=FULL: readers do not wait for the writer, and a commit is on the disk. Statements are kept prepared. */
#include "backends/blob/blob_int.h"

#include "base/sqldb.h"
#include "base/sys.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#define VALUES_MAX 12 /* columns of a statement */

static const struct conf_option sqlite_options[] = {
    {.name = "path", .type = CONF_PATH, .help = "The database file; or uri = sqlite:///FILE"},
    {.name = "base_path", .type = CONF_PATH, .alias = "path", .help = "Same as path"},
    BLOB_COMMON_OPTIONS,
};

struct lite_conn {
    struct blob_conn base;
    struct sqldb *db;
    struct sqlstmt *kept[SQL_COUNT];
};

static struct lite_conn *lite_of(struct blob_conn *c)
{
    return (struct lite_conn *)c;
}

/* What SQLite says is kept; which database, and whether to try again, is added. */
static int fail(struct blob *b, struct op *op, int r)
{
    if (r == -EINTR || r == -ETIMEDOUT) {
        int why = op_check(op);
        return why < 0 ? why : r;
    }
    err_prefix(&op->err, "%s", (const char *)b->own);
    if (r == -EBUSY)
        op->err.retry = ERR_RETRY_SAFE;
    if (r == -EUCLEAN)
        op->err.code = EIO;
    return r == -EUCLEAN ? -EIO : r;
}

static int lite_connect(struct blob *b, struct op *op, struct blob_conn **ret)
{
    struct stat st;
    struct sqldb *db = NULL;
    const char *path = b->own;
    if (!b->create && stat(path, &st) < 0)
        return err_set(&op->err, errno == ENOENT ? EIO : errno, "%s: %s", path, strerror(errno));
    int r = sqldb_open(path, b->read_only ? SQLDB_READONLY : SQLDB_WAL_FULL, &op->err, &db);
    if (r == -EBUSY)
        op->err.retry = ERR_RETRY_SAFE;
    if (r == -ENOENT || r == -EUCLEAN) /* not the object's */
        return err_set(&op->err, EIO, "%s: %s", path,
                       r == -ENOENT ? "its directory is not there" : "not a sound SQLite database");
    if (r < 0)
        return r;
    struct lite_conn *l = xcalloc(1, sizeof(*l));
    l->base.b = b;
    l->db = db;
    *ret = &l->base;
    return 0;
}

static void lite_disconnect(struct blob_conn *c)
{
    struct lite_conn *l = lite_of(c);
    sqldb_close(l->db);
    free(l);
}

static void bind(struct sqlstmt *st, const struct blob_value *params, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        int at = (int)i + 1;
        if (params[i].type == BLOB_INT)
            sqldb_bind_i64(st, at, params[i].i);
        else if (params[i].type == BLOB_TEXT)
            sqldb_bind_text(st, at, params[i].p);
        else
            sqldb_bind_blob(st, at, params[i].p, params[i].n);
    }
}

static void take_row(struct sqlstmt *st, struct blob_value *row)
{
    for (int i = 0; i < sqldb_columns(st) && i < VALUES_MAX; i++) {
        switch (sqldb_type(st, i)) {
        case SQLDB_INT:
            row[i] = blob_i64(sqldb_i64(st, i));
            break;
        case SQLDB_NULL:
            row[i] = (struct blob_value){.type = BLOB_NULL, .p = ""};
            break;
        default:
            row[i] = blob_bytes(NULL, 0);
            row[i].p = sqldb_blob(st, i, &row[i].n);
            if (!row[i].p)
                row[i].p = "";
        }
    }
}

static int step_all(struct sqlstmt *st, struct op *op, blob_row_fn *fn, void *arg)
{
    struct blob_value row[VALUES_MAX];
    int r;
    while ((r = sqldb_step(st, &op->err)) == 1) {
        if (!fn)
            continue;
        take_row(st, row);
        r = fn(arg, op, row);
        if (r < 0)
            return r;
    }
    return r;
}

static int lite_run(struct blob_conn *c, struct op *op, enum blob_sql id, const char *text,
                    const struct blob_value *params, size_t n, blob_row_fn *row, void *arg,
                    int64_t *ret_changes)
{
    struct lite_conn *l = lite_of(c);
    struct sqlstmt *st = l->kept[id];
    int r = 0;
    sqldb_set_op(l->db, op);
    if (!st)
        r = sqldb_prepare(l->db, text ? text : c->b->sql[id], &op->err, &st);
    if (r == 0 && !text)
        l->kept[id] = st;
    if (r == 0) {
        bind(st, params, n);
        r = step_all(st, op, row, arg);
        *ret_changes = sqldb_changes(l->db);
        sqldb_reset(st);
        if (text)
            sqldb_finalize(st);
    }
    sqldb_set_op(l->db, NULL);
    return r < 0 && strncmp(op->err.text, "SQLite:", 7) == 0 ? fail(c->b, op, r) : r;
}

static int lite_begin(struct blob_conn *c, struct op *op)
{
    struct lite_conn *l = lite_of(c);
    sqldb_set_op(l->db, op);
    int r = sqldb_begin(l->db, &op->err);
    sqldb_set_op(l->db, NULL);
    return r < 0 ? fail(c->b, op, r) : 0;
}

static int lite_commit(struct blob_conn *c, struct op *op)
{
    struct lite_conn *l = lite_of(c);
    int r = sqldb_commit(l->db, &op->err);
    if (r == 0)
        return 0;
    sqldb_rollback(l->db);
    return fail(c->b, op, r);
}

static void lite_rollback(struct blob_conn *c)
{
    sqldb_rollback(lite_of(c)->db);
}

static const char *const lite_schema[] = {
    "CREATE TABLE {} (path BLOB NOT NULL PRIMARY KEY, kind INTEGER NOT NULL, size INTEGER NOT NULL,"
    " mtime INTEGER NOT NULL, etag TEXT NOT NULL, content INTEGER NOT NULL, meta TEXT NOT NULL)"
    " WITHOUT ROWID",
    "CREATE TABLE {_content} (id INTEGER PRIMARY KEY, refs INTEGER NOT NULL, state INTEGER NOT NULL,"
    " path BLOB NOT NULL, meta TEXT NOT NULL, touched INTEGER NOT NULL)",
    "CREATE INDEX {_content_dead} ON {_content} (state, touched) WHERE state <> 1",
    "CREATE TABLE {_part} (content INTEGER NOT NULL, number INTEGER NOT NULL, start INTEGER NOT NULL,"
    " size INTEGER NOT NULL, etag TEXT NOT NULL, PRIMARY KEY (content, number)) WITHOUT ROWID",
    "CREATE INDEX {_part_start} ON {_part} (content, start)",
    "CREATE TABLE {_chunk} (content INTEGER NOT NULL, part INTEGER NOT NULL, pos INTEGER NOT NULL,"
    " data BLOB NOT NULL, PRIMARY KEY (content, part, pos))",
    "CREATE TABLE {_meta} (name TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL)",
    NULL,
};

static const struct blob_driver lite_driver = {
    .quote = "\"",
    .lock = "", /* a change begins with BEGIN IMMEDIATE: it is alone */
    .move = "CAST(? || substr(path, ?) AS BLOB)",
    .slice = "substr(c.data, 1 + max(0, ? - p.start - c.pos), ? - max(p.start + c.pos, ?))",
    .has_table = "SELECT 1 FROM sqlite_schema WHERE type IN ('table', 'view') AND name = ?",
    .schema = lite_schema,
    .one_writer = true,
    .connect = lite_connect,
    .disconnect = lite_disconnect,
    .run = lite_run,
    .begin = lite_begin,
    .commit = lite_commit,
    .rollback = lite_rollback,
};

/* ---- the class ---- */

static int lite_space(struct store *s, struct op *op, struct store_space *ret)
{
    struct blob *b = blob_of(s);
    CLEANUP_FREE char *dir = xstrdup(b->own);
    struct statvfs v;
    char *slash = strrchr(dir, '/');
    if (slash)
        slash[slash == dir] = '\0';
    if (statvfs(dir, &v) < 0)
        return err_set(&op->err, errno, "statvfs %s: %s", dir, strerror(errno));
    *ret = (struct store_space){
        .total = (uint64_t)v.f_blocks * v.f_frsize,
        .free = (uint64_t)v.f_bfree * v.f_frsize,
        .avail = (uint64_t)v.f_bavail * v.f_frsize,
        .files = UINT32_MAX,
        .files_free = UINT32_MAX,
    };
    return 0;
}

static int lite_open(const struct conf_section *section, struct stats *stats, struct err *err,
                     struct store **ret)
{
    (void)stats;
    const char *path = conf_str(section, "path", NULL), *uri = conf_str(section, "uri", "");
    struct blob *b = NULL;
    if (!path && strncmp(uri, "sqlite:///", 10) == 0)
        path = uri + 9;
    if (!path || !path[0])
        return conf_error(section, *uri ? "uri" : NULL, err, EINVAL,
                          "backend = sqlite needs path = FILE (or uri = sqlite:///FILE)");
    int r = blob_new(section, err, &blob_sqlite_class, &lite_driver, &b);
    if (r < 0)
        return r;
    b->own = xstrdup(path);
    b->store.base_uri = xasprintf("sqlite://%s", path);
    *ret = &b->store;
    return 0;
}

static void lite_place(const struct store *s, struct buf *ret_service, struct buf *ret_path)
{
    const struct blob *b = (const struct blob *)s;
    CLEANUP_FREE char *file = realpath(b->own, NULL);
    (void)ret_service;
    buf_addf(ret_path, "%s/%s", file ? file : (const char *)b->own, b->table);
}

static void lite_close(struct store *s)
{
    struct blob *b = blob_of(s);
    char *path = b->own;
    blob_free(b);
    free(path);
}

const struct store_class blob_sqlite_class = {
    .abi = STORE_ABI,
    .name = "sqlite",
    .summary = "files as BLOBs in a SQLite database",
    .options = sqlite_options,
    .n_options = ARRAY_LEN(sqlite_options),
    .open = lite_open,
    .close = lite_close,
    .place = lite_place,
    .space = lite_space,
    BLOB_SLOTS,
};
