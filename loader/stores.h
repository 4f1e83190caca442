/* SPDX-License-Identifier: MIT
 * stores.h: the stores that jobs name, opened when first needed and kept.
 *
 *     st = stores_new(conf, settings, stats);
 *     r = stores_locate(st, "lake/in/a-*.csv", &where, &err);     // or s3://bucket/in/a.csv
 *     ... where.store, where.key (in the store), where.path (KEY/key) ...
 *     location_done(&where);  stores_free(st);                  // after all users ended
 *
 * A path is KEY/object; without a known KEY in front, [quayfs] default_key serves it. A URI is served by
 * the key with the longest base_uri that contains it (deprecated: where.by_uri is set).
 * A key whose data lives in the memory of the quayfs daemon (CAP_PRIVATE) is reached through the mount:
 * [loader] mount, else what that daemon says, as a local store over MOUNT/KEY.
 * Threads: any. Errors: -EINVAL unknown key (with the nearest), -EHOSTUNREACH no mount for a memory key,
 * else what opening gives; a failed opening is tried again at the next use. */
#ifndef QUAY_LOADER_STORES_H
#define QUAY_LOADER_STORES_H

#include "backends/store.h"
#include "base/settings.h"

struct stores;

struct location {
    struct store *store; /* borrowed: lives as long as the stores */
    char *key;           /* object key or glob in the store, "" = its root */
    char *path;          /* KEY/key */
    bool by_uri;
};

struct stores *stores_new(const struct conf *conf, const struct settings *settings,
                          struct stats *stats);
void stores_free(struct stores *st);
int stores_locate(struct stores *st, const char *path, struct err *err, struct location *ret);
void location_done(struct location *l);

#endif
