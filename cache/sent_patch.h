/* SPDX-License-Identifier: MIT
 * sent_patch.h: patches of a file of which nobody knows how far they came (the connection was lost, the process killed).
 *
 * A store that writes in place leaves a version of its own when it is cut off in the middle. It is ours if it begins as the
 * patch did, and has a size that this can have left. Who replaces the whole file writes other bytes there; who has changed it
 * elsewhere meanwhile keeps that. What was sent is known by checksums: the program may have changed what is staged since.
 *
 *     struct sent_patches before = n->sent;
 *     sent_patch_of(&req, base_size, fd, &p); sent_patches_add(&n->sent, &p);  // before it is sent; into the journal, too
 *     ...                                     // never begun: n->sent = before; all that is there is known: SENT_PATCHES_INIT
 * Pure data but for sent_patch_of, which reads the stage file. Threads: caller locks. */
#ifndef QUAY_CACHE_SENT_PATCH_H
#define QUAY_CACHE_SENT_PATCH_H

#include "backends/store.h"
#include "cache/ranges.h"

#define SENT_PROOF 4096
#define SENT_MAX 4 /* the oldest is forgotten */

struct sent_patch {
    uint64_t base_size, size; /* of the object, before and after */
    struct range head;        /* the beginning of the first range, SENT_PROOF bytes at most; or empty */
    uint32_t head_crc, tail_crc;
};

struct sent_patches {
    struct sent_patch v[SENT_MAX];
    size_t n;
};

#define SENT_PATCHES_INIT ((struct sent_patches){.n = 0})

/* The request as it is read from `fd` now. */
int sent_patch_of(const struct patch_req *req, uint64_t base_size, int fd, struct sent_patch *ret);

/* Can it have left a file of `there` bytes? It writes its ranges in their order, and sets the size last. Such a file has
 * `head`, and in *ret_tail (SENT_PROOF bytes at most; or empty) the end of what it has grown by. */
bool sent_patch_can_leave(const struct sent_patch *p, uint64_t there, struct range *ret_tail);

/* false: one like that is known. */
bool sent_patches_add(struct sent_patches *s, const struct sent_patch *p);

/* For the journal: malloc'd, NULL when there are none. A text that is none gives none. */
char *sent_patches_format(const struct sent_patches *s);
void sent_patches_parse(const char *text, struct sent_patches *ret);

#endif
