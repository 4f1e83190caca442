/* SPDX-License-Identifier: MIT
 * shim.c: LD_PRELOADed into quayfs by tests/crash/run: kills it at the Nth change that it makes below one
 * directory, and writes down how to take back every change that was not synced yet (a power cut).
 *
 * QUAY_CRASH_DIR   changes of files below it count (not SQLite's "-shm", which is memory)
 * QUAY_CRASH_AT    the process is killed before its Nth change; 0: never
 * QUAY_CRASH_LOG   the undo log; records of the form of struct record, each with a path and old bytes
 * QUAY_CRASH_SAVE  a directory of the same file system: unlinked and replaced files are kept there
 * A change is counted, its old state is logged, then it is made; fsync of a file says that what was changed
 * in it, and its name, is durable (as on ext4), fsync of a directory that its names are.
 * One mutex makes all of it one sequence: the program is slower, its order of changes the same. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

struct record {
    char kind;         /* W data, T size, C created, M renamed, U unlinked, S file synced, D dir synced */
    char pad[7];
    uint64_t ino, off, len, size; /* len: of the old bytes; size: of the file before */
    uint32_t path_len, other_len; /* of a rename: from and to; `saved` follows the second */
    uint64_t saved;    /* number of the kept file; 0 none */
    uint64_t mtime_ns; /* W, T: of the file before */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static char dir[PATH_MAX], save[PATH_MAX];
static size_t dir_len;
static uint64_t events, at, saved;
static int log_fd = -1;
static __thread int inside;

#define REAL(name) ((__typeof__(&name))real(#name))

static void *real(const char *name)
{
    void *p = dlsym(RTLD_NEXT, name);
    if (!p)
        abort();
    return p;
}

