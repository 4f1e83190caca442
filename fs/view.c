/* SPDX-License-Identifier: MIT
 * view.c: the files of .quay/: see view.h. */
#include "fs/view.h"

#include "base/date.h"
#include "fs/fs.h"
#include "fs/report.h"

#include <string.h>

static void keys(struct fs *fs, struct buf *b)
{
    CLEANUP_KEYS struct fs_keys all = fs_keys_get(fs);
    for (size_t n = 0; n < all.n; n++) {
        if (!all.v[n]->control)
            buf_addf(b, "%s\n", all.v[n]->name);
    }
}

static void active(struct fs *fs, struct buf *b)
{
    CLEANUP_KEYS struct fs_keys all = fs_keys_get(fs);
    for (size_t n = 0; n < all.n; n++) {
        const struct fs_key *k = all.v[n];
        if (!k->control)
            buf_addf(b, "%s: %s\n", k->name,
                     k->volume ? volume_store(k->volume)->base_uri : "(not available)");
    }
}

static void backends(struct fs *fs, struct buf *b)
{
    (void)fs;
    for (const struct store_class *const *c = registry_classes(); *c; c++)
        buf_addf(b, "%s\n", (*c)->name);
}

static void add_json(struct buf *b, json_t *j)
{
    char *text = json_dumps(j, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
    buf_adds(b, text ? text : "{}");
    buf_addc(b, '\n');
    free(text);
    json_decref(j);
}

static void stats_json(struct fs *fs, struct buf *b)
{
    add_json(b, report_cache_stats(fs, NULL));
}

static void health(struct fs *fs, struct buf *b)
{
    add_json(b, report_health(fs));
}

static void staged(struct fs *fs, struct buf *b)
{
    add_json(b, report_staged(fs));
}

static void metrics(struct fs *fs, struct buf *b)
{
    stats_render(fs->stats, b);
}

static void recent_log(struct fs *fs, struct buf *b)
{
    (void)fs;
    char *text = log_recent();
    buf_adds(b, text ? text : "");
    free(text);
}

static const struct {
    const char *name;
    void (*render)(struct fs *fs, struct buf *b);
} views[] = {
    {"keys", keys},       {"active", active},   {"backends", backends}, {"stats.json", stats_json},
    {"metrics", metrics}, {"health.json", health}, {"staged.json", staged}, {"log", recent_log},
};

size_t view_count(void)
{
    return ARRAY_LEN(views);
}

const char *view_name(size_t i)
{
    return views[i].name;
}

int view_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(views); i++) {
        if (strcmp(views[i].name, name) == 0)
            return (int)i;
    }
    return -1;
}

void view_render(struct fs *fs, int view, struct buf *b)
{
    views[view].render(fs, b);
}
