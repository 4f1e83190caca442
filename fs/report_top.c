/* SPDX-License-Identifier: MIT
 * report_top.c: the counters of base/stats.h by key, see report.h. Rates are the client's business. */
#include "base/clock.h"
#include "fs/report.h"

#include <string.h>

static const struct {
    const char *metric, *name;
} figures[] = {
    {"quayfs_read_bytes_total", "read_bytes"},
    {"quayfs_written_bytes_total", "written_bytes"},
    {"quayfs_backend_read_bytes_total", "backend_read_bytes"},
    {"quayfs_backend_written_bytes_total", "backend_written_bytes"},
    {"quayfs_backend_inflight", "inflight"},
    {"quayfs_backend_errors_total", "errors"},
    {"quayfs_backend_retries_total", "retries"},
    {"quayfs_cache_hits_total", "hits"},
    {"quayfs_cache_misses_total", "misses"},
    {"quayfs_cache_evictions_total", "evictions"},
    {"quayfs_cache_bytes", "cache_bytes"},
    {"quayfs_upload_pending_bytes", "pending_bytes"},
    {"quayfs_upload_pending_files", "pending_files"},
};

static void put(json_t *o, const char *name, uint64_t v)
{
    json_object_set_new(o, name, json_integer((json_int_t)v));
}

static json_t *op_figures(const struct stat_sample *x)
{
    json_t *o = json_object(), *buckets = json_array();
    for (size_t i = 0; i < STATS_BUCKETS; i++)
        json_array_append_new(buckets, json_integer((json_int_t)x->buckets[i]));
    json_object_set_new(o, "seconds", json_real(x->seconds));
    json_object_set_new(o, "buckets", buckets);
    return o;
}

static void add_sample(void *keys, const struct stat_sample *x)
{
    json_t *o = json_object_get(keys, stat_label(x, "key"));
    if (!o)
        return;
    if (x->buckets && strcmp(x->name, "quayfs_backend_seconds") == 0)
        json_object_set_new(json_object_get(o, "ops"), stat_label(x, "op"), op_figures(x));
    for (size_t i = 0; i < ARRAY_LEN(figures) && !x->buckets; i++)
        if (strcmp(figures[i].metric, x->name) == 0)
            json_object_set_new(o, figures[i].name, json_integer((json_int_t)x->value));
}

static json_t *key_now(struct fs *fs, const struct fs_key *k, json_t *health)
{
    struct volume_load load = {0};
    struct cache_usage u;
    json_t *o = json_object();
    if (k->volume)
        volume_get_load(k->volume, &load);
    cache_get_usage(fs->cache, k->name, &u);
    json_object_set_new(o, "name", report_text(k->name));
    json_object_set(o, "state", json_object_get(json_object_get(health, k->name), "state"));
    for (size_t i = 0; i < ARRAY_LEN(figures); i++)
        put(o, figures[i].name, 0);
    put(o, "open_files", load.open_files);
    put(o, "queued", load.queued);
    put(o, "pinned_bytes", u.pinned_bytes);
    json_object_set_new(o, "ops", json_object());
    return o;
}

static json_t *bounds(void)
{
    json_t *list = json_array();
    for (size_t i = 0; i + 1 < STATS_BUCKETS; i++)
        json_array_append_new(list, json_real(stats_bound(i)));
    return list;
}

static json_t *cache_now(struct fs *fs, json_t *o)
{
    struct cache_usage u;
    json_t *cache = json_object();
    cache_get_usage(fs->cache, NULL, &u);
    json_object_set_new(o, "memory", json_pack("{s:I, s:I}", "used", (json_int_t)u.memory, "limit",
                                               (json_int_t)u.memory_limit));
    put(cache, "bytes", u.bytes);
    put(cache, "max_size", fs->settings.cache.max_size);
    put(cache, "dirty_bytes", u.dirty_bytes);
    put(cache, "pinned_bytes", u.pinned_bytes);
    return cache;
}

json_t *report_top(struct fs *fs)
{
    struct timespec now = clock_wall();
    json_t *o = json_object(), *by_name = json_object(), *keys = json_array();
    json_t *health = report_health(fs);
    const json_t *states = json_object_get(health, "keys");
    CLEANUP_KEYS struct fs_keys table = fs_keys_get(fs);
    for (size_t n = 0; n < table.n; n++) {
        if (table.v[n]->control)
            continue;
        json_t *k = key_now(fs, table.v[n], (json_t *)(uintptr_t)states);
        json_object_set(by_name, table.v[n]->name, k);
        json_array_append_new(keys, k);
    }
    put(o, "time_ns", clock_now_ns());
    stats_each(fs->stats, add_sample, by_name);
    json_object_set_new(o, "version", json_string(QUAY_VERSION));
    put(o, "pid", (uint64_t)getpid());
    json_object_set_new(o, "mountpoint", report_text(fs->mountpoint));
    put(o, "started", (uint64_t)fs->started.tv_sec * NS_PER_S + (uint64_t)fs->started.tv_nsec);
    put(o, "uptime_s", (uint64_t)(now.tv_sec - fs->started.tv_sec));
    json_object_set_new(o, "bounds_s", bounds());
    json_object_set_new(o, "cache", cache_now(fs, o));
    json_object_set_new(o, "keys", keys);
    json_decref(by_name);
    json_decref(health);
    return o;
}
