/* SPDX-License-Identifier: MIT
 * copy_run.c: trees, workers, progress and the summary of quayctl cp, mv and sync; see copy.h. */
#include "ctl/copy.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/lock.h"
#include "base/sys.h"
#include "ctl/daemon.h"
#include "ctl/progress.h"
#include "ctl/same.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define QUEUE_PER_WORKER 64
#define TICK_NS (NS_PER_S / 5)
#define LINE_NS (5 * NS_PER_S)

typedef unsigned long long ull;

struct tree { /* one source and its target */
    const struct place *from, *to;
    size_t from_len; /* of the top, for names below it */
    bool unsure;     /* both may be one: each file is asked for */
};

struct copier {
    struct ctl *ctl;
    const struct copy_options *o;
    struct pool *pool;
    struct progress bar;
    uint64_t begun_ns, shown_ns, line_ns;
    _Atomic uint64_t bytes;
    struct {
        struct lock lock;
        struct cond cond;
        struct copy_task *done;
        size_t running;
    } s;
    uint64_t files, total, copied, copied_bytes, by_store, same, failed, deleted, renamed, resumed;
    char **dirs; /* of a move: to be removed when they are empty, parents first */
    size_t n_dirs;
    struct { char *from, *to; } *tops; /* of a sync */
    size_t n_tops;
    bool incomplete; /* something could not be listed */
};

static atomic_bool interrupted;

static void on_signal(int sig)
{
    (void)sig;
    atomic_store(&interrupted, true);
}

/* ---- what people see ---- */

static void say(struct copier *c, const char *what, const char *from, const char *to)
{
    progress_end(&c->bar);
    if (!c->o->json)
        printf("%s %s%s%s\n", what, from, to ? " -> " : "", to ? to : "");
}

static void complain(struct copier *c, const struct err *err)
{
    c->failed++;
    progress_end(&c->bar);
    (void)ctl_message(0, "%s", err_text(err));
}

static void show(struct copier *c, bool walking)
{
    uint64_t now = clock_now_ns(), done = atomic_load(&c->bytes);
    uint64_t files = c->copied + c->same + c->renamed;
    double s = (double)(now - c->begun_ns) / 1e9;
    char a[32], b[32], rate[32], line[256];
    if (now - c->shown_ns < TICK_NS)
        return;
    c->shown_ns = now;
    format_size(done, a);
    format_size(c->total, b);
    format_size((uint64_t)((double)done / (s > 0.1 ? s : 0.1)), rate);
    bool storing = done >= c->total && files < c->files; /* all is read and written: the stores have yet to answer */
    snprintf(line, sizeof(line), "running %.1f%% %s of %s%s, %s%s, %llu/%llu files",
             c->total ? 100.0 * (double)done / (double)c->total : 0.0, a, b, walking ? "+" : "",
             storing ? "storing" : rate, storing ? "" : "/s", (ull)files, (ull)c->files);
    progress_show(&c->bar, line);
    if (c->bar.live || c->o->quiet || c->o->json || now - c->line_ns < LINE_NS)
        return;
    c->line_ns = now;
    fprintf(stderr, "%s\n", line);
}

/* ---- workers ---- */

static void task_free(struct copy_task *t)
{
    free(t->from);
    free(t->to);
    free(t);
}

static void work(struct pool_job *job)
{
    struct copy_task *t = (struct copy_task *)job;
    struct copier *c = t->c;
    copy_file(t);
    LOCK_SCOPE(&c->s.lock);
    t->next = c->s.done;
    c->s.done = t;
    c->s.running--;
    cond_signal(&c->s.cond);
}

static void count(struct copier *c, struct copy_task *t)
{
    static const char *const moved[] = {"copied", "moved", "copied"};
    const char *what = moved[t->o->mode - COPY_CP];
    uint64_t size = (uint64_t)t->st.st_size;
    c->resumed += t->resumed;
    if (t->outcome == COPY_FAILED) {
        if (t->err.code != EINTR || !atomic_load(&interrupted))
            complain(c, &t->err);
        return;
    }
    if (t->outcome == COPY_SAME) {
        c->same++;
        c->total -= size;
        if (c->o->verbose)
            say(c, "same", t->from, t->to);
        return;
    }
    c->copied++;
    c->copied_bytes += size;
    c->by_store += t->outcome == COPY_BY_STORE;
    if (t->outcome == COPY_WOULD)
        say(c, t->o->mode == COPY_MV ? "move" : "copy", t->from, t->to);
    else if (c->o->verbose)
        say(c, what, t->from, t->to);
}

