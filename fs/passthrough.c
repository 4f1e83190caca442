/* SPDX-License-Identifier: MIT
 * passthrough.c: see passthrough.h. What the handles of an inode share is in struct inode, under the
 * table's lock (inode_claim_io); the kernel's calls are made without it.
 * Invariant: an inode's counts are never lower than the kernel's: raised before the reply to OPEN, lowered
 * at RELEASE, which the kernel sends after it has lowered its own. So what we take for "nobody has it
 * open" is so.
 * Protocol facts: linux/fuse.h of Linux 6.9 (fuse_backing_map, FUSE_DEV_IOC_BACKING_*). */
#include "fs/passthrough.h"

#include "base/log.h"
#include "base/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>

struct backing_map {
    int32_t fd;
    uint32_t flags;
    uint64_t padding;
};
#define BACKING_OPEN _IOW(229, 1, struct backing_map)
#define BACKING_CLOSE _IOW(229, 2, uint32_t)
#define CAP_SYS_ADMIN_BIT 21

enum state { UNKNOWN, ON, OFF };

struct passthrough {
    struct fs *fs;
    struct passthrough_wire *wire;
    struct stat_counter *opens;
    atomic_bool running; /* the kernel has had our answer to INIT; until the session ends */
    atomic_int state;
    _Atomic(const char *) reason; /* a constant */
};

static void set_off(struct passthrough *p, const char *reason)
{
    atomic_store(&p->reason, reason);
    atomic_store(&p->state, OFF);
}

struct passthrough *passthrough_new(struct fs *fs)
{
    struct passthrough *p = xcalloc(1, sizeof(*p));
    p->fs = fs;
    p->opens = stats_counter(fs->stats, "quayfs_passthrough_opens_total",
                             "Opens whose reads the kernel takes from the cache file itself", NULL);
    atomic_init(&p->running, false);
    atomic_init(&p->state, UNKNOWN);
    atomic_init(&p->reason, "");
    if (!fs->settings.passthrough)
        set_off(p, "passthrough = no");
    return p;
}

void passthrough_free(struct passthrough *p)
{
    if (!p)
        return;
    passthrough_wire_free(p->wire);
    free(p);
}

int passthrough_attach(struct passthrough *p)
{
    if (atomic_load(&p->state) == OFF)
        return 0;
    int r = passthrough_wire_attach(p->fs, &p->wire);
    if (r < 0)
        set_off(p, "libfuse refuses the session's own I/O");
    return r;
}

/* The cache on an overlay (a container) is one file system deeper. */
static unsigned stack_depth(const struct fs *fs)
{
    struct statfs s;
    bool stacked = statfs(cache_dir(fs->cache), &s) == 0 && s.f_type == OVERLAYFS_SUPER_MAGIC;
    return stacked ? 2 : 1;
}

void passthrough_init(struct passthrough *p, struct fuse_conn_info *conn)
{
    if (atomic_load(&p->state) == OFF)
        return;
    if (!passthrough_wire_init(p->wire, conn, stack_depth(p->fs)))
        set_off(p, "no kernel support (Linux 6.9 with CONFIG_FUSE_PASSTHROUGH)");
}

/* ---- the kernel's numbers for files ---- */
static int backing_open(struct passthrough *p, int fd)
{
    struct backing_map map = {.fd = fd};
    int id = ioctl(fuse_session_fd(p->fs->session), BACKING_OPEN, &map);
    return id < 0 ? -errno : id;
}

void passthrough_close(struct passthrough *p, int backing)
{
    uint32_t id = (uint32_t)backing;
    if (ioctl(fuse_session_fd(p->fs->session), BACKING_CLOSE, &id) < 0)
        log_debug("fs", "passthrough: backing file %d: %s", backing, strerror(errno));
}

static bool may_administrate(void)
{
    CLEANUP_FILE FILE *f = fopen("/proc/self/status", "re");
    char line[256];
    unsigned long long bits;
    while (f && fgets(line, sizeof(line), f))
        if (sscanf(line, "CapEff: %llx", &bits) == 1)
            return bits >> CAP_SYS_ADMIN_BIT & 1;
    return false;
}

static const char *reason_of(int error)
{
    if (error == -EPERM && !may_administrate())
        return "no CAP_SYS_ADMIN";
    if (error == -ELOOP)
        return "the cache is on a stacked file system";
    return "no kernel support (Linux 6.9 with CONFIG_FUSE_PASSTHROUGH)";
}

/* Whether the kernel takes a file of the cache's file system is found out with one that is always there. */
static void find_out(struct passthrough *p)
{
    CLEANUP_FREE char *path = xasprintf("%s/lock", cache_dir(p->fs->cache));
    CLEANUP_FD int fd = sys_openat(AT_FDCWD, path, O_RDONLY, 0);
    int id = fd < 0 ? fd : backing_open(p, fd);
    if (id < 0) {
        set_off(p, reason_of(id));
        return;
    }
    passthrough_close(p, id);
    int unknown = UNKNOWN;
    (void)atomic_compare_exchange_strong(&p->state, &unknown, ON);
}

bool passthrough_is_on(struct passthrough *p, const char **ret_reason)
{
    bool running = atomic_load(&p->running);
    if (running && atomic_load(&p->state) == UNKNOWN)
        find_out(p);
    if (ret_reason)
        *ret_reason = running ? atomic_load(&p->reason) : "nothing was opened yet";
    return atomic_load(&p->state) == ON;
}

