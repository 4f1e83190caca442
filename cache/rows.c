/* SPDX-License-Identifier: MIT
 * rows.c: the tables of the block cache in index.db, and how they are loaded at start.
 *
 *   object(id INTEGER PRIMARY KEY, key, path, version, size, file, used)   one object version
 *   extent(object, off, len, crc) PRIMARY KEY(object, off)                 present bytes, in one
 * block cache_meta(name PRIMARY KEY, value)                                    block_size, clean
 * Invariants
 *   1. Rows are posted under cache->lock, so their order is that of the changes in memory.
 *   2. An extent row replaces the rows inside its range: rows of one object never overlap.
 *   3. `clean` is 1 only while no process has the cache open and the last one ended well; else
 * files without an object are looked for at start.
 *   4. Statements are used on the index thread only. */
#include "cache/object_int.h"

#include "base/log.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum statement {
    PUT_OBJECT,
    DROP_OBJECT,
    DROP_ALL,
    PUT_EXTENT,
    DROP_EXTENTS,
    SET_USED,
    N_STATEMENTS
};

static const char *const statements[N_STATEMENTS] = {
    [PUT_OBJECT] = "INSERT OR REPLACE INTO object VALUES (?, ?, ?, ?, ?, ?, ?)",
    [DROP_OBJECT] = "DELETE FROM object WHERE id = ?",
    [DROP_ALL] = "DELETE FROM extent WHERE object = ?",
    [PUT_EXTENT] = "INSERT OR REPLACE INTO extent(object, off, len, crc) VALUES (?, ?, ?, ?)",
    [DROP_EXTENTS] = "DELETE FROM extent WHERE object = ? AND off >= ? AND off < ?",
    [SET_USED] = "UPDATE object SET used = ? WHERE id = ?",
};

struct rows {
    struct sqlstmt *st[N_STATEMENTS];
};

struct row_used {
    uint64_t id, used_ms;
};

/* A change on its way to the index thread. */
struct row_job {
    struct rows *rows;
    uint64_t id, off, len, size, used_ms;
    uint32_t crc;
    char *text; /* PUT_OBJECT: key NUL path NUL version NUL file NUL */
    struct row_used *used;
    size_t n_used;
};

static struct row_job *job_new(const struct cache_object *o)
{
    struct row_job *j = xcalloc(1, sizeof(*j));
    j->rows = o->cache->rows;
    j->id = o->id;
    return j;
}

static void job_free(struct row_job *j)
{
    free(j->text);
    free(j->used);
    free(j);
}

static void bind_all(struct sqlstmt *st, const uint64_t *v, int n)
{
    for (int i = 0; i < n; i++)
        sqldb_bind_i64(st, i + 1, (int64_t)v[i]);
}

static int run(const struct row_job *j, enum statement which, const uint64_t *v, int n,
               struct err *err)
{
    struct sqlstmt *st = j->rows->st[which];
    bind_all(st, v, n);
    return sqldb_run(st, err);
}

/* ---- jobs; each frees its argument ---- */
static int do_put_object(struct sqldb *db, void *arg, struct err *err)
{
    (void)db;
    struct row_job *j = arg;
    struct sqlstmt *st = j->rows->st[PUT_OBJECT];
    const char *s = j->text;
    sqldb_bind_i64(st, 1, (int64_t)j->id);
    for (int i = 2; i <= 6; i++) {
        if (i == 5)
            continue;
        sqldb_bind_text(st, i, s);
        s += strlen(s) + 1;
    }
    sqldb_bind_i64(st, 5, (int64_t)j->size);
    sqldb_bind_i64(st, 7, (int64_t)j->used_ms);
    int r = sqldb_run(st, err);
    job_free(j);
    return r;
}

static int do_put_extent(struct sqldb *db, void *arg, struct err *err)
{
    (void)db;
    struct row_job *j = arg;
    int r = run(j, DROP_EXTENTS, (uint64_t[]){j->id, j->off, j->off + j->len}, 3, err);
    if (r == 0)
        r = run(j, PUT_EXTENT, (uint64_t[]){j->id, j->off, j->len, j->crc}, 4, err);
    job_free(j);
    return r;
}

