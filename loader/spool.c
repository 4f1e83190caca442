/* SPDX-License-Identifier: MIT
 * spool.c: the spool directory; see spool.h for its layout.
 *
 * States of a job are places: new/F -> run/N/ -> done/N.R or failed/N.R. Every step is one rename, so
 * after a crash a job is in exactly one of them. */
#include "loader/spool.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/date.h"
#include "base/sys.h"
#include "loader/readme.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/inotify.h>

#define EMPTY_GRACE_S 5  /* an empty file may still be filled */
#define QUIET_S 2        /* without leases: complete when it did not change for so long */
#define SETTLE_MS 100    /* whoever made it (cp -p, a mount) may still look at it by its name */

struct spool {
    char *dir;
    int lock_fd;
    int inotify;
    int watch_root, watch_new, watch_check;
};

const char *spool_dir(const struct spool *sp)
{
    return sp->dir;
}

int spool_fd(const struct spool *sp)
{
    return sp->inotify;
}

char *spool_path(const struct spool *sp, const char *sub, const char *name)
{
    return name ? xasprintf("%s/%s/%s", sp->dir, sub, name) : xasprintf("%s/%s", sp->dir, sub);
}

/* ---- names ---- */

static bool ends_with(const char *s, const char *suffix)
{
    size_t a = strlen(s), b = strlen(suffix);

    return a >= b && !strcmp(s + a - b, suffix);
}

bool spool_ignores(const char *file)
{
    return file[0] == '.' || ends_with(file, "~") || ends_with(file, ".tmp") ||
           ends_with(file, ".swp") || ends_with(file, ".part");
}

void spool_name(const char *file, char out[SPOOL_NAME_MAX + 1])
{
    size_t len = strlen(file);

    if (len > 4 && ends_with(file, ".job"))
        len -= 4;
    if (len > SPOOL_NAME_MAX)
        len = SPOOL_NAME_MAX;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)file[i];

        out[i] = c < ' ' || c == 127 || c == '/' ? '_' : (char)c;
    }
    out[len] = 0;
    if (out[0] == '.' || !out[0])
        out[0] = '_';
}

void spool_run_id(char out[SPOOL_RUN_ID_MAX])
{
    char random[7], stamp[17];

    random_hex(random, 6);
    date_format_amz(clock_wall().tv_sec, stamp);
    (void)snprintf(out, SPOOL_RUN_ID_MAX, "%.16s-%s", stamp, random);
}

bool spool_split(const char *entry, char name[SPOOL_NAME_MAX + 1], char run_id[SPOOL_RUN_ID_MAX])
{
    const char *dot = strrchr(entry, '.');
    size_t len = dot ? (size_t)(dot - entry) : 0;

    if (len == 0 || len > SPOOL_NAME_MAX || strlen(dot + 1) != SPOOL_RUN_ID_MAX - 1 ||
        dot[9] != 'T' || dot[16] != 'Z' || dot[17] != '-')
        return false;
    memcpy(name, entry, len);
    name[len] = 0;
    memcpy(run_id, dot + 1, SPOOL_RUN_ID_MAX);
    return true;
}

/* ---- open, lock ---- */

static struct flock lock_request(short type)
{
    return (struct flock){.l_type = type, .l_whence = SEEK_SET};
}

static pid_t read_pid(const char *path)
{
    CLEANUP_BUF struct buf b = BUF_INIT;
    long pid = 0;

    if (spool_file_read(path, 64, &b) == 0)
        pid = strtol(buf_str(&b), NULL, 10);
    return pid > 0 && pid <= INT_MAX ? (pid_t)pid : 0;
}

int spool_owner(const char *dir, pid_t *ret_pid)
{
    CLEANUP_FREE char *path = xasprintf("%s/lock", dir);
    CLEANUP_FD int fd = sys_openat(AT_FDCWD, path, O_RDWR | O_NOFOLLOW, 0);
    struct flock fl = lock_request(F_WRLCK);

    if (fd < 0) {
        int r = fd;

        fd = -1;
        return r == -ENOENT ? -ESRCH : r;
    }
    if (fcntl(fd, F_OFD_GETLK, &fl) < 0)
        return -errno;
    if (fl.l_type == F_UNLCK)
        return -ESRCH;
    *ret_pid = read_pid(path);
    return 0;
}

