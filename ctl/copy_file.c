/* SPDX-License-Identifier: MIT
 * copy_file.c: one file of quayctl cp, mv or sync; see copy.h for what is promised.
 *
 * Order of events, so that a crash at any point loses nothing: bytes, attributes and times into the partial
 * file; fsync (local) and close (a mount has stored it then); is the source still the one that was read, is
 * the target still what it was; rename; the directory; read back; only then the source of a move goes. */
#include "ctl/copy.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/crypto.h"
#include "base/name.h"
#include "base/rpc.h"
#include "base/sys.h"
#include "ctl/same.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/file.h>
#include <sys/xattr.h>

#define PARTIAL ".quaypart-"
#define CHUNK (4UL << 20)          /* also: the largest file that is written in its place */
#define RESUME_MIN (16ULL << 20)   /* smaller partial files are begun again */
#define SYNC_EVERY (64ULL << 20)   /* on a local disk; what is newer than that is not trusted afterwards */
#define XATTRS_MAX 65536

struct target { /* what was at t->to */
    bool there;
    struct stat st;
};

bool copy_is_partial(const char *name)
{
    return strncmp(name, PARTIAL, sizeof(PARTIAL) - 1) == 0;
}

static int fail(struct copy_task *t, int code, const char *path, bool mounted, const char *what)
{
    return err_set(&t->err, code, "%s: %s: %s%s", path, what, strerror(code),
                   mounted && code != ENOENT ? " (the mount's .quay/log says why)" : "");
}

static int fail_from(struct copy_task *t, int code, const char *what)
{
    return fail(t, code, t->from, t->from_key != NULL, what);
}

static int fail_to(struct copy_task *t, int code, const char *what)
{
    return fail(t, code, t->to, t->to_key != NULL, what);
}

static bool same_time(struct timespec a, struct timespec b)
{ /* some stores keep whole seconds */
    return a.tv_sec == b.tv_sec && (a.tv_nsec == b.tv_nsec || !a.tv_nsec || !b.tv_nsec);
}

static bool unchanged(const struct stat *a, const struct stat *b)
{
    return a->st_size == b->st_size && same_time(a->st_mtim, b->st_mtim) &&
           (a->st_mode & S_IFMT) == (b->st_mode & S_IFMT);
}

/* ---- comparing ---- */

