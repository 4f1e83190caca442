/* SPDX-License-Identifier: MIT
 * pin.c: the pins of each key, their rows, and which objects they cover.
 *   pin(key, path, bytes, files, since) PRIMARY KEY(key, path)
 * Invariants, under cache->lock: (1) no pin of a key is at or below another; (2) o->pinned of a named
 * object is pins_cover_locked() of its path: set when it is inserted and when the pins change. */
#include "cache/pin.h"

#include "base/conf.h"
#include "base/name.h"
#include "cache/object_int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define KEPT_PART 8     /* this part of max_size is not pinned */
#define COST_OF_FILE 600 /* memory for a pinned file, about: object, block, path */

struct pin {
    struct pin *next;
    uint64_t bytes, files, since_ms, checked_ms;
    char *error; /* NULL: complete */
    char path[];
};

static struct pin *find_covering(const struct cache_key *k, const char *path)
{
    struct pin *p = k ? k->pins : NULL;
    while (p && !path_within(path, p->path))
        p = p->next;
    return p;
}

bool pins_cover_locked(const struct cache_key *k, const char *path)
{
    return find_covering(k, path) != NULL;
}

static struct pin *pin_new(const char *path, uint64_t bytes, uint64_t files, uint64_t since_ms)
{
    size_t n = strlen(path) + 1;
    struct pin *p = xcalloc(1, sizeof(*p) + n);
    p->bytes = bytes;
    p->files = files;
    p->since_ms = since_ms;
    memcpy(p->path, path, n);
    return p;
}

static void pin_free(struct pin *p)
{
    free(p->error);
    free(p);
}

void pins_free(struct cache_key *k)
{
    for (struct pin *p = k->pins, *next; p; p = next) {
        next = p->next;
        pin_free(p);
    }
    k->pins = NULL;
}

/* ---- rows ---- */
struct pin_row {
    const char *key, *path; /* path NULL: no row is put */
    uint64_t bytes, files, since_ms;
    const char **drop; /* paths */
    size_t n_drop;
};

static int put_row(struct sqldb *db, const struct pin_row *row, struct err *err)
{
    struct sqlstmt *st = NULL;
    int r = sqldb_prepare(db, "INSERT OR REPLACE INTO pin VALUES (?, ?, ?, ?, ?)", err, &st);
    if (r < 0)
        return r;
    sqldb_bind_text(st, 1, row->key);
    sqldb_bind_text(st, 2, row->path);
    sqldb_bind_i64(st, 3, (int64_t)row->bytes);
    sqldb_bind_i64(st, 4, (int64_t)row->files);
    sqldb_bind_i64(st, 5, (int64_t)row->since_ms);
    r = sqldb_run(st, err);
    sqldb_finalize(st);
    return r;
}

static int drop_row(struct sqldb *db, const char *key, const char *path, struct err *err)
{
    struct sqlstmt *st = NULL;
    int r = sqldb_prepare(db, "DELETE FROM pin WHERE key = ? AND path = ?", err, &st);
    if (r < 0)
        return r;
    sqldb_bind_text(st, 1, key);
    sqldb_bind_text(st, 2, path);
    r = sqldb_run(st, err);
    sqldb_finalize(st);
    return r;
}

static int do_rows(struct sqldb *db, void *arg, struct err *err)
{
    const struct pin_row *row = arg;
    int r = 0;
    for (size_t i = 0; i < row->n_drop && r == 0; i++)
        r = drop_row(db, row->key, row->drop[i], err);
    return r == 0 && row->path ? put_row(db, row, err) : r;
}

int pins_load(struct cache *c, struct sqldb *db, struct err *err)
{
    struct sqlstmt *st = NULL;
    int r = sqldb_exec(db, err,
                       "CREATE TABLE IF NOT EXISTS pin (key TEXT NOT NULL, path TEXT NOT NULL,"
                       " bytes INTEGER NOT NULL, files INTEGER NOT NULL, since INTEGER NOT NULL,"
                       " PRIMARY KEY (key, path)) WITHOUT ROWID");
    if (r == 0)
        r = sqldb_prepare(db, "SELECT key, path, bytes, files, since FROM pin ORDER BY key, path",
                          err, &st);
    if (r < 0)
        return r;
    while ((r = sqldb_step(st, err)) == 1) {
        struct pin *p = pin_new(sqldb_text(st, 1), (uint64_t)sqldb_i64(st, 2),
                                (uint64_t)sqldb_i64(st, 3), (uint64_t)sqldb_i64(st, 4));
        lock_acquire(&c->lock);
        struct cache_key *k = object_key_locked(c, sqldb_text(st, 0));
        p->next = k->pins;
        k->pins = p;
        lock_release(&c->lock);
    }
    sqldb_finalize(st);
    return r;
}