int spool_write_pid(struct spool *sp, struct err *err)
{
    char text[32];
    int n = snprintf(text, sizeof(text), "%ld\n", (long)getpid());
    int r = sys_ftruncate(sp->lock_fd, 0);

    if (r == 0) {
        ssize_t w = sys_pwrite(sp->lock_fd, text, (size_t)n, 0);

        r = w < 0 ? (int)w : 0;
    }
    return r < 0 ? err_set(err, -r, "%s/lock: %s", sp->dir, strerror(-r)) : 0;
}

static int take_lock(struct spool *sp, struct err *err)
{
    CLEANUP_FREE char *path = spool_path(sp, "lock", NULL);
    struct flock fl = lock_request(F_WRLCK);
    int fd = sys_openat(AT_FDCWD, path, O_RDWR | O_CREAT | O_NOFOLLOW, 0600);

    if (fd < 0)
        return err_set(err, -fd, "%s: %s", path, strerror(-fd));
    sp->lock_fd = fd;
    if (fcntl(fd, F_OFD_SETLK, &fl) < 0) {
        pid_t pid = read_pid(path);

        if (errno != EAGAIN && errno != EACCES)
            return err_set(err, errno, "%s: %s", path, strerror(errno));
        if (pid)
            return err_set(err, EBUSY, "spool %s is in use by another quayload (pid %ld)", sp->dir,
                           (long)pid);
        return err_set(err, EBUSY, "spool %s is in use by another quayload", sp->dir);
    }
    return spool_write_pid(sp, err);
}

bool spool_is_ours(const struct spool *sp)
{
    CLEANUP_FREE char *path = spool_path(sp, "lock", NULL);
    struct stat mine, there;

    return fstat(sp->lock_fd, &mine) == 0 && lstat(path, &there) == 0 &&
           mine.st_dev == there.st_dev && mine.st_ino == there.st_ino;
}

static int make_layout(struct spool *sp, struct err *err)
{
    static const char *const dirs[] = {"new", "check", "run", "done", "failed", "conn"};
    CLEANUP_FREE char *readme = spool_path(sp, "README", NULL);
    int r = sys_mkdirs(sp->dir, 0700);

    for (size_t i = 0; r == 0 && i < ARRAY_LEN(dirs); i++) {
        CLEANUP_FREE char *path = spool_path(sp, dirs[i], NULL);

        r = sys_mkdirs(path, 0700);
    }
    if (r == 0)
        r = spool_file_write(readme, readme_text, strlen(readme_text), false);
    return r < 0 ? err_set(err, -r, "spool %s: %s", sp->dir, strerror(-r)) : 0;
}

static int check_owner(struct spool *sp, struct err *err)
{
    struct stat st;

    if (stat(sp->dir, &st) < 0)
        return err_set(err, errno, "spool %s: %s", sp->dir, strerror(errno));
    if (st.st_uid != geteuid())
        return err_set(err, EPERM, "spool %s belongs to uid %ld, not to us (%ld)", sp->dir,
                       (long)st.st_uid, (long)geteuid());
    if (st.st_mode & 022)
        return err_set(err, EPERM, "spool %s can be written by others (mode %04o): who writes there "
                       "runs SQL; use chmod go-w", sp->dir, (unsigned)(st.st_mode & 07777));
    return 0;
}

int spool_open(const char *dir, struct err *err, struct spool **ret)
{
    struct spool *sp = xcalloc(1, sizeof(*sp));
    int r;

    *sp = (struct spool){.dir = xstrdup(dir), .lock_fd = -1, .inotify = -1};
    (void)signal(SIGIO, SIG_IGN); /* a lease of ours being broken is no reason to die */
    r = sys_mkdirs(dir, 0700);
    if (r < 0)
        r = err_set(err, -r, "spool %s: %s", dir, strerror(-r));
    if (r == 0)
        r = check_owner(sp, err);
    if (r == 0)
        r = take_lock(sp, err);
    if (r == 0)
        r = make_layout(sp, err);
    if (r < 0) {
        spool_close(sp);
        return r;
    }
    *ret = sp;
    return 0;
}

