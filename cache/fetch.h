/* SPDX-License-Identifier: MIT
 * fetch.h: ranges of one object version on their way from the store into memory and to disk.
 *
 * A fetcher belongs to a cache_object and is shared by its readers: it is the single-flight table.
 * A part is one GET: a range, its buffer, how much of it has arrived. QUEUED   waits for a worker;
 * no buffer yet RUNNING  a worker reads it; bytes [0, filled) are valid and may be given to readers
 *     DONE     all there; stays in the table until it is on disk and was read (`retain`), or room
 * is needed DEAD     failed, cancelled or not wanted any more: out of the table A part is freed
 * with its last reference: table, jobs, write-behind, segments of calls.
 *
 * Everything named _locked needs fetcher->lock (rank READER), changes memory only and notes effects
 * in a struct fetch_work, which fetch_work_run() carries out without the lock: start jobs, hand
 * buffers back, finish calls. */
#ifndef QUAY_CACHE_FETCH_H
#define QUAY_CACHE_FETCH_H

#include "backends/store.h"
#include "base/lock.h"
#include "base/pool.h"
#include "cache/cache.h"

/* Where a reader's bytes come from; each part holds a reference, store and pool are borrowed: they
 * must outlive the pool's jobs. One per reader, so it also tells whose part it is. */
struct fetch_source {
    atomic_uint refs;
    struct store *store;
    struct pool *pool;
    unsigned timeout_ms;
    char path[];
};
struct fetch_source *fetch_source_new(struct store *store, struct pool *pool, unsigned timeout_ms,
                                      const char *path);
struct fetch_source *fetch_source_ref(struct fetch_source *s);
void fetch_source_unref(struct fetch_source *s);

struct fetch_part;

struct fetch_job {
    struct pool_job job;
    struct fetch_part *part;
};

struct fetch_call;

/* A range of a call: bytes of a part, or on disk (part NULL). */
struct fetch_seg {
    struct fetch_part *part;
    struct fetch_call *call;
    struct fetch_seg *next;      /* of the call, by rising offset */
    struct fetch_seg *next_part; /* of the part */
    uint64_t off;
    size_t len;
    bool waiting; /* not yet arrived */
};

/* A read that is made of segments; embedded in the reader's own struct. */
struct fetch_call {
    void (*ready)(struct fetch_call *call); /* run without locks when nothing is awaited any more */
    struct fetch_seg *segs, *last;
    struct fetch_seg first; /* most calls need no other */
    size_t pending;
    bool waited; /* it, or the open, had to wait for the store */
    bool again;  /* a part was taken away for lack of memory: plan anew */
    int error;
    struct err err;
    struct fetch_call *next; /* in fetch_work */
};

enum part_state { PART_QUEUED = 1, PART_RUNNING, PART_DONE, PART_DEAD };

struct fetch_part {
    struct fetcher *f;
    struct fetch_source *src;
    uint64_t off;
    size_t len;
    char *buf;
    atomic_size_t filled;  /* by the worker; valid bytes */
    atomic_size_t wake_at; /* by who holds the lock: the worker takes it once so much has arrived */
    struct op op;
    struct fetch_job normal, urgent;
    struct pool_job disk;
    struct fetch_part *next_submit, *next_hurry, *next_disk, *next_dead;
    enum part_state state; /* from here on under f->lock */
    unsigned refs;
    bool in_table, retain;
    bool background, hurried; /* nobody waited when it was queued; now somebody does */
    bool given;               /* not fetched for a read: the open has waited for it */
    bool disk_queued, disk_running;
    size_t written, consumed;
    struct fetch_seg *segs;
};

/* A buffer on its way back to the budget; lies in the buffer itself. */
struct fetch_freed {
    struct fetch_freed *next;
    struct budget *budget;
    size_t len;
};

struct fetch_work {
    struct fetch_freed *freed;
    struct fetch_part *submit, *hurry, *disk, *dead;
    struct fetch_call *ready;
};
#define FETCH_WORK_INIT ((struct fetch_work){0})

struct fetcher {
    struct cache *cache;
    struct cache_object *object;
    uint64_t size, seq;
    bool keep;
    unsigned refs;        /* under cache->lock; readers and parts */
    struct fetcher *next; /* in cache->s.fetchers, under cache->lock */
    struct lock lock;
    struct fetch_part **parts; /* by rising offset, disjoint */
    size_t n, cap;
    unsigned flying; /* QUEUED or RUNNING in the table */
    unsigned readers;
    bool stale;
    struct err stale_err;
    char version[ATTR_VERSION_MAX]; /* the object's, or what the first reply told */
};

struct fetcher *fetcher_get(struct cache_object *o);
void fetcher_put(struct fetcher *f);

/* How to fetch what is missing. */
struct fetch_how {
    struct fetch_source *src;
    uint64_t part;    /* size of a stream's GETs; 0: exactly the range, in pages */
    uint64_t stop;    /* nothing is wanted from here on, but for the rest of the page; 0: nobody knows */
    bool whole;       /* a small object: all of it */
    bool ignore_disk; /* reading it from disk has failed */
};

/* Makes the segments of [off, off + len), starting what is missing. pending == 0: all is present.
 */
void fetch_plan_locked(struct fetcher *f, struct fetch_call *call, const struct fetch_how *how,
                       uint64_t off, uint64_t len, struct fetch_work *w);
/* Fetches ahead; returns how far it got (limits: `flying_max`, memory). */
uint64_t fetch_ahead_locked(struct fetcher *f, const struct fetch_how *how, uint64_t from,
                            uint64_t to, unsigned flying_max, struct fetch_work *w);
/* Takes bytes [0, len) of this version that are here already, in a buffer of the budget of (about) that
 * size: as if they had been fetched ahead. false: some of them are on their way; the buffer is not taken.
 */
bool fetch_give_locked(struct fetcher *f, struct fetch_source *src, void *buf, size_t len,
                       struct fetch_work *w);
/* Gives up what `src` fetched ahead in a range and nobody waits for. */
void fetch_cancel_locked(struct fetcher *f, const struct fetch_source *src, uint64_t from,
                         uint64_t to, struct fetch_work *w);
/* Lets go of a call's segments, read (`consumed`) or not. */
void fetch_release_locked(struct fetcher *f, struct fetch_call *call, bool consumed,
                          struct fetch_work *w);
/* Ends a waiting call with -EINTR; what `src` fetches for it and nobody else waits for is given up. */
void fetch_abandon_locked(struct fetcher *f, struct fetch_call *call,
                          const struct fetch_source *src, struct fetch_work *w);
void fetch_work_run(struct fetch_work *w);

#endif
