/* SPDX-License-Identifier: MIT
 * fs.h: the mounted file system: its keys, inode table and session.
 *
 * One struct fs per process, made by main.c and handed to every FUSE callback as user data. Keys are
 * fixed after start-up (a key whose store failed to open stays as a directory that answers EIO).
 * The control directory `.load` is a key like others, over the local spool; `.quay` is virtual (view.h).
 * Threads: everything here is read-only after fs_start but the inode table (its own lock). */
#ifndef QUAY_FS_FS_H
#define QUAY_FS_FS_H

#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>

#include "base/cleanup.h"
#include "base/rpc.h"
#include "base/settings.h"
#include "base/stats.h"
#include "cache/volume.h"
#include "fs/inode.h"

#define FS_LOAD_DIR ".load"
#define FS_QUAY_DIR ".quay"

struct passthrough;
struct passthrough_wire;

struct fs_key {
    char *name;
    struct volume *volume;   /* NULL: it failed to open */
    char *error;             /* why, or NULL */
    char *backend;           /* class name, for health */
    struct store *store;     /* opened, until its volume takes it */
    struct volume_policy policy;
    bool control;            /* .load: never cached by the kernel */
    struct stat_counter *read_bytes, *written_bytes; /* by applications */
};

struct fs {
    struct conf *conf;
    struct settings settings;
    struct stats *stats;
    struct cache *cache;
    struct fs_key *keys;
    size_t n_keys;
    struct inode_table *inodes;
    struct fuse_session *session;
    struct pool *aside;      /* answers interrupted requests: its jobs wait for nobody */
    char *mountpoint;
    char *config_path;       /* "" when there is none */
    struct rpc_server *control;
    struct timespec started;
    atomic_bool splice;      /* reply by descriptor */
    struct passthrough *passthrough;
    struct passthrough_wire *wire; /* for the session's own I/O */
    atomic_int writing;      /* threads of the session that write to the local disk now */
    bool parallel_dirops;    /* the kernel offered it (before the first reply) */
    atomic_bool init_sent;   /* session_io.c */
    struct {
        struct lock lock;
        char last[512];
        uint64_t last_ns;
        unsigned repeated;
    } log; /* one line for a failure that repeats */
};

/* keys.c. Before the fork: opens the stores (no network, no thread). A mistake in the configuration is
 * -EINVAL with FILE:LINE; a store that fails otherwise is logged and kept as an error key
 * (settings.strict: fails). */
int fs_keys_prepare(struct fs *fs, struct err *err);
/* After it: the cache and the volumes. */
int fs_keys_open(struct fs *fs, struct err *err);
/* Flushes and closes all; returns the number of files that stay staged. */
int fs_keys_close(struct fs *fs);
struct fs_key *fs_key_find(struct fs *fs, const char *name);

/* control.c */
int fs_control_start(struct fs *fs, struct err *err);

/* mount.c: the session. */
extern const struct fuse_lowlevel_ops fs_ops;
int fs_mount(struct fs *fs, struct fuse_args *args, struct err *err);
/* session_io.c: after the mount and passthrough, before the loop. */
void fs_session_own_io(struct fs *fs);
/* Each reply on its way out, by whoever writes them for libfuse. */
void fs_session_complete(struct fs *fs, const struct iovec *iov, int count);
int fs_loop(struct fs *fs);     /* until unmounted or signalled; 0 or -errno */
/* Unmounts, waits for what runs, closes what the kernel has left open. */
void fs_unmount(struct fs *fs);
/* After fs_keys_close: libfuse keeps a pipe for each thread that has spliced, freed as the thread ends. */
void fs_session_end(struct fs *fs);

#endif
