/* SPDX-License-Identifier: MIT
 * meta_db.c: see meta_db.h.
 * Invariants: (1) an attr column holds what attr_to_json gave, with version and size in it; (2) the path
 * of a directory's row is its listing prefix (base/name.h) and ends with '/', that of no other does: files
 * with the empty segment have none, and listings with one are not kept; (3) parent is the directory that holds the
 * name, NULL for the root, which is in none; (4) a row of meta_list says that the rows with that parent
 * are a whole listing. */
#include "cache/meta_db.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/name.h"

#include <errno.h>

#define ROWS_MAX 200000 /* of one key */

struct put_job {
    char *key, *path;
    struct attr attr;
    time_t listed;
};

struct remove_job {
    char *key, *path;
    bool tree;
};

struct listing_job {
    char *key, *dir;
    struct listing *l;
};

static const char *const schema =
    "CREATE TABLE IF NOT EXISTS meta_attr(key TEXT NOT NULL, path TEXT NOT NULL, parent TEXT,"
    " attr TEXT NOT NULL, version TEXT NOT NULL, listed INTEGER NOT NULL, checked INTEGER NOT NULL,"
    " PRIMARY KEY(key, path)) WITHOUT ROWID;"
    "CREATE INDEX IF NOT EXISTS meta_attr_parent ON meta_attr(key, parent);"
    "CREATE INDEX IF NOT EXISTS meta_attr_checked ON meta_attr(key, checked);"
    "CREATE TABLE IF NOT EXISTS meta_list(key TEXT NOT NULL, path TEXT NOT NULL,"
    " checked INTEGER NOT NULL, PRIMARY KEY(key, path)) WITHOUT ROWID;";

/* NULL for the root. */
static char *parent_of(const char *row)
{
    CLEANUP_FREE char *path = path_is_unnamed(row) ? path_of_prefix(row) : xstrdup(row);
    return *path ? path_parent(path) : NULL;
}

static int prepare_put(struct sqldb *db, struct err *err, struct sqlstmt **ret)
{
    return sqldb_kept(db, "INSERT OR REPLACE INTO meta_attr(key, path, parent, attr, version,"
                          " listed, checked) VALUES (?, ?, ?, ?, ?, ?, unixepoch())", err, ret);
}

static int put_row(struct sqlstmt *st, const char *key, const char *path, const char *json,
                   const char *version, time_t listed, struct err *err)
{
    CLEANUP_FREE char *parent = parent_of(path);
    sqldb_bind_text(st, 1, key);
    sqldb_bind_text(st, 2, path);
    sqldb_bind_text(st, 3, parent);
    sqldb_bind_text(st, 4, json);
    sqldb_bind_text(st, 5, version);
    sqldb_bind_i64(st, 6, listed);
    return sqldb_run(st, err);
}

static int put_run(struct sqldb *db, void *arg, struct err *err)
{
    struct put_job *j = arg;
    struct sqlstmt *st = NULL;
    int r = prepare_put(db, err, &st);
    CLEANUP_FREE char *json = attr_to_json(&j->attr);
    if (r == 0)
        r = put_row(st, j->key, j->path, json, j->attr.version, j->listed, err);
    free(j->key);
    free(j->path);
    attr_done(&j->attr);
    free(j);
    return r;
}

bool meta_db_is_same(const struct attr *a, const struct attr *b)
{
    return a->kind == b->kind && a->known == b->known && strcmp(a->version, b->version) == 0 &&
           a->size == b->size && a->mode == b->mode && a->uid == b->uid && a->gid == b->gid &&
           a->mtime.tv_sec == b->mtime.tv_sec && a->mtime.tv_nsec == b->mtime.tv_nsec &&
           a->n_xattrs == 0 && b->n_xattrs == 0;
}

void meta_db_put(struct cache_index *idx, const char *key, const char *path, const struct attr *a,
                 time_t listed)
{
    struct put_job *j = xcalloc(1, sizeof(*j));
    j->key = xstrdup(key);
    j->path = xstrdup(path);
    attr_copy(&j->attr, a);
    j->listed = listed;
    index_post(idx, put_run, j);
}

/* Runs a literal, prepared once, with the texts a and, when the statement has a second place, b. */
static int run_sql(struct sqldb *db, const char *sql, const char *a, const char *b, struct err *err)
{
    struct sqlstmt *st = NULL;
    int r = sqldb_kept(db, sql, err, &st);
    if (r < 0)
        return r;
    sqldb_bind_text(st, 1, a);
    if (b)
        sqldb_bind_text(st, 2, b);
    return sqldb_run(st, err);
}

/* Everything that begins with the listing prefix, which ends with '/': to the one that ends with '0',
 * the next character. */
