/* SPDX-License-Identifier: MIT
 * fs.h: the mounted file system: its keys, inode table and session.
 *
 * One struct fs per process, made by main.c and handed to every FUSE callback as user data. Keys come and go
 * (reload.h); one whose store failed to open is a directory that answers EIO.
 * The control directory `.load` is a key like others, over the local spool; `.quay` is virtual (view.h).
 * Threads: everything here is read-only after fs_start but the inode table (its own lock) and the table of
 * keys. An inode points to its struct fs_key, which lives as long as the mount; who uses key->volume is
 * counted: a request or handle from fs_key_enter to fs_key_leave, others with fs_key_get or fs_keys_get. */
#ifndef QUAY_FS_FS_H
#define QUAY_FS_FS_H

#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>

#include "base/cleanup.h"
#include "base/pool.h"
#include "base/rpc.h"
#include "base/settings.h"
#include "base/stats.h"
#include "cache/volume.h"
#include "fs/inode.h"

#define FS_LOAD_DIR ".load"
#define FS_QUAY_DIR ".quay"

struct passthrough;
struct passthrough_wire;

struct options;
struct fs;

struct fs_key {
    struct fs *fs;
    char *name;
    struct volume *volume;   /* NULL: it failed to open */
    char *error;             /* why, or NULL */
    char *backend;           /* class name, for health */
    struct store *store;     /* opened, until its volume takes it */
    struct volume_policy policy;
    bool control;            /* .load: never cached by the kernel */
    bool by_hand;            /* not of the configuration */
    uint8_t identity[32];    /* of all its options */
    atomic_uint users;       /* registry.c */
    struct pool_job reaper;  /* closes it after its last user */
    struct stat_counter *read_bytes, *written_bytes; /* by applications */
};

struct fs {
    struct conf *conf;
    struct settings settings;
    struct stats *stats;
    struct cache *cache;
    const struct options *options; /* of the command line */
    struct lock registry;    /* of: */
    struct fs_key **keys;    /* in the order of ls */
    size_t n_keys;
    struct fs_key **old;     /* out of the table; their inodes may still be there */
    size_t n_old;
    struct pool *reaper;
    atomic_bool changing;    /* a change of the keys is under way */
    struct {
        pthread_t thread;
        bool runs;
        atomic_bool stop;
    } hangup;
    struct inode_table *inodes;
    struct fuse_session *session;
    struct pool *aside;      /* answers interrupted requests: its jobs wait for nobody */
    struct pool *behind;     /* tells the kernel what may wait for its locks: one thread, waits for requests */
    char *mountpoint;
    int mount_id;       /* of /proc/self/mountinfo; 0: not known */
    char *config_path;       /* "" when there is none */
    struct rpc_server *control;
    struct timespec started;
    atomic_bool splice;      /* reply by descriptor */
    struct passthrough *passthrough;
    struct passthrough_wire *wire; /* for the session's own I/O */
    atomic_int writing;      /* threads of the session that write to the local disk now */
    bool parallel_dirops;    /* the kernel offered it (before the first reply) */
    bool direct_writes;      /* a write past the kernel's pages drops those that it makes old (likewise) */
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
/* One key: its store is opened (no network). *ret is given also on failure, with k->backend. */
int fs_key_prepare(struct fs *fs, const struct conf *conf, struct conf_section *s,
                   const struct settings *settings, struct err *err, struct fs_key **ret);
int fs_key_open(struct fs *fs, struct fs_key *k, struct err *err); /* its volume */
void fs_key_free(struct fs_key *k);                                /* closed; NULL ok */

/* registry.c. Using a key: false, when it is gone. */
bool fs_key_enter(struct fs_key *k);
void fs_key_leave(struct fs_key *k);
struct fs_key *fs_key_get(struct fs *fs, const char *name); /* entered; NULL: not there */
struct fs_keys {
    struct fs_key **v;
    size_t n;
};
struct fs_keys fs_keys_get(struct fs *fs); /* all, entered */
void fs_keys_put(struct fs_keys *keys);
#define CLEANUP_KEYS __attribute__((cleanup(fs_keys_put)))
/* The inode of a key's directory, as inode_enter; NULL: no such key. */
struct inode *fs_key_inode(struct fs *fs, const char *name);
void fs_key_add(struct fs *fs, struct fs_key *k);
/* `old` is out of the table (and k, unless NULL, in its place): it is closed after its last user. */
void fs_key_retire(struct fs *fs, struct fs_key *old, struct fs_key *k);
int fs_key_close(struct fs_key *k); /* waits; files that stay staged */

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
/* The mount is about to end: reads and listings do not wait for their stores any more. What is stored does, until the store
 * has been silent for settings.unmount_wait_ms. */
void fs_halt(struct fs *fs);
/* After fs_halt: the control socket goes. Its commands are waited for in the same way. */
void fs_commands_stop(struct fs *fs);
/* Unmounts, waits for what runs, closes what the kernel has left open. */
void fs_unmount(struct fs *fs);
/* After fs_keys_close: libfuse keeps a pipe for each thread that has spliced, freed as the thread ends. */
void fs_session_end(struct fs *fs);

#endif
