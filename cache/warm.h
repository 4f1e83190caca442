/* SPDX-License-Identifier: MIT
 * warm.h: fetching files into the disk cache before anybody reads them.
 *
 *     struct tree what = {.path = "models"};
 *     struct warm w = {.trees = &what, .n_trees = 1, .event = on_event, .tick = on_tick, .arg = x};
 *     r = volume_warm(v, &op, &w);          // w.total tells what was done, also after a failure
 * Each version is fetched by ranges as large as the memory budget allows, at most limits.concurrency at
 * once, as background jobs of the key's pool, with buffers that nobody else wants just now: readers go
 * first. Only what is missing is fetched, every range with the version (If-Match); a file that has
 * changed meanwhile is looked up once more.
 * The cache's limit: what would push out what this run needs is left out and counted (no_room).
 * With `pin` the files are those of a pinned path (keeper.h): the room is that of pins, and other versions
 * of a file go when the current one is complete (before, if there is no room for both).
 * Errors: of the walk (of several trees: an event and total.failed_files), or -EINTR when tick() said stop
 * or op was cancelled; of single files: event() and total.failed_files. Files staged here are not touched. -ENOTSUP: nothing of this key is kept on disk.
 * Threads: any; event and tick are called from the thread that calls volume_warm. */
#ifndef QUAY_CACHE_WARM_H
#define QUAY_CACHE_WARM_H

#include "cache/tree.h"

struct warm_total {
    uint64_t files, bytes;           /* found */
    uint64_t cached_files;           /* whole before */
    uint64_t cached_bytes;           /* present before, of all files */
    uint64_t fetched_files, fetched_bytes;
    uint64_t staged_files;           /* written here and not stored yet */
    uint64_t no_room_files, no_room_bytes;
    uint64_t failed_files;
};

enum warm_what {
    WARM_FOUND = 1, /* dry run: to be fetched, but for `present` bytes */
    WARM_FETCHED,
    WARM_NO_ROOM,
    WARM_FAILED     /* err tells why */
};

struct warm_event {
    enum warm_what what;
    const char *path;
    uint64_t size, present;
    const struct err *err;
};

struct warm {
    const struct tree *trees;
    size_t n_trees;
    bool dry;  /* only look */
    bool pin;
    void (*event)(void *arg, const struct warm_event *e);                   /* NULL ok */
    bool (*tick)(void *arg, const struct warm_total *sum, bool counting); /* false: stop; NULL ok */
    void *arg;
    struct warm_total found; /* of the first pass: counted before anything is fetched */
    struct warm_total total;
};

/* The first pass alone: fills `found`. */
int volume_warm_count(struct volume *v, struct op *op, struct warm *w);
/* The second: fetches (or, dry, tells). */
int volume_warm_fetch(struct volume *v, struct op *op, struct warm *w);
/* Both. */
int volume_warm(struct volume *v, struct op *op, struct warm *w);

/* Fetches a range of this version again, after it turned out bad. */
int volume_refetch(struct volume *v, struct op *op, const struct cache_bad *bad);

#endif