static int do_drop_extents(struct sqldb *db, void *arg, struct err *err)
{
    (void)db;
    struct row_job *j = arg;
    int r = run(j, DROP_EXTENTS, (uint64_t[]){j->id, j->off, j->off + j->len}, 3, err);
    job_free(j);
    return r;
}

static int do_drop_object(struct sqldb *db, void *arg, struct err *err)
{
    (void)db;
    struct row_job *j = arg;
    int r = run(j, DROP_ALL, &j->id, 1, err);
    if (r == 0)
        r = run(j, DROP_OBJECT, &j->id, 1, err);
    job_free(j);
    return r;
}

static int do_used(struct sqldb *db, void *arg, struct err *err)
{
    (void)db;
    struct row_job *j = arg;
    int r = 0;
    for (size_t i = 0; i < j->n_used && r == 0; i++)
        r = run(j, SET_USED, (uint64_t[]){j->used[i].used_ms, j->used[i].id}, 2, err);
    job_free(j);
    return r;
}

/* ---- posting ---- */
static void post_object_locked(struct cache_object *o)
{
    struct buf b = BUF_INIT;
    char file[68];
    object_hex(o, file);
    o->id = o->cache->s.next_id++;
    struct row_job *j = job_new(o);
    buf_add(&b, o->key->name, strlen(o->key->name) + 1);
    buf_add(&b, o->path, strlen(o->path) + 1);
    buf_add(&b, o->version, strlen(o->version) + 1);
    buf_add(&b, file, sizeof(file));
    j->text = buf_take(&b);
    j->size = o->size;
    j->used_ms = o->used_ms ? o->used_ms : cache_now_ms();
    index_post(o->cache->index, do_put_object, j);
}

void rows_put_extent_locked(struct cache_object *o, uint32_t no, const struct extent *e)
{
    lock_assert_held(&o->cache->lock);
    if (o->zombie)
        return;
    if (o->id == 0)
        post_object_locked(o);
    struct row_job *j = job_new(o);
    j->off = no * o->cache->set.block_size + e->off;
    j->len = e->len;
    j->crc = e->crc;
    index_post(o->cache->index, do_put_extent, j);
}

void rows_drop_extents_locked(struct cache_object *o, uint64_t off, uint64_t len)
{
    lock_assert_held(&o->cache->lock);
    if (o->id == 0)
        return;
    struct row_job *j = job_new(o);
    j->off = off;
    j->len = len;
    index_post(o->cache->index, do_drop_extents, j);
}

void rows_drop_object_locked(struct cache_object *o)
{
    lock_assert_held(&o->cache->lock);
    if (o->id == 0)
        return;
    index_post(o->cache->index, do_drop_object, job_new(o));
    o->id = 0;
}

void rows_flush_used(struct cache *c)
{
    struct row_job *j = xcalloc(1, sizeof(*j));
    size_t cap = 0;
    j->rows = c->rows;
    lock_acquire(&c->lock);
    for (struct cache_object *o = c->s.touched; o; o = o->next_touched) {
        o->touched = false;
        if (j->n_used == cap) {
            cap = cap ? cap * 2 : 64;
            j->used = xrealloc(j->used, cap * sizeof(*j->used));
        }
        j->used[j->n_used++] = (struct row_used){o->id, o->used_ms};
    }
    c->s.touched = NULL;
    lock_release(&c->lock);
    if (j->n_used)
        index_post(c->index, do_used, j);
    else
        job_free(j);
}

/* ---- loading; runs on the index thread while cache_open waits, so nothing else is running ---- */
struct load {
    struct cache *c;
    struct cache_object **objects; /* by rising id */
    size_t n, cap;
    bool clean;
};

