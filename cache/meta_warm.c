/* SPDX-License-Identifier: MIT
 * meta_warm.c: see meta_warm.h. A body is a sequence of rows: struct row_head as it lies in memory, then name,
 * version, content type, and the JSON form (meta_db.h) of attributes that the head has no place for, each with
 * its NUL. That of a listing begins with a row about it (size: how many come), and ends with the names that we have
 * changed since (ROW_VOIDED).
 * A body whose CRC or form is wrong is left out. */
#include "cache/meta_warm.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/crypto.h"
#include "base/log.h"
#include "base/name.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define KIND_LISTING 1
#define KIND_ENTRIES 2
#define BOOT_MAX 40
#define AGE_UNKNOWN (-1)

enum row_flags { ROW_DIR = 1, ROW_ABSENT = 2, ROW_VOIDED = 4, ROW_MARKER = 8, ROW_CHANGED = 16 };

struct row_head {
    uint64_t size, age_ns;
    int64_t mtime_s, listed;
    uint32_t mtime_ns, known, mode, uid, gid, kind, flags, unused;
};

static const char *const schema =
    "CREATE TABLE IF NOT EXISTS meta_warm_at(key TEXT PRIMARY KEY, identity TEXT NOT NULL, boot TEXT NOT NULL,"
    " mono INTEGER NOT NULL, wall INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS meta_warm(key TEXT NOT NULL, kind INTEGER NOT NULL, path TEXT NOT NULL,"
    " age INTEGER NOT NULL, crc INTEGER NOT NULL, body BLOB NOT NULL, PRIMARY KEY(key, kind, path));";

/* ---- the clocks ---- */

static void this_boot(char ret[BOOT_MAX])
{
    CLEANUP_FILE FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");
    ret[0] = '\0';
    if (f && fgets(ret, BOOT_MAX, f))
        ret[strcspn(ret, "\n")] = '\0';
}

static int64_t wall_ns(void)
{
    struct timespec t = clock_wall();
    return t.tv_sec * (int64_t)NS_PER_S + t.tv_nsec;
}

static int64_t age_of(uint64_t at_ns, uint64_t now)
{
    return at_ns == 0 ? AGE_UNKNOWN : now > at_ns ? (int64_t)(now - at_ns) : 0;
}

/* ---- writing ---- */

static void put_row(struct buf *b, const char *name, const struct attr *a, const struct row_head *more)
{
    struct row_head h = *more;
    h.size = a->size;
    h.mtime_s = a->mtime.tv_sec;
    h.mtime_ns = (uint32_t)a->mtime.tv_nsec;
    h.known = a->known;
    h.mode = a->mode;
    h.uid = a->uid;
    h.gid = a->gid;
    h.kind = a->kind;
    bool all = a->n_xattrs || a->atime.tv_sec || a->atime.tv_nsec || (a->content_type && !*a->content_type);
    CLEANUP_FREE char *json = all ? attr_to_json(a) : NULL;
    const char *texts[] = {name, a->version, a->content_type ? a->content_type : "", json ? json : ""};
    buf_add(b, &h, sizeof(h));
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        buf_add(b, texts[i], strlen(texts[i]) + 1);
}

static void put_listing(struct buf *b, const struct warm_source *from, const char *dir,
                        const struct listing *l)
{
    static const struct attr none = ATTR_INIT;
    struct attr head = {.size = l->n + l->voided.count};
    unsigned flags = (l->marker ? ROW_MARKER : 0u) | (l->changed ? ROW_CHANGED : 0u);
    put_row(b, "", &head, &(struct row_head){.flags = flags});
    for (size_t i = 0; i < l->n; i++) {
        CLEANUP_ATTR struct attr a = ATTR_INIT;
        listing_get(l, i, &a);
        if (!(a.known & ATTR_META) && a.kind != ATTR_DIR)
            from->complete(from->arg, dir, l, i, &a);
        put_row(b, listing_name(l, i), &a, &(struct row_head){.listed = listing_listed(l, i)});
    }
    STRMAP_EACH(&l->voided, it)
        put_row(b, it->key, &none, &(struct row_head){.flags = ROW_VOIDED});
}

struct save_call {
    const char *key, *identity;
    const struct warm_source *from;
};

static int clear(struct sqldb *db, const char *key, struct err *err)
{
    static const char *const sql[] = {"DELETE FROM meta_warm WHERE key = ?",
                                      "DELETE FROM meta_warm_at WHERE key = ?"};
    int r = 0;
    for (size_t i = 0; i < ARRAY_LEN(sql) && r == 0; i++) {
        struct sqlstmt *st = NULL;
        r = sqldb_prepare(db, sql[i], err, &st);
        if (r < 0)
            return r;
        sqldb_bind_text(st, 1, key);
        r = sqldb_run(st, err);
        sqldb_finalize(st);
    }
    return r;
}

