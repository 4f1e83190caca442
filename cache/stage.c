/* SPDX-License-Identifier: MIT
 * stage.c: the files, opening, recovery. See stage.h for the rules. */
#include "cache/stage_int.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/crypto.h"
#include "base/log.h"
#include "base/strmap.h"
#include "base/sys.h"
#include "cache/undo.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>

#define RANDOM_DIGITS 16
#define JOURNAL_FORM 1 /* 1: `promise` (undo.h). Also of the tables of rename_log.c, which is opened later */
#define NEWER_JOURNAL "Start that quayfs again. To go back to this one, let it store what waits (quayctl sync), " \
                      "unmount, and move the file away"
static const char *const schema =
    "CREATE TABLE IF NOT EXISTS staged(file TEXT PRIMARY KEY, key TEXT NOT NULL,"
    " path TEXT NOT NULL, attr TEXT NOT NULL, base_version TEXT, base_size INTEGER,"
    " base_len INTEGER, pre INTEGER, pre_version TEXT, flags INTEGER, ranges TEXT NOT NULL,"
    " since INTEGER, attempts INTEGER, error TEXT) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS uploads(id TEXT NOT NULL, key TEXT NOT NULL, path TEXT NOT NULL,"
    " PRIMARY KEY(key, id)) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS given_up(key TEXT NOT NULL, path TEXT NOT NULL, what TEXT NOT NULL,"
    " PRIMARY KEY(key, path, what)) WITHOUT ROWID;";

void stage_row_done(struct stage_row *row)
{
    free(row->path);
    free(row->file);
    attr_done(&row->attr);
    ranges_done(&row->staged);
    free(row->upload);
    free(row->sent);
    *row = (struct stage_row){0};
}

/* ---- opening ---- */

static int each_file(struct stage *s, void (*fn)(struct stage *s, const char *name, void *arg),
                     void *arg, struct err *err)
{
    DIR *d = opendir(s->dir);
    if (!d)
        return err_set(err, errno, "%s: %s", s->dir, strerror(errno));
    for (struct dirent *e; (e = readdir(d));)
        if (strncmp(e->d_name, s->prefix, strlen(s->prefix)) == 0)
            fn(s, e->d_name, arg);
    closedir(d);
    return 0;
}

static void set_lost(struct stage *s, const char *name, void *arg)
{
    (void)arg;
    CLEANUP_FREE char *from = xasprintf("%s/%s", s->dir, name);
    CLEANUP_FREE char *to = xasprintf("%s/lost/%s", s->dir, name);
    if (sys_renameat(AT_FDCWD, from, AT_FDCWD, to, 0) == 0)
        log_error("stage", "%s: staged data without a journal, kept as %s", s->key, to);
}

/* Columns that journals of earlier versions do not have. */
static const struct {
    const char *name, *add;
} columns[] = {{"upload", "ALTER TABLE staged ADD COLUMN upload TEXT"},
               {"content", "ALTER TABLE staged ADD COLUMN content BLOB"},
               {"promise", "ALTER TABLE staged ADD COLUMN promise INTEGER"},
               {"sent", "ALTER TABLE staged ADD COLUMN sent TEXT"}};

static int add_columns(struct sqldb *db, struct err *err)
{
    int r = 0;
    for (size_t i = 0; i < ARRAY_LEN(columns) && r >= 0; i++) {
        struct sqlstmt *st = NULL;
        r = sqldb_prepare(db, "SELECT 1 FROM pragma_table_info('staged') WHERE name = ?", err, &st);
        if (r < 0)
            return r;
        sqldb_bind_text(st, 1, columns[i].name);
        r = sqldb_step(st, err);
        sqldb_finalize(st);
        if (r == 0)
            r = sqldb_exec(db, err, columns[i].add);
    }
    return r < 0 ? r : 0;
}

static int set_up(struct sqldb *db, const char *path, struct err *err)
{
    int r = sqldb_claim_form(db, path, JOURNAL_FORM, NEWER_JOURNAL, err);
    if (r == 0)
        r = sqldb_exec(db, err, schema);
    return r == 0 ? add_columns(db, err) : r;
}

static int open_journal(struct stage *s, struct err *err)
{
    int r = sqldb_open(s->journal, SQLDB_WAL_FULL, err, &s->sync.db);
    if (r == 0)
        r = set_up(s->sync.db, s->journal, err);
    if (r != -EUCLEAN)
        return r;
    sqldb_close(s->sync.db);
    s->sync.db = NULL;
    log_error("stage", "%s is not a sound database and is moved aside", s->journal);
    CLEANUP_FREE char *lost = xasprintf("%s/lost", s->dir);
    r = sqldb_move_aside(s->journal, err);
    if (r == 0 && (r = sys_mkdirs(lost, 0700)) < 0)
        err_set(err, -r, "%s: %s", lost, strerror(-r));
    if (r == 0)
        r = each_file(s, set_lost, NULL, err);
    if (r == 0)
        r = sqldb_open(s->journal, SQLDB_WAL_FULL, err, &s->sync.db);
    return r == 0 ? set_up(s->sync.db, s->journal, err) : r;
}