static int64_t meta_get(struct sqldb *db, const char *name, struct err *err)
{
    struct sqlstmt *st = NULL;
    int64_t v = -1;
    if (sqldb_prepare(db, "SELECT value FROM cache_meta WHERE name = ?", err, &st) < 0)
        return -1;
    sqldb_bind_text(st, 1, name);
    if (sqldb_step(st, err) == 1)
        v = sqldb_i64(st, 0);
    sqldb_finalize(st);
    return v;
}

static int meta_set(struct sqldb *db, const char *name, uint64_t value, struct err *err)
{
    struct sqlstmt *st = NULL;
    int r =
        sqldb_prepare(db, "INSERT OR REPLACE INTO cache_meta(name, value) VALUES (?, ?)", err, &st);
    if (r < 0)
        return r;
    sqldb_bind_text(st, 1, name);
    sqldb_bind_i64(st, 2, (int64_t)value);
    r = sqldb_run(st, err);
    sqldb_finalize(st);
    return r;
}

static int make_tables(struct load *l, struct sqldb *db, struct err *err)
{
    int r =
        sqldb_exec(db, err,
                   "CREATE TABLE IF NOT EXISTS object (id INTEGER PRIMARY KEY, key TEXT NOT NULL,"
                   " path TEXT NOT NULL, version TEXT NOT NULL, size INTEGER NOT NULL,"
                   " file TEXT NOT NULL, used INTEGER NOT NULL);"
                   "CREATE TABLE IF NOT EXISTS extent (object INTEGER NOT NULL,"
                   " off INTEGER NOT NULL, len INTEGER NOT NULL, crc INTEGER NOT NULL,"
                   " PRIMARY KEY (object, off)) WITHOUT ROWID;"
                   "CREATE TABLE IF NOT EXISTS cache_meta (name TEXT PRIMARY KEY, value INTEGER)");
    if (r < 0)
        return r;
    uint64_t block_size = l->c->set.block_size;
    l->clean = meta_get(db, "clean", err) == 1;
    if (meta_get(db, "block_size", err) != (int64_t)block_size) { /* extents may cross a border */
        l->clean = false;
        r = sqldb_exec(db, err, "DELETE FROM object; DELETE FROM extent");
    } else if (!l->clean)
        r = sqldb_exec(db, err, "DELETE FROM extent WHERE object NOT IN (SELECT id FROM object)");
    if (r == 0)
        r = meta_set(db, "block_size", block_size, err);
    return r < 0 ? r : meta_set(db, "clean", 0, err);
}

static int load_objects(struct load *l, struct sqldb *db, struct err *err)
{
    struct cache *c = l->c;
    struct sqlstmt *st = NULL;
    int r = sqldb_prepare(db, "SELECT id, key, path, version, size, used FROM object ORDER BY id",
                          err, &st);
    if (r < 0)
        return r;
    while ((r = sqldb_step(st, err)) == 1) {
        lock_acquire(&c->lock);
        struct cache_object *o =
            object_new(c, object_key_locked(c, sqldb_text(st, 1)), sqldb_text(st, 2),
                       sqldb_text(st, 3), (uint64_t)sqldb_i64(st, 4), true);
        o->id = (uint64_t)sqldb_i64(st, 0);
        o->used_ms = (uint64_t)sqldb_i64(st, 5);
        o->has_file = true;
        c->s.next_id = o->id + 1;
        bool twice = object_find_locked(c, o->name, true) != NULL;
        if (twice)
            rows_drop_object_locked(o);
        else
            object_insert_locked(o);
        lock_release(&c->lock);
        if (twice) {
            object_free(o);
            continue;
        }
        if (l->n == l->cap) {
            l->cap = l->cap ? l->cap * 2 : 1024;
            l->objects = xrealloc(l->objects, l->cap * sizeof(struct cache_object *));
        }
        l->objects[l->n++] = o;
    }
    sqldb_finalize(st);
    return r;
}

static bool is_sound(const struct cache *c, const struct cache_object *o, int64_t off, int64_t len)
{
    return off >= 0 && len > 0 && (uint64_t)off < o->size &&
           (uint64_t)len <= o->size - (uint64_t)off &&
           (uint64_t)len <= c->set.block_size - block_rel(c, (uint64_t)off);
}