static int put_body(struct sqlstmt *st, const char *key, int kind, const char *path, int64_t age,
                    const struct buf *b, struct err *err)
{
    sqldb_bind_text(st, 1, key);
    sqldb_bind_i64(st, 2, kind);
    sqldb_bind_text(st, 3, path);
    sqldb_bind_i64(st, 4, age);
    sqldb_bind_i64(st, 5, crc32c(0, buf_str(b), b->len));
    sqldb_bind_blob(st, 6, buf_str(b), b->len);
    return sqldb_run(st, err);
}

static int put_bodies(struct sqldb *db, const struct save_call *c, uint64_t now, struct err *err)
{
    struct sqlstmt *st = NULL;
    CLEANUP_BUF struct buf b = BUF_INIT;
    struct warm_entry e;
    int r = sqldb_prepare(db, "INSERT INTO meta_warm VALUES (?, ?, ?, ?, ?, ?)", err, &st);
    if (r < 0)
        return r;
    STRMAP_EACH(c->from->listings, it) {
        const struct listing *l = it->value;
        buf_reset(&b);
        put_listing(&b, c->from, it->key, l);
        if (r == 0)
            r = put_body(st, c->key, KIND_LISTING, it->key, age_of(l->at_ns, now), &b, err);
    }
    buf_reset(&b);
    while (c->from->next(c->from->arg, &e))
        put_row(&b, e.path, e.attr, &(struct row_head){.age_ns = (uint64_t)age_of(e.at_ns, now),
                                                       .listed = e.listed,
                                                       .flags = (e.dir ? ROW_DIR : 0u) |
                                                                (e.absent ? ROW_ABSENT : 0u)});
    if (r == 0 && b.len)
        r = put_body(st, c->key, KIND_ENTRIES, "", 0, &b, err);
    sqldb_finalize(st);
    return r;
}

static int save_run(struct sqldb *db, void *arg, struct err *err)
{
    const struct save_call *c = arg;
    struct sqlstmt *st = NULL;
    uint64_t now = clock_now_ns();
    char boot[BOOT_MAX];
    this_boot(boot);
    int r = clear(db, c->key, err);
    if (r == 0)
        r = put_bodies(db, c, now, err);
    if (r == 0)
        r = sqldb_prepare(db, "INSERT INTO meta_warm_at VALUES (?, ?, ?, ?, ?)", err, &st);
    if (r < 0)
        return r;
    sqldb_bind_text(st, 1, c->key);
    sqldb_bind_text(st, 2, c->identity);
    sqldb_bind_text(st, 3, boot);
    sqldb_bind_i64(st, 4, (int64_t)now);
    sqldb_bind_i64(st, 5, wall_ns());
    r = sqldb_run(st, err);
    sqldb_finalize(st);
    return r;
}

void meta_warm_save(struct cache_index *idx, const char *key, const char *identity,
                    const struct warm_source *from)
{
    struct err err = ERR_INIT;
    struct save_call c = {.key = key, .identity = identity, .from = from};
    if (index_call(idx, save_run, &c, &err) < 0)
        log_debug("cache", "%s: what is known of its names is not kept: %s", key, err_text(&err));
}

/* ---- reading ---- */

struct body {
    const char *at, *end;
};

struct row {
    struct row_head h;
    const char *name;
    struct attr attr; /* borrows its content type, unless `own` */
    bool own;
};

static const char *take_text(struct body *b)
{
    const char *s = b->at;
    const char *nul = b->at < b->end ? memchr(b->at, 0, (size_t)(b->end - b->at)) : NULL;
    b->at = nul ? nul + 1 : b->end;
    return nul ? s : NULL;
}

static void fill_attr(struct row *r, const char *version, const char *type)
{
    r->attr = (struct attr){.kind = (enum attr_kind)r->h.kind,
                            .known = r->h.known,
                            .mode = r->h.mode,
                            .uid = r->h.uid,
                            .gid = r->h.gid,
                            .size = r->h.size,
                            .mtime = {.tv_sec = r->h.mtime_s, .tv_nsec = r->h.mtime_ns},
                            .content_type = *type ? (char *)(uintptr_t)type : NULL};
    memcpy(r->attr.version, version, strlen(version) + 1);
}

/* 1 and a row (row_done), 0 at the end, -EUCLEAN. */
static int take_row(struct body *b, struct row *ret)
{
    if (b->at == b->end)
        return 0;
    struct row r = {.own = false};
    if ((size_t)(b->end - b->at) < sizeof(r.h))
        return -EUCLEAN;
    memcpy(&r.h, b->at, sizeof(r.h));
    b->at += sizeof(r.h);
    r.name = take_text(b);
    const char *version = take_text(b), *type = take_text(b), *json = take_text(b);
    if (!json || strlen(version) >= ATTR_VERSION_MAX || r.h.kind > ATTR_SYMLINK)
        return -EUCLEAN;
    r.own = *json;
    if (!r.own)
        fill_attr(&r, version, type);
    else if (!attr_from_json(json, &r.attr))
        return -EUCLEAN;
    *ret = r;
    return 1;
}

static void row_done(struct row *r)
{
    if (r->own)
        attr_done(&r->attr);
}

