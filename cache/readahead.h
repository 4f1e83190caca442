/* SPDX-License-Identifier: MIT
 * readahead.h: is a read part of a sequential stream, and how far to fetch ahead of it. Pure
 * decision.
 *
 *     struct readahead ra; readahead_init(&ra, block_size, max_part, max_window);
 *     struct readahead_plan p = readahead_note(&ra, offset, length, object_size);
 *     if (p.dropped) cancel what was fetched ahead in [p.drop_from, p.drop_to);
 *     if (p.stream) fetch [p.from, p.to) in GETs of p.part bytes; readahead_issued(&ra, &p, upto);
 *     else fetch exactly the range asked.
 * Up to READAHEAD_STREAMS streams at once. A read within REORDER bytes of where a confirmed stream is
 * expected to go on belongs to it: the kernel sends requests of one stream in any order. A stream is
 * confirmed by reads that follow each other closely; one that starts at 0 gets a first small window on
 * credit, a larger one when the read is large. A window doubles whenever a quarter of it was read, so that
 * it is wide after three round trips to a far store. It shrinks when the caller could not start half of it
 * (memory is short), and streams that end with more fetched than read leave less trust to the next ones
 * (`trust` bounds their windows, until one has read twice that much).
 * Threads: the caller locks. */
#ifndef QUAY_CACHE_READAHEAD_H
#define QUAY_CACHE_READAHEAD_H

#include <stdbool.h>
#include <stdint.h>

#define READAHEAD_STREAMS 4
#define READAHEAD_REORDER (1u << 20)

struct readahead_stream {
    uint64_t next;     /* where it is expected to go on; the stream is in use when tick != 0 */
    uint64_t ahead;    /* fetched, or being fetched, up to here */
    uint64_t window;   /* bytes to keep ahead of next */
    uint64_t progress; /* bytes read since the window last grew */
    uint64_t bytes;    /* read in all */
    uint64_t tick;     /* of the last read */
    unsigned hits;     /* reads that continued it */
    bool confirmed;
};

struct readahead {
    struct readahead_stream streams[READAHEAD_STREAMS];
    uint64_t tick, block_size, start, max_part, max_window;
    uint64_t trust; /* windows grow up to here */
};

struct readahead_plan {
    bool stream;
    unsigned slot;
    uint64_t from, to; /* to be fetched ahead; empty when from == to */
    uint64_t part;     /* size of one GET, also for what is missing of the read itself */
    bool dropped;      /* a stream has made room for this one */
    uint64_t drop_from, drop_to;
};

void readahead_init(struct readahead *ra, uint64_t block_size, uint64_t max_part,
                    uint64_t max_window);
struct readahead_plan readahead_note(struct readahead *ra, uint64_t off, uint64_t len,
                                     uint64_t size);
/* The fetches up to `upto` are under way (a caller that may not start all says how far it got). */
void readahead_issued(struct readahead *ra, const struct readahead_plan *p, uint64_t upto);

#endif