/* ---- covering ---- */
/* The object is in the other list from now on. */
static void flip_locked(struct cache_object *o)
{
    struct cache *c = o->cache;
    struct evict_list *from = object_list(o);
    struct evict_list *to = o->pinned ? &c->s.lru : &c->s.pinned;
    for (uint32_t i = 0; i < o->n_blocks; i++) {
        struct evict_item *it = &o->blocks[i]->lru;
        if (!evict_listed(it))
            continue;
        evict_remove(from, it);
        evict_add(to, it, it->bytes, it->used_ms);
    }
    o->key->pinned = o->pinned ? o->key->pinned - o->bytes : o->key->pinned + o->bytes;
    o->pinned = !o->pinned;
}

static void apply_locked(struct cache *c, const struct cache_key *k)
{
    for (size_t i = 0; i < c->s.n_buckets; i++)
        for (struct cache_object *o = c->s.by_name[i]; o; o = o->next_name)
            if (o->key == k && o->keep && o->pinned != pins_cover_locked(k, o->path))
                flip_locked(o);
}

/* ---- limits ---- */
static uint64_t limit_locked(const struct cache *c)
{
    uint64_t limit = c->set.max_size ? c->set.max_size - c->set.max_size / KEPT_PART : UINT64_MAX;
    uint64_t disk = c->s.disk_free + c->s.lru.bytes + c->s.pinned.bytes;
    disk = disk > c->set.min_free ? disk - c->set.min_free : 0;
    return limit < disk ? limit : disk;
}

struct wanted {
    uint64_t bytes, files;
};

/* Of all pins but those at or below `path` of key `k`. */
static struct wanted others_locked(const struct cache *c, const struct cache_key *k,
                                   const char *path)
{
    struct wanted w = {0};
    STRMAP_EACH(&c->s.keys, it)
    {
        const struct cache_key *x = it->value;
        for (const struct pin *p = x->pins; p; p = p->next) {
            if (x == k && path_within(p->path, path))
                continue;
            w.bytes += p->bytes;
            w.files += p->files;
        }
    }
    return w;
}

static int check_limits_locked(const struct cache *c, const struct cache_key *k, const char *path,
                               struct wanted add, struct err *err)
{
    struct wanted w = others_locked(c, k, path);
    uint64_t limit = limit_locked(c), files = c->index_max / COST_OF_FILE;
    char a[32], b[32], l[32];
    format_size(add.bytes, a);
    format_size(w.bytes, b);
    format_size(limit, l);
    if (w.bytes + add.bytes > limit)
        return err_set(err, ENOSPC,
                       "%s/%s takes %s, %s are pinned already, and %s may be pinned in %s (max_size "
                       "less an eighth, and the disk's free space less min_free): raise [cache] "
                       "max_size, or unpin something", k->name, path, a, b, l, c->dir);
    if (w.files + add.files > files)
        return err_set(err, ENOSPC,
                       "%s/%s has %llu files, %llu are pinned already, and the index has memory for "
                       "%llu pinned files: raise memory_limit, or pin less", k->name, path,
                       (unsigned long long)add.files, (unsigned long long)w.files,
                       (unsigned long long)files);
    return 0;
}

uint64_t cache_pin_room(struct cache *c)
{
    LOCK_SCOPE(&c->lock);
    uint64_t limit = limit_locked(c), used = c->s.pinned.bytes;
    return limit > used ? limit - used : 0;
}

/* ---- pinning ---- */
/* Takes the pins at or below `path` out of the key; a list. */
static struct pin *take_below_locked(struct cache_key *k, const char *path)
{
    struct pin *taken = NULL;
    for (struct pin **at = &k->pins; *at;) {
        struct pin *p = *at;
        if (!path_within(p->path, path)) {
            at = &p->next;
            continue;
        }
        *at = p->next;
        p->next = taken;
        taken = p;
    }
    return taken;
}