static int remove_tree(struct sqldb *db, const char *table, const char *key, const char *dir,
                       struct err *err)
{
    CLEANUP_FREE char *from = path_dir_prefix(dir), *to = xstrdup(from);
    to[strlen(to) - 1] = '/' + 1;
    CLEANUP_FREE char *sql = xasprintf("DELETE FROM %s WHERE key = ? AND path >= ? AND path < ?",
                                       table);
    struct sqlstmt *st = NULL;
    int r = sqldb_prepare(db, sql, err, &st);
    if (r < 0)
        return r;
    sqldb_bind_text(st, 1, key);
    sqldb_bind_text(st, 2, from);
    sqldb_bind_text(st, 3, to);
    r = sqldb_run(st, err);
    sqldb_finalize(st);
    return r;
}

static const char remove_attr[] = "DELETE FROM meta_attr WHERE key = ? AND path = ?";

static int remove_run(struct sqldb *db, void *arg, struct err *err)
{
    struct remove_job *j = arg;
    int r = 0;
    if (j->tree && j->path[0] == '\0') {
        r = run_sql(db, "DELETE FROM meta_attr WHERE key = ?", j->key, NULL, err);
        if (r == 0)
            r = run_sql(db, "DELETE FROM meta_list WHERE key = ?", j->key, NULL, err);
    } else {
        CLEANUP_FREE char *dir = path_dir_prefix(j->path);
        r = run_sql(db, remove_attr, j->key, j->path, err);
        if (r == 0)
            r = run_sql(db, remove_attr, j->key, dir, err);
        if (r == 0 && j->tree)
            r = remove_tree(db, "meta_attr", j->key, j->path, err);
        if (r == 0 && j->tree)
            r = remove_tree(db, "meta_list", j->key, j->path, err);
    }
    CLEANUP_FREE char *parent = j->path[0] ? path_parent(j->path) : NULL;
    if (r == 0 && parent) /* its listing is no longer whole */
        r = run_sql(db, "DELETE FROM meta_list WHERE key = ? AND path = ?", j->key, parent, err);
    free(j->key);
    free(j->path);
    free(j);
    return r;
}

void meta_db_remove(struct cache_index *idx, const char *key, const char *path, bool tree)
{
    struct remove_job *j = xcalloc(1, sizeof(*j));
    *j = (struct remove_job){.key = xstrdup(key), .path = xstrdup(path), .tree = tree};
    index_post(idx, remove_run, j);
}

static int put_entries(struct sqldb *db, const struct listing_job *j, struct err *err)
{
    struct sqlstmt *st = NULL;
    int r = prepare_put(db, err, &st);
    for (size_t i = 0; i < j->l->n && r == 0; i++) {
        CLEANUP_ATTR struct attr a = ATTR_INIT;
        listing_get(j->l, i, &a);
        CLEANUP_FREE char *path = path_child(j->dir, listing_name(j->l, i));
        CLEANUP_FREE char *row = a.kind == ATTR_DIR ? path_dir_prefix(path) : xstrdup(path);
        CLEANUP_FREE char *json = attr_to_json(&a);
        r = put_row(st, j->key, row, json, a.version, 0, err);
    }
    return r;
}

static int listing_run(struct sqldb *db, void *arg, struct err *err)
{
    struct listing_job *j = arg;
    int r = run_sql(db, "DELETE FROM meta_attr WHERE key = ? AND parent = ?", j->key, j->dir, err);
    if (r == 0)
        r = put_entries(db, j, err);
    if (r == 0)
        r = run_sql(db, "INSERT OR REPLACE INTO meta_list(key, path, checked)"
                        " VALUES (?, ?, unixepoch())", j->key, j->dir, err);
    free(j->key);
    free(j->dir);
    listing_put(j->l);
    free(j);
    return r;
}

void meta_db_put_listing(struct cache_index *idx, const char *key, const char *dir,
                         struct listing *l)
{
    if (l->n && !listing_name(l, 0)[0] && !listing_is_dir(l, 0))
        return;
    struct listing_job *j = xcalloc(1, sizeof(*j));
    *j = (struct listing_job){.key = xstrdup(key), .dir = xstrdup(dir), .l = listing_ref(l)};
    index_post(idx, listing_run, j);
}

/* ---- reading ---- */

struct open_call {
    const char *key;
    unsigned max;
    meta_db_row_fn *row;
    void *arg;
};

static int prune(struct sqldb *db, const char *key, struct err *err)
{
    struct sqlstmt *st = NULL;
    int r = sqldb_kept(db, "DELETE FROM meta_attr WHERE key = ?1 AND checked < (SELECT checked FROM meta_attr"
                           " WHERE key = ?1 ORDER BY checked DESC LIMIT 1 OFFSET ?2)", err, &st);
    if (r < 0)
        return r;
    sqldb_bind_text(st, 1, key);
    sqldb_bind_i64(st, 2, ROWS_MAX);
    return sqldb_run(st, err);
}