/* Past the caches, where that can be said: what the store or the disk has. */
static int open_back(const char *path, bool mounted)
{
    int fd = mounted ? sys_openat(AT_FDCWD, path, O_RDONLY | O_DIRECT, 0) : -EINVAL;
    if (fd == -EINVAL)
        fd = sys_openat(AT_FDCWD, path, O_RDONLY, 0);
    if (fd >= 0 && !mounted)
        (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    return fd;
}

/* 1: the same bytes; 0: not; -errno with t->err. */
static int compare_bytes(struct copy_task *t, int a, int b)
{
    CLEANUP_FREE char *x = xmalloc(CHUNK), *y = xmalloc(CHUNK);
    for (uint64_t off = 0;; off += CHUNK) {
        if (atomic_load(t->stop))
            return err_set(&t->err, EINTR, "%s: interrupted", t->from);
        ssize_t n = sys_pread(a, x, CHUNK, off);
        if (n < 0)
            return fail_from(t, (int)-n, "reading");
        ssize_t m = sys_pread(b, y, CHUNK, off);
        if (m < 0)
            return fail_to(t, (int)-m, "reading back");
        if (n != m || memcmp(x, y, (size_t)n) != 0)
            return 0;
        if (n < (ssize_t)CHUNK)
            return 1;
    }
}

static int compare_files(struct copy_task *t)
{
    CLEANUP_FD int a = sys_openat(AT_FDCWD, t->from, O_RDONLY, 0);
    if (a < 0)
        return fail_from(t, -a, "opening");
    CLEANUP_FD int b = open_back(t->to, t->to_key != NULL);
    if (b < 0)
        return fail_to(t, -b, "opening");
    return compare_bytes(t, a, b);
}

static bool same_etag(const struct copy_task *t)
{
    char a[256], b[256];
    if (!t->from_key || !t->to_key || strcmp(t->from_key, t->to_key) != 0)
        return false;
    ssize_t n = getxattr(t->from, "user.etag", a, sizeof(a));
    ssize_t m = getxattr(t->to, "user.etag", b, sizeof(b));
    return n > 0 && n == m && memcmp(a, b, (size_t)n) == 0;
}

static int same_link(const struct copy_task *t)
{
    char a[PATH_MAX], b[PATH_MAX];
    ssize_t n = readlink(t->from, a, sizeof(a)), m = readlink(t->to, b, sizeof(b));
    return n > 0 && n == m && memcmp(a, b, (size_t)n) == 0;
}

/* 1: nothing to do. A move that deletes compares bytes, always. */
static int is_same(struct copy_task *t, const struct target *to)
{
    if (!to->there || (t->st.st_mode & S_IFMT) != (to->st.st_mode & S_IFMT))
        return 0;
    if (S_ISLNK(t->st.st_mode))
        return same_link(t);
    if (t->st.st_size != to->st.st_size)
        return 0;
    if (t->o->checksum)
        return compare_files(t);
    if (t->o->force || (!same_time(t->st.st_mtim, to->st.st_mtim) && !same_etag(t)))
        return 0;
    return t->o->mode == COPY_MV ? compare_files(t) : 1;
}

/* ---- by the store ---- */

char *copy_object_of(const char *shown)
{
    char *path = xstrdup("");
    for (const char *s = shown; *s;) {
        char segment[NAME_MAX_BYTES + 1];
        size_t n = strcspn(s, "/");
        CLEANUP_FREE char *name = xstrndup(s, n);
        if (n > NAME_MAX_BYTES || name_decode(name, segment) == NAME_LONG) {
            free(path);
            return NULL;
        }
        char *deeper = path_child(path, segment);
        free(path);
        path = deeper;
        s += n + (s[n] == '/');
    }
    return path;
}

static bool in_one_key(const struct copy_task *t)
{
    return t->from_key && t->to_key && strcmp(t->from_key, t->to_key) == 0;
}

/* Stores that keep no times of their own: the copy is as new as it is. Another key may show another mode for what has none. */
static int keep_shown(struct copy_task *t, struct stat *now)
{
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, t->st.st_mtim};
    mode_t mode = t->st.st_mode & 0777;
    if (lstat(t->to, now) != 0)
        return fail_to(t, errno, "the copy");
    if ((now->st_mode & 0777) != mode && chmod(t->to, mode) != 0 && errno != ENOTSUP && errno != EPERM)
        return fail_to(t, errno, "its mode");
    if (same_time(now->st_mtim, t->st.st_mtim) || same_etag(t))
        return 0;
    return utimensat(AT_FDCWD, t->to, times, 0) == 0 || errno == ENOTSUP || errno == EPERM
               ? 0
               : fail_to(t, errno, "its modification time");
}

/* Between two keys it may be that no server has both, or that it does not let the one see or read the other: then through
 * here, where all is looked at again. That both are one file was told before. */
static bool goes_through(const struct copy_task *t, int rc)
{
    static const int codes[] = {EXDEV, ENOTSUP, EACCES, EIO, ESTALE, EINVAL};
    for (size_t i = 0; i < ARRAY_LEN(codes) && !in_one_key(t); i++)
        if (rc == -codes[i])
            return true;
    return false;
}

