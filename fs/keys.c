/* SPDX-License-Identifier: MIT
 * keys.c: opens everything below the mount in order (cache, stores, volumes, .load) and closes it in
 * reverse. A store that cannot be opened leaves a directory that answers EIO with the reason. */
#include "base/clock.h"
#include "base/sys.h"
#include "fs/fs.h"

#include <string.h>

struct fs_key *fs_key_find(struct fs *fs, const char *name)
{
    for (size_t n = 0; n < fs->n_keys; n++) {
        if (strcmp(fs->keys[n].name, name) == 0)
            return &fs->keys[n];
    }
    return NULL;
}

static struct fs_key *add_key(struct fs *fs, const char *name)
{
    fs->keys = xrealloc(fs->keys, (fs->n_keys + 1) * sizeof(*fs->keys));
    struct fs_key *k = &fs->keys[fs->n_keys++];
    *k = (struct fs_key){.name = xstrdup(name)};
    k->read_bytes = stats_counter(fs->stats, "quayfs_read_bytes_total",
                                  "Bytes that the kernel has read from the mount", "key", name, NULL);
    k->written_bytes = stats_counter(fs->stats, "quayfs_written_bytes_total",
                                     "Bytes that were written to the mount", "key", name, NULL);
    return k;
}

/* The store itself, below its wrappers. */
static const struct store *innermost(const struct store *s)
{
    while (s->next)
        s = s->next;
    return s;
}

static void set_error(struct fs_key *k, struct err *err)
{
    k->error = xstrdup(err_text(err));
    log_warn("fs", "Failed to register storage backend '%s': %s", k->name, k->error);
    err_clear(err);
}

static int prepare_key(struct fs *fs, struct conf_section *s, struct err *err)
{
    struct fs_key *k = add_key(fs, s->name);
    int rc = registry_open(fs->conf, s, fs->stats, err, &k->store);
    if (rc == 0)
        rc = volume_policy_load(s, &fs->settings, err, &k->policy);
    if (rc == 0) {
        k->backend = xstrdup(innermost(k->store)->cls->name);
        if (k->store->caps & CAP_LOCAL_FD)
            k->policy.cache_blocks = false;
        return 0;
    }
    k->backend = xstrdup(conf_str(s, "backend", "?"));
    if (rc == -EINVAL)
        return rc;
    if (fs->settings.strict)
        return err_prefix(err, "store '%s'", s->name);
    set_error(k, err);
    return 0;
}

int fs_keys_prepare(struct fs *fs, struct err *err)
{
    int rc = 0;
    CONF_EACH (fs->conf, s) {
        if (strcmp(s->kind, "store") == 0)
            rc = prepare_key(fs, s, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int open_key(struct fs *fs, struct fs_key *k, struct err *err)
{
    struct store *store = take_ptr(&k->store);
    int rc = volume_open(k->name, store, &k->policy, fs->cache, fs->stats, err, &k->volume);
    if (rc == 0)
        return 0;
    if (fs->settings.strict)
        return err_prefix(err, "store '%s'", k->name);
    set_error(k, err);
    return 0;
}

/* .load is the loader's spool directory: a local store that the kernel must not cache, since another
 * process writes there. */
static int open_load(struct fs *fs, struct err *err)
{
    const char *spool = fs->settings.loader.spool;
    if (!spool || !*spool)
        return 0;
    int rc = sys_mkdirs(spool, 0700);
    if (rc < 0)
        return err_set(err, -rc, "[loader] spool = %s: %s", spool, strerror(-rc));
    struct conf *c = conf_new("[loader]");
    struct conf_section *s = conf_add_section(c, "store", FS_LOAD_DIR);
    conf_set(s, "backend", "local");
    conf_set(s, "base_path", spool);
    struct fs_key *k = add_key(fs, FS_LOAD_DIR);
    k->control = true;
    k->backend = xstrdup("local");
    rc = registry_open(c, s, fs->stats, err, &k->store);
    if (rc == 0)
        rc = volume_policy_load(s, &fs->settings, err, &k->policy);
    k->policy.ttl_ms = 0;
    k->policy.cache_blocks = false;
    k->policy.write = VOLUME_THROUGH;
    if (rc == 0)
        rc = volume_open(k->name, take_ptr(&k->store), &k->policy, fs->cache, fs->stats, err,
                         &k->volume);
    conf_free(c);
    return rc;
}

int fs_keys_open(struct fs *fs, struct err *err)
{
    int rc = cache_open(&fs->settings.cache, fs->settings.memory_limit, fs->stats, err, &fs->cache);
    for (size_t n = 0; rc == 0 && n < fs->n_keys; n++) {
        if (fs->keys[n].store)
            rc = open_key(fs, &fs->keys[n], err);
    }
    return rc < 0 ? rc : open_load(fs, err);
}

int fs_keys_close(struct fs *fs)
{
    int left = 0;
    for (size_t n = fs->n_keys; n-- > 0;) {
        struct fs_key *k = &fs->keys[n];
        struct op op;
        op_init(&op, "unmount", 60000);
        int rc = k->volume ? volume_close(k->volume, &op) : 0;
        if (rc > 0)
            log_warn("fs", "%s: %d files are not stored yet; they stay in %s/stage and are "
                           "uploaded at the next start", k->name, rc, cache_dir(fs->cache));
        left += rc > 0 ? rc : 0;
        store_close(k->store);
        free(k->name);
        free(k->error);
        free(k->backend);
    }
    free(fs->keys);
    fs->keys = NULL;
    fs->n_keys = 0;
    if (fs->cache)
        cache_close(fs->cache);
    fs->cache = NULL;
    return left;
}