/* Waits until at most `left` tasks run; counts those that are done. */
static void collect(struct copier *c, size_t left, bool walking)
{
    for (;;) {
        struct copy_task *done;
        size_t running;
        lock_acquire(&c->s.lock);
        if (c->s.running > left && !c->s.done)
            (void)cond_wait_until(&c->s.cond, &c->s.lock, clock_now_ns() + TICK_NS);
        done = c->s.done;
        c->s.done = NULL;
        running = c->s.running;
        lock_release(&c->s.lock);
        while (done) {
            struct copy_task *t = done;
            done = t->next;
            count(c, t);
            task_free(t);
        }
        show(c, walking);
        if (running <= left)
            return;
    }
}

static size_t key_root(const struct place *p)
{
    return p->key ? p->root_len + strlen(p->key) + 1 : 0;
}

static void submit(struct copier *c, const struct tree *tr, const char *from, const char *to,
                   const struct stat *st)
{
    struct copy_task *t = xcalloc(1, sizeof(*t));
    *t = (struct copy_task){.job.run = work, .c = c, .o = c->o,
                            .control = c->ctl->settings.control,
                            .from_key = tr->from->key, .to_key = tr->to->key,
                            .from_root = key_root(tr->from), .to_root = key_root(tr->to),
                            .from = xstrdup(from), .to = xstrdup(to), .unsure = tr->unsure, .st = *st,
                            .stop = &interrupted, .bytes = &c->bytes};
    c->files++;
    c->total += (uint64_t)st->st_size;
    collect(c, (size_t)c->o->parallel * QUEUE_PER_WORKER, true);
    lock_acquire(&c->s.lock);
    c->s.running++;
    lock_release(&c->s.lock);
    pool_submit(c->pool, &t->job, 0);
}

/* ---- trees ---- */

static void complain_of(struct copier *c, int code, const char *path, const char *what)
{
    struct err err = ERR_INIT;
    (void)err_set(&err, code, "%s: %s: %s", path, what, strerror(code));
    complain(c, &err);
    c->incomplete = true;
}

/* The target directory. With --include only where something goes in. */
static bool make_dir(struct copier *c, const char *to, mode_t mode)
{
    struct stat st;
    if (c->o->dry)
        return true;
    int r = c->o->filter.includes ? sys_mkdirs(to, 0777) : sys_mkdirat(AT_FDCWD, to, mode | S_IRWXU);
    if (r == -EEXIST && stat(to, &st) == 0)
        r = S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
    if (r < 0)
        complain_of(c, -r, to, "making the directory");
    return r == 0;
}

static void add_dir(struct copier *c, const char *path)
{
    c->dirs = xrealloc(c->dirs, (c->n_dirs + 1) * sizeof(*c->dirs));
    c->dirs[c->n_dirs++] = xstrdup(path);
}

static void walk(struct copier *c, const struct tree *tr, const char *from, const char *to);

static void walk_entry(struct copier *c, const struct tree *tr, const char *from, const char *to,
                       const char *name, bool *made)
{
    CLEANUP_FREE char *a = xasprintf("%s/%s", from, name), *b = xasprintf("%s/%s", to, name);
    struct stat st;
    if (lstat(a, &st) != 0) {
        if (errno != ENOENT) /* gone since the listing: as if it had been before */
            complain_of(c, errno, a, "looking at it");
        return;
    }
    bool dir = S_ISDIR(st.st_mode);
    if (!filter_wants(&c->o->filter, a + tr->from_len + 1, dir))
        return;
    if (dir) {
        if (c->o->filter.includes || make_dir(c, b, st.st_mode & 0777))
            walk(c, tr, a, b);
        return;
    }
    if (c->o->filter.includes && !*made)
        *made = make_dir(c, to, 0777);
    if (!c->o->filter.includes || *made)
        submit(c, tr, a, b, &st);
}

static void walk(struct copier *c, const struct tree *tr, const char *from, const char *to)
{
    DIR *d = opendir(from);
    bool made = false;
    if (!d) {
        complain_of(c, errno, from, "listing");
        return;
    }
    if (c->o->mode == COPY_MV)
        add_dir(c, from);
    while (!atomic_load(&interrupted)) {
        errno = 0;
        const struct dirent *e = readdir(d);
        if (!e && errno)
            complain_of(c, errno, from, "listing");
        if (!e)
            break;
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 &&
            !copy_is_partial(e->d_name))
            walk_entry(c, tr, from, to, e->d_name, &made);
    }
    (void)closedir(d);
}

static bool below_or_same(const char *path, const char *dir)
{
    size_t n = strlen(dir);
    return strncmp(path, dir, n) == 0 && (path[n] == '\0' || path[n] == '/');
}

/* mv within one key or disk. */
static bool renamed(struct copier *c, const char *from, const char *to)
{
    if (c->o->mode != COPY_MV || c->o->filter.n || c->o->dry)
        return false;
    if (rename(from, to) != 0)
        return false; /* EXDEV, a directory with something in it: file by file, which says what is wrong */
    c->renamed++;
    if (c->o->verbose)
        say(c, "moved", from, to);
    return true;
}

