/* SPDX-License-Identifier: MIT
 * sys.c: checked system calls with fault injection.
 * Invariants: (1) every function asserts that no lock is held, asks inject() once, and returns a
 * result or -errno; (2) faults are set before the threads start and only their counters change
 * afterwards, atomically; (3) without faults inject() is one load and a branch. */
#include "base/sys.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAX_FAULTS 16
#define COPY_BYTES ((size_t)256 * 1024)

enum sys_call {
    CALL_OPENAT,
    CALL_PREAD,
    CALL_PWRITE,
    CALL_FSYNC,
    CALL_FDATASYNC,
    CALL_FTRUNCATE,
    CALL_FALLOCATE,
    CALL_RENAMEAT,
    CALL_UNLINKAT,
    CALL_MKDIRAT,
    CALL_FSYNC_DIR,
    CALL_COPY_RANGE,
    N_CALLS
};

static const char *const call_names[N_CALLS] = {
    "openat",    "pread",    "pwrite",   "fsync",   "fdatasync", "ftruncate",
    "fallocate", "renameat", "unlinkat", "mkdirat", "fsync_dir", "copy_range"};

static struct fault {
    enum sys_call call;
    int error;
    unsigned nth; /* 1 = the next */
    bool after;   /* and all later ones */
    atomic_uint seen;
} faults[MAX_FAULTS];
static atomic_uint n_faults;
static char fault_dir[4096];

/* The path that a call works on: of the descriptor, or `path` below it. */
static bool is_below_fault_dir(int fd, const char *path)
{
    char link[64], full[8192];
    size_t at = 0;
    if (!fault_dir[0])
        return true;
    if (!path || path[0] != '/') {
        if (fd == AT_FDCWD)
            snprintf(link, sizeof(link), "/proc/self/cwd");
        else
            snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        ssize_t n = readlink(link, full, sizeof(full) / 2);
        if (n < 0)
            return false;
        at = (size_t)n;
        full[at] = '\0';
    }
    if (path)
        snprintf(full + at, sizeof(full) - at, "%s%s", at ? "/" : "", path);
    size_t n = strlen(fault_dir);
    return strncmp(full, fault_dir, n) == 0 && (full[n] == '/' || !full[n]);
}

/* 0, or -errno when a fault is due. */
static int inject(enum sys_call call, int fd, const char *path)
{
    lock_assert_none_held();
    unsigned n = atomic_load_explicit(&n_faults, memory_order_acquire);
    for (unsigned i = 0; i < n; i++) {
        struct fault *f = &faults[i];
        if (f->call != call || !is_below_fault_dir(fd, path))
            continue;
        unsigned nth = atomic_fetch_add(&f->seen, 1) + 1;
        if (nth == f->nth || (f->after && nth > f->nth))
            return -f->error;
    }
    return 0;
}

/* "pwrite:28@3+" */
static bool parse_fault(const char *word, struct fault *f)
{
    char name[32];
    int used = 0;
    if (sscanf(word, "%31[a-z_]:%d@%u%n", name, &f->error, &f->nth, &used) != 3 || f->error <= 0)
        return false;
    f->after = word[used] == '+';
    if (word[used + f->after])
        return false;
    for (unsigned i = 0; i < N_CALLS; i++) {
        if (strcmp(name, call_names[i]) == 0) {
            f->call = (enum sys_call)i;
            return f->nth > 0;
        }
    }
    return false;
}

bool sys_set_faults(const char *spec, const char *dir)
{
    atomic_store(&n_faults, 0);
    snprintf(fault_dir, sizeof(fault_dir), "%s", dir ? dir : "");
    size_t end = strlen(fault_dir);
    while (end > 0 && fault_dir[end - 1] == '/')
        fault_dir[--end] = '\0';
    unsigned n = 0;
    CLEANUP_FREE char *copy = xstrdup(spec ? spec : "");
    char *rest = copy, *word;
    while ((word = strsep(&rest, ", ")) != NULL) {
        if (!*word)
            continue;
        if (n == MAX_FAULTS || !parse_fault(word, &faults[n]))
            return false;
        atomic_store(&faults[n++].seen, 0);
    }
    atomic_store_explicit(&n_faults, n, memory_order_release);
    return true;
}

void sys_init_faults(void)
{
    const char *spec = getenv("QUAY_FAULT_SYS");
    if (spec && *spec && !sys_set_faults(spec, getenv("QUAY_FAULT_DIR"))) {
        fprintf(stderr, "QUAY_FAULT_SYS: cannot read '%s' (call:errno@nth, ...)\n", spec);
        abort();
    }
}

#define RETRY_EINTR(result, call)                                                                  \
    do                                                                                             \
        (result) = (call);                                                                         \
    while ((result) < 0 && errno == EINTR)

int sys_openat(int dirfd, const char *path, int flags, mode_t mode)
{
    int r = inject(CALL_OPENAT, dirfd, path);
    if (r)
        return r;
    RETRY_EINTR(r, openat(dirfd, path, flags | O_CLOEXEC, mode));
    return r < 0 ? -errno : r;
}

ssize_t sys_pread(int fd, void *buf, size_t n, uint64_t off)
{
    int r = inject(CALL_PREAD, fd, NULL);
    if (r)
        return r;
    size_t done = 0;
    while (done < n) {
        ssize_t got;
        RETRY_EINTR(got, pread(fd, (char *)buf + done, n - done, (off_t)(off + done)));
        if (got < 0)
            return -errno;
        if (got == 0)
            break;
        done += (size_t)got;
    }
    return (ssize_t)done;
}