void passthrough_running(struct passthrough *p)
{
    atomic_store(&p->running, true);
}

/* ---- opens ---- */
bool passthrough_is_wanted(const struct request *r)
{
    const int unfit = O_TRUNC | O_DIRECT;
    return (r->fi.flags & O_ACCMODE) == O_RDONLY && !(r->fi.flags & unfit) &&
           !r->inode->key->control && passthrough_is_on(r->fs->passthrough, NULL);
}

/* Claims with a number of our own: the inode has no open handle yet. */
static enum inode_io claim_first(struct request *r, struct vfile *file, struct inode_io_claim *claim)
{
    struct passthrough *p = r->fs->passthrough;
    int id = backing_open(p, vfile_pass_fd(file));
    if (id < 0) {
        log_debug("fs", "passthrough: %s", strerror(-id));
        claim->file = NULL;
    }
    claim->backing = id > 0 ? id : 0;
    enum inode_io io = inode_claim_io(r->fs->inodes, r->inode, claim);
    if (id > 0 && (io != INODE_IO_PASSED || claim->backing != id))
        passthrough_close(p, id); /* somebody was faster */
    return io;
}

/* What its handles show may be written by way of the successor from now on: the kernel asks for size and times each
 * time (request.c: a name that is lost is valid for no time), once it has forgotten those it has. */
static void superseded(struct fs *fs, struct inode *i)
{
    atomic_store(&i->told, INODE_TOLD_NONE);
    if (fs->session)
        (void)fuse_lowlevel_notify_inval_inode(fs->session, i->ino, -1, 0);
}

int passthrough_open(struct request *r, struct vfile *file)
{
    bool begun = passthrough_is_wanted(r) && vfile_pass_begin(file, &r->op) == 0;
    struct inode_io_claim claim = {.file = begun ? vfile_pass_file(file) : NULL,
                                   .opener = fuse_req_ctx(r->req)->pid};
    enum inode_io io = inode_claim_io(r->fs->inodes, r->inode, &claim);
    if (io == INODE_IO_FREE)
        io = claim_first(r, file, &claim);
    if (io == INODE_IO_PASSED) {
        r->backing = claim.backing;
        stat_add(r->fs->passthrough->opens, 1);
        return 0;
    }
    vfile_pass_end(file);
    if (io == INODE_IO_CACHED)
        return 0;
    superseded(r->fs, r->inode);
    return -ESTALE;
}

/* ---- pages that nobody will read again ---- */
#define LEFT_MIN (1UL << 20) /* giving up the pages of smaller files is cheap; asking for their attributes, which
                                go with them, is not */
#define LEFT_SLICE_MS 100
#define LEFT_SLICES 20

struct left_job {
    struct pool_job job;
    struct passthrough *p;
    uint64_t ino;
    struct cache_object *version;
};

/* The bytes that were read last are on their way to the disk. */
static bool will_be_passed(const struct left_job *j, const struct inode *i)
{
    struct passthrough *p = j->p;
    for (int n = 0; n < LEFT_SLICES; n++) {
        if (!atomic_load(&p->running) || !inode_is_free(p->fs->inodes, i))
            return false;
        if (cache_object_settle(j->version, LEFT_SLICE_MS))
            return inode_is_free(p->fs->inodes, i);
    }
    return false;
}

static void drop_pages(struct pool_job *job)
{
    struct left_job *j = (struct left_job *)job;
    struct fs *fs = j->p->fs;
    struct inode *i = inode_by_number(fs->inodes, j->ino);
    if (i && will_be_passed(j, i))
        (void)fuse_lowlevel_notify_inval_inode(fs->session, j->ino, 0, 0);
    inode_unref(fs->inodes, i);
    cache_object_put(j->version);
    free(j);
}

void passthrough_left(struct passthrough *p, uint64_t ino, struct vfile *file)
{
    struct cache_object *version = atomic_load(&p->running) ? vfile_version(file) : NULL;
    if (!version)
        return;
    if (cache_object_size(version) < LEFT_MIN) {
        cache_object_put(version);
        return;
    }
    struct left_job *j = xcalloc(1, sizeof(*j));
    *j = (struct left_job){.job.run = drop_pages, .p = p, .ino = ino, .version = version};
    pool_submit(p->fs->behind, &j->job, 2);
}

void passthrough_stop(struct passthrough *p)
{
    atomic_store(&p->running, false);
}

void passthrough_create(struct request *r, const struct inode_spec *spec, struct inode **i)
{
    struct inode_table *t = r->fs->inodes;
    struct inode_io_claim claim = {.file = NULL, .opener = INODE_NOBODY};
    while (inode_claim_io(t, *i, &claim) != INODE_IO_CACHED) {
        superseded(r->fs, *i);
        inode_forget(t, (*i)->ino, 1);
        inode_unref(t, *i);
        *i = inode_enter(t, r->inode, spec);
    }
}

int passthrough_reply_open(struct passthrough *p, fuse_req_t req, struct fuse_file_info *fi,
                           int backing)
{
    return backing ? passthrough_wire_open(p->wire, req, fi, backing) : fuse_reply_open(req, fi);
}
