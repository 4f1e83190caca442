/* SPDX-License-Identifier: MIT
 * main.c: quayfs from start to end, in order: options, fork, configuration, stores and cache, mount, tell the
 * parent, serve, unmount, store what is staged. No thread exists before the fork, and a store may begin one as it
 * is opened: so errors of the configuration are the child's, on the same standard error, and the parent ends as it does. */
#include "base/clock.h"
#include "base/crypto.h"
#include "base/lock.h"
#include "base/spawn.h"
#include "base/sys.h"
#include "backends/http.h"
#include "fs/adhoc.h"
#include "fs/fs.h"
#include "fs/options.h"
#include "fs/passthrough.h"
#include "fs/reload.h"

#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

#define UNMOUNT_MS 10000

/* What ends the command before it serves is said plainly on standard error. */
static int fail(const struct err *err, int status)
{
    fprintf(stderr, "quayfs: %s\n", err_text(err));
    return status;
}

/* Reads and checks everything that can be checked without the network. */
static int load_config(struct fs *fs, const struct options *o, struct err *err)
{
    int rc = o->env_file ? adhoc_read_env(o->env_file, err) : 0;
    if (rc < 0)
        return rc;
    if (o->local_dir || o->uri) {
        fs->conf = adhoc_conf(o);
    } else {
        rc = settings_find_file(o->config, err, &fs->config_path);
        if (rc == 0)
            rc = conf_load(fs->config_path, err, &fs->conf);
    }
    if (rc == 0)
        rc = conf_apply_env(fs->conf, settings_environment(fs->conf, o->env), err);
    if (rc == 0)
        rc = options_apply(o, fs->conf, err);
    if (rc == 0)
        rc = settings_load(fs->conf, err, &fs->settings);
    if (rc < 0)
        return rc;
    rc = fs_keys_prepare(fs, err);
    if (rc == 0)
        rc = adhoc_own_dirs(fs, o, err);
    if (rc < 0)
        return rc;
    if (fs->n_keys == 0 && fs->settings.auto_register)
        return err_set(err, EINVAL, "%s: no [store NAME] section: nothing to mount",
                       fs->config_path ? fs->config_path : "(no configuration)");
    return 0;
}

static bool is_dead_mount(const char *path)
{
    struct statvfs st; /* stat(2) may be answered from what the kernel knew of its root */
    return statvfs(path, &st) != 0 && errno == ENOTCONN;
}

/* What a killed process has left there serves nobody: it goes, and nothing is mounted on top of it. */
static int clear_dead_mounts(const char *path, struct err *err)
{
    char program[] = "fusermount3", how[] = "-uz", end[] = "--";
    CLEANUP_FREE char *place = xstrdup(path);
    char *argv[] = {program, how, end, place, NULL};
    struct op op;
    op_init(&op, "unmount", 0);
    while (is_dead_mount(path)) {
        struct spawn_result done = SPAWN_RESULT_INIT;
        int rc = spawn_capture(argv, UNMOUNT_MS, &op, &done);
        bool ok = rc == 0 && done.status == 0;
        if (!ok)
            rc = err_set(err, ENOTCONN, "%s: a mount there has lost its process; run fusermount3 -u %s (%s)", path, path,
                         rc < 0 ? err_text(&op.err) : buf_str(&done.errors));
        spawn_result_done(&done);
        if (!ok)
            return rc;
        log_warn("quayfs", "%s: removed the mount of a process that is no more", path);
    }
    return 0;
}

static int check_mountpoint(struct fs *fs, const char *path, struct err *err)
{
    struct stat st;
    int rc = clear_dead_mounts(path, err);
    if (rc < 0)
        return rc;
    if (stat(path, &st) != 0)
        return err_set(err, errno, "mountpoint %s: %s", path, strerror(errno));
    if (!S_ISDIR(st.st_mode))
        return err_set(err, ENOTDIR, "mountpoint %s is not a directory", path);
    fs->mountpoint = realpath(path, NULL);
    return fs->mountpoint ? 0 : err_set(err, errno, "mountpoint %s: %s", path, strerror(errno));
}

/* Forks; the child goes on with the pipe's write end in *ret_ready, the parent waits for its word. */
static int daemonise(struct err *err, int *ret_ready)
{
    int p[2];
    if (pipe(p) != 0)
        return err_set(err, errno, "pipe: %s", strerror(errno));
    pid_t pid = fork();
    if (pid < 0)
        return err_set(err, errno, "fork: %s", strerror(errno));
    if (pid > 0) {
        char word = 1;
        close(p[1]);
        ssize_t n = read(p[0], &word, 1);
        int status = 1;
        if (n == 1 && word == 0)
            _exit(0);
        if (waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) != 0)
            _exit(WEXITSTATUS(status));
        _exit(1);
    }
    close(p[0]);
    (void)setsid();
    *ret_ready = p[1];
    return 0;
}

