/* SPDX-License-Identifier: MIT
 * control_cache.c: the cache by request: figures, warming, evicting, pins, checking.
 *
 * Long work tells how far it is at most five times a second: {"phase":"list"|"fetch", totals}, and a file
 * at a time what a person should know of it: {"file":{"what","path","size","present","error"}}. When the
 * client has gone, the work is stopped. */
#include "fs/control.h"

#include "base/date.h"
#include "cache/keeper.h"
#include "fs/report.h"

#include <string.h>

static const char *path_arg(const struct call *c)
{
    const char *path = json_string_value(json_object_get(c->args, "path"));
    return path ? path : "";
}

static bool flag_arg(const struct call *c, const char *name)
{
    return json_is_true(json_object_get(c->args, name));
}

static void put(json_t *o, const char *name, uint64_t v)
{
    json_object_set_new(o, name, json_integer((json_int_t)v));
}

/* ---- figures, clear, cleanup ---- */
int cmd_cache_stats(struct call *c, struct err *err, json_t **ret)
{
    (void)err;
    *ret = report_cache_stats(c->fs, c->key);
    return 0;
}

static json_t *freed(struct call *c, uint64_t bytes, uint64_t files)
{
    struct cache_usage u;
    json_t *o = json_object();
    cache_get_usage(c->fs->cache, c->key, &u);
    put(o, "bytes", bytes);
    put(o, "files", files);
    put(o, "pinned_bytes", u.pinned_bytes);
    return o;
}

int cmd_cache_clear(struct call *c, struct err *err, json_t **ret)
{
    uint64_t bytes = 0;
    uint64_t files = 0;
    int rc = cache_clear(c->fs->cache, c->key, &bytes, &files);
    if (rc < 0)
        return err_set(err, -rc, "cannot clear the cache: %s", strerror(-rc));
    CLEANUP_KEYS struct fs_keys keys = fs_keys_get(c->fs);
    for (size_t n = 0; n < keys.n; n++) {
        struct fs_key *k = keys.v[n];
        if (k->volume && (!c->k || c->k == k))
            volume_forget(k->volume, NULL, false);
    }
    *ret = freed(c, bytes, files);
    return 0;
}

int cmd_cache_cleanup(struct call *c, struct err *err, json_t **ret)
{
    uint64_t bytes = 0;
    uint64_t files = 0;
    uint64_t ttl = c->fs->settings.cache.ttl_ms;
    int rc = cache_cleanup(c->fs->cache, c->key, ttl, &bytes, &files);
    if (rc < 0)
        return err_set(err, -rc, "cannot clean up the cache: %s", strerror(-rc));
    *ret = freed(c, bytes, files);
    return 0;
}

/* ---- the kernel's pages ---- */
static void drop_pages(struct fs *fs, const struct fs_key *k,
                       bool (*match)(void *arg, const char *path), void *arg)
{
    struct inode_query q = {.key = k, .match = match, .arg = arg};
    inode_find_all(fs->inodes, &q);
    for (size_t n = 0; n < q.n && fs->session && !fuse_session_exited(fs->session); n++)
        (void)fuse_lowlevel_notify_inval_inode(fs->session, q.numbers[n], 0, 0);
    free(q.numbers);
}

/* ---- verify ---- */
#define BAD_MAX 10000 /* ranges fetched again; more are fetched when they are read */

struct checking {
    struct call *c;
    struct cache_bad *bad; /* own their strings */
    size_t n, healed;
    struct err why; /* of the first that could not be healed */
};

static int verify_progress(void *arg, uint64_t done, uint64_t total)
{
    const struct checking *ch = arg;
    return !rpc_progress(ch->c->conn, json_pack("{s:I, s:I}", "done", (json_int_t)done, "total",
                                                (json_int_t)total));
}

static void note_bad(void *arg, const struct cache_bad *bad)
{
    struct checking *ch = arg;
    if (ch->n == BAD_MAX)
        return;
    ch->bad = xrealloc(ch->bad, (ch->n + 1) * sizeof(*ch->bad));
    struct cache_bad *b = &ch->bad[ch->n++];
    *b = *bad;
    b->key = xstrdup(bad->key);
    b->path = xstrdup(bad->path);
    b->version = xstrdup(bad->version);
}

static bool same_path(void *arg, const char *path)
{
    return strcmp(arg, path) == 0;
}