void spool_close(struct spool *sp)
{
    if (!sp)
        return;
    if (sp->inotify >= 0)
        (void)close(sp->inotify);
    if (sp->lock_fd >= 0)
        (void)close(sp->lock_fd);
    free(sp->dir);
    free(sp);
}

/* ---- events ---- */

static int add_watch(struct spool *sp, const char *sub, int *ret)
{
    CLEANUP_FREE char *path = *sub ? spool_path(sp, sub, NULL) : xstrdup(sp->dir);
    int w = inotify_add_watch(sp->inotify, path, IN_CLOSE_WRITE | IN_MOVED_TO | IN_ONLYDIR);

    if (w < 0)
        return -errno;
    *ret = w;
    return 0;
}

int spool_watch(struct spool *sp, struct err *err)
{
    int r;

    sp->inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    r = sp->inotify < 0 ? -errno : 0;
    if (r == 0)
        r = add_watch(sp, "", &sp->watch_root);
    if (r == 0)
        r = add_watch(sp, "new", &sp->watch_new);
    if (r == 0)
        r = add_watch(sp, "check", &sp->watch_check);
    if (r == 0)
        return 0;
    if (sp->inotify >= 0)
        (void)close(sp->inotify);
    sp->inotify = -1;
    return err_set(err, -r, "inotify on %s: %s", sp->dir, strerror(-r));
}

