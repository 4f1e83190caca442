/* SPDX-License-Identifier: MIT
 * ranges.h: a sorted set of byte ranges [off, end), merged where they touch: what is staged of a file.
 *
 *     struct ranges e = RANGES_INIT;
 *     ranges_add(&e, 0, 10); ranges_add(&e, 10, 20);       // one range [0, 20)
 *     in = ranges_run(&e, pos, limit, &end);                // [pos, end) is wholly in or wholly out
 *     ranges_done(&e);
 * Pure data, no I/O. Threads: caller locks. Empty ranges (off >= end) are no-ops. */
#ifndef QUAY_CACHE_RANGES_H
#define QUAY_CACHE_RANGES_H

#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct range {
    uint64_t off, end;
};

struct ranges {
    struct range *v; /* sorted; v[i].end < v[i + 1].off */
    size_t n, cap;
    uint64_t bytes;   /* sum of the lengths */
};

#define RANGES_INIT ((struct ranges){0})

void ranges_done(struct ranges *e);
void ranges_copy(struct ranges *to /* empty */, const struct ranges *from);
void ranges_add(struct ranges *e, uint64_t off, uint64_t end);
void ranges_remove(struct ranges *e, uint64_t off, uint64_t end);
/* Bytes of [off, end) that are in the set. */
uint64_t ranges_overlap(const struct ranges *e, uint64_t off, uint64_t end);
bool ranges_has(const struct ranges *e, uint64_t off, uint64_t end); /* all of it; empty: true */
/* Is `pos` in the set? *ret_end (> pos) is where that changes, at most `limit`. pos < limit. */
bool ranges_run(const struct ranges *e, uint64_t pos, uint64_t limit, uint64_t *ret_end);
/* "0-10,4096-8192": how the journal keeps them. */
void ranges_format(const struct ranges *e, struct buf *b);
bool ranges_parse(const char *text, struct ranges *ret /* empty; stays so on false */);

#endif