/* The kernel may have read it before it was found out. */
static void heal(struct checking *ch, const struct cache_bad *bad)
{
    struct fs *fs = ch->c->fs;
    struct fs_key *k = fs_key_get(fs, bad->key);
    struct op op;
    if (!k)
        return;
    op_init(&op, "verify", 0);
    if (k->volume) {
        drop_pages(fs, k, same_path, (void *)(uintptr_t)bad->path);
        if (volume_refetch(k->volume, &op, bad) == 0)
            ch->healed++;
        else if (!ch->why.code)
            ch->why = op.err;
    }
    fs_key_leave(k);
}

int cmd_cache_verify(struct call *c, struct err *err, json_t **ret)
{
    struct checking ch = {.c = c};
    struct cache_verify v = {.progress = verify_progress, .bad = note_bad, .arg = &ch};
    int rc = cache_verify(c->fs->cache, c->key, &v);
    for (size_t i = 0; i < ch.n; i++) {
        if (rc == 0)
            heal(&ch, &ch.bad[i]);
        free((void *)(uintptr_t)ch.bad[i].key);
        free((void *)(uintptr_t)ch.bad[i].path);
        free((void *)(uintptr_t)ch.bad[i].version);
    }
    free(ch.bad);
    if (rc < 0)
        return err_set(err, -rc, "cannot verify the cache: %s", strerror(-rc));
    json_t *o = json_object();
    put(o, "checked", v.checked);
    put(o, "bad", v.n_bad);
    put(o, "healed", ch.healed);
    if (ch.why.code)
        json_object_set_new(o, "error", report_text(err_text(&ch.why)));
    *ret = o;
    return 0;
}

/* ---- warm ---- */
static json_t *totals(const struct warm_total *t)
{
    json_t *o = json_object();
    put(o, "files", t->files);
    put(o, "bytes", t->bytes);
    put(o, "cached_files", t->cached_files);
    put(o, "cached_bytes", t->cached_bytes);
    put(o, "fetched_files", t->fetched_files);
    put(o, "fetched_bytes", t->fetched_bytes);
    put(o, "staged_files", t->staged_files);
    put(o, "no_room_files", t->no_room_files);
    put(o, "no_room_bytes", t->no_room_bytes);
    put(o, "failed_files", t->failed_files);
    return o;
}

struct warming {
    struct call *c;
    struct warm warm;
    bool gone;
};

static bool warm_tick(void *arg, const struct warm_total *sum, bool counting)
{
    struct warming *x = arg;
    json_t *o = totals(sum);
    json_object_set_new(o, "phase", json_string(counting ? "list" : "fetch"));
    put(o, "found_files", x->warm.found.files);
    put(o, "found_bytes", x->warm.found.bytes);
    x->gone |= !rpc_progress(x->c->conn, o);
    return !x->gone;
}

static void warm_event(void *arg, const struct warm_event *e)
{
    static const char *const names[] = {"", "found", "fetched", "no_room", "failed"};
    struct warming *x = arg;
    if (e->what == WARM_FETCHED)
        return;
    json_t *o = json_object();
    json_object_set_new(o, "what", json_string(names[e->what]));
    json_object_set_new(o, "path", report_text(e->path));
    put(o, "size", e->size);
    put(o, "present", e->present);
    if (e->err)
        json_object_set_new(o, "error", report_text(err_text(e->err)));
    x->gone |= !rpc_progress(x->c->conn, json_pack("{s:o}", "file", o));
}

/* {"paths":[{"path","dir"}]} -> trees, to be freed. */
static struct tree *trees_arg(const struct call *c, size_t *ret_n)
{
    const json_t *list = json_object_get(c->args, "paths");
    size_t n = json_array_size(list);
    struct tree *trees = xcalloc(n + 1, sizeof(*trees));
    for (size_t i = 0; i < n; i++) {
        const json_t *o = json_array_get(list, i);
        const char *path = json_string_value(json_object_get(o, "path"));
        trees[i].path = path ? path : "";
        trees[i].dir = json_is_true(json_object_get(o, "dir"));
    }
    *ret_n = n;
    return trees;
}