struct take_call {
    const char *key, *identity;
    bool ageless;
    const struct warm_sink *to;
    uint64_t now;
    int64_t elapsed; /* since it was saved; AGE_UNKNOWN */
};

/* 0: too old to tell. */
static uint64_t at_of(const struct take_call *c, int64_t age)
{
    if (age < 0 || c->elapsed < 0)
        return 0;
    uint64_t total = (uint64_t)age + (uint64_t)c->elapsed;
    return total < c->now ? c->now - total : 0;
}

static int take_listing(const struct take_call *c, const char *dir, int64_t age, struct body b)
{
    struct listing *l = listing_new();
    struct row row;
    uint64_t left = 0;
    int r = take_row(&b, &row);
    if (r == 1) {
        left = row.h.size;
        l->marker = row.h.flags & ROW_MARKER;
        l->changed = row.h.flags & ROW_CHANGED;
        row_done(&row);
    }
    while (r == 1 && (r = take_row(&b, &row)) == 1) {
        if (row.h.flags & ROW_VOIDED)
            (void)strmap_put(&l->voided, row.name, l);
        else
            listing_add(l, row.name, &row.attr, (time_t)row.h.listed);
        row_done(&row);
        left--;
    }
    if (r == 0 && left)
        r = -EUCLEAN;
    l->at_ns = at_of(c, age);
    if (r == 0)
        c->to->listing(c->to->arg, dir, l);
    else
        listing_put(l);
    return r;
}

static int take_entries(const struct take_call *c, struct body b)
{
    struct row row;
    int r = 0;
    while (c->elapsed >= 0 && (r = take_row(&b, &row)) == 1) {
        struct warm_entry e = {.path = row.name,
                               .dir = row.h.flags & ROW_DIR,
                               .absent = row.h.flags & ROW_ABSENT,
                               .at_ns = at_of(c, (int64_t)row.h.age_ns),
                               .listed = (time_t)row.h.listed,
                               .attr = &row.attr};
        if (e.at_ns)
            c->to->entry(c->to->arg, &e);
        row_done(&row);
    }
    return r;
}

static int take_bodies(struct sqldb *db, const struct take_call *c, struct err *err)
{
    struct sqlstmt *st = NULL;
    int r = sqldb_prepare(db, "SELECT kind, path, age, crc, body FROM meta_warm WHERE key = ?", err, &st);
    if (r < 0)
        return r;
    sqldb_bind_text(st, 1, c->key);
    while ((r = sqldb_step(st, err)) == 1) {
        size_t n = 0;
        const char *at = sqldb_blob(st, 4, &n);
        struct body b = {.at = at, .end = at + n};
        int form = -EUCLEAN;
        if (n && (int64_t)crc32c(0, at, n) == sqldb_i64(st, 3))
            form = sqldb_i64(st, 0) == KIND_LISTING
                       ? take_listing(c, sqldb_text(st, 1), sqldb_i64(st, 2), b)
                       : take_entries(c, b);
        if (form < 0)
            log_debug("cache", "%s/%s: what was known of it is damaged", c->key, sqldb_text(st, 1));
    }
    sqldb_finalize(st);
    return r;
}

/* Of the two clocks the one that has gone further: one stands still while the machine sleeps. */
static int64_t elapsed_since(const struct take_call *c, const char *boot, int64_t mono, int64_t wall)
{
    char here[BOOT_MAX];
    this_boot(here);
    int64_t by_mono = (int64_t)c->now - mono, by_wall = wall_ns() - wall;
    if (c->ageless || !here[0] || strcmp(here, boot) != 0 || by_mono < 0)
        return AGE_UNKNOWN;
    return by_wall > by_mono ? by_wall : by_mono;
}

static int take_run(struct sqldb *db, void *arg, struct err *err)
{
    struct take_call *c = arg;
    struct sqlstmt *st = NULL;
    int r = sqldb_exec(db, err, schema);
    if (r == 0)
        r = sqldb_prepare(db, "SELECT identity, boot, mono, wall FROM meta_warm_at WHERE key = ?", err, &st);
    if (r < 0)
        return r;
    sqldb_bind_text(st, 1, c->key);
    r = sqldb_step(st, err);
    bool same = r == 1 && strcmp(sqldb_text(st, 0), c->identity) == 0;
    if (same)
        c->elapsed = elapsed_since(c, sqldb_text(st, 1), sqldb_i64(st, 2), sqldb_i64(st, 3));
    sqldb_finalize(st);
    if (same)
        r = take_bodies(db, c, err);
    return r < 0 ? r : clear(db, c->key, err);
}

int meta_warm_take(struct cache_index *idx, const char *key, const char *identity, bool ageless,
                   const struct warm_sink *to, struct err *err)
{
    struct take_call c = {.key = key, .identity = identity, .ageless = ageless, .to = to,
                          .now = clock_now_ns(), .elapsed = AGE_UNKNOWN};
    return index_call(idx, take_run, &c, err);
}