static void init(void)
{
    const char *d = getenv("QUAY_CRASH_DIR"), *l = getenv("QUAY_CRASH_LOG");
    const char *s = getenv("QUAY_CRASH_SAVE"), *n = getenv("QUAY_CRASH_AT");
    if (!d || !l || !s)
        return;
    snprintf(dir, sizeof(dir), "%s/", d);
    snprintf(save, sizeof(save), "%s", s);
    dir_len = strlen(dir);
    at = n ? strtoull(n, NULL, 10) : 0;
    log_fd = (int)syscall(SYS_openat, AT_FDCWD, l, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static int tracked_path(const char *path)
{
    size_t n = strlen(path);
    return dir_len && strncmp(path, dir, dir_len) == 0 &&
           !(n > 4 && strcmp(path + n - 4, "-shm") == 0);
}

/* The path of an open file, when it is below dir. */
static int tracked_fd(int fd, char path[PATH_MAX])
{
    char link[64];
    struct stat st;
    pthread_once(&once, init);
    if (log_fd < 0 || inside || fd == log_fd)
        return 0;
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, PATH_MAX - 1);
    if (n <= 0)
        return 0;
    path[n] = '\0';
    return tracked_path(path) && fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

static int full_path(int dirfd, const char *path, char out[PATH_MAX])
{
    pthread_once(&once, init);
    if (log_fd < 0 || inside)
        return 0;
    if (path[0] == '/' || dirfd == AT_FDCWD) {
        snprintf(out, PATH_MAX, "%s", path);
    } else {
        char link[64], base[PATH_MAX];
        snprintf(link, sizeof(link), "/proc/self/fd/%d", dirfd);
        ssize_t n = readlink(link, base, sizeof(base) - 1);
        if (n <= 0)
            return 0;
        base[n] = '\0';
        if (snprintf(out, PATH_MAX, "%s/%s", base, path) >= PATH_MAX)
            return 0;
    }
    return tracked_path(out);
}

static void put(const void *p, size_t n)
{
    if (n && REAL(write)(log_fd, p, n) != (ssize_t)n)
        abort();
}

/* Counts a change; the Nth does not happen any more. The lock is held. */
static void count(void)
{
    if (++events == at)
        kill(getpid(), SIGKILL);
}

static void note(struct record *r, const char *path, const char *other, const void *old)
{
    r->path_len = (uint32_t)strlen(path);
    r->other_len = other ? (uint32_t)strlen(other) : 0;
    put(r, sizeof(*r));
    put(path, r->path_len);
    if (other)
        put(other, r->other_len);
    put(old, (size_t)r->len);
}

/* Before bytes [off, off + len) of fd change (cut: before it is cut at off). */
static void note_data(int fd, const char *path, uint64_t off, uint64_t len, char kind)
{
    struct stat st;
    char link[64];
    struct record r = {.kind = kind, .off = off};
    if (fstat(fd, &st) != 0)
        abort();
    r.ino = st.st_ino;
    r.size = (uint64_t)st.st_size;
    r.mtime_ns = (uint64_t)st.st_mtim.tv_sec * 1000000000U + (uint64_t)st.st_mtim.tv_nsec;
    uint64_t left = off < r.size ? r.size - off : 0;
    r.len = len < left ? len : left;
    char *old = malloc(r.len + 1);
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    int in = r.len ? open(link, O_RDONLY | O_CLOEXEC) : -1; /* fd may be write-only */
    if (!old || (r.len && (in < 0 || pread(in, old, r.len, (off_t)off) != (ssize_t)r.len)))
        abort();
    if (in >= 0)
        close(in);
    note(&r, path, NULL, old);
    free(old);
}

static uint64_t keep(const char *path)
{
    char to[PATH_MAX + 32];
    struct stat st;
    if (lstat(path, &st) != 0 || !S_ISREG(st.st_mode))
        return 0;
    snprintf(to, sizeof(to), "%s/%llu", save, (unsigned long long)++saved);
    return linkat(AT_FDCWD, path, AT_FDCWD, to, 0) == 0 ? saved : 0;
}

#define BEGIN()                                                                                    \
    do {                                                                                           \
        pthread_mutex_lock(&lock);                                                                 \
        inside = 1;                                                                                \
        count();                                                                                   \
    } while (0)

#define END()                                                                                      \
    do {                                                                                           \
        int errno_ = errno;                                                                        \
        inside = 0;                                                                                \
        pthread_mutex_unlock(&lock);                                                               \
        errno = errno_;                                                                            \
    } while (0)

/* ---- data ---- */

static ssize_t do_pwrite(int fd, const void *buf, size_t n, off_t off, const char *name)
{
    char path[PATH_MAX];
    ssize_t (*next)(int, const void *, size_t, off_t) =
        (ssize_t (*)(int, const void *, size_t, off_t))real(name);
    if (!tracked_fd(fd, path))
        return next(fd, buf, n, off);
    BEGIN();
    note_data(fd, path, (uint64_t)off, n, 'W');
    ssize_t r = next(fd, buf, n, off);
    END();
    return r;
}

ssize_t pwrite(int fd, const void *buf, size_t n, off_t off)
{
    return do_pwrite(fd, buf, n, off, "pwrite");
}

ssize_t pwrite64(int fd, const void *buf, size_t n, off64_t off)
{
    return do_pwrite(fd, buf, n, off, "pwrite64");
}

ssize_t write(int fd, const void *buf, size_t n)
{
    char path[PATH_MAX];
    if (!tracked_fd(fd, path))
        return REAL(write)(fd, buf, n);
    BEGIN();
    off_t off = lseek(fd, 0, SEEK_CUR);
    note_data(fd, path, off > 0 ? (uint64_t)off : 0, n, 'W');
    ssize_t r = REAL(write)(fd, buf, n);
    END();
    return r;
}

static int do_ftruncate(int fd, off_t size, const char *name)
{
    char path[PATH_MAX];
    int (*next)(int, off_t) = (int (*)(int, off_t))real(name);
    if (!tracked_fd(fd, path))
        return next(fd, size);
    BEGIN();
    note_data(fd, path, (uint64_t)size, UINT64_MAX, 'T');
    int r = next(fd, size);
    END();
    return r;
}

int ftruncate(int fd, off_t size)
{
    return do_ftruncate(fd, size, "ftruncate");
}

int ftruncate64(int fd, off64_t size)
{
    return do_ftruncate(fd, size, "ftruncate64");
}

static int do_fallocate(int fd, int mode, off_t off, off_t len, const char *name)
{
    char path[PATH_MAX];
    int (*next)(int, int, off_t, off_t) = (int (*)(int, int, off_t, off_t))real(name);
    if (!tracked_fd(fd, path))
        return next(fd, mode, off, len);
    BEGIN();
    note_data(fd, path, (uint64_t)off, (uint64_t)len, 'W');
    int r = next(fd, mode, off, len);
    END();
    return r;
}

int fallocate(int fd, int mode, off_t off, off_t len)
{
    return do_fallocate(fd, mode, off, len, "fallocate");
}

int fallocate64(int fd, int mode, off64_t off, off64_t len)
{
    return do_fallocate(fd, mode, off, len, "fallocate64");
}

/* ---- durability ---- */

static int do_sync(int fd, const char *name)
{
    char path[PATH_MAX], link[64];
    struct stat st;
    int (*next)(int) = (int (*)(int))real(name);
    pthread_once(&once, init);
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t n = log_fd < 0 || inside ? -1 : readlink(link, path, sizeof(path) - 2);
    if (n <= 0)
        return next(fd);
    path[n] = '\0';
    if (fstat(fd, &st) != 0 || !(tracked_path(path) || strncmp(path, dir, dir_len - 1) == 0))
        return next(fd);
    BEGIN();
    int r = next(fd);
    struct record rec = {.kind = S_ISDIR(st.st_mode) ? 'D' : 'S', .ino = st.st_ino};
    if (r == 0)
        note(&rec, path, NULL, NULL);
    END();
    return r;
}

int fsync(int fd)
{
    return do_sync(fd, "fsync");
}

int fdatasync(int fd)
{
    return do_sync(fd, "fdatasync");
}

/* ---- names ---- */

static int do_open(int dirfd, const char *path, int flags, mode_t mode, const char *name)
{
    char full[PATH_MAX];
    struct stat st;
    int (*next)(int, const char *, int, ...) = (int (*)(int, const char *, int, ...))real(name);
    if (!(flags & (O_CREAT | O_TRUNC)) || !full_path(dirfd, path, full))
        return next(dirfd, path, flags, mode);
    BEGIN();
    int there = lstat(full, &st) == 0;
    int fd = next(dirfd, path, flags, mode);
    if (fd >= 0 && !there && fstat(fd, &st) == 0) {
        struct record r = {.kind = 'C', .ino = st.st_ino};
        note(&r, full, NULL, NULL);
    }
    END();
    return fd;
}

#define OPEN_MODE(flags)                                                                           \
    __extension__({                                                                                \
        mode_t mode_ = 0;                                                                          \
        if ((flags) & O_CREAT) {                                                                   \
            va_list ap_;                                                                           \
            va_start(ap_, flags);                                                                  \
            mode_ = va_arg(ap_, mode_t);                                                           \
            va_end(ap_);                                                                           \
        }                                                                                          \
        mode_;                                                                                     \
    })

int openat(int dirfd, const char *path, int flags, ...)
{
    mode_t mode = OPEN_MODE(flags);
    return do_open(dirfd, path, flags, mode, "openat");
}

int openat64(int dirfd, const char *path, int flags, ...)
{
    mode_t mode = OPEN_MODE(flags);
    return do_open(dirfd, path, flags, mode, "openat64");
}

int open(const char *path, int flags, ...)
{
    mode_t mode = OPEN_MODE(flags);
    return do_open(AT_FDCWD, path, flags, mode, "openat");
}

int open64(const char *path, int flags, ...)
{
    mode_t mode = OPEN_MODE(flags);
    return do_open(AT_FDCWD, path, flags, mode, "openat64");
}

static int unlinked(int dirfd, const char *path, int flags)
{
    char full[PATH_MAX];
    if (flags & AT_REMOVEDIR || !full_path(dirfd, path, full))
        return REAL(unlinkat)(dirfd, path, flags);
    BEGIN();
    struct record r = {.kind = 'U', .saved = keep(full)};
    if (r.saved)
        note(&r, full, NULL, NULL);
    int done = REAL(unlinkat)(dirfd, path, flags);
    END();
    return done;
}

int unlinkat(int dirfd, const char *path, int flags)
{
    return unlinked(dirfd, path, flags);
}

int unlink(const char *path)
{
    return unlinked(AT_FDCWD, path, 0);
}

static int renamed(int olddir, const char *from, int newdir, const char *to, unsigned flags)
{
    char a[PATH_MAX], b[PATH_MAX];
    struct stat st;
    if (!full_path(olddir, from, a) || !full_path(newdir, to, b))
        return REAL(renameat2)(olddir, from, newdir, to, flags);
    BEGIN();
    struct record r = {.kind = 'M', .saved = keep(b)};
    r.ino = lstat(a, &st) == 0 ? st.st_ino : 0;
    int done = REAL(renameat2)(olddir, from, newdir, to, flags);
    if (done == 0)
        note(&r, a, b, NULL);
    END();
    return done;
}

int renameat2(int olddir, const char *from, int newdir, const char *to, unsigned flags)
{
    return renamed(olddir, from, newdir, to, flags);
}

int renameat(int olddir, const char *from, int newdir, const char *to)
{
    return renamed(olddir, from, newdir, to, 0);
}

int rename(const char *from, const char *to)
{
    return renamed(AT_FDCWD, from, AT_FDCWD, to, 0);
}

/* How many there were: the run without a kill tells where to kill. */
__attribute__((destructor)) static void tell(void)
{
    const char *out = getenv("QUAY_CRASH_COUNT");
    if (!out || log_fd < 0)
        return;
    inside = 1;
    FILE *f = fopen(out, "we");
    if (f) {
        fprintf(f, "%llu\n", (unsigned long long)events);
        fclose(f);
    }
}