static void note_top(struct copier *c, const char *from, const char *to)
{
    c->tops = xrealloc(c->tops, (c->n_tops + 1) * sizeof(*c->tops));
    c->tops[c->n_tops].from = xstrdup(from);
    c->tops[c->n_tops++].to = xstrdup(to);
}

/* The path in the key; outside of the mount: of a directory that is followed the real one. */
static char *path_of(const struct place *p)
{
    char *path = p->key ? copy_object_of(p->file + key_root(p) - (strlen(p->file) < key_root(p))) : NULL;
    if (path)
        return path;
    if (p->key) /* a long name: as it was given */
        return xstrdup(p->path);
    struct stat st;
    bool dir = lstat(p->file, &st) == 0 && (p->dir || S_ISDIR(st.st_mode));
    path = dir ? realpath(p->file, NULL) : NULL;
    return path ? path : xstrdup(p->file);
}

/* By its names: what is one file, or a directory and what is in it, is left as it is. */
static bool check_apart(struct copier *c, struct tree *tr, bool dir)
{
    CLEANUP_FREE char *from = path_of(tr->from), *to = path_of(tr->to);
    struct same_side a = {.key = tr->from->key, .path = from}, b = {.key = tr->to->key, .path = to};
    enum same_relation rel;
    struct err err = ERR_INIT;
    int r = same_named(c->ctl->settings.control, &a, &b, &rel, &tr->unsure, &err);
    bool nested = rel == RELATION_NESTED && dir;
    if (r == 0 && !tr->unsure && rel == RELATION_ONE)
        r = err_set(&err, EINVAL, "%s and %s are the same %s", tr->from->file, tr->to->file, dir ? "directory" : "file");
    else if (r == 0 && nested && !tr->unsure)
        r = err_set(&err, EINVAL, "%s and %s: the one directory is in the other: cannot be copied into itself",
                    tr->from->file, tr->to->file);
    else if (r == 0 && nested && c->o->remove_extra)
        r = err_set(&err, EINVAL, "%s and %s: the one directory may be in the other: --delete is refused",
                    tr->from->file, tr->to->file);
    if (r == 0)
        return true;
    complain(c, &err);
    c->incomplete = true;
    return false;
}

void copier_add(struct copier *c, const struct place *from, const struct place *to)
{
    struct tree tr = {.from = from, .to = to, .from_len = strlen(from->file)};
    struct stat st;
    bool follow = c->o->mode != COPY_MV && !c->o->recursive;
    if ((follow || from->dir ? stat(from->file, &st) : lstat(from->file, &st)) != 0) {
        complain_of(c, errno, from->file, "looking at it");
        return;
    }
    bool dir = S_ISDIR(st.st_mode);
    if (below_or_same(to->file, from->file) || (dir && below_or_same(from->file, to->file))) {
        complain_of(c, EINVAL, from->file, "cannot be copied into itself");
        return;
    }
    if (!check_apart(c, &tr, dir) || renamed(c, from->file, to->file))
        return;
    if (!dir) {
        submit(c, &tr, from->file, to->file, &st);
        return;
    }
    if (!c->o->recursive) {
        complain_of(c, EISDIR, from->file, "left out (-r copies directories)");
        return;
    }
    if (!make_dir(c, to->file, st.st_mode & 0777))
        return;
    if (c->o->remove_extra)
        note_top(c, from->file, to->file);
    walk(c, &tr, from->file, to->file);
}

/* ---- what the source does not have ---- */

static bool remove_one(struct copier *c, const char *path, bool dir)
{
    if (c->o->dry || c->o->verbose)
        say(c, c->o->dry ? "delete" : "deleted", path, NULL);
    if (!c->o->dry && (dir ? rmdir(path) : unlink(path)) != 0) {
        if (dir && errno == ENOTEMPTY) /* something in it is left out by a filter */
            return false;
        complain_of(c, errno, path, "deleting");
        return false;
    }
    c->deleted += !dir;
    return true;
}

/* `from` NULL: below a directory that the source does not have. */
static void prune(struct copier *c, size_t top, const char *from, const char *to)
{
    DIR *d = opendir(to);
    if (!d && (errno != ENOENT || !c->o->dry))
        complain_of(c, errno, to, "listing");
    for (const struct dirent *e; d && !atomic_load(&interrupted) && (e = readdir(d));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        CLEANUP_FREE char *b = xasprintf("%s/%s", to, e->d_name);
        CLEANUP_FREE char *a = from ? xasprintf("%s/%s", from, e->d_name) : NULL;
        struct stat sa, sb;
        if (lstat(b, &sb) != 0)
            continue;
        bool dir = S_ISDIR(sb.st_mode);
        if (!filter_wants(&c->o->filter, b + top + 1, dir))
            continue;
        bool there = a && lstat(a, &sa) == 0;
        if (a && !there && errno != ENOENT) {
            complain_of(c, errno, a, "looking at it");
            continue;
        }
        if (dir)
            prune(c, top, there ? a : NULL, b);
        if (!there)
            (void)remove_one(c, b, dir);
    }
    if (d)
        (void)closedir(d);
}