ssize_t sys_pwrite(int fd, const void *buf, size_t n, uint64_t off)
{
    int r = inject(CALL_PWRITE, fd, NULL);
    if (r)
        return r;
    size_t done = 0;
    while (done < n) {
        ssize_t put;
        RETRY_EINTR(put, pwrite(fd, (const char *)buf + done, n - done, (off_t)(off + done)));
        if (put < 0)
            return -errno;
        if (put == 0)
            return -EIO;
        done += (size_t)put;
    }
    return (ssize_t)done;
}

int sys_fsync(int fd)
{
    int r = inject(CALL_FSYNC, fd, NULL);
    if (r)
        return r;
    RETRY_EINTR(r, fsync(fd));
    return r < 0 ? -errno : 0;
}

int sys_fdatasync(int fd)
{
    int r = inject(CALL_FDATASYNC, fd, NULL);
    if (r)
        return r;
    RETRY_EINTR(r, fdatasync(fd));
    return r < 0 ? -errno : 0;
}

int sys_ftruncate(int fd, uint64_t size)
{
    int r = inject(CALL_FTRUNCATE, fd, NULL);
    if (r)
        return r;
    RETRY_EINTR(r, ftruncate(fd, (off_t)size));
    return r < 0 ? -errno : 0;
}

int sys_fallocate(int fd, int mode, uint64_t off, uint64_t len)
{
    int r = inject(CALL_FALLOCATE, fd, NULL);
    if (r)
        return r;
    RETRY_EINTR(r, fallocate(fd, mode, (off_t)off, (off_t)len));
    return r < 0 ? -errno : 0;
}

int sys_renameat(int olddir, const char *oldp, int newdir, const char *newp, unsigned flags)
{
    int r = inject(CALL_RENAMEAT, newdir, newp);
    if (r)
        return r;
    RETRY_EINTR(r, renameat2(olddir, oldp, newdir, newp, flags));
    return r < 0 ? -errno : 0;
}

int sys_unlinkat(int dirfd, const char *path, int flags)
{
    int r = inject(CALL_UNLINKAT, dirfd, path);
    if (r)
        return r;
    RETRY_EINTR(r, unlinkat(dirfd, path, flags));
    return r < 0 ? -errno : 0;
}

int sys_mkdirat(int dirfd, const char *path, mode_t mode)
{
    int r = inject(CALL_MKDIRAT, dirfd, path);
    if (r)
        return r;
    RETRY_EINTR(r, mkdirat(dirfd, path, mode));
    return r < 0 ? -errno : 0;
}

int sys_fsync_dir(const char *path)
{
    int r = inject(CALL_FSYNC_DIR, AT_FDCWD, path);
    if (r)
        return r;
    CLEANUP_FD int fd = -1;
    RETRY_EINTR(fd, open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (fd < 0)
        return -errno;
    RETRY_EINTR(r, fsync(fd));
    return r < 0 ? -errno : 0;
}

static bool try_clone(int from, uint64_t off_in, int to, uint64_t off_out, uint64_t len)
{
    if ((off_in | off_out | len) & 4095 || len == 0)
        return false;
    struct file_clone_range range = {
        .src_fd = from, .src_offset = off_in, .src_length = len, .dest_offset = off_out};
    return ioctl(to, FICLONERANGE, &range) == 0;
}

static int copy_by_hand(int from, uint64_t off_in, int to, uint64_t off_out, uint64_t len)
{
    CLEANUP_FREE char *data = malloc(COPY_BYTES);
    if (!data)
        return -ENOMEM;
    while (len > 0) {
        size_t want = len < COPY_BYTES ? (size_t)len : COPY_BYTES;
        ssize_t n = sys_pread(from, data, want, off_in);
        if (n < 0)
            return (int)n;
        if (n == 0)
            return -EIO; /* the source is shorter than promised */
        ssize_t put = sys_pwrite(to, data, (size_t)n, off_out);
        if (put < 0)
            return (int)put;
        off_in += (uint64_t)n;
        off_out += (uint64_t)n;
        len -= (uint64_t)n;
    }
    return 0;
}

int sys_copy_range(int from, uint64_t off_in, int to, uint64_t off_out, uint64_t len)
{
    int r = inject(CALL_COPY_RANGE, to, NULL);
    if (r)
        return r;
    if (try_clone(from, off_in, to, off_out, len))
        return 0;
    while (len > 0) {
        off_t in = (off_t)off_in, out = (off_t)off_out;
        size_t want = len < (1U << 30) ? (size_t)len : 1U << 30;
        ssize_t n = copy_file_range(from, &in, to, &out, want, 0);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == ENOSPC || errno == EDQUOT || errno == EIO || errno == EFBIG))
            return -errno;
        if (n <= 0) /* not on this file system; or its 0 at the end, which reading confirms */
            return copy_by_hand(from, off_in, to, off_out, len);
        off_in += (uint64_t)n;
        off_out += (uint64_t)n;
        len -= (uint64_t)n;
    }
    return 0;
}

int sys_mkdirs(const char *path, mode_t mode)
{
    CLEANUP_FREE char *copy = xstrdup(path);
    struct stat st;
    for (char *p = copy + (*copy == '/');; p++) {
        p += strcspn(p, "/");
        char end = *p;
        *p = '\0';
        int r = *copy ? sys_mkdirat(AT_FDCWD, copy, mode) : 0;
        if (r != 0 && !(stat(copy, &st) == 0 && S_ISDIR(st.st_mode)))
            return r == -EEXIST ? -ENOTDIR : r;
        *p = end;
        if (!end)
            return 0;
    }
}

void sys_raise_descriptors(void)
{
    struct rlimit l;
    if (getrlimit(RLIMIT_NOFILE, &l) != 0 || l.rlim_cur >= l.rlim_max)
        return;
    l.rlim_cur = l.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &l); /* else what there was */
}
