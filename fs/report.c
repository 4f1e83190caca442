/* SPDX-License-Identifier: MIT
 * report.c: see report.h. */
#include "fs/report.h"

#include "base/clock.h"
#include "base/date.h"
#include "fs/passthrough.h"

#include <string.h>

static void put(json_t *o, const char *name, uint64_t v)
{
    json_object_set_new(o, name, json_integer((json_int_t)v));
}

json_t *report_text(const char *s)
{
    json_t *j = json_string(s ? s : "");
    if (j)
        return j;
    char *copy = xstrdup(s);
    for (char *p = copy; *p; p++) {
        if ((unsigned char)*p >= 0x80)
            *p = '?';
    }
    j = json_string(copy);
    free(copy);
    return j;
}

static json_t *usage(struct fs *fs, const char *key)
{
    struct cache_usage u;
    cache_get_usage(fs->cache, key, &u);
    json_t *o = json_object();
    double mb = (double)(u.bytes + u.dirty_bytes) / 1048576.0;
    json_object_set_new(o, "size_mb", json_real((double)(int64_t)(mb * 1000 + 0.5) / 1000));
    put(o, "file_count", u.files);
    put(o, "bytes", u.bytes);
    put(o, "dirty_bytes", u.dirty_bytes);
    put(o, "blocks", u.blocks);
    put(o, "hits", u.hits);
    put(o, "misses", u.misses);
    put(o, "evictions", u.evictions);
    put(o, "corrupt", u.corrupt);
    put(o, "pinned_bytes", u.pinned_bytes);
    put(o, "memory_bytes", u.memory);
    put(o, "memory_limit", u.memory_limit);
    return o;
}

json_t *report_cache_stats(struct fs *fs, const char *key)
{
    json_t *o = usage(fs, key);
    put(o, "max_size", fs->settings.cache.max_size);
    if (key)
        return o;
    json_t *all = json_object();
    CLEANUP_KEYS struct fs_keys keys = fs_keys_get(fs);
    for (size_t n = 0; n < keys.n; n++) {
        if (!keys.v[n]->control)
            json_object_set_new(all, keys.v[n]->name, usage(fs, keys.v[n]->name));
    }
    json_object_set_new(o, "keys", all);
    return o;
}

/* {"since":..,"reason":..,"errno":..,"probes":..,"next_probe_s":..}; NULL while the store answers. */
static json_t *outage(struct store *s)
{
    struct store_outage out;
    char when[32];
    if (!store_outage(s, &out))
        return NULL;
    json_t *o = json_object();
    date_format_iso(out.since, when);
    json_object_set_new(o, "since", json_string(when));
    json_object_set_new(o, "reason", report_text(out.text));
    put(o, "errno", (uint64_t)out.code);
    put(o, "probes", out.probes);
    json_object_set_new(o, "next_probe_s", json_real((double)out.next_probe_ms / 1000));
    return o;
}

static json_t *key_health(const struct fs_key *k)
{
    json_t *o = json_object();
    if (!k->volume) {
        json_object_set_new(o, "state", json_string("failed"));
        json_object_set_new(o, "error", report_text(k->error));
        return o;
    }
    struct store_health h = {0};
    (void)store_health(volume_store(k->volume), &h);
    json_t *down = outage(volume_store(k->volume));
    json_object_set_new(o, "state",
                        json_string(down ? "down" : h.errors_in_row ? "failing" : "ok"));
    if (down)
        json_object_set_new(o, "outage", down);
    json_object_set_new(o, "base_uri", report_text(volume_store(k->volume)->base_uri));
    put(o, "errors_in_row", h.errors_in_row);
    if (h.code) {
        char when[32];
        date_format_iso(h.last_error, when);
        json_object_set_new(o, "last_error", report_text(h.text));
        json_object_set_new(o, "last_error_op", report_text(h.op));
        json_object_set_new(o, "last_error_time", json_string(when));
    }
    return o;
}