static void remove_extra(struct copier *c)
{
    if (c->n_tops && (c->failed || c->incomplete)) {
        progress_end(&c->bar);
        (void)ctl_message(0, "nothing is deleted, as not everything was copied");
        return;
    }
    for (size_t i = 0; i < c->n_tops && !atomic_load(&interrupted); i++)
        prune(c, strlen(c->tops[i].to), c->tops[i].from, c->tops[i].to);
}

/* ---- begin and end ---- */

struct copier *copier_new(struct ctl *ctl, const struct copy_options *o)
{
    struct copier *c = xcalloc(1, sizeof(*c));
    struct sigaction sa = {.sa_handler = on_signal, .sa_flags = SA_RESETHAND | SA_RESTART};
    c->ctl = ctl;
    c->o = o;
    c->begun_ns = c->line_ns = clock_now_ns();
    lock_init(&c->s.lock, LOCK_RANK_LEAF, "copier");
    cond_init(&c->s.cond);
    c->pool = pool_new("copy", o->parallel);
    progress_begin(&c->bar);
    (void)sigaction(SIGINT, &sa, NULL);
    (void)sigaction(SIGTERM, &sa, NULL);
    return c;
}

static int print_json(const struct copier *c)
{
    json_t *o = json_object();
    const struct { const char *name; uint64_t v; } n[] = {
        {"files", c->files}, {"bytes", c->total}, {"copied_files", c->copied},
        {"copied_bytes", c->copied_bytes}, {"by_store_files", c->by_store},
        {"same_files", c->same}, {"renamed", c->renamed}, {"deleted_files", c->deleted},
        {"resumed_bytes", c->resumed}, {"failed", c->failed}};
    for (size_t i = 0; i < ARRAY_LEN(n); i++)
        json_object_set_new(o, n[i].name, json_integer((json_int_t)n[i].v));
    json_object_set_new(o, "dry", json_boolean(c->o->dry));
    json_object_set_new(o, "interrupted", json_boolean(atomic_load(&interrupted)));
    return daemon_print_json(o);
}

static void print_summary(const struct copier *c)
{
    static const char *const did[] = {"copied", "moved", "copied"};
    static const char *const would[] = {"to copy", "to move", "to copy"};
    unsigned m = (unsigned)c->o->mode - COPY_CP;
    char a[32];
    format_size(c->copied_bytes, a);
    printf("%s: %llu %s (%s", c->o->name, (ull)(c->copied + c->renamed), c->o->dry ? would[m] : did[m], a);
    if (c->by_store)
        printf(", %llu by the store", (ull)c->by_store);
    if (c->renamed)
        printf(", %llu by renaming", (ull)c->renamed);
    printf("), %llu the same already, %llu failed", (ull)c->same, (ull)c->failed);
    if (c->resumed) {
        format_size(c->resumed, a);
        printf(", %s were there of an interrupted copy", a);
    }
    if (c->o->remove_extra)
        printf(", %llu %s", (ull)c->deleted, c->o->dry ? "to delete" : "deleted");
    puts(atomic_load(&interrupted) ? "; interrupted: run it again to go on" : "");
}

static void copier_free(struct copier *c)
{
    for (size_t i = 0; i < c->n_dirs; i++)
        free(c->dirs[i]);
    for (size_t i = 0; i < c->n_tops; i++) {
        free(c->tops[i].from);
        free(c->tops[i].to);
    }
    free(c->dirs);
    free(c->tops);
    pool_free(c->pool);
    cond_done(&c->s.cond);
    lock_done(&c->s.lock);
    free(c);
}

int copier_end(struct copier *c)
{
    collect(c, 0, false);
    for (size_t i = c->n_dirs; i-- > 0 && !c->o->dry;)
        if (rmdir(c->dirs[i]) != 0 && errno != ENOTEMPTY && errno != ENOENT)
            complain_of(c, errno, c->dirs[i], "copied, but not removed");
    remove_extra(c);
    progress_end(&c->bar);
    bool stopped = atomic_load(&interrupted);
    int status = stopped ? COPY_INTERRUPTED : c->failed ? CTL_FAILED : CTL_OK;
    if (c->o->json)
        (void)print_json(c);
    else if (!c->o->quiet || status != CTL_OK)
        print_summary(c);
    copier_free(c);
    return status;
}
