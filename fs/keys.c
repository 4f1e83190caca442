/* SPDX-License-Identifier: MIT
 * keys.c: opens everything below the mount in order (cache, stores, volumes, .load) and closes it in
 * reverse. A store that cannot be opened leaves a directory that answers EIO with the reason. */
#include "base/crypto.h"
#include "base/sys.h"
#include "fs/fs.h"

#include <string.h>

static struct fs_key *key_new(struct fs *fs, const char *name)
{
    struct fs_key *k = xcalloc(1, sizeof(*k));
    k->fs = fs;
    k->name = xstrdup(name);
    k->read_bytes = stats_counter(fs->stats, "quayfs_read_bytes_total",
                                  "Bytes that the kernel has read from the mount", "key", name, NULL);
    k->written_bytes = stats_counter(fs->stats, "quayfs_written_bytes_total",
                                     "Bytes that were written to the mount", "key", name, NULL);
    return k;
}

void fs_key_free(struct fs_key *k)
{
    if (!k)
        return;
    store_close(k->store);
    free(k->name);
    free(k->error);
    free(k->backend);
    free(k);
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

/* ---- what a key is, to tell whether it has changed ---- */

static int by_name(const void *a, const void *b)
{
    return strcmp((*(const struct conf_pair *const *)a)->name,
                  (*(const struct conf_pair *const *)b)->name);
}

/* Secrets are in files: another password is another key. */
static void add_file(struct sha256_stream *sum, const char *name, const char *path)
{
    char text[4096];
    size_t n = strlen(name);
    CLEANUP_FILE FILE *f = n > 5 && strcmp(name + n - 5, "_file") == 0 ? fopen(path, "re") : NULL;
    if (f)
        sha256_add(sum, text, fread(text, 1, sizeof(text), f));
}

static void identify(struct fs_key *k, const struct conf_section *s)
{
    const struct volume_policy *p = &k->policy;
    struct sha256_stream *sum = sha256_begin();
    CLEANUP_FREE const struct conf_pair **pairs = xcalloc(s->n_pairs + 1, sizeof(*pairs));
    CLEANUP_FREE char *policy = xasprintf(
        "%d %llu %d %d %o %o %u %u %u %llu %d %u", p->cache_blocks, (unsigned long long)p->ttl_ms,
        (int)p->write, p->offline_serve, p->file_mode, p->dir_mode, p->uid, p->gid, p->timeout_ms,
        (unsigned long long)p->stage_memory, p->trust_ttl, p->ticket_ms);
    for (size_t i = 0; i < s->n_pairs; i++)
        pairs[i] = &s->pairs[i];
    qsort(pairs, s->n_pairs, sizeof(*pairs), by_name);
    sha256_add(sum, policy, strlen(policy) + 1);
    for (size_t i = 0; i < s->n_pairs; i++) {
        sha256_add(sum, pairs[i]->name, strlen(pairs[i]->name) + 1);
        sha256_add(sum, pairs[i]->value, strlen(pairs[i]->value) + 1);
        add_file(sum, pairs[i]->name, pairs[i]->value);
    }
    sha256_end(sum, k->identity);
}

/* ---- opening ---- */

int fs_key_prepare(struct fs *fs, const struct conf *conf, struct conf_section *s,
                   const struct settings *settings, struct err *err, struct fs_key **ret)
{
    struct fs_key *k = key_new(fs, s->name);
    int rc = registry_open(conf, s, fs->stats, err, &k->store);
    if (rc == 0)
        rc = volume_policy_load(s, settings, err, &k->policy);
    if (rc == 0 && (k->store->caps & CAP_LOCAL_FD))
        k->policy.cache_blocks = false;
    k->backend = xstrdup(rc == 0 ? innermost(k->store)->cls->name : conf_str(s, "backend", "?"));
    identify(k, s);
    *ret = k;
    return rc;
}

static int prepare_at_start(struct fs *fs, struct conf_section *s, struct err *err)
{
    struct fs_key *k = NULL;
    int rc = fs_key_prepare(fs, fs->conf, s, &fs->settings, err, &k);
    bool wanted = fs->settings.auto_register && (rc == 0 || (rc != -EINVAL && !fs->settings.strict));
    if (!wanted) {
        fs_key_free(k);
        return rc == 0 ? 0 : rc == -EINVAL ? rc : err_prefix(err, "store '%s'", s->name);
    }
    if (rc < 0)
        set_error(k, err);
    fs_key_add(fs, k);
    return 0;
}

int fs_keys_prepare(struct fs *fs, struct err *err)
{
    int rc = 0;
    lock_init(&fs->registry, LOCK_RANK_REGISTRY, "registry");
    CONF_EACH (fs->conf, s) {
        if (strcmp(s->kind, "store") == 0)
            rc = prepare_at_start(fs, s, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int fs_key_open(struct fs *fs, struct fs_key *k, struct err *err)
{
    return volume_open(k->name, take_ptr(&k->store), &k->policy, fs->cache, fs->stats, err,
                       &k->volume);
}

static int open_at_start(struct fs *fs, struct fs_key *k, struct err *err)
{
    int rc = fs_key_open(fs, k, err);
    if (rc < 0 && fs->settings.strict)
        return err_prefix(err, "store '%s'", k->name);
    if (rc < 0)
        set_error(k, err);
    return 0;
}

/* .load is the loader's spool directory: a local store that the kernel must not cache, since another
 * process writes there. */
static int open_load(struct fs *fs, struct err *err)
{
    const char *spool = fs->settings.loader.spool;
    struct fs_key *k = NULL;
    if (!spool || !*spool)
        return 0;
    int rc = sys_mkdirs(spool, 0700);
    if (rc < 0)
        return err_set(err, -rc, "[loader] spool = %s: %s", spool, strerror(-rc));
    struct conf *c = conf_new("[loader]");
    struct conf_section *s = conf_add_section(c, "store", FS_LOAD_DIR);
    conf_set(s, "backend", "local");
    conf_set(s, "base_path", spool);
    rc = fs_key_prepare(fs, c, s, &fs->settings, err, &k);
    k->control = true;
    k->policy.ttl_ms = 0;
    k->policy.cache_blocks = false;
    k->policy.write = VOLUME_THROUGH;
    if (rc == 0)
        rc = fs_key_open(fs, k, err);
    fs_key_add(fs, k);
    conf_free(c);
    return rc;
}

int fs_keys_open(struct fs *fs, struct err *err)
{
    int rc = cache_open(&fs->settings.cache, fs->settings.memory_limit, fs->stats, err, &fs->cache);
    fs->reaper = pool_new("reaper", 1);
    for (size_t n = 0; rc == 0 && n < fs->n_keys; n++) {
        if (fs->keys[n]->store)
            rc = open_at_start(fs, fs->keys[n], err);
    }
    return rc < 0 ? rc : open_load(fs, err);
}

/* ---- closing ---- */

static int close_all(struct fs_key **keys, size_t n)
{
    int left = 0;
    while (n-- > 0) {
        int rc = fs_key_close(keys[n]);
        left += rc > 0 ? rc : 0;
        fs_key_free(keys[n]);
    }
    free(keys);
    return left;
}

int fs_keys_close(struct fs *fs)
{
    pool_free(fs->reaper);
    fs->reaper = NULL;
    int left = close_all(fs->old, fs->n_old) + close_all(fs->keys, fs->n_keys);
    fs->old = fs->keys = NULL;
    fs->n_old = fs->n_keys = 0;
    if (fs->cache)
        cache_close(fs->cache);
    fs->cache = NULL;
    return left;
}
