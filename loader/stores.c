/* SPDX-License-Identifier: MIT
 * stores.c: lazily opened stores; see stores.h.
 *
 * States of an entry: CLOSED -> OPENING (one thread, no lock held: it may read files) -> OPEN, or back
 * to CLOSED when that failed. OPEN stays until stores_free(). */
#include "loader/stores.h"

#include "backends/registry.h"
#include "base/cleanup.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/name.h"
#include "base/rpc.h"

enum entry_state { ENTRY_CLOSED = 0, ENTRY_OPENING, ENTRY_OPEN };

struct entry {
    struct conf_section *section;
    enum entry_state state;
    struct store *store;
};

struct stores {
    const struct conf *conf;
    const struct settings *settings;
    struct stats *stats;
    struct lock lock;   /* states and pointers of the entries */
    struct cond opened;
    struct entry *entries;
    size_t n;
    struct conf *mounted; /* sections made for private keys; only while OPENING is held */
};

struct stores *stores_new(const struct conf *conf, const struct settings *settings,
                          struct stats *stats)
{
    struct stores *st = xcalloc(1, sizeof(*st));

    *st = (struct stores){.conf = conf, .settings = settings, .stats = stats};
    lock_init(&st->lock, LOCK_RANK_REGISTRY, "loader stores");
    cond_init(&st->opened);
    st->mounted = conf_new("mounted stores");
    CONF_EACH(conf, s)
    {
        if (strcmp(s->kind, "store") != 0)
            continue;
        st->entries = xrealloc(st->entries, (st->n + 1) * sizeof(*st->entries));
        st->entries[st->n++] = (struct entry){.section = s};
    }
    return st;
}

void stores_free(struct stores *st)
{
    if (!st)
        return;
    for (size_t i = 0; i < st->n; i++)
        store_close(st->entries[i].store);
    free(st->entries);
    conf_free(st->mounted);
    cond_done(&st->opened);
    lock_done(&st->lock);
    free(st);
}

void location_done(struct location *l)
{
    free(l->key);
    free(l->path);
    *l = (struct location){0};
}

/* Where the keys are mounted: configured, or what the quayfs daemon answers. */
static int find_mount(struct stores *st, const char *key, struct err *err, char **ret)
{
    struct err why = ERR_INIT;
    json_t *result = NULL;
    const char *mount = st->settings->loader.mount;

    if (mount) {
        *ret = xstrdup(mount);
        return 0;
    }
    if (rpc_call(st->settings->control, "status", NULL, NULL, NULL, &why, &result) == 0)
        mount = json_string_value(json_object_get(result, "mountpoint"));
    if (mount)
        *ret = xstrdup(mount);
    json_decref(result);
    if (*ret)
        return 0;
    return err_set(err, EHOSTUNREACH, "key '%s' lives in the memory of quayfs, which cannot be asked "
                   "where it is mounted (%s): is it running? Or set [loader] mount", key,
                   why.code ? err_text(&why) : "no mountpoint in its answer");
}

/* A private key through the mount: a local store over MOUNT/KEY. */
static int open_mounted(struct stores *st, const char *key, struct err *err, struct store **ret)
{
    CLEANUP_FREE char *mount = NULL, *dir = NULL;
    struct conf_section *s;
    int r = find_mount(st, key, err, &mount);

    if (r < 0)
        return r;
    dir = path_join(mount, key);
    s = conf_find(st->mounted, "store", key);
    if (!s)
        s = conf_add_section(st->mounted, "store", key);
    conf_set(s, "backend", "local");
    conf_set(s, "base_path", dir);
    conf_set(s, "create_if_missing", "no");
    log_info("loader", "key %s is read through the mount: %s", key, dir);
    return registry_open(st->mounted, s, st->stats, err, ret);
}

static int open_entry(struct stores *st, struct entry *e, struct err *err, struct store **ret)
{
    struct store *store = NULL;
    int r = registry_open(st->conf, e->section, st->stats, err, &store);

    if (r < 0)
        return r;
    if (store->caps & CAP_PRIVATE) {
        store_close(store);
        store = NULL;
        r = open_mounted(st, e->section->name, err, &store);
    }
    if (r == 0)
        *ret = store;
    return r;
}

