/* SPDX-License-Identifier: MIT
 * stage_rows.c: changes of the journal. Whoever comes while one is on its way to the disk shares the next commit. */
#include "cache/stage_int.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"

#define FORGOTTEN_MAX 64

static const char *const change_sql[CHANGE_KINDS] = {
    [CHANGE_PUT] = "INSERT OR REPLACE INTO staged(file, key, path, attr, base_version, base_size, base_len,"
                   " pre, pre_version, flags, ranges, since, attempts, error, upload, content, promise, sent)"
                   " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    [CHANGE_REPLACE] = "UPDATE OR REPLACE staged SET file = ?1, key = ?2, path = ?3, attr = ?4,"
                       " base_version = ?5, base_size = ?6, base_len = ?7, pre = ?8, pre_version = ?9,"
                       " flags = ?10, ranges = ?11, since = ?12, attempts = ?13, error = ?14,"
                       " upload = ?15, content = ?16, promise = ?17, sent = ?18 WHERE file = ?19",
    [CHANGE_REMOVE] = "DELETE FROM staged WHERE file = ?",
    [CHANGE_SENT] = "UPDATE staged SET sent = ? WHERE file = ?",
    [CHANGE_UPLOAD_PUT] = "INSERT OR REPLACE INTO uploads(id, key, path) VALUES (?, ?, ?)",
    [CHANGE_UPLOAD_REMOVE] = "DELETE FROM uploads WHERE key = ? AND id = ?",
    [CHANGE_GIVEN_UP_PUT] = "INSERT OR REPLACE INTO given_up(key, path, what) VALUES (?, ?, ?)",
    [CHANGE_GIVEN_UP_REMOVE] = "DELETE FROM given_up WHERE key = ? AND path = ? AND what = ?",
};

/* ---- the journal's connection ---- */

static struct sqldb *db_take(struct stage *s)
{
    LOCK_SCOPE(&s->sync.lock);
    while (s->sync.busy)
        cond_wait(&s->sync.cond, &s->sync.lock);
    s->sync.busy = true;
    return s->sync.db;
}

void stage_db_give(struct stage *s)
{
    LOCK_SCOPE(&s->sync.lock);
    s->sync.busy = false;
    cond_broadcast(&s->sync.cond);
}

int stage_db_prepare(struct stage *s, const char *sql, struct err *err, struct sqlstmt **ret)
{
    int r = sqldb_prepare(db_take(s), sql, err, ret);
    if (r < 0)
        stage_db_give(s);
    return r;
}

/* ---- changes: whoever comes while one is on its way to the disk shares the next commit ---- */

struct change {
    enum change_kind kind;
    bool relaxed; /* a power cut may undo it */
    void (*bind)(struct sqlstmt *st, const void *arg);
    const void *arg;
    struct err err;
    int r;
    bool done;
    struct change *next;
};

struct text_change {
    const char *text[3];
};

static void bind_texts(struct sqlstmt *st, const void *arg)
{
    const struct text_change *c = arg;
    for (int i = 0; i < 3 && c->text[i]; i++)
        sqldb_bind_text(st, i + 1, c->text[i]);
}

struct forgotten {
    struct change change;
    struct text_change texts;
    char *id;   /* of the row: the text that is ours */
    char *path; /* NULL: it is about no file */
    struct forgotten *next;
};

static void forgotten_free(struct forgotten *f)
{
    free(f->id);
    free(f->path);
    free(f);
}

static int run_change(struct stage *s, struct change *c)
{
    struct sqlstmt **st = &s->sync.prepared[c->kind]; /* `busy` is ours */
    int r = *st ? 0 : sqldb_prepare(s->sync.db, change_sql[c->kind], &c->err, st);
    if (r < 0)
        return r;
    c->bind(*st, c->arg);
    r = sqldb_run(*st, &c->err);
    if (r == 0 && c->kind == CHANGE_REPLACE && sqldb_changes(s->sync.db) == 0)
        r = err_set(&c->err, EIO, "the journal has lost an entry");
    return r;
}

static bool all_relaxed(const struct change *list)
{
    while (list && list->relaxed)
        list = list->next;
    return !list;
}

static void fail_all(struct change *list, int r, const struct err *err)
{
    for (struct change *c = list; c; c = c->next) {
        c->r = r;
        c->err = *err;
    }
}