static int load_extents(struct load *l, struct sqldb *db, struct err *err)
{
    struct cache *c = l->c;
    struct sqlstmt *st = NULL;
    int r = sqldb_prepare(db, "SELECT object, off, len, crc FROM extent ORDER BY object, off", err,
                          &st);
    if (r < 0)
        return r;
    size_t i = 0;
    while ((r = sqldb_step(st, err)) == 1) {
        uint64_t id = (uint64_t)sqldb_i64(st, 0);
        int64_t off = sqldb_i64(st, 1), len = sqldb_i64(st, 2);
        while (i < l->n && l->objects[i]->id < id)
            i++;
        if (id >= c->s.next_id)
            c->s.next_id = id + 1; /* an orphan: its number is not used again */
        if (i == l->n || l->objects[i]->id != id || !is_sound(c, l->objects[i], off, len))
            continue;
        struct extent e = {.off = block_rel(c, (uint64_t)off),
                           .len = (uint32_t)len,
                           .crc = (uint32_t)sqldb_i64(st, 3),
                           .flags = c->set.verify ? 0 : EXTENT_VERIFIED};
        lock_acquire(&c->lock);
        block_load_locked(l->objects[i], block_no(c, (uint64_t)off), e);
        lock_release(&c->lock);
    }
    sqldb_finalize(st);
    return r < 0 ? r : 0;
}

static int by_used(const void *a, const void *b)
{
    const struct cache_object *x = *(struct cache_object *const *)a,
                              *y = *(struct cache_object *const *)b;
    return (x->used_ms > y->used_ms) - (x->used_ms < y->used_ms);
}

/* The LRU order follows the objects' last use; objects without any extent are dropped. */
static void order(struct load *l)
{
    struct cache *c = l->c;
    if (l->n)
        qsort(l->objects, l->n, sizeof(struct cache_object *), by_used);
    LOCK_SCOPE(&c->lock);
    for (size_t i = 0; i < l->n; i++) {
        struct cache_object *o = l->objects[i];
        for (uint32_t k = 0; k < o->n_blocks; k++)
            if (evict_listed(&o->blocks[k]->lru))
                evict_touch(object_list(o), &o->blocks[k]->lru, o->used_ms);
        if (o->n_blocks)
            continue;
        rows_drop_object_locked(o);
        object_take_out_locked(o);
        object_free(o);
        l->clean = false; /* its file is swept */
    }
}

static int do_load(struct sqldb *db, void *arg, struct err *err)
{
    struct load *l = arg;
    int r = make_tables(l, db, err);
    for (int i = 0; i < N_STATEMENTS && r == 0; i++)
        r = sqldb_prepare(db, statements[i], err, &l->c->rows->st[i]);
    if (r == 0)
        r = pins_load(l->c, db, err);
    if (r == 0)
        r = load_objects(l, db, err);
    if (r == 0)
        r = load_extents(l, db, err);
    if (r == 0)
        order(l);
    return r;
}

int rows_open(struct cache *c, struct err *err, bool *ret_clean)
{
    struct load l = {.c = c};
    c->rows = xcalloc(1, sizeof(*c->rows));
    int r = index_call(c->index, do_load, &l, err);
    free(l.objects);
    if (r < 0)
        return r;
    *ret_clean = l.clean;
    return 0;
}

static int do_close(struct sqldb *db, void *arg, struct err *err)
{
    struct rows *rows = arg;
    int r = meta_set(db, "clean", 1, err);
    for (int i = 0; i < N_STATEMENTS; i++) {
        sqldb_finalize(rows->st[i]);
        rows->st[i] = NULL;
    }
    return r;
}

void rows_close(struct cache *c)
{
    if (!c->rows)
        return;
    rows_flush_used(c);
    struct err ignored = ERR_INIT;
    (void)index_call(c->index, do_close, c->rows, &ignored);
    free(c->rows);
    c->rows = NULL;
}
