/* SPDX-License-Identifier: MIT
 * commit_plan.h: how staged changes get into the store: the decision alone, pure.
 *
 *   PATCH   the store writes ranges in place: only what has changed goes (not when all has: then a put is
 *           as cheap, and atomic)
 *   PUT     small: one request; base bytes that are not staged are filled in before
 *   UPLOAD  large: parts; runs of untouched base bytes are copied within the store where they are long
 *           enough, what lies between is filled in
 * Ownership: commit_plan_done(). */
#ifndef QUAY_CACHE_COMMIT_PLAN_H
#define QUAY_CACHE_COMMIT_PLAN_H

#include "backends/store.h"
#include "cache/ranges.h"

struct plan_input {
    uint32_t caps;
    const struct store_limits *limits;
    uint64_t size;               /* of the new content */
    bool has_base;               /* an older version is at the store */
    bool copied;                 /* the base is another file: what is copied saves its transfer whatever the size */
    uint64_t base_size;
    uint64_t base_len;           /* of it, what is still content; behind it unstaged bytes are 0 */
    const struct ranges *staged;
};

enum plan_kind { PLAN_PUT = 1, PLAN_PATCH, PLAN_UPLOAD };

struct plan_part {
    uint64_t off, len;
    bool copy; /* from the base, at the same offset */
};

struct commit_plan {
    enum plan_kind kind;
    struct plan_part *parts;     /* UPLOAD: in order, without gaps */
    size_t n_parts;
    struct patch_range *ranges;  /* PATCH */
    size_t n_ranges;
    struct ranges fill;          /* base bytes to be read into the stage file first */
};

#define COMMIT_PLAN_INIT ((struct commit_plan){0})

/* -EFBIG: larger than the store takes. */
int commit_plan_make(const struct plan_input *in, struct commit_plan *ret);
void commit_plan_done(struct commit_plan *p);

#endif