unsigned spool_events(struct spool *sp)
{
    char data[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
    unsigned what = 0;
    ssize_t n;

    while (sp->inotify >= 0 && (n = read(sp->inotify, data, sizeof(data))) > 0) {
        for (char *p = data; p < data + n;) {
            const struct inotify_event *e = (const struct inotify_event *)(const void *)p;

            if (e->mask & IN_Q_OVERFLOW)
                what |= SPOOL_NEW | SPOOL_CHECK | SPOOL_CTL;
            else if (e->wd == sp->watch_new)
                what |= SPOOL_NEW;
            else if (e->wd == sp->watch_check)
                what |= SPOOL_CHECK;
            else if (e->wd == sp->watch_root && e->len && !strcmp(e->name, "ctl"))
                what |= SPOOL_CTL;
            p += sizeof(*e) + e->len;
        }
    }
    return what;
}

/* ---- scanning ---- */

static bool is_younger(const struct timespec *t, int64_t ms)
{
    struct timespec now = clock_wall();
    int64_t age = (int64_t)(now.tv_sec - t->tv_sec) * 1000 + (now.tv_nsec - t->tv_nsec) / 1000000;

    return age >= 0 && age < ms;
}

/* True when nobody is writing it. What is not a regular file is ready: it will be refused aloud (in
 * check/ it is left alone: nothing is moved out of there). */
static bool file_ready(int dir, const char *file, enum spool_place place, struct timespec *ret_mtime)
{
    CLEANUP_FD int fd = openat(dir, file, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    struct stat st;
    time_t age;

    if (fstatat(dir, file, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return false;
    *ret_mtime = st.st_mtim;
    if (!S_ISREG(st.st_mode) || fd < 0)
        return place != SPOOL_CHECK;
    if (is_younger(&st.st_ctim, SETTLE_MS))
        return false;
    age = clock_wall().tv_sec - st.st_mtim.tv_sec;
    if (st.st_size == 0 && age >= 0 && age < EMPTY_GRACE_S)
        return false;
    if (fcntl(fd, F_SETLEASE, F_RDLCK) == 0) {
        (void)fcntl(fd, F_SETLEASE, F_UNLCK);
        return true;
    }
    if (errno == EAGAIN)
        return false;
    return age < 0 || age >= QUIET_S;
}

static int by_age(const void *a, const void *b)
{
    const struct spool_entry *x = a, *y = b;

    if (x->mtime.tv_sec != y->mtime.tv_sec)
        return x->mtime.tv_sec < y->mtime.tv_sec ? -1 : 1;
    if (x->mtime.tv_nsec != y->mtime.tv_nsec)
        return x->mtime.tv_nsec < y->mtime.tv_nsec ? -1 : 1;
    return strcmp(x->file, y->file);
}

static void list_add(struct spool_list *l, const char *file, struct timespec mtime)
{
    struct spool_entry *e;

    l->v = xrealloc(l->v, (l->n + 1) * sizeof(*l->v));
    e = &l->v[l->n++];
    e->file = xstrdup(file);
    e->mtime = mtime;
    spool_name(file, e->name);
}

int spool_scan(struct spool *sp, enum spool_place place, struct spool_list *ret)
{
    CLEANUP_FREE char *path = spool_path(sp, place == SPOOL_CHECK ? "check" : "new", NULL);
    DIR *dir = opendir(path);
    struct dirent *e;

    if (!dir)
        return -errno;
    while ((e = readdir(dir))) {
        struct timespec mtime = {0};

        if (spool_ignores(e->d_name) || (place == SPOOL_CHECK && ends_with(e->d_name, ".out")))
            continue;
        if (file_ready(dirfd(dir), e->d_name, place, &mtime))
            list_add(ret, e->d_name, mtime);
        else
            ret->unready++;
    }
    (void)closedir(dir);
    if (ret->n)
        qsort(ret->v, ret->n, sizeof(*ret->v), by_age);
    return 0;
}

int spool_scan_running(struct spool *sp, struct spool_list *ret)
{
    CLEANUP_FREE char *path = spool_path(sp, "run", NULL);
    DIR *dir = opendir(path);
    struct dirent *e;

    if (!dir)
        return -errno;
    while ((e = readdir(dir))) {
        struct stat st;

        if (e->d_name[0] == '.' || fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
            !S_ISDIR(st.st_mode))
            continue;
        list_add(ret, e->d_name, st.st_mtim);
    }
    (void)closedir(dir);
    if (ret->n)
        qsort(ret->v, ret->n, sizeof(*ret->v), by_age);
    return 0;
}

void spool_list_done(struct spool_list *l)
{
    for (size_t i = 0; i < l->n; i++)
        free(l->v[i].file);
    free(l->v);
    *l = (struct spool_list){0};
}

/* ---- a job's way through ---- */

int spool_take(struct spool *sp, const char *file, const char *name, struct err *err)
{
    CLEANUP_FREE char *from = spool_path(sp, "new", file);
    CLEANUP_FREE char *dir = spool_path(sp, "run", name);
    CLEANUP_FREE char *to = xasprintf("%s/job", dir);
    int r = sys_mkdirat(AT_FDCWD, dir, 0700);

    if (r == -EEXIST)
        return err_set(err, EEXIST, "%s is running", name);
    if (r < 0)
        return err_set(err, -r, "%s: %s", dir, strerror(-r));
    r = sys_renameat(AT_FDCWD, from, AT_FDCWD, to, 0);
    if (r < 0) {
        (void)sys_unlinkat(AT_FDCWD, dir, AT_REMOVEDIR);
        return err_set(err, -r, "%s: %s", from, strerror(-r));
    }
    return 0;
}

int spool_finish(struct spool *sp, const char *name, const char *run_id, bool failed,
                 struct err *err)
{
    CLEANUP_FREE char *entry = xasprintf("%s.%s", name, run_id);
    CLEANUP_FREE char *from = spool_path(sp, "run", name);
    CLEANUP_FREE char *parent = spool_path(sp, failed ? "failed" : "done", NULL);
    CLEANUP_FREE char *to = xasprintf("%s/%s", parent, entry);
    int r = sys_fsync_dir(from);

    if (r == 0)
        r = sys_renameat(AT_FDCWD, from, AT_FDCWD, to, 0);
    if (r == 0)
        r = sys_fsync_dir(parent);
    return r < 0 ? err_set(err, -r, "%s: %s", to, strerror(-r)) : 0;
}

/* The newest entry of `place` for NAME or NAME.RUNID (malloc'd), or NULL. */
static char *newest_run(const char *dir, const char *place, const char *wanted)
{
    CLEANUP_FREE char *path = xasprintf("%s/%s", dir, place);
    DIR *d = opendir(path);
    char *best = NULL;
    struct dirent *e;

    while (d && (e = readdir(d))) {
        char name[SPOOL_NAME_MAX + 1], run_id[SPOOL_RUN_ID_MAX];

        if (!spool_split(e->d_name, name, run_id) ||
            (strcmp(name, wanted) != 0 && strcmp(e->d_name, wanted) != 0))
            continue;
        if (!best || strcmp(e->d_name, best) > 0) { /* run ids begin with the time */
            free(best);
            best = xstrdup(e->d_name);
        }
    }
    if (d)
        (void)closedir(d);
    return best;
}

int spool_submit(const char *dir, const char *name, const char *text, size_t len, struct err *err)
{
    CLEANUP_FREE char *tmp = NULL, *to = xasprintf("%s/new/%s.job", dir, name);
    char random[9];
    int r;

    random_hex(random, 8);
    tmp = xasprintf("%s/new/.%s.%s.tmp", dir, name, random);
    r = spool_file_write(tmp, text, len, true);
    if (r == 0) {
        r = sys_renameat(AT_FDCWD, tmp, AT_FDCWD, to, RENAME_NOREPLACE);
        if (r < 0)
            (void)sys_unlinkat(AT_FDCWD, tmp, 0);
    }
    if (r == -EEXIST)
        return err_set(err, EEXIST, "a job named %s is waiting already", name);
    return r < 0 ? err_set(err, -r, "%s: %s", to, strerror(-r)) : 0;
}

int spool_retry(const char *dir, const char *wanted, struct err *err)
{
    CLEANUP_FREE char *entry = newest_run(dir, "failed", wanted);
    CLEANUP_FREE char *path = NULL;
    CLEANUP_BUF struct buf text = BUF_INIT;
    char name[SPOOL_NAME_MAX + 1], run_id[SPOOL_RUN_ID_MAX];
    int r;

    if (!entry)
        return err_set(err, ENOENT, "no failed run of %s", wanted);
    path = xasprintf("%s/failed/%s/job", dir, entry);
    r = spool_file_read(path, 64 * 1024, &text);
    if (r < 0)
        return err_set(err, -r, "%s: %s", path, strerror(-r));
    (void)spool_split(entry, name, run_id);
    return spool_submit(dir, name, buf_str(&text), text.len, err);
}

int spool_history(struct spool *sp, const char *line)
{
    static const char head[] = "ts\trun\tjob\tfile\tversion\tsize\trows_read\trows_loaded\t"
                               "rows_rejected\trows_skipped\tstatus\tfirst_error\n";
    CLEANUP_FREE char *path = spool_path(sp, "history.tsv", NULL);
    struct stat st;

    if (stat(path, &st) < 0 && errno == ENOENT)
        (void)spool_file_append(path, head, sizeof(head) - 1);
    return spool_file_append(path, line, strlen(line));
}

static unsigned prune_place(struct spool *sp, const char *place, time_t before)
{
    CLEANUP_FREE char *path = spool_path(sp, place, NULL);
    DIR *dir = opendir(path);
    struct dirent *e;
    unsigned removed = 0;

    while (dir && (e = readdir(dir))) {
        char name[SPOOL_NAME_MAX + 1], run_id[SPOOL_RUN_ID_MAX];
        CLEANUP_FREE char *entry = NULL;
        struct stat st;

        if (!spool_split(e->d_name, name, run_id) ||
            fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_ctime >= before)
            continue;
        entry = xasprintf("%s/%s", path, e->d_name);
        removed += spool_tree_remove(entry) == 0;
    }
    if (dir)
        (void)closedir(dir);
    return removed;
}

int spool_prune(struct spool *sp, uint64_t max_age_ms, unsigned *ret_removed)
{
    time_t before = clock_wall().tv_sec - (time_t)(max_age_ms / 1000);
    unsigned n = 0;

    if (max_age_ms > 0)
        n = prune_place(sp, "done", before) + prune_place(sp, "failed", before);
    if (ret_removed)
        *ret_removed = n;
    return 0;
}
