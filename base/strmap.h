/* SPDX-License-Identifier: MIT
 * strmap.h: hash map from strings (byte strings without NUL) to pointers.
 *
 * Keys are copied; values are borrowed and belong to the caller. Threads: caller locks.
 *     struct strmap m = STRMAP_INIT;
 *     old = strmap_put(&m, "a", v);  v = strmap_get(&m, "a");  old = strmap_del(&m, "a");
 *     STRMAP_EACH(&m, it) use(it->key, it->value);      // no put/del inside
 *     strmap_done(&m);
 * The hash is seeded per process, so remote names cannot build collisions. */
#ifndef QUAY_BASE_STRMAP_H
#define QUAY_BASE_STRMAP_H

#include <stddef.h>
#include <stdint.h>

struct strmap_item {
    char *key;
    void *value;
    struct strmap_item *next; /* in its bucket */
    uint64_t hash;
};

struct strmap {
    struct strmap_item **buckets;
    size_t n_buckets; /* a power of two, or 0 */
    size_t count;
};

#define STRMAP_INIT ((struct strmap){0})

void *strmap_get(const struct strmap *m, const char *key);             /* NULL: not there */
void *strmap_put(struct strmap *m, const char *key, void *value);      /* the old value or NULL */
void *strmap_del(struct strmap *m, const char *key);                   /* the old value or NULL */
void strmap_done(struct strmap *m);
struct strmap_item *strmap_next(const struct strmap *m, const struct strmap_item *it);

#define STRMAP_EACH(m, it)                                                                         \
    for (struct strmap_item *it = strmap_next((m), NULL); it; it = strmap_next((m), it))

uint64_t hash_bytes(const void *data, size_t len); /* seeded per process; not for disk */

#endif