json_t *report_health(struct fs *fs)
{
    json_t *o = json_object();
    json_t *all = json_object();
    bool ok = true;
    CLEANUP_KEYS struct fs_keys keys = fs_keys_get(fs);
    for (size_t n = 0; n < keys.n; n++) {
        if (keys.v[n]->control)
            continue;
        json_t *h = key_health(keys.v[n]);
        if (strcmp(json_string_value(json_object_get(h, "state")), "ok") != 0)
            ok = false;
        json_object_set_new(all, keys.v[n]->name, h);
    }
    json_object_set_new(o, "ok", json_boolean(ok));
    const char *why_not = "";
    json_object_set_new(o, "passthrough",
                        json_boolean(passthrough_is_on(fs->passthrough, &why_not)));
    if (why_not[0])
        json_object_set_new(o, "passthrough_reason", json_string(why_not));
    json_object_set_new(o, "splice", json_boolean(atomic_load(&fs->splice)));
    json_object_set_new(o, "keys", all);
    return o;
}

json_t *report_renames(struct fs *fs)
{
    json_t *out = json_array();
    CLEANUP_KEYS struct fs_keys keys = fs_keys_get(fs);
    for (size_t n = 0; n < keys.n; n++) {
        struct volume_rename_info *list = NULL;
        size_t count = keys.v[n]->volume ? volume_renames(keys.v[n]->volume, &list) : 0;
        for (size_t i = 0; i < count; i++) {
            char since[32];
            date_format_iso(list[i].since, since);
            json_array_append_new(
                out, json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:s}", "key", keys.v[n]->name, "from",
                               list[i].from, "to", list[i].to, "phase", list[i].phase, "done",
                               (json_int_t)list[i].done, "total", (json_int_t)list[i].total, "since",
                               since));
        }
        volume_renames_free(list, count);
    }
    return out;
}

json_t *report_staged(struct fs *fs)
{
    json_t *all = json_array();
    CLEANUP_KEYS struct fs_keys keys = fs_keys_get(fs);
    for (size_t n = 0; n < keys.n; n++) {
        struct staged_info *list = NULL;
        size_t count = 0;
        if (!keys.v[n]->volume || volume_staged(keys.v[n]->volume, &list, &count) < 0)
            continue;
        for (size_t i = 0; i < count; i++) {
            char when[32];
            json_t *o = json_object();
            date_format_iso(list[i].since, when);
            json_object_set_new(o, "key", report_text(list[i].key));
            json_object_set_new(o, "path", report_text(list[i].path));
            put(o, "bytes", list[i].bytes);
            put(o, "attempts", list[i].attempts);
            json_object_set_new(o, "last_error", report_text(list[i].last_error));
            json_object_set_new(o, "since", json_string(when));
            json_array_append_new(all, o);
        }
        staged_list_free(list, count);
    }
    return all;
}

json_t *report_keys(struct fs *fs)
{
    json_t *all = json_array();
    CLEANUP_KEYS struct fs_keys keys = fs_keys_get(fs);
    for (size_t n = 0; n < keys.n; n++) {
        const struct fs_key *k = keys.v[n];
        if (k->control)
            continue;
        json_t *o = json_object();
        json_object_set_new(o, "name", report_text(k->name));
        json_object_set_new(o, "backend", report_text(k->backend));
        json_object_set_new(o, "base_uri",
                            report_text(k->volume ? volume_store(k->volume)->base_uri : ""));
        json_object_update_missing_new(o, key_health(k));
        json_array_append_new(all, o);
    }
    return all;
}

json_t *report_status(struct fs *fs)
{
    char when[32];
    json_t *o = json_object();
    date_format_iso(fs->started, when);
    json_object_set_new(o, "version", json_string(QUAY_VERSION));
    put(o, "pid", (uint64_t)getpid());
    json_object_set_new(o, "mountpoint", report_text(fs->mountpoint));
    json_object_set_new(o, "config", report_text(fs->config_path));
    json_object_set_new(o, "cache_dir", report_text(cache_dir(fs->cache)));
    json_object_set_new(o, "started", json_string(when));
    put(o, "inodes", inode_count(fs->inodes));
    json_object_set_new(o, "keys", report_keys(fs));
    json_object_set_new(o, "staged", report_staged(fs));
    json_object_set_new(o, "renames", report_renames(fs));
    return o;
}
