/* SPDX-License-Identifier: MIT
 * mount.c: the FUSE session: the table of callbacks, what is negotiated with the kernel, the loop. */
#include "base/clock.h"
#include "fs/handle.h"
#include "fs/ops.h"
#include "fs/passthrough.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>

#define DROPS_PAGES_MINOR 39 /* of the protocol: Linux 6.6 */

static void on_init(void *userdata, struct fuse_conn_info *conn)
{
    struct fs *fs = userdata;
    const unsigned wanted = FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_CACHE_SYMLINKS |
                            FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE | FUSE_CAP_ASYNC_READ |
                            FUSE_CAP_ATOMIC_O_TRUNC | FUSE_CAP_AUTO_INVAL_DATA |
                            FUSE_CAP_READDIRPLUS | FUSE_CAP_ASYNC_DIO;
    conn->want |= conn->capable & wanted;
    fs->parallel_dirops = conn->capable & FUSE_CAP_PARALLEL_DIROPS;
    fs->direct_writes = conn->proto_minor >= DROPS_PAGES_MINOR;
    /* Not AUTO: the kernel would fall back to plain entries in the middle of an `ls -l`, and then ask for
     * each of them. */
    conn->want &= ~(unsigned)(FUSE_CAP_READDIRPLUS_AUTO | FUSE_CAP_WRITEBACK_CACHE);
    /* Reads of a store that does not answer stay in the kernel's one queue for all keys: it is long. */
    conn->max_background = 2048;
    conn->congestion_threshold = 1536;
    conn->max_readahead = 1 << 20;
    conn->time_gran = 1;
    passthrough_init(fs->passthrough, conn);
    atomic_store(&fs->splice, (conn->capable & FUSE_CAP_SPLICE_WRITE) != 0);
}

const struct fuse_lowlevel_ops fs_ops = {
    .init = on_init,
    .lookup = op_lookup,
    .forget = op_forget,
    .forget_multi = op_forget_multi,
    .getattr = op_getattr,
    .setattr = op_setattr,
    .statfs = op_statfs,
    .opendir = op_opendir,
    .readdir = op_readdir,
    .readdirplus = op_readdirplus,
    .releasedir = op_releasedir,
    .fsyncdir = op_fsyncdir,
    .open = op_open,
    .create = op_create,
    .read = op_read,
    .release = op_release,
    .write = op_write,
    .flush = op_flush,
    .fsync = op_fsync,
    .fallocate = op_fallocate,
    .copy_file_range = op_copy_file_range,
    .mkdir = op_mkdir,
    .rmdir = op_rmdir,
    .unlink = op_unlink,
    .rename = op_rename,
    .symlink = op_symlink,
    .readlink = op_readlink,
    .link = op_link,
    .mknod = op_mknod,
    .getxattr = op_getxattr,
    .setxattr = op_setxattr,
    .listxattr = op_listxattr,
    .removexattr = op_removexattr,
};

/* The kernel reads ahead 128 KiB at most unless its device entry says otherwise; where we may write it
 * (root), larger requests mean fewer of them. The device number is taken from mountinfo: a stat of the
 * mountpoint would ask ourselves before anybody answers. */
static void look_at_mount(struct fs *fs)
{
    CLEANUP_FILE FILE *f = fopen("/proc/self/mountinfo", "re");
    char line[8192];
    while (f && fgets(line, sizeof(line), f)) {
        unsigned major;
        unsigned minor;
        int id;
        char where[4096];
        if (sscanf(line, "%d %*d %u:%u %*s %4095s", &id, &major, &minor, where) != 4 ||
            strcmp(where, fs->mountpoint) != 0)
            continue;
        fs->mount_id = id;
        char path[96];
        snprintf(path, sizeof(path), "/sys/class/bdi/%u:%u/read_ahead_kb", major, minor);
        CLEANUP_FD int fd = open(path, O_WRONLY | O_CLOEXEC);
        if (fd < 0 || write(fd, "1024", 4) != 4)
            log_debug("fs", "read-ahead stays at the kernel's default: %s", strerror(errno));
    }
}

