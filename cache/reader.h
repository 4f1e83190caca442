/* SPDX-License-Identifier: MIT
 * reader.h: reads of one object version through the cache, with read-ahead. One reader per open file.
 *
 * A read never waits in the caller's thread: reader_read() answers at once when all bytes are present
 * (memory or disk), else it registers the call, starts or joins the fetches that are missing, and the
 * thread that completes the last one runs call->done.
 *
 *     call->offset, call->length, call->done = ...; reader_read(r, call);
 *     done(call): call->error (0 or -errno), call->pieces[0..n_pieces): memory or descriptor ranges,
 *                 valid until done returns.
 * Streams: sequential readers are recognised per reader (several at once, tolerant of reordering within
 * 1 MiB); a window of aligned range GETs (up to limits.concurrency, part-sized) runs ahead of each,
 * doubling with success up to the budget's share, dropped when the stream ends. A random read fetches
 * exactly the aligned (4 KiB) range that was asked. The same range is never fetched twice at once.
 * Every fetch carries the version: a changed object makes this and every later read -ESTALE (sticky).
 * Threads: reader_read from any thread; reader_close waits for calls in flight (cancels fetches that
 * nobody else needs).
 * Errors: those of store_read; a failed fetch fails the calls that waited for it and is forgotten, so
 * the next read tries again. */
#ifndef QUAY_CACHE_READER_H
#define QUAY_CACHE_READER_H

#include "backends/store.h"
#include "base/pool.h"
#include "cache/cache.h"

struct reader;

#define READER_WHOLE_MAX (256u << 10) /* bytes: an object this small is fetched whole */

struct read_piece {
    const void *mem; /* or NULL: */
    int fd;
    uint64_t fd_offset;
    size_t length;
};

struct read_call {
    uint64_t offset;
    size_t length;     /* clipped to the object's size by the reader */
    uint64_t stop;     /* the caller reads on up to here and no further: nor does read-ahead; 0: nobody knows */
    void (*done)(struct read_call *call);
    struct err err;    /* text, when error != 0 */
    int error;
    struct read_piece *pieces;
    size_t n_pieces;
    size_t total;      /* bytes in pieces: less than length only at the end of the object */
    void *priv;        /* the reader's */
    atomic_bool cancelled; /* likewise */
};

/* `store`, `pool`, `object` are borrowed resp. referenced until reader_close. `path` is the object key
 * in the store. */
struct reader *reader_open(struct cache *c, struct cache_object *object, struct store *store,
                           struct pool *pool, const char *path, unsigned timeout_ms);
/* Bytes [0, len) of the version came with the answer about its attributes: they are given to the first
 * read, and kept on disk. Takes `buf`, which is of cache_buffer_get(c, size). */
void reader_give(struct reader *r, void *buf, size_t size, size_t len);
void reader_read(struct reader *r, struct read_call *call);
/* From any thread: a call that waits ends with -EINTR (in this thread or another), one that is still to be
 * begun as soon as it would wait; a fetch that nobody else needs is given up. The caller sees to it that
 * neither call nor reader goes away meanwhile. */
void reader_cancel(struct reader *r, struct read_call *call);
/* Blocking form for workers; returns bytes or -errno. `op` (NULL: none) may be cancelled. */
ssize_t reader_pread(struct reader *r, struct op *op, uint64_t off, void *buf, size_t len,
                     uint64_t stop, struct err *err);
void reader_close(struct reader *r);
/* No call is in flight: when none can begin any more, reader_close will not wait. */
bool reader_is_idle(struct reader *r);

#endif