/* All in one transaction; when that fails, each by itself, so that a failure hits its own caller. */
static void run_changes(struct stage *s, struct change *list)
{
    struct sqldb *db = s->sync.db;
    struct err err = ERR_INIT;
    int r = sqldb_set_durable(db, !all_relaxed(list), &err);
    if (r < 0) {
        fail_all(list, r, &err);
        return;
    }
    r = list->next ? sqldb_begin(db, &err) : -EAGAIN;
    bool begun = r == 0;
    for (struct change *c = list; c && r == 0; c = c->next)
        c->r = r = run_change(s, c);
    if (r == 0)
        r = sqldb_commit(db, &err);
    if (r == 0)
        return;
    if (begun)
        sqldb_rollback(db);
    for (struct change *c = list; c; c = c->next) {
        err_clear(&c->err);
        c->r = run_change(s, c);
    }
}

/* What waits, behind what was forgotten: as a row may replace one of those. */
static struct change *take_waiting_locked(struct stage *s)
{
    struct change *list = take_ptr(&s->sync.first);
    s->sync.last = &s->sync.first;
    for (struct forgotten *f = s->sync.forgotten; f; f = f->next) {
        f->change.next = list;
        list = &f->change;
    }
    return list;
}

static void sweep_forgotten_locked(struct stage *s)
{
    for (struct forgotten **at = &s->sync.forgotten, *f; (f = *at);) {
        if (f->change.done && f->change.r == 0) {
            *at = f->next;
            s->sync.n_forgotten--;
            forgotten_free(f);
        } else {
            f->change.done = false;
            at = &f->next;
        }
    }
}

/* With `busy` taken: commits what waits until nothing does. */
static void commit_waiting_locked(struct stage *s)
{
    do {
        struct change *list = take_waiting_locked(s);
        lock_release(&s->sync.lock);
        run_changes(s, list);
        lock_acquire(&s->sync.lock);
        for (struct change *c = list, *next; c; c = next) {
            next = c->next; /* its owner may go as soon as it is done */
            c->done = true;
        }
        sweep_forgotten_locked(s);
        cond_broadcast(&s->sync.cond);
    } while (s->sync.first);
}

/* Durable when it returns 0, unless it is relaxed. */
static int change(struct stage *s, struct change *c, struct err *err)
{
    lock_acquire(&s->sync.lock);
    *s->sync.last = c;
    s->sync.last = &c->next;
    while (s->sync.busy && !c->done)
        cond_wait(&s->sync.cond, &s->sync.lock);
    if (!c->done) {
        s->sync.busy = true;
        commit_waiting_locked(s);
        s->sync.busy = false;
        cond_broadcast(&s->sync.cond);
    }
    lock_release(&s->sync.lock);
    if (c->r < 0)
        *err = c->err;
    return c->r;
}

static struct forgotten *forgotten_new(enum change_kind kind, const char *id)
{
    struct forgotten *f = xcalloc(1, sizeof(*f));
    f->id = xstrdup(id);
    f->change = (struct change){.kind = kind, .bind = bind_texts, .arg = &f->texts};
    return f;
}

static void forget(struct stage *s, struct forgotten *f)
{
    struct err err = ERR_INIT;
    lock_acquire(&s->sync.lock);
    f->next = s->sync.forgotten;
    s->sync.forgotten = f;
    bool many = ++s->sync.n_forgotten >= FORGOTTEN_MAX;
    lock_release(&s->sync.lock);
    if (many)
        (void)stage_settle(s, NULL, &err); /* a failure leaves them */
}

void stage_row_forget(struct stage *s, const char *file, const char *path)
{
    struct forgotten *f = forgotten_new(CHANGE_REMOVE, file);
    f->texts = (struct text_change){{f->id}};
    f->path = xstrdup(path);
    forget(s, f);
}

void stage_upload_forget(struct stage *s, const char *id)
{
    struct forgotten *f = forgotten_new(CHANGE_UPLOAD_REMOVE, id);
    f->texts = (struct text_change){{s->key, f->id}};
    f->change.relaxed = true;
    forget(s, f);
}

static const struct forgotten *find_forgotten_locked(const struct stage *s, const char *path)
{
    const struct forgotten *f = s->sync.forgotten;
    while (f && path && (!f->path || strcmp(f->path, path) != 0))
        f = f->next;
    return f;
}

int stage_settle(struct stage *s, const char *path, struct err *err)
{
    LOCK_SCOPE(&s->sync.lock);
    while (s->sync.busy && find_forgotten_locked(s, path))
        cond_wait(&s->sync.cond, &s->sync.lock);
    if (find_forgotten_locked(s, path)) {
        s->sync.busy = true;
        commit_waiting_locked(s);
        s->sync.busy = false;
        cond_broadcast(&s->sync.cond);
    }
    const struct forgotten *left = find_forgotten_locked(s, path);
    if (!left || left->change.r == 0) /* came meanwhile: not of what the caller knows */
        return 0;
    *err = left->change.err;
    return left->change.r;
}