int fs_mount(struct fs *fs, struct fuse_args *args, struct err *err)
{
    fs->session = fuse_session_new(args, &fs_ops, sizeof(fs_ops), fs);
    if (!fs->session)
        return err_set(err, EINVAL, "unknown mount option: see quayfs --help");
    /* Before the mount: a SIGTERM that comes as soon as it is there must unmount it. */
    if (fuse_set_signal_handlers(fs->session) != 0)
        log_warn("fs", "cannot set signal handlers");
    (void)signal(SIGHUP, SIG_DFL); /* blocked: reload.c waits for it */
    (void)signal(SIGPIPE, SIG_IGN);
    if (fuse_session_mount(fs->session, fs->mountpoint) != 0) {
        fuse_remove_signal_handlers(fs->session);
        fuse_session_destroy(fs->session);
        fs->session = NULL;
        return err_set(err, EIO, "cannot mount on %s: is /dev/fuse there, fuse3 installed, and the "
                                 "directory not yet a mount?", fs->mountpoint);
    }
    if (passthrough_attach(fs->passthrough) < 0)
        log_debug("fs", "passthrough is off");
    fs_session_own_io(fs);
    look_at_mount(fs);
    return 0;
}

int fs_loop(struct fs *fs)
{
    struct fuse_loop_config *cfg = fuse_loop_cfg_create();
    fuse_loop_cfg_set_max_threads(cfg, 8);
    fuse_loop_cfg_set_clone_fd(cfg, 0);
    int rc = fuse_session_loop_mt(fs->session, cfg);
    fuse_loop_cfg_destroy(cfg);
    fuse_remove_signal_handlers(fs->session);
    return rc < 0 ? rc : 0; /* a positive value is the signal that ended it: an ordinary end */
}

/* A reload may add to them meanwhile; none goes. */
static struct fs_key *old_key(struct fs *fs, size_t n)
{
    LOCK_SCOPE(&fs->registry);
    return n < fs->n_old ? fs->old[n] : NULL;
}

static void each_volume(struct fs *fs, void (*fn)(struct fs *fs, struct volume *v))
{
    CLEANUP_KEYS struct fs_keys keys = fs_keys_get(fs);
    for (size_t n = 0; n < keys.n; n++)
        if (keys.v[n]->volume)
            fn(fs, keys.v[n]->volume);
    struct fs_key *old;
    for (size_t n = 0; (old = old_key(fs, n)) != NULL; n++) {
        if (!fs_key_enter(old))
            continue;
        fn(fs, old->volume);
        fs_key_leave(old);
    }
}

static void drain(struct fs *fs, struct volume *v)
{
    uint64_t ms = fs->settings.unmount_wait_ms;
    if (!volume_drain(v, ms))
        log_warn("fs", "%s: the store has answered nothing for %u s (unmount_wait): what waited for it was given up",
                 volume_key(v), (unsigned)(ms / 1000));
}

static void halt(struct fs *fs, struct volume *v)
{
    (void)fs;
    volume_halt(v);
}

static void give_up_silent(struct fs *fs, struct volume *v)
{
    volume_give_up_silent(v, fs->settings.unmount_wait_ms);
}

static void while_commands_run(void *arg)
{
    struct fs *fs = arg;
    each_volume(fs, halt); /* also what a reload has brought meanwhile */
    each_volume(fs, give_up_silent);
}

static void resume(struct fs *fs, struct volume *v)
{
    (void)fs;
    volume_resume(v);
}

void fs_halt(struct fs *fs)
{
    if (fs->cache)
        cache_ends(fs->cache);
    each_volume(fs, halt);
}

void fs_commands_stop(struct fs *fs)
{
    rpc_stop_while(fs->control, while_commands_run, fs);
}

static void end_session(struct fs *fs)
{
    /* Nobody may reply any more when the descriptor is closed: its number may be another file's then. */
    each_volume(fs, drain);
    pool_drain(fs->aside);
    passthrough_stop(fs->passthrough);
    pool_drain(fs->behind);
    handle_close_all(fs->inodes);
    fuse_session_unmount(fs->session);
}

void fs_unmount(struct fs *fs)
{
    fs_halt(fs); /* also what a reload has brought meanwhile */
    if (fs->session)
        end_session(fs);
    each_volume(fs, resume); /* what is staged is stored now */
}

void fs_session_end(struct fs *fs)
{
    if (fs->session)
        fuse_session_destroy(fs->session);
    fs->session = NULL;
}