/* 1: done; 0: cannot be done so. */
static int copy_by_store(struct copy_task *t, const struct target *to)
{
    CLEANUP_FREE char *from = copy_object_of(t->from + t->from_root);
    CLEANUP_FREE char *object = copy_object_of(t->to + t->to_root);
    struct stat now;
    bool again = false;
    json_t *r = NULL;
    json_t *args = from && object
                       ? json_pack("{s:s, s:s, s:s, s:s, s:s, s:b}", "key", t->to_key, "from_key", t->from_key, "from",
                                   from, "to", object, "shown", t->to + t->to_root, "replace", (int)to->there)
                       : NULL;
    if (!args) /* not UTF-8, or too long a name */
        return 0;
    int rc = rpc_call(t->control, "copy", args, NULL, NULL, &t->err, &r);
    json_decref(args);
    if (rc == 0 && json_is_true(json_object_get(r, "same")))
        rc = err_set(&t->err, EINVAL, "%s and %s are the same file", t->from, t->to);
    else if (goes_through(t, rc))
        again = true;
    bool whole = rc == 0 && json_integer_value(json_object_get(r, "size")) == t->st.st_size;
    json_decref(r);
    if (again) {
        err_clear(&t->err);
        return 0;
    }
    if (rc < 0)
        return rc;
    if (!whole)
        return err_set(&t->err, ESTALE, "%s: changed while it was copied", t->from);
    atomic_fetch_add(t->bytes, (uint64_t)t->st.st_size);
    rc = keep_shown(t, &now);
    if (rc == 0 && now.st_size != t->st.st_size)
        rc = err_set(&t->err, EIO, "%s: the copy has %lld bytes, not %lld", t->to,
                     (long long)now.st_size, (long long)t->st.st_size);
    return rc < 0 ? rc : 1;
}

/* ---- through here ---- */

struct transfer {
    struct copy_task *t;
    int from, to;
    char *path;      /* of what is written: the partial file, or t->to */
    bool in_place;
    bool made;       /* what is written there is ours to remove */
    bool resumed;
    uint64_t off;
    uint32_t crc;    /* of [0, off), unless resumed */
    char *chunk;
};

static char *partial_path(const struct copy_task *t)
{
    const char *base = strrchr(t->to, '/');
    uint64_t h = 0xcbf29ce484222325ULL; /* FNV-1a */
    CLEANUP_FREE char *id =
        xasprintf("%s|%lld|%lld.%09ld|%s", t->from, (long long)t->st.st_size,
                  (long long)t->st.st_mtim.tv_sec, t->st.st_mtim.tv_nsec, base + 1);
    for (const char *p = id; *p; p++)
        h = (h ^ (unsigned char)*p) * 0x100000001b3ULL;
    return xasprintf("%.*s/" PARTIAL "%016llx", (int)(base - t->to), t->to, (unsigned long long)h);
}

/* Goes on behind what is there for sure. */
static int resume_at(struct transfer *x)
{
    struct stat st;
    if (fstat(x->to, &st) != 0)
        return fail_to(x->t, errno, "the partial copy");
    uint64_t have = (uint64_t)st.st_size;
    if (!x->t->to_key)
        have = have > SYNC_EVERY ? (have - SYNC_EVERY) / SYNC_EVERY * SYNC_EVERY : 0;
    if (have < RESUME_MIN || have > (uint64_t)x->t->st.st_size)
        have = 0;
    if (have != (uint64_t)st.st_size) {
        int r = sys_ftruncate(x->to, have);
        if (r < 0)
            return fail_to(x->t, -r, "the partial copy");
    }
    x->off = have;
    x->resumed = have > 0;
    x->t->resumed = have;
    atomic_fetch_add(x->t->bytes, have);
    return 0;
}