static void give_back_locked(struct cache_key *k, struct pin *list)
{
    while (list) {
        struct pin *p = list;
        list = p->next;
        p->next = k->pins;
        k->pins = p;
    }
}

static void free_list(struct pin *list)
{
    while (list) {
        struct pin *p = list;
        list = p->next;
        pin_free(p);
    }
}

/* The rows of the list go, that of `add` (may be NULL) comes. */
static int write_rows(struct cache *c, const char *key, const struct pin *drop,
                      const struct pin *add, struct err *err)
{
    size_t n = 0;
    for (const struct pin *p = drop; p; p = p->next)
        n++;
    struct pin_row row = {.key = key, .drop = xcalloc(n + 1, sizeof(char *))};
    for (const struct pin *p = drop; p; p = p->next)
        row.drop[row.n_drop++] = p->path;
    if (add) {
        row.path = add->path;
        row.bytes = add->bytes;
        row.files = add->files;
        row.since_ms = add->since_ms;
    }
    int r = index_call(c->index, do_rows, &row, err);
    free(row.drop);
    return r;
}

int cache_pin(struct cache *c, const char *key, const char *path, uint64_t bytes, uint64_t files,
              struct err *err)
{
    struct pin *fresh = pin_new(path, bytes, files, cache_now_ms());
    space_sample(c);
    lock_acquire(&c->lock);
    struct cache_key *k = object_key_locked(c, key);
    const struct pin *over = find_covering(k, path);
    int r = over && strcmp(over->path, path) != 0 ? 1 : 0;
    if (r == 0)
        r = check_limits_locked(c, k, path, (struct wanted){bytes, files}, err);
    struct pin *old = NULL;
    if (r == 0) {
        old = take_below_locked(k, path);
        fresh->next = k->pins;
        k->pins = fresh;
        apply_locked(c, k);
    }
    lock_release(&c->lock);
    if (r != 0) {
        pin_free(fresh);
        return r;
    }
    r = write_rows(c, key, old, fresh, err);
    if (r == 0) {
        free_list(old);
        return 0;
    }
    lock_acquire(&c->lock);
    struct pin *mine = take_below_locked(k, path);
    give_back_locked(k, old);
    apply_locked(c, k);
    lock_release(&c->lock);
    free_list(mine);
    return err_prefix(err, "%s/%s cannot be pinned", key, path);
}

int cache_unpin(struct cache *c, const char *key, const char *path, struct err *err)
{
    lock_acquire(&c->lock);
    struct cache_key *k = object_key_locked(c, key);
    const struct pin *over = find_covering(k, path);
    bool is = over && strcmp(over->path, path) == 0;
    int r = 0;
    if (over && !is)
        r = err_set(err, ENOENT, "%s/%s is not pinned by itself, but as a part of %s/%s", key, path,
                    key, over->path);
    else if (!over)
        r = err_set(err, ENOENT, "%s/%s is not pinned", key, path);
    struct pin *old = r == 0 ? take_below_locked(k, path) : NULL;
    if (old)
        apply_locked(c, k);
    lock_release(&c->lock);
    if (r < 0)
        return r;
    r = write_rows(c, key, old, NULL, err);
    free_list(old);
    return r < 0 ? err_prefix(err, "%s/%s is unpinned until the next start", key, path) : 0;
}

static struct pin *find_exact_locked(struct cache *c, const char *key, const char *path)
{
    struct pin *p = find_covering(strmap_get(&c->s.keys, key), path);
    return p && strcmp(p->path, path) == 0 ? p : NULL;
}

struct checked_row {
    struct pin_row row;
    char *key, *path;
};

static int do_checked(struct sqldb *db, void *arg, struct err *err)
{
    struct checked_row *j = arg;
    struct sqlstmt *st = NULL;
    int r = sqldb_prepare(db, "UPDATE pin SET bytes = ?, files = ? WHERE key = ? AND path = ?", err,
                          &st);
    if (r == 0) {
        sqldb_bind_i64(st, 1, (int64_t)j->row.bytes);
        sqldb_bind_i64(st, 2, (int64_t)j->row.files);
        sqldb_bind_text(st, 3, j->key);
        sqldb_bind_text(st, 4, j->path);
        r = sqldb_run(st, err);
        sqldb_finalize(st);
    }
    free(j->key);
    free(j->path);
    free(j);
    return r;
}