int stage_open(const char *cache_dir, const char *key, struct err *err, struct stage **ret)
{
    struct stage *s = xcalloc(1, sizeof(*s));
    char hex[65];
    sha256_hex(key, strlen(key), hex);
    s->key = xstrdup(key);
    s->dir = xasprintf("%s/stage", cache_dir);
    s->journal = xasprintf("%s/journal.db", cache_dir);
    snprintf(s->prefix, sizeof(s->prefix), "%.*s-", STAGE_HASH_DIGITS, hex);
    lock_init(&s->sync.lock, LOCK_RANK_LEAF, "stage");
    cond_init(&s->sync.cond);
    s->sync.last = &s->sync.first;
    int r = sys_mkdirs(s->dir, 0700);
    if (r < 0)
        err_set(err, -r, "%s: %s", s->dir, strerror(-r));
    else
        r = open_journal(s, err);
    if (r < 0) {
        stage_close(s);
        return r;
    }
    *ret = s;
    return 0;
}

void stage_close(struct stage *s)
{
    if (!s)
        return;
    stage_forgotten_done(s);
    sqldb_close(s->sync.db);
    cond_done(&s->sync.cond);
    lock_done(&s->sync.lock);
    free(s->key);
    free(s->dir);
    free(s->journal);
    free(s);
}

const char *stage_dir(const struct stage *s)
{
    return s->dir;
}

/* ---- files ---- */

static int file_open(struct stage *s, const char *name, int flags, struct err *err,
                     struct stage_file **ret)
{
    CLEANUP_FREE char *path = xasprintf("%s/%s", s->dir, name);
    CLEANUP_FD int fd = sys_openat(AT_FDCWD, path, O_RDWR | O_NOFOLLOW | flags, 0600);
    if (fd < 0)
        return err_set(err, -fd, "%s: %s", path, strerror(-fd));
    if (flock(fd, LOCK_EX | LOCK_NB) != 0)
        return err_set(err, EBUSY, "%s: in use", path);
    struct stage_file *f = xcalloc(1, sizeof(*f));
    atomic_init(&f->refs, 1);
    f->fd = take_fd(&fd);
    f->path = take_ptr(&path);
    *ret = f;
    return 0;
}

char *stage_row_name(struct stage *s)
{
    char random[RANDOM_DIGITS + 1];
    random_hex(random, RANDOM_DIGITS);
    return xasprintf("%s%s", s->prefix, random);
}

char *stage_file_path(struct stage *s, char **ret_name)
{
    *ret_name = stage_row_name(s);
    return xasprintf("%s/%s", s->dir, *ret_name);
}

int stage_file_new(struct stage *s, struct err *err, struct stage_file **ret, char **ret_name)
{
    CLEANUP_FREE char *name = stage_row_name(s);
    int r = file_open(s, name, O_CREAT | O_EXCL, err, ret);
    if (r == 0)
        *ret_name = take_ptr(&name);
    return r;
}

int stage_file_make(struct stage *s, const char *name, struct err *err, struct stage_file **ret)
{
    return file_open(s, name, O_CREAT | O_EXCL, err, ret);
}

/* false: there are enough of them, or none can be had. */
static bool file_in_memory(struct stage *s, struct stage_file **ret)
{
    if (atomic_fetch_add(&s->in_memory, 1) >= STAGE_MEMORY_FILES) {
        atomic_fetch_sub(&s->in_memory, 1);
        return false;
    }
    int fd = memfd_create("quayfs-stage", MFD_CLOEXEC);
    if (fd < 0) {
        atomic_fetch_sub(&s->in_memory, 1);
        return false;
    }
    struct stage_file *f = xcalloc(1, sizeof(*f));
    *f = (struct stage_file){.fd = fd,
                             .path = xstrdup("staged bytes in memory"),
                             .nameless = true,
                             .count = &s->in_memory};
    atomic_init(&f->refs, 1);
    *ret = f;
    return true;
}

int stage_file_nameless(struct stage *s, struct err *err, struct stage_file **ret)
{
    if (file_in_memory(s, ret))
        return 0;
    CLEANUP_FREE char *name = NULL;
    int r = stage_file_new(s, err, ret, &name);
    if (r < 0)
        return r;
    stage_file_remove(s, name);
    (*ret)->nameless = true;
    return 0;
}

bool stage_memory_is_scarce(struct stage *s)
{
    return atomic_load(&s->in_memory) > STAGE_MEMORY_FILES / 2;
}