static int load(struct sqldb *db, const struct open_call *c, struct err *err)
{
    struct sqlstmt *st = NULL;
    CLEANUP_FREE char *sql = xasprintf("SELECT path, attr, listed FROM meta_attr WHERE key = ?"
                                       " ORDER BY checked DESC LIMIT %u", c->max);
    int r = sqldb_prepare(db, sql, err, &st);
    if (r < 0)
        return r;
    sqldb_bind_text(st, 1, c->key);
    while ((r = sqldb_step(st, err)) == 1) {
        struct attr a = ATTR_INIT;
        if (attr_from_json(sqldb_text(st, 1), &a))
            c->row(c->arg, sqldb_text(st, 0), &a, (time_t)sqldb_i64(st, 2));
    }
    sqldb_finalize(st);
    return r;
}

static int open_run(struct sqldb *db, void *arg, struct err *err)
{
    const struct open_call *c = arg;
    int r = sqldb_exec(db, err, schema);
    if (r == 0)
        r = prune(db, c->key, err);
    return r < 0 ? r : load(db, c, err);
}

int meta_db_open(struct cache_index *idx, const char *key, unsigned max, meta_db_row_fn *row,
                 void *arg, struct err *err)
{
    struct open_call c = {.key = key, .max = max, .row = row, .arg = arg};
    return index_call(idx, open_run, &c, err);
}

struct get_call {
    const char *key, *path;
    struct attr *ret;
    struct listing *list;
    bool found;
};

static int get_run(struct sqldb *db, void *arg, struct err *err)
{
    struct get_call *c = arg;
    struct sqlstmt *st = NULL;
    int r = sqldb_prepare(db, "SELECT attr FROM meta_attr WHERE key = ? AND path = ?", err, &st);
    if (r < 0)
        return r;
    sqldb_bind_text(st, 1, c->key);
    sqldb_bind_text(st, 2, c->path);
    r = sqldb_step(st, err);
    if (r == 1)
        c->found = attr_from_json(sqldb_text(st, 0), c->ret);
    sqldb_finalize(st);
    return r < 0 ? r : 0;
}

int meta_db_get(struct cache_index *idx, const char *key, const char *path, struct attr *ret)
{
    struct err err = ERR_INIT;
    struct get_call c = {.key = key, .path = path, .ret = ret};
    int r = index_call(idx, get_run, &c, &err);
    return r < 0 ? r : c.found ? 0 : -ENOENT;
}

static int list_known(struct sqldb *db, const struct get_call *c, struct err *err)
{
    struct sqlstmt *st = NULL;
    int r = sqldb_prepare(db, "SELECT 1 FROM meta_list WHERE key = ? AND path = ?", err, &st);
    if (r < 0)
        return r;
    sqldb_bind_text(st, 1, c->key);
    sqldb_bind_text(st, 2, c->path);
    r = sqldb_step(st, err);
    sqldb_finalize(st);
    return r;
}

static int list_run(struct sqldb *db, void *arg, struct err *err)
{
    struct get_call *c = arg;
    struct sqlstmt *st = NULL;
    int r = list_known(db, c, err);
    if (r <= 0)
        return r;
    r = sqldb_prepare(db, "SELECT path, attr FROM meta_attr WHERE key = ? AND parent = ?", err, &st);
    if (r < 0)
        return r;
    sqldb_bind_text(st, 1, c->key);
    sqldb_bind_text(st, 2, c->path);
    while ((r = sqldb_step(st, err)) == 1) {
        CLEANUP_ATTR struct attr a = ATTR_INIT;
        const char *row = sqldb_text(st, 0);
        CLEANUP_FREE char *path = path_is_unnamed(row) ? path_of_prefix(row) : xstrdup(row);
        size_t up = 0;
        if (attr_from_json(sqldb_text(st, 1), &a))
            listing_add(c->list, path_base(path, &up), &a, 0);
    }
    sqldb_finalize(st);
    c->found = r == 0;
    return r;
}

int meta_db_listing(struct cache_index *idx, const char *key, const char *dir,
                    struct listing **ret)
{
    struct err err = ERR_INIT;
    struct get_call c = {.key = key, .path = dir, .list = listing_new()};
    int r = index_call(idx, list_run, &c, &err);
    if (r < 0 || !c.found) {
        listing_put(c.list);
        return r < 0 ? r : -ENOENT;
    }
    listing_sort(c.list);
    *ret = c.list;
    return 0;
}