void cache_pin_checked(struct cache *c, const char *key, const char *path, uint64_t bytes,
                       uint64_t files, const char *error)
{
    char *copy = error && *error ? xstrdup(error) : NULL;
    lock_acquire(&c->lock);
    struct pin *p = find_exact_locked(c, key, path);
    bool changed = p && (p->bytes != bytes || p->files != files);
    if (p) {
        p->bytes = bytes;
        p->files = files;
        p->checked_ms = cache_now_ms();
        char *old = p->error;
        p->error = copy;
        copy = old;
    }
    lock_release(&c->lock);
    free(copy);
    if (!changed)
        return;
    struct checked_row *j = xcalloc(1, sizeof(*j));
    j->row = (struct pin_row){.bytes = bytes, .files = files};
    j->key = xstrdup(key);
    j->path = xstrdup(path);
    index_post(c->index, do_checked, j);
}

/* ---- asking ---- */
static void count_have_locked(struct cache *c, const struct cache_key *k, struct cache_pin *list,
                              size_t n)
{
    for (size_t b = 0; b < c->s.n_buckets && n; b++)
        for (const struct cache_object *o = c->s.by_name[b]; o; o = o->next_name)
            for (size_t i = 0; o->key == k && o->pinned && i < n; i++)
                if (path_within(o->path, list[i].path))
                    list[i].have += o->bytes;
}

void cache_pins(struct cache *c, const char *key, struct cache_pin **ret, size_t *ret_n)
{
    size_t n = 0;
    LOCK_SCOPE(&c->lock);
    const struct cache_key *k = strmap_get(&c->s.keys, key);
    for (const struct pin *p = k ? k->pins : NULL; p; p = p->next)
        n++;
    struct cache_pin *list = xcalloc(n + 1, sizeof(*list));
    size_t i = n;
    for (const struct pin *p = k ? k->pins : NULL; p; p = p->next)
        list[--i] = (struct cache_pin){.path = xstrdup(p->path),
                                       .bytes = p->bytes,
                                       .files = p->files,
                                       .since_ms = p->since_ms,
                                       .checked_ms = p->checked_ms,
                                       .error = xstrdup(p->error ? p->error : "")};
    count_have_locked(c, k, list, n);
    *ret = list;
    *ret_n = n;
}

void cache_pins_free(struct cache_pin *list, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free(list[i].path);
        free(list[i].error);
    }
    free(list);
}

bool cache_is_pinned(struct cache *c, const char *key, const char *path)
{
    LOCK_SCOPE(&c->lock);
    return pins_cover_locked(strmap_get(&c->s.keys, key), path);
}

bool cache_object_wanted(struct cache_object *o)
{
    LOCK_SCOPE(&o->cache->lock);
    return o->pinned && o->bytes < o->size;
}

/* ---- rounds ---- */
uint64_t cache_pin_round(struct cache *c)
{
    LOCK_SCOPE(&c->lock);
    return ++c->s.pin_round;
}

void cache_pin_seen(struct cache_object *o)
{
    LOCK_SCOPE(&o->cache->lock);
    o->pin_round = o->cache->s.pin_round;
}

/* Of one bucket: when forgetting an object lets others change the table, the next round finds the rest. */
static struct cache_object *unseen_locked(struct cache *c, size_t bucket, const struct cache_key *k,
                                          const char *path, uint64_t round)
{
    struct cache_object *o = c->s.by_name[bucket];
    while (o && (o->key != k || !o->keep || o->zombie || o->passes || o->pin_round >= round ||
                 !path_within(o->path, path)))
        o = o->next_name;
    return o;
}

void cache_pin_sweep(struct cache *c, const char *key, const char *path, uint64_t round)
{
    struct cache_object *o;
    LOCK_SCOPE(&c->lock);
    const struct cache_key *k = strmap_get(&c->s.keys, key);
    for (size_t i = 0; k && i < c->s.n_buckets; i++)
        while ((o = unseen_locked(c, i, k, path, round)))
            object_forget_locked(o);
}