/* 1: *ret has it, 0: there is none. */
static int read_content(struct stage *s, const char *name, struct err *err, struct buf *ret)
{
    struct sqlstmt *st = NULL;
    int r = stage_db_prepare(s, "SELECT content FROM staged WHERE file = ? AND content IS NOT NULL", err, &st);
    if (r < 0)
        return r;
    sqldb_bind_text(st, 1, name);
    r = sqldb_step(st, err);
    if (r == 1) {
        size_t n = 0;
        const void *bytes = sqldb_blob(st, 0, &n);
        buf_add(ret, bytes, n);
    }
    sqldb_finalize(st);
    stage_db_give(s);
    return r;
}

int stage_file_load(struct stage *s, const char *name, struct err *err, struct stage_file **ret)
{
    CLEANUP_BUF struct buf content = BUF_INIT;
    struct stage_file *f = NULL;
    int r = read_content(s, name, err, &content);
    if (r == 0)
        r = err_set(err, EIO, "the journal has no content of %s", name);
    else if (r == 1)
        r = stage_file_nameless(s, err, &f);
    if (r < 0)
        return r;
    ssize_t n = content.len ? sys_pwrite(f->fd, buf_str(&content), content.len, 0) : 0;
    if (n != (ssize_t)content.len) {
        stage_file_put(f);
        return err_set(err, n < 0 ? (int)-n : EIO, "the content of %s cannot be staged", name);
    }
    *ret = f;
    return 0;
}

int stage_file_open(struct stage *s, const char *name, struct err *err, struct stage_file **ret)
{
    return file_open(s, name, 0, err, ret);
}

struct stage_file *stage_file_ref(struct stage_file *f)
{
    atomic_fetch_add(&f->refs, 1);
    return f;
}

void stage_file_put(struct stage_file *f)
{
    if (!f || atomic_fetch_sub(&f->refs, 1) != 1)
        return;
    (void)close(f->fd);
    if (f->count)
        atomic_fetch_sub(f->count, 1);
    free(f->path);
    free(f);
}

void stage_file_remove(struct stage *s, const char *name)
{
    CLEANUP_FREE char *path = xasprintf("%s/%s", s->dir, name);
    (void)sys_unlinkat(AT_FDCWD, path, 0); /* a file that stays is swept at the next start */
}

static char *undo_name(const char *name)
{
    return xasprintf("%s.undo", name);
}

int stage_undo_make(struct stage *s, const char *name, struct err *err, struct stage_file **ret)
{
    CLEANUP_FREE char *undo = undo_name(name);
    int r = file_open(s, undo, O_CREAT, err, ret);
    if (r < 0)
        return r;
    r = sys_ftruncate((*ret)->fd, 0);
    if (r < 0) {
        err_set(err, -r, "%s: %s", (*ret)->path, strerror(-r));
        stage_file_put(take_ptr(ret));
    }
    return r;
}

int stage_undo_open(struct stage *s, const char *name, struct err *err, struct stage_file **ret)
{
    CLEANUP_FREE char *undo = undo_name(name);
    return stage_file_open(s, undo, err, ret);
}

void stage_undo_remove(struct stage *s, const char *name)
{
    CLEANUP_FREE char *undo = undo_name(name);
    stage_file_remove(s, undo);
}

/* ---- recovery ---- */

static void copy_text(char *to, size_t size, const char *from)
{
    snprintf(to, size, "%s", from);
}

static bool read_row(struct sqlstmt *st, struct stage_row *row)
{
    row->file = xstrdup(sqldb_text(st, 0));
    row->path = xstrdup(sqldb_text(st, 1));
    copy_text(row->base_version, sizeof(row->base_version), sqldb_text(st, 3));
    row->base_size = (uint64_t)sqldb_i64(st, 4);
    row->base_len = (uint64_t)sqldb_i64(st, 5);
    row->pre = (int)sqldb_i64(st, 6);
    copy_text(row->pre_version, sizeof(row->pre_version), sqldb_text(st, 7));
    int64_t flags = sqldb_i64(st, 8);
    row->excl = flags & ROW_EXCL;
    row->conflict = flags & ROW_CONFLICT;
    row->incomplete = flags & ROW_INCOMPLETE;
    row->stamped = flags & ROW_STAMPED;
    row->restamp = flags & ROW_RESTAMP;
    row->since.tv_sec = (time_t)sqldb_i64(st, 10);
    row->attempts = (unsigned)sqldb_i64(st, 11);
    copy_text(row->error, sizeof(row->error), sqldb_text(st, 12));
    const char *upload = sqldb_text(st, 13);
    row->upload = upload && *upload ? xstrdup(upload) : NULL;
    row->in_row = sqldb_i64(st, 14);
    row->promise = (uint64_t)sqldb_i64(st, 15);
    const char *sent = sqldb_text(st, 16);
    row->sent = sent && *sent ? xstrdup(sent) : NULL;
    return attr_from_json(sqldb_text(st, 2), &row->attr) &&
           ranges_parse(sqldb_text(st, 9), &row->staged);
}