int cmd_warm(struct call *c, struct err *err, json_t **ret)
{
    struct op op;
    struct warming x = {.c = c,
                        .warm = {.dry = flag_arg(c, "dry"), .event = warm_event,
                                 .tick = warm_tick, .arg = &x}};
    if (volume_store(c->k->volume)->caps & CAP_LOCAL_FD) {
        *ret = json_pack("{s:b}", "direct", 1);
        return 0;
    }
    CLEANUP_FREE struct tree *trees = trees_arg(c, &x.warm.n_trees);
    x.warm.trees = trees;
    op_init(&op, "warm", 0);
    int rc = volume_warm(c->k->volume, &op, &x.warm);
    if (rc < 0) {
        *err = op.err;
        return rc;
    }
    *ret = totals(&x.warm.total);
    put(*ret, "max_size", c->fs->settings.cache.max_size);
    return 0;
}

/* ---- pins ---- */
int cmd_pin(struct call *c, struct err *err, json_t **ret)
{
    struct tree tree = {.path = path_arg(c)};
    struct warming x = {.c = c,
                        .warm = {.trees = &tree, .n_trees = 1, .event = warm_event,
                                 .tick = warm_tick, .arg = &x}};
    struct op op;
    bool covered = false;
    op_init(&op, "pin", 0);
    int rc = volume_pin(c->k->volume, &op, &x.warm, &covered);
    if (rc < 0) {
        *err = op.err;
        return rc;
    }
    *ret = totals(&x.warm.total);
    json_object_set_new(*ret, "covered", json_boolean(covered));
    return 0;
}

int cmd_unpin(struct call *c, struct err *err, json_t **ret)
{
    *ret = json_true();
    return volume_unpin(c->k->volume, path_arg(c), err);
}

static json_t *when(uint64_t ms)
{
    char text[32];
    struct timespec t = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};
    date_format_iso(t, text);
    return json_string(ms ? text : "");
}

static void add_pins(struct fs *fs, const struct fs_key *k, json_t *all)
{
    struct cache_pin *list = NULL;
    size_t n = 0;
    cache_pins(fs->cache, k->name, &list, &n);
    for (size_t i = 0; i < n; i++) {
        json_t *o = json_object();
        json_object_set_new(o, "key", report_text(k->name));
        json_object_set_new(o, "path", report_text(list[i].path));
        put(o, "files", list[i].files);
        put(o, "bytes", list[i].bytes);
        put(o, "have_bytes", list[i].have);
        json_object_set_new(o, "since", when(list[i].since_ms));
        json_object_set_new(o, "checked", when(list[i].checked_ms));
        json_object_set_new(o, "error", report_text(list[i].error));
        json_array_append_new(all, o);
    }
    cache_pins_free(list, n);
}

int cmd_pins(struct call *c, struct err *err, json_t **ret)
{
    (void)err;
    json_t *all = json_array();
    CLEANUP_KEYS struct fs_keys keys = fs_keys_get(c->fs);
    for (size_t n = 0; n < keys.n; n++) {
        const struct fs_key *k = keys.v[n];
        if (!k->control && (!c->k || c->k == k))
            add_pins(c->fs, k, all);
    }
    *ret = all;
    return 0;
}

/* ---- evict ---- */
static bool covered(void *arg, const char *path)
{
    return tree_covers(arg, path);
}

static void count_staged(const struct fs_key *k, struct tree *w, uint64_t *ret_files,
                         uint64_t *ret_bytes)
{
    struct staged_info *list = NULL;
    size_t n = 0;
    if (volume_staged(k->volume, &list, &n) < 0)
        return;
    for (size_t i = 0; i < n; i++) {
        if (!tree_covers(w, list[i].path))
            continue;
        ++*ret_files;
        *ret_bytes += list[i].bytes;
    }
    staged_list_free(list, n);
}

int cmd_evict(struct call *c, struct err *err, json_t **ret)
{
    (void)err;
    struct tree w = {.path = path_arg(c), .dir = flag_arg(c, "dir")};
    struct cache_evicted e = {0};
    uint64_t staged_files = 0;
    uint64_t staged_bytes = 0;
    cache_evict(c->fs->cache, c->k->name, covered, &w, flag_arg(c, "pinned"), &e);
    drop_pages(c->fs, c->k, covered, &w);
    count_staged(c->k, &w, &staged_files, &staged_bytes);
    json_t *o = json_object();
    put(o, "bytes", e.bytes);
    put(o, "files", e.files);
    put(o, "pinned_bytes", e.pinned_bytes);
    put(o, "pinned_files", e.pinned_files);
    put(o, "busy_bytes", e.busy_bytes);
    put(o, "staged_files", staged_files);
    put(o, "staged_bytes", staged_bytes);
    *ret = o;
    return 0;
}
