/* SPDX-License-Identifier: MIT
 * meta_warm.h: what the metadata cache of one key knew when the process ended, for the next one. Only meta.c
 * includes this.
 *
 * Saved by a process that ends well; taken (and removed, which is committed) by the next one before it answers
 * anything. So a process that is killed leaves nothing that the changes it has made could have outdated.
 * What was saved says how old it was. It goes on ageing meanwhile; where that cannot be told (another boot: a
 * power cut may have brought back what had been removed), or with `ageless`, listings have at_ns 0: they
 * answer nothing, but metadata of the same version may be taken from them; and entries are not given.
 * `identity` says what store that was: of another one nothing is given.
 * Tables of index.db: meta_warm_at(key, identity, boot, mono, wall), meta_warm(key, kind, path, age, crc, body).
 * Threads: the calls wait for the index thread, on which the callbacks run. */
#ifndef QUAY_CACHE_META_WARM_H
#define QUAY_CACHE_META_WARM_H

#include "cache/meta.h"

#include <time.h>

struct warm_entry {
    const char *path;
    bool dir, absent;
    uint64_t at_ns;
    time_t listed;
    const struct attr *attr;
};

struct warm_source {
    const struct strmap *listings;
    /* The next entry, oldest first; false: there is none. */
    bool (*next)(void *arg, struct warm_entry *ret);
    /* A row of a listing without ATTR_META: what is known of it. */
    void (*complete)(void *arg, const char *dir, const struct listing *l, size_t row, struct attr *a);
    void *arg;
};

struct warm_sink {
    void (*listing)(void *arg, const char *dir, struct listing *l /* taken */);
    void (*entry)(void *arg, const struct warm_entry *e);
    void *arg;
};

void meta_warm_save(struct cache_index *idx, const char *key, const char *identity,
                    const struct warm_source *from);
int meta_warm_take(struct cache_index *idx, const char *key, const char *identity, bool ageless,
                   const struct warm_sink *to, struct err *err);

#endif