struct rows {
    struct stage_row *v;
    size_t n, cap;
};

static int read_rows(struct stage *s, struct rows *rows, struct err *err)
{
    struct sqlstmt *st = NULL;
    int r = stage_db_prepare(s, "SELECT file, path, attr, base_version, base_size, base_len, pre, pre_version,"
                       " flags, ranges, since, attempts, error, upload, content IS NOT NULL, promise, sent FROM staged"
                       " WHERE key = ?"
                       " ORDER BY since, file", err, &st);
    if (r < 0)
        return r;
    sqldb_bind_text(st, 1, s->key);
    while ((r = sqldb_step(st, err)) == 1) {
        if (rows->n == rows->cap) {
            rows->cap = rows->cap ? rows->cap * 2 : 16;
            rows->v = xrealloc(rows->v, rows->cap * sizeof(*rows->v));
        }
        struct stage_row *row = &rows->v[rows->n++];
        *row = (struct stage_row){0};
        if (!read_row(st, row)) {
            log_error("stage", "%s: the journal's entry of %s for %s cannot be read; both are kept",
                      s->key, row->file, row->path);
            row->attr.kind = ATTR_UNSET;
        }
    }
    sqldb_finalize(st);
    stage_db_give(s);
    return r;
}

static void recover_row(struct stage *s, struct stage_row *row, stage_row_fn *fn, void *arg)
{
    struct err err = ERR_INIT;
    struct stage_file *f = NULL;
    if (row->attr.kind == ATTR_UNSET) {
        stage_row_done(row);
        return;
    }
    int r = row->in_row ? 0 : stage_file_open(s, row->file, &err, &f);
    bool gone = r == -ENOENT;
    if (r == 0 && f)
        r = undo_apply(s, f, row, &err);
    if (r == 0) {
        fn(arg, row, f);
        return;
    }
    stage_file_put(f);
    if (gone) {
        log_error("stage", "%s: %s: the staged file %s is gone, its content is lost", s->key,
                  row->path, row->file);
        (void)stage_row_remove(s, row->file, &err);
    } else if (r != -EBUSY) {
        log_error("stage", "%s: %s: %s", s->key, row->path, err_text(&err));
    }
    stage_row_done(row);
}

static void sweep_file(struct stage *s, const char *name, void *arg)
{
    const struct strmap *known = arg;
    struct err err = ERR_INIT;
    struct stage_file *f = NULL;
    if (strmap_get(known, name) || stage_file_open(s, name, &err, &f) < 0)
        return;
    log_debug("stage", "%s: removing %s: nothing was promised about it", s->key, name);
    stage_file_remove(s, name);
    stage_file_put(f);
}

int stage_recover(struct stage *s, stage_row_fn *fn, void *arg, struct err *err)
{
    struct rows rows = {0};
    struct strmap known = STRMAP_INIT;
    int r = read_rows(s, &rows, err);
    for (size_t i = 0; i < rows.n; i++) {
        CLEANUP_FREE char *undo = undo_name(rows.v[i].file);
        if (rows.v[i].in_row)
            continue;
        (void)strmap_put(&known, rows.v[i].file, s);
        (void)strmap_put(&known, undo, s);
    }
    if (r == 0)
        r = each_file(s, sweep_file, &known, err);
    for (size_t i = 0; i < rows.n; i++) {
        if (r == 0)
            recover_row(s, &rows.v[i], fn, arg);
        else
            stage_row_done(&rows.v[i]);
    }
    strmap_done(&known);
    free(rows.v);
    return r;
}

/* Two columns of what this key has. */
static int each_pair(struct stage *s, const char *sql, void (*each)(void *arg, const char *a, const char *b), void *arg,
                     struct err *err)
{
    struct sqlstmt *st = NULL;
    int r = stage_db_prepare(s, sql, err, &st);
    if (r < 0)
        return r;
    sqldb_bind_text(st, 1, s->key);
    while ((r = sqldb_step(st, err)) == 1)
        each(arg, sqldb_text(st, 0), sqldb_text(st, 1));
    sqldb_finalize(st);
    stage_db_give(s);
    return r;
}

int stage_uploads(struct stage *s, stage_upload_fn *each, void *arg, struct err *err)
{
    return each_pair(s, "SELECT path, id FROM uploads WHERE key = ?", each, arg, err);
}

int stage_given_ups(struct stage *s, stage_given_up_fn *each, void *arg, struct err *err)
{
    return each_pair(s, "SELECT path, what FROM given_up WHERE key = ?", each, arg, err);
}
