/* SPDX-License-Identifier: MIT
 * blob.c: opening a store of BLOBs, and its tables: found, made when they are missing, their version checked. */
#include "backends/blob/blob_int.h"

#include "base/clock.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#define SCHEMA_VERSION "1"
#define TABLE_MAX 40 /* longer ones: PostgreSQL cuts names of 64 bytes, ours have a suffix */
#define EXPIRY_MIN_MS (3600u * 1000)
#define MIB (1024ULL * 1024)

static int check_table_name(const struct conf_section *section, const char *name, struct err *err)
{
    bool good = name[0] && !isdigit((unsigned char)name[0]) && strlen(name) <= TABLE_MAX;
    for (const char *p = name; *p; p++)
        good = good && (isalnum((unsigned char)*p) || *p == '_');
    if (good)
        return 0;
    return conf_error(section, "table", err, EINVAL,
                      "table = %s: letters, digits and '_', at most %d, not beginning with a digit",
                      name, TABLE_MAX);
}

int blob_new(const struct conf_section *section, struct err *err, const struct store_class *cls,
             const struct blob_driver *d, struct blob **ret)
{
    const char *table = conf_str(section, "table", "files");
    int r = check_table_name(section, table, err);
    if (r < 0)
        return r;
    struct blob *b = xcalloc(1, sizeof(*b));
    b->store = (struct store){
        .cls = cls,
        .caps = CAP_WRITE | CAP_IF_MATCH | CAP_RENAME_FILE | CAP_RENAME_DIR | CAP_COPY | CAP_PATCH |
                CAP_UPLOAD | CAP_SET_META | CAP_LIST_META | CAP_READ_META | CAP_SYMLINK |
                CAP_LIST_AFTER,
        .limits = {.put_max = BLOB_PART_MAX,
                   .upload_threshold = 16 * MIB,
                   .part_size = 8 * MIB,
                   .part_min = 1,
                   .part_max = BLOB_PART_MAX,
                   .parts_max = 10000,
                   .concurrency = 4,
                   .key_max = 1024,
                   .delete_max = 200},
    };
    b->d = d;
    b->table = xstrdup(table);
    b->read_only = conf_bool(section, "read_only", false);
    b->create = conf_bool(section, "create_if_missing", true) && !b->read_only;
    b->expiry_ms = conf_ms(section, "upload_expiry", 24ULL * 3600 * 1000);
    if (b->expiry_ms < EXPIRY_MIN_MS)
        b->expiry_ms = b->expiry_ms ? EXPIRY_MIN_MS : INT64_MAX / 2;
    b->max_connections = (unsigned)conf_int(section, "max_connections", 8);
    blob_sql_prepare(b);
    lock_init(&b->sync.lock, LOCK_RANK_STORE, "blob store");
    cond_init(&b->sync.changed);
    *ret = b;
    return 0;
}

void blob_free(struct blob *b)
{
    blob_pool_close(b);
    for (size_t i = 0; i < SQL_COUNT; i++)
        free(b->sql[i]);
    free(b->table);
    cond_done(&b->sync.changed);
    lock_done(&b->sync.lock);
    free(b);
}

/* ---- tables ---- */

static int count_row(void *arg, struct op *op, const struct blob_value *row)
{
    (void)op, (void)row;
    ++*(unsigned *)arg;
    return 0;
}

static int has_table(struct blob_conn *c, struct op *op, const char *suffix, bool *ret)
{
    CLEANUP_FREE char *name = xasprintf("%s%s", c->b->table, suffix);
    unsigned n = 0;
    int r = BLOB_RUN(c, op, SQL_HAS_TABLE, count_row, &n, NULL, blob_text(name));
    *ret = n > 0;
    return r;
}

static int text_row(void *arg, struct op *op, const struct blob_value *row)
{
    (void)op;
    char **text = arg;
    free(*text);
    *text = xstrndup(row[0].p, row[0].n);
    return 0;
}

/* 1: there is none, as when the program that made the tables was killed. */
static int check_version(struct blob_conn *c, struct op *op)
{
    CLEANUP_FREE char *version = NULL;
    int r = BLOB_RUN(c, op, SQL_GET_META, text_row, &version, NULL, blob_text("version"));
    if (r < 0)
        return r;
    if (!version)
        return 1;
    if (strcmp(version, SCHEMA_VERSION) != 0)
        return err_set(&op->err, EIO,
                       "the tables '%s...' have version '%s', this program knows version "
                       "%s: use the program that made them, or another 'table'",
                       c->b->table, version, SCHEMA_VERSION);
    return 0;
}

static int make_tables(struct blob_conn *c, struct op *op)
{
    struct blob *b = c->b;
    int r = b->d->begin(c, op);
    for (size_t i = 0; b->d->schema[i] && r == 0; i++) {
        CLEANUP_FREE char *sql = blob_sql_expand(b->d, b->table, b->d->schema[i]);
        r = b->d->run(c, op, SQL_NONE, sql, NULL, 0, NULL, NULL, &(int64_t){0});
    }
    if (r == 0)
        r = BLOB_RUN(c, op, SQL_SET_META, NULL, NULL, NULL, blob_text("version"),
                     blob_text(SCHEMA_VERSION));
    if (r == 0)
        return b->d->commit(c, op);
    if (!c->broken)
        b->d->rollback(c);
    return r;
}

int blob_check_tables(struct blob_conn *c, struct op *op)
{
    struct blob *b = c->b;
    bool meta = false, files = false;
    int r = has_table(c, op, "_meta", &meta);
    if (r == 0 && !meta)
        r = has_table(c, op, "", &files);
    if (r == 0 && files)
        return err_set(&op->err, EIO,
                       "the table '%s' is there and was not made by quayfs: name another one by 'table'",
                       b->table);
    if (r < 0)
        return r;
    if (!meta && !b->create)
        return err_set(&op->err, EIO, "there is no table '%s', and %s", b->table,
                       b->read_only ? "the store is read_only" : "create_if_missing = no");
    r = meta ? check_version(c, op) : 1;
    if (r == 1 && !b->create)
        return err_set(&op->err, EIO, "the tables '%s...' have no version", b->table);
    if (r <= 0)
        return r;
    r = make_tables(c, op);
    if (r == 0 || c->broken)
        return r;
    struct err keep = op->err; /* another has made them at the same time? */
    if (has_table(c, op, "_meta", &meta) == 0 && meta && check_version(c, op) == 0)
        return 0;
    op->err = keep;
    return r;
}
