/* SPDX-License-Identifier: MIT
 * extent.h: which bytes of one block are present, with their checksums. Pure.
 *
 * A set holds disjoint ranges in rising order; offsets are relative to the block. Ranges that touch
 * are joined where their state is the same: the CRC of the whole follows from those of the halves.
 * Memory: one range needs no allocation. extents_done() frees. Threads: the caller locks. */
#ifndef QUAY_CACHE_EXTENT_H
#define QUAY_CACHE_EXTENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum extent_flags {
    EXTENT_VERIFIED = 1, /* written by this process, or its CRC was checked since the start */
    EXTENT_NO_CRC = 2    /* adopted: crc is not known yet, so there is no row */
};

struct extent {
    uint32_t off, len, crc;
    uint32_t flags;
};

struct extent_set {
    uint32_t n, cap; /* cap 0: the range is in `one` */
    struct extent one;
    struct extent *many;
};

void extents_done(struct extent_set *s);
const struct extent *extents_array(const struct extent_set *s);
uint32_t extents_bytes(const struct extent_set *s);
/* The range that contains `off`, or NULL. */
struct extent *extents_at(struct extent_set *s, uint32_t off);
/* How many bytes are present (resp. missing, at most `max`) from `off` on, without a break. */
uint32_t extents_run(const struct extent_set *s, uint32_t off);
uint32_t extents_gap(const struct extent_set *s, uint32_t off, uint32_t max);
/* Cuts what is present off both ends of a range; false when nothing is left. */
bool extents_trim(const struct extent_set *s, uint32_t *off, uint32_t *len);
/* Adds a range; ranges wholly inside it are replaced. false (nothing done) when it overlaps one in
 * part. *ret: the range it has become part of. */
bool extents_add(struct extent_set *s, struct extent e, struct extent *ret);
/* Removes the range that is exactly off, len. */
bool extents_remove(struct extent_set *s, uint32_t off, uint32_t len);

/* CRC-32C of A followed by B, from theirs and B's length. */
uint32_t crc32c_join(uint32_t crc_a, uint32_t crc_b, uint64_t len_b);

#endif
