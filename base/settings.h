/* SPDX-License-Identifier: MIT
 * settings.h: the sections that every program shares, typed: [quayfs] [cache] [loader], and the
 * list of sections that may exist. [store NAME] is checked by backends/registry.h, [database NAME]
 * by loader/database.h; their names are known here so that no program refuses another's section.
 *
 *     struct conf *c; struct settings s;
 *     conf_load(...); conf_apply_env(...); settings_load(c, &err, &s); ... settings_done(&s);
 *
 * Where to find the file: settings_find_file() = the argument, else $QUAYFS_CONFIG,
 * $XDG_CONFIG_HOME/quayfs/quayfs.conf, ~/.config/quayfs/quayfs.conf, /etc/quayfs/quayfs.conf.
 * Errors: -EINVAL with FILE:LINE text. Ownership: strings belong to the struct. */
#ifndef QUAY_BASE_SETTINGS_H
#define QUAY_BASE_SETTINGS_H

#include "base/conf.h"
#include "base/log.h"

#include <sys/types.h>

struct cache_settings {
    char *dir;              /* default: $XDG_CACHE_HOME/quayfs or ~/.cache/quayfs; root /var/cache/quayfs */
    uint64_t max_size;      /* bytes, 0 = only min_free limits it */
    uint64_t min_free;      /* keep this much of the disk free, default 1 GiB */
    uint64_t block_size;    /* default 1 MiB; a power of two, 64 KiB .. 16 MiB */
    uint64_t ttl_ms;        /* attributes, listings, names known absent; default 5 s; 0 = never expire */
    bool enabled;           /* default yes: no = nothing is kept on disk but staged writes */
    uint64_t pin_check_ms;  /* how often pinned paths are compared with the store; default 1 min; 0 = at opens */
    bool verify;            /* check CRC32C of blocks read for the first time after a start; default yes */
};

struct settings {
    char *default_key;
    bool auto_register;
    enum log_level log_level;
    char *log_file;         /* NULL: stderr, or syslog in the background */
    uint64_t memory_limit;  /* default 128 MiB */
    mode_t umask;           /* default 022: for objects without a stored mode */
    uid_t uid;
    gid_t gid;              /* default: who runs quayfs */
    char *control;          /* control socket; default CACHE_DIR/control.sock */
    bool passthrough;       /* the kernel may read whole cached files by itself; default yes (auto) */
    uint64_t unmount_wait_ms; /* for a silent store, and to store what is staged; default 1 min, 0 = as long as it takes */
    bool strict;            /* a failing store stops the mount; default no */
    struct cache_settings cache;
    struct {
        char *spool;        /* default: $XDG_STATE_HOME/quayfs/load, root /var/lib/quayfs/load */
        unsigned workers;   /* jobs at once, default 2 */
        char *allow;        /* databases, tables, paths and modes a job may name; NULL = all configured */
        uint64_t retain_ms; /* keep finished runs; default 30 d, 0 = for ever */
        char *mount;        /* a mount to read `memory` keys through; NULL = ask the daemon */
    } loader;
};

int settings_find_file(const char *arg, struct err *err, char **ret_path);
/* The environment whose overlay sections count: `arg` (--env), else $QUAYFS_ENV, else `environment` in [quayfs];
 * NULL: none. Before conf_apply_env(). */
const char *settings_environment(const struct conf *c, const char *arg);
int settings_load(struct conf *c, struct err *err, struct settings *ret);
void settings_done(struct settings *s);

/* What a [store NAME] may say to the cache and the mount (cache/policy.c gives it meaning). */
extern const struct conf_option settings_store_options[];
extern const size_t settings_n_store_options;

/* The [database NAME] option names (the loader gives them meaning). */
extern const struct conf_option settings_database_options[];
extern const size_t settings_n_database_options;

#endif