void stage_forgotten_done(struct stage *s)
{
    struct err err = ERR_INIT;
    if (stage_settle(s, NULL, &err) < 0)
        log_warn("stage", "%s: the journal keeps entries of files that are stored: %s", s->key, err_text(&err));
    for (struct forgotten *f; (f = s->sync.forgotten);) {
        s->sync.forgotten = f->next;
        forgotten_free(f);
    }
}

/* ---- rows ---- */

struct row_change {
    struct stage *s;
    const struct stage_row *row;
    const char *attr, *ranges;
};

static void bind_row(struct sqlstmt *st, const void *arg)
{
    const struct row_change *c = arg;
    const struct stage_row *row = c->row;
    int flags = (row->excl ? ROW_EXCL : 0) | (row->conflict ? ROW_CONFLICT : 0) |
                (row->incomplete ? ROW_INCOMPLETE : 0) | (row->stamped ? ROW_STAMPED : 0) |
                (row->restamp ? ROW_RESTAMP : 0);
    sqldb_bind_text(st, 1, row->file);
    sqldb_bind_text(st, 2, c->s->key);
    sqldb_bind_text(st, 3, row->path);
    sqldb_bind_text(st, 4, c->attr);
    sqldb_bind_text(st, 5, row->base_version);
    sqldb_bind_i64(st, 6, (int64_t)row->base_size);
    sqldb_bind_i64(st, 7, (int64_t)row->base_len);
    sqldb_bind_i64(st, 8, row->pre);
    sqldb_bind_text(st, 9, row->pre_version);
    sqldb_bind_i64(st, 10, flags);
    sqldb_bind_text(st, 11, c->ranges);
    sqldb_bind_i64(st, 12, row->since.tv_sec);
    sqldb_bind_i64(st, 13, row->attempts);
    sqldb_bind_text(st, 14, row->error);
    sqldb_bind_text(st, 15, row->upload ? row->upload : "");
    if (row->in_row)
        sqldb_bind_blob(st, 16, row->content, (size_t)row->attr.size);
    sqldb_bind_i64(st, 17, (int64_t)row->promise);
    sqldb_bind_text(st, 18, row->sent ? row->sent : "");
    if (row->replaces)
        sqldb_bind_text(st, 19, row->replaces);
}

int stage_row_put(struct stage *s, struct stage_row *row, struct err *err)
{
    random_bytes(&row->promise, sizeof(row->promise));
    CLEANUP_FREE char *json = attr_to_json(&row->attr);
    CLEANUP_BUF struct buf text = BUF_INIT;
    ranges_format(&row->staged, &text);
    struct row_change arg = {.s = s, .row = row, .attr = json, .ranges = buf_str(&text)};
    enum change_kind kind = row->replaces ? CHANGE_REPLACE : CHANGE_PUT;
    struct change c = {.kind = kind, .bind = bind_row, .arg = &arg};
    return change(s, &c, err);
}

static int change_texts(struct stage *s, enum change_kind kind, struct text_change arg, struct err *err)
{
    struct change c = {.kind = kind, .bind = bind_texts, .arg = &arg};
    return change(s, &c, err);
}

int stage_row_remove(struct stage *s, const char *file, struct err *err)
{
    return change_texts(s, CHANGE_REMOVE, (struct text_change){{file}}, err);
}

int stage_row_sent(struct stage *s, const char *file, const char *sent, struct err *err)
{
    return change_texts(s, CHANGE_SENT, (struct text_change){{sent, file}}, err);
}

int stage_upload_put(struct stage *s, const char *path, const char *id, struct err *err)
{
    return change_texts(s, CHANGE_UPLOAD_PUT, (struct text_change){{id, s->key, path}}, err);
}

int stage_upload_put_relaxed(struct stage *s, const char *path, const char *id, struct err *err)
{
    struct text_change arg = {{id, s->key, path}};
    struct change c = {.kind = CHANGE_UPLOAD_PUT, .relaxed = true, .bind = bind_texts, .arg = &arg};
    return change(s, &c, err);
}

int stage_upload_remove(struct stage *s, const char *id, struct err *err)
{
    return change_texts(s, CHANGE_UPLOAD_REMOVE, (struct text_change){{s->key, id}}, err);
}

int stage_given_up_put(struct stage *s, const char *path, const char *what, struct err *err)
{
    return change_texts(s, CHANGE_GIVEN_UP_PUT, (struct text_change){{s->key, path, what}}, err);
}

int stage_given_up_remove(struct stage *s, const char *path, const char *what, struct err *err)
{
    return change_texts(s, CHANGE_GIVEN_UP_REMOVE, (struct text_change){{s->key, path, what}}, err);
}
