/* SPDX-License-Identifier: MIT
 * sent_patch.c: see sent_patch.h. */
#include "cache/sent_patch.h"

#include "base/cleanup.h"
#include "base/crypto.h"
#include "base/sys.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* What it has grown by ends at `there`. */
static struct range tail_of(const struct sent_patch *p, uint64_t there)
{
    uint64_t grown = there > p->base_size ? min_u64(there - p->base_size, SENT_PROOF) : 0;
    return (struct range){there - grown, there};
}

static int sum(int fd, struct range r, uint32_t *ret)
{
    char bytes[SENT_PROOF] = ""; /* behind the file's end there are zeros */
    ssize_t got = sys_pread(fd, bytes, (size_t)(r.end - r.off), r.off);
    *ret = crc32c(0, bytes, (size_t)(r.end - r.off));
    return got < 0 ? (int)got : 0;
}

int sent_patch_of(const struct patch_req *req, uint64_t base_size, int fd, struct sent_patch *ret)
{
    struct sent_patch p = {.base_size = base_size, .size = req->new_size};
    if (req->n_ranges) {
        uint64_t off = req->ranges[0].offset;
        p.head = (struct range){off, off + min_u64(req->ranges[0].length, SENT_PROOF)};
    }
    int r = sum(fd, p.head, &p.head_crc);
    if (r == 0)
        r = sum(fd, tail_of(&p, p.size), &p.tail_crc);
    *ret = p;
    return r;
}

bool sent_patch_can_leave(const struct sent_patch *p, uint64_t there, struct range *ret_tail)
{
    *ret_tail = tail_of(p, there);
    if (there == p->size)
        return true;
    return p->head.end && (there == p->base_size || (there > p->base_size && there < p->size));
}

static bool is_same(const struct sent_patch *a, const struct sent_patch *b)
{
    return a->base_size == b->base_size && a->size == b->size && a->head.off == b->head.off &&
           a->head.end == b->head.end && a->head_crc == b->head_crc && a->tail_crc == b->tail_crc;
}

bool sent_patches_add(struct sent_patches *s, const struct sent_patch *p)
{
    for (size_t i = 0; i < s->n; i++)
        if (is_same(&s->v[i], p))
            return false;
    if (s->n == SENT_MAX)
        memmove(s->v, s->v + 1, --s->n * sizeof(s->v[0]));
    s->v[s->n++] = *p;
    return true;
}

/* ---- in the journal ---- */

char *sent_patches_format(const struct sent_patches *s)
{
    CLEANUP_BUF struct buf b = BUF_INIT;
    for (size_t i = 0; i < s->n; i++) {
        const struct sent_patch *p = &s->v[i];
        buf_addf(&b, "%" PRIu64 " %" PRIu64 " %" PRIu64 "-%" PRIu64 " %08" PRIx32 " %08" PRIx32 "\n", p->base_size, p->size,
                 p->head.off, p->head.end, p->head_crc, p->tail_crc);
    }
    return s->n ? buf_take(&b) : NULL;
}

void sent_patches_parse(const char *text, struct sent_patches *ret)
{
    *ret = SENT_PATCHES_INIT;
    for (int at = 0; text && *text; text += at) {
        struct sent_patch p = {0};
        at = 0;
        if (sscanf(text, "%" SCNu64 " %" SCNu64 " %" SCNu64 "-%" SCNu64 " %" SCNx32 " %" SCNx32 "\n%n", &p.base_size,
                   &p.size, &p.head.off, &p.head.end, &p.head_crc, &p.tail_crc, &at) != 6 ||
            !at || p.head.end < p.head.off || p.head.end - p.head.off > SENT_PROOF)
            return;
        (void)sent_patches_add(ret, &p);
    }
}