/* Gives the opened store of an entry. One opens at a time, as `mounted` is shared. */
static int entry_store(struct stores *st, struct entry *e, struct err *err, struct store **ret)
{
    struct store *store = NULL;
    bool busy = true;
    int r;

    lock_acquire(&st->lock);
    while (busy && e->state != ENTRY_OPEN) {
        busy = false;
        for (size_t i = 0; i < st->n; i++)
            busy |= st->entries[i].state == ENTRY_OPENING;
        if (busy)
            cond_wait(&st->opened, &st->lock);
    }
    if (e->state == ENTRY_OPEN) {
        *ret = e->store;
        lock_release(&st->lock);
        return 0;
    }
    e->state = ENTRY_OPENING;
    lock_release(&st->lock);

    r = open_entry(st, e, err, &store);

    lock_acquire(&st->lock);
    e->store = store;
    e->state = r == 0 ? ENTRY_OPEN : ENTRY_CLOSED;
    cond_broadcast(&st->opened);
    lock_release(&st->lock);
    if (r == 0)
        *ret = store;
    return r;
}

static struct entry *find_key(struct stores *st, const char *key, size_t len)
{
    for (size_t i = 0; i < st->n; i++)
        if (strlen(st->entries[i].section->name) == len &&
            !strncmp(st->entries[i].section->name, key, len))
            return &st->entries[i];
    return NULL;
}

static int unknown_key(struct stores *st, const char *path, struct err *err)
{
    size_t len = strcspn(path, "/");
    CLEANUP_FREE char *key = xstrndup(path, len);
    CLEANUP_FREE const char **names = xcalloc(st->n + 1, sizeof(*names));
    const char *near;

    for (size_t i = 0; i < st->n; i++)
        names[i] = st->entries[i].section->name;
    near = nearest_name(key, names, st->n);
    return err_set(err, EINVAL, "%s: No storage backend registered for key: '%s'%s%s%s", path, key,
                   near ? " (did you mean '" : "", near ? near : "", near ? "'?)" : "");
}

static int locate_path(struct stores *st, const char *path, struct err *err, struct location *ret)
{
    size_t len;
    struct entry *e;
    const char *rest;
    int r;

    while (*path == '/')
        path++;
    len = strcspn(path, "/");
    e = find_key(st, path, len);
    rest = path[len] ? path + len + 1 : "";
    if (!e && st->settings->default_key) {
        rest = path;
        e = find_key(st, st->settings->default_key, strlen(st->settings->default_key));
    }
    if (!e)
        return unknown_key(st, path, err);
    r = entry_store(st, e, err, &ret->store);
    if (r < 0)
        return err_prefix(err, "key %s", e->section->name);
    ret->key = xstrdup(rest);
    ret->path = xasprintf("%s/%s", e->section->name, rest);
    return 0;
}

/* What is left of `uri` below `base`, or NULL. Whole segments only: s3://b/k is not below s3://b/key. */
static const char *below(const char *base, const char *uri)
{
    size_t n = strlen(base);

    while (n && base[n - 1] == '/')
        n--;
    if (strncmp(base, uri, n) != 0 || (uri[n] && uri[n] != '/'))
        return NULL;
    return uri[n] ? uri + n + 1 : uri + n;
}

static int locate_uri(struct stores *st, const char *uri, struct err *err, struct location *ret)
{
    struct entry *best = NULL;
    struct store *best_store = NULL;
    const char *best_rest = NULL;

    for (size_t i = 0; i < st->n; i++) {
        struct err ignored = ERR_INIT;
        struct store *store = NULL;
        const char *rest;

        if (entry_store(st, &st->entries[i], &ignored, &store) < 0 || !store->base_uri)
            continue;
        rest = below(store->base_uri, uri);
        if (rest && (!best_rest || strlen(rest) < strlen(best_rest))) {
            best = &st->entries[i];
            best_rest = rest;
            best_store = store;
        }
    }
    if (!best)
        return err_set(err, EINVAL, "%s: no configured key holds this URI (see `quayctl keys`)", uri);
    ret->store = best_store;
    ret->key = xstrdup(best_rest);
    ret->path = xasprintf("%s/%s", best->section->name, best_rest);
    ret->by_uri = true;
    return 0;
}

int stores_locate(struct stores *st, const char *path, struct err *err, struct location *ret)
{
    return strstr(path, "://") ? locate_uri(st, path, err, ret) : locate_path(st, path, err, ret);
}