/* The mount works: the parent may return to the shell, our own streams go away. */
static void tell_ready(struct fs *fs, int ready)
{
    if (ready < 0)
        return;
    const char *file = fs->settings.log_file;
    if (log_open("quayfs", file ? LOG_SINK_FILE : LOG_SINK_SYSLOG, file) < 0)
        log_warn("quayfs", "cannot open log_file = %s", file ? file : "");
    (void)!chdir("/");
    CLEANUP_FD int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null >= 0) {
        (void)dup2(null, 0);
        (void)dup2(null, 1);
        (void)dup2(null, 2);
    }
    char word = 0;
    (void)!write(ready, &word, 1);
    close(ready);
}

static void add_fuse_args(const struct options *o, struct fuse_args *args)
{
    fuse_opt_add_arg(args, "quayfs");
    fuse_opt_add_arg(args, "-ofsname=quayfs,subtype=quayfs,default_permissions,nosuid,nodev");
    for (size_t i = 0; i < o->n_fuse; i++) {
        CLEANUP_FREE char *a = xasprintf("-o%s", o->fuse[i]);
        fuse_opt_add_arg(args, a);
    }
}

static size_t user_keys(const struct fs *fs)
{
    size_t n = 0;
    for (size_t i = 0; i < fs->n_keys; i++)
        n += !fs->keys[i]->control;
    return n;
}

static int serve(struct fs *fs, const struct options *o, int ready, struct err *err)
{
    struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
    int rc = fs_keys_open(fs, err);
    if (rc == 0)
        rc = fs_control_start(fs, err);
    add_fuse_args(o, &args);
    if (rc == 0)
        rc = fs_mount(fs, &args, err);
    if (rc == 0)
        rc = fs_hangup_start(fs, err);
    fuse_opt_free_args(&args);
    if (rc < 0)
        return rc;
    tell_ready(fs, ready);
    log_info("quayfs", "%zu keys on %s", user_keys(fs), fs->mountpoint);
    rc = fs_loop(fs);
    return rc < 0 ? err_set(err, -rc, "the FUSE session ended: %s", strerror(-rc)) : 0;
}

static int run(struct fs *fs, const struct options *o, int ready)
{
    struct err err = ERR_INIT;
    fs->inodes = inode_table_new();
    fs->aside = pool_new("aside", 2);
    fs->behind = pool_new("behind", 1);
    fs->started = clock_wall();
    lock_init(&fs->log.lock, LOCK_RANK_LEAF, "log");
    fs->passthrough = passthrough_new(fs);
    int rc = serve(fs, o, ready, &err);
    int status = rc < 0 ? 1 : 0;
    if (rc < 0 && fs->session)
        log_error("quayfs", "%s", err_text(&err));
    else if (rc < 0)
        (void)fail(&err, 1);
    fs_halt(fs);
    fs_commands_stop(fs);
    fs_hangup_stop(fs);
    fs_unmount(fs);
    pool_free(fs->aside);
    pool_free(fs->behind);
    bool left = fs_keys_close(fs) > 0;
    if (left && status == 0)
        status = 3;
    adhoc_remove_cache(fs, o, left);
    fs_session_end(fs);
    passthrough_free(fs->passthrough);
    inode_table_free(fs->inodes);
    lock_done(&fs->log.lock);
    return status;
}

static int start(struct fs *fs, const struct options *o)
{
    struct err err = ERR_INIT;
    int ready = -1;
    if (!o->foreground && !o->check && daemonise(&err, &ready) < 0)
        return fail(&err, 1);
    sys_raise_descriptors();
    http_global_init();
    crypto_ctr_start(); /* for sftp */
    fs_hangup_block();
    fs->options = o;
    fs->stats = stats_new();
    if (load_config(fs, o, &err) < 0)
        return fail(&err, 2);
    if (o->check) {
        printf("%s: no errors\n", fs->config_path ? fs->config_path : o->local_dir ? o->local_dir : o->uri);
        return 0;
    }
    if (check_mountpoint(fs, o->mountpoint, &err) < 0) {
        adhoc_remove_cache(fs, o, false);
        return fail(&err, 1);
    }
    log_set_level(o->debug ? LOG_LEVEL_DEBUG : fs->settings.log_level);
    return run(fs, o, ready);
}

int main(int argc, char **argv)
{
    struct options o;
    struct err err = ERR_INIT;
    struct fs fs = {0};
    int status;
    (void)log_open("quayfs", LOG_SINK_STDERR, NULL);
    sys_init_faults();
    lock_init_jitter();
    if (options_parse(argc, argv, &err, &o) < 0) {
        status = fail(&err, 2);
    } else if (o.help) {
        options_help();
        status = 0;
    } else if (o.version) {
        printf("quayfs %s (libfuse %s)\n", QUAY_VERSION, fuse_pkgversion());
        status = 0;
    } else {
        status = start(&fs, &o);
    }
    if (fs.keys)
        (void)fs_keys_close(&fs);
    stats_free(fs.stats);
    conf_free(fs.conf);
    settings_done(&fs.settings);
    free(fs.mountpoint);
    free(fs.config_path);
    options_done(&o);
    return status;
}