static int open_to(struct transfer *x, const struct target *to)
{
    struct copy_task *t = x->t;
    mode_t mode = (t->st.st_mode & 0777) | S_IWUSR;
    x->in_place = t->to_key && !to->there && (uint64_t)t->st.st_size < CHUNK;
    x->path = x->in_place ? xstrdup(t->to) : partial_path(t);
    int flags = O_WRONLY | O_CREAT | O_NOFOLLOW | (x->in_place ? O_EXCL : 0);
    x->to = sys_openat(AT_FDCWD, x->path, flags, mode);
    if (x->to < 0)
        return fail_to(t, -x->to, "creating");
    x->made = x->in_place;
    if (x->in_place)
        return 0;
    if (flock(x->to, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
        return err_set(&t->err, EBUSY, "%s: another quayctl is copying it", t->to);
    x->made = true;
    return resume_at(x);
}

static int move_bytes(struct transfer *x, const char *first, size_t first_len)
{
    struct copy_task *t = x->t;
    uint64_t synced = x->off;
    while (x->off < (uint64_t)t->st.st_size) {
        const char *data = first ? first : x->chunk;
        ssize_t n = first ? (ssize_t)first_len : sys_pread(x->from, x->chunk, CHUNK, x->off);
        first = NULL;
        if (atomic_load(t->stop))
            return err_set(&t->err, EINTR, "%s: interrupted", t->from);
        if (n < 0)
            return fail_from(t, (int)-n, "reading");
        if (n == 0)
            return err_set(&t->err, ESTALE, "%s: became shorter while it was copied", t->from);
        x->crc = crc32c(x->crc, data, (size_t)n);
        ssize_t m = sys_pwrite(x->to, data, (size_t)n, x->off);
        if (m < 0)
            return fail_to(t, (int)-m, "writing");
        x->off += (uint64_t)n;
        atomic_fetch_add(t->bytes, (uint64_t)n);
        if (!t->to_key && x->off - synced >= SYNC_EVERY) {
            int r = sys_fdatasync(x->to);
            if (r < 0)
                return fail_to(t, -r, "writing");
            synced = x->off;
        }
    }
    return 0;
}

static bool is_ours(const char *name)
{
    return strncmp(name, "user.", 5) == 0 && strcmp(name, "user.etag") != 0 &&
           strncmp(name, "user.quay.", 10) != 0;
}

static int copy_xattrs(struct transfer *x)
{
    CLEANUP_FREE char *names = xmalloc(XATTRS_MAX), *value = xmalloc(XATTRS_MAX);
    ssize_t len = flistxattr(x->from, names, XATTRS_MAX);
    for (const char *n = names; len > 0 && n < names + len; n += strlen(n) + 1) {
        ssize_t v = is_ours(n) ? fgetxattr(x->from, n, value, XATTRS_MAX) : -1;
        if (v < 0 || fsetxattr(x->to, n, value, (size_t)v, 0) == 0)
            continue;
        if (errno == ENOTSUP)
            return 0;
        return fail_to(x->t, errno, "its extended attributes");
    }
    return 0;
}

static int keep_attributes(struct transfer *x)
{
    struct stat now;
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, x->t->st.st_mtim};
    mode_t mode = x->t->st.st_mode & 0777;
    int r = copy_xattrs(x);
    if (r < 0)
        return r;
    if (fstat(x->to, &now) != 0)
        return fail_to(x->t, errno, "writing");
    if ((now.st_mode & 0777) != mode && fchmod(x->to, mode) != 0 && errno != ENOTSUP && errno != EPERM)
        return fail_to(x->t, errno, "its mode");
    if (futimens(x->to, times) != 0 && errno != ENOTSUP && errno != EPERM)
        return fail_to(x->t, errno, "its modification time");
    return 0;
}

/* close() is where a mount says whether the store has the bytes. */
static int close_to(struct transfer *x)
{
    int r = x->t->to_key ? 0 : sys_fsync(x->to);
    int fd = take_fd(&x->to);
    if (close(fd) != 0 && r == 0)
        r = -errno;
    return r < 0 ? fail_to(x->t, -r, "storing") : 0;
}

static int source_is_same(struct copy_task *t)
{
    struct stat now;
    if ((S_ISLNK(t->st.st_mode) ? lstat : stat)(t->from, &now) != 0)
        return fail_from(t, errno, "looking at it again");
    return unchanged(&now, &t->st)
               ? 0
               : err_set(&t->err, ESTALE, "%s: changed while it was copied", t->from);
}

/* Nobody has put anything there since it was looked at. */
static int target_is_same(struct copy_task *t, const struct target *to)
{
    struct stat now;
    bool there = lstat(t->to, &now) == 0;
    if (!there && errno != ENOENT)
        return fail_to(t, errno, "looking at it again");
    if (there != to->there || (there && !unchanged(&now, &to->st)))
        return err_set(&t->err, ESTALE, "%s: was changed by somebody else meanwhile", t->to);
    return 0;
}

static int publish(struct transfer *x, const struct target *to)
{
    struct copy_task *t = x->t;
    int r = target_is_same(t, to);
    if (r == 0 && rename(x->path, t->to) != 0)
        r = fail_to(t, errno, "renaming the finished copy");
    if (r < 0 || t->to_key)
        return r;
    CLEANUP_FREE char *dir = xstrndup(t->to, (size_t)(strrchr(t->to, '/') - t->to));
    r = sys_fsync_dir(*dir ? dir : "/");
    return r < 0 ? fail_to(t, -r, "its directory") : 0;
}

/* What the target has now, against what was read. */
static int read_back(struct transfer *x)
{
    struct copy_task *t = x->t;
    uint32_t crc = 0;
    CLEANUP_FD int fd = open_back(t->to, t->to_key != NULL);
    if (fd < 0)
        return fail_to(t, -fd, "reading back");
    if (x->resumed) { /* its first bytes were read by another process */
        int r = compare_bytes(t, x->from, fd);
        return r == 0 ? err_set(&t->err, EIO, "%s: is not what was copied", t->to) : r < 0 ? r : 0;
    }
    for (uint64_t off = 0;;) {
        ssize_t n = sys_pread(fd, x->chunk, CHUNK, off);
        if (n < 0)
            return fail_to(t, (int)-n, "reading back");
        if (atomic_load(t->stop))
            return err_set(&t->err, EINTR, "%s: interrupted", t->from);
        crc = crc32c(crc, x->chunk, (size_t)n);
        off += (uint64_t)n;
        if (n == 0)
            return off == x->off && crc == x->crc
                       ? 0
                       : err_set(&t->err, EIO, "%s: reading it back gave other bytes than were "
                                               "written (%llu of %llu)", t->to,
                                 (unsigned long long)off, (unsigned long long)x->off);
    }
}

static int check_size(struct copy_task *t)
{
    struct stat now;
    if (lstat(t->to, &now) != 0)
        return fail_to(t, errno, "the copy");
    return now.st_size == t->st.st_size
               ? 0
               : err_set(&t->err, EIO, "%s: the copy has %lld bytes, not %lld", t->to,
                         (long long)now.st_size, (long long)t->st.st_size);
}

static int transfer(struct transfer *x, const struct target *to)
{
    struct copy_task *t = x->t;
    ssize_t first = -1;
    struct stat st;
    x->from = sys_openat(AT_FDCWD, t->from, O_RDONLY, 0);
    if (x->from < 0)
        return fail_from(t, -x->from, "opening");
    if (fstat(x->from, &st) != 0)
        return fail_from(t, errno, "opening");
    t->st.st_size = st.st_size; /* as of this version */
    t->st.st_mtim = st.st_mtim;
    if ((uint64_t)st.st_size < CHUNK) { /* whole, before anything is made */
        first = sys_pread(x->from, x->chunk, CHUNK, 0);
        if (first < 0)
            return fail_from(t, (int)-first, "reading");
    }
    int r = open_to(x, to);
    if (r == 0)
        r = move_bytes(x, first > 0 ? x->chunk : NULL, (size_t)(first > 0 ? first : 0));
    if (r == 0)
        r = keep_attributes(x);
    if (r == 0)
        r = source_is_same(t);
    if (r == 0)
        r = close_to(x);
    if (r == 0 && !x->in_place)
        r = publish(x, to);
    return r;
}

/* What was not finished: large ones stay, to be gone on with. */
static void clean_up(struct transfer *x, int r)
{
    bool keep = !x->in_place && x->off >= RESUME_MIN && r != -ESTALE;
    if (!keep && x->made)
        (void)unlink(x->path);
    if (x->to >= 0)
        (void)close(take_fd(&x->to));
    if (keep)
        (void)err_prefix(&x->t->err, "(run it again: it goes on after %llu MiB)",
                         (unsigned long long)(x->off >> 20));
}

static int copy_through(struct copy_task *t, const struct target *to)
{
    struct transfer x = {.t = t, .from = -1, .to = -1};
    x.chunk = xmalloc(CHUNK);
    int r = transfer(&x, to);
    if (r < 0)
        clean_up(&x, r);
    if (r == 0)
        r = check_size(t);
    if (r == 0 && (t->o->checksum || t->o->mode == COPY_MV))
        r = read_back(&x);
    if (x.from >= 0)
        (void)close(x.from);
    free(x.path);
    free(x.chunk);
    return r;
}

static int copy_link(struct copy_task *t, const struct target *to)
{
    char link[PATH_MAX];
    ssize_t n = readlink(t->from, link, sizeof(link) - 1);
    if (n < 0)
        return fail_from(t, errno, "reading the link");
    link[n] = '\0';
    CLEANUP_FREE char *path = partial_path(t);
    (void)unlink(path);
    if (symlink(link, path) != 0)
        return fail_to(t, errno, "making the link");
    int r = target_is_same(t, to);
    if (r == 0 && rename(path, t->to) != 0)
        r = fail_to(t, errno, "renaming the finished link");
    if (r < 0)
        (void)unlink(path);
    return r;
}

/* ---- one file ---- */

static int look(struct copy_task *t, struct target *to)
{
    to->there = lstat(t->to, &to->st) == 0;
    if (!to->there && errno != ENOENT)
        return fail_to(t, errno, "looking at it");
    if (to->there && S_ISDIR(to->st.st_mode))
        return err_set(&t->err, EISDIR, "%s: is a directory, %s is not", t->to, t->from);
    if (!S_ISREG(t->st.st_mode) && !S_ISLNK(t->st.st_mode))
        return err_set(&t->err, EINVAL, "%s: neither a file, a directory nor a link", t->from);
    return 0;
}

static int remove_source(struct copy_task *t)
{
    int r = source_is_same(t);
    if (r == 0 && unlink(t->from) != 0)
        r = fail_from(t, errno, "copied, but not removed");
    return r;
}

/* 1: done; 0: cannot be done so. */
static int by_store(struct copy_task *t, const struct target *to)
{
    bool asks = t->from_key && t->to_key && S_ISREG(t->st.st_mode);
    int r = asks ? copy_by_store(t, to) : 0;
    if (r <= 0 || (!t->o->checksum && t->o->mode != COPY_MV))
        return r;
    r = compare_files(t);
    return r == 0 ? err_set(&t->err, EIO, "%s: is not what was copied", t->to) : r;
}

/* Two keys, or a key and a path of the disk, may show one file: then nothing is done. */
static int check_apart(struct copy_task *t, const struct target *to)
{
    CLEANUP_FREE char *from = t->from_key ? copy_object_of(t->from + t->from_root) : xstrdup(t->from);
    CLEANUP_FREE char *target = t->to_key ? copy_object_of(t->to + t->to_root) : xstrdup(t->to);
    struct same_side a = {t->from_key, from, &t->st}, b = {t->to_key, target, to->there ? &to->st : NULL};
    if (!t->unsure)
        return 0;
    if (!from || !target)
        return err_set(&t->err, EINVAL, "%s: it cannot be told whether %s is the same file: give KEY:path", t->from, t->to);
    return same_looked(t->control, &a, &b, &t->err);
}

static int run(struct copy_task *t)
{
    struct target to;
    int r = look(t, &to);
    if (r == 0)
        r = check_apart(t, &to);
    int same = r == 0 ? is_same(t, &to) : r;
    if (same < 0)
        return same;
    t->outcome = same ? COPY_SAME : t->o->dry ? COPY_WOULD : COPY_COPIED;
    if (t->o->dry)
        return 0;
    if (!same) {
        same = by_store(t, &to);
        t->outcome = same == 1 ? COPY_BY_STORE : COPY_COPIED;
    }
    if (same < 0)
        return same;
    if (!same)
        r = S_ISLNK(t->st.st_mode) ? copy_link(t, &to) : copy_through(t, &to);
    if (r < 0)
        return r;
    return t->o->mode == COPY_MV ? remove_source(t) : 0;
}

void copy_file(struct copy_task *t)
{
    if (atomic_load(t->stop))
        (void)err_set(&t->err, EINTR, "%s: interrupted", t->from);
    else
        (void)run(t);
    if (t->err.code)
        t->outcome = COPY_FAILED;
}
