/* SPDX-License-Identifier: MIT
 * window.h: a moving view on a byte stream: the bytes from the start of the current row up to what
 * was read so far lie contiguous in memory.
 *
 *     struct window w; window_init(&w, feed, 1 << 20);
 *     r = window_more(&w, op);            // 1: more bytes, 0: the end, -errno
 *     use(window_at(&w), window_len(&w)); window_skip(&w, n);
 * The view grows while nothing is skipped; the caller bounds it. Threads: one owner. */
#ifndef QUAY_LOADER_WINDOW_H
#define QUAY_LOADER_WINDOW_H

#include "base/op.h"

#include <stddef.h>
#include <stdint.h>

/* Where bytes come from. read gives 1..cap bytes, 0 bytes at the end; 0 or -errno with op->err. */
struct feed {
    int (*read)(struct feed *f, struct op *op, void *buf, size_t cap, size_t *ret_len);
};

struct window {
    struct feed *feed; /* borrowed; NULL: only what window_init_memory gave */
    char *data;
    size_t start, end, cap;
    size_t step;     /* bytes asked for at once */
    uint64_t offset; /* of data[start] in the stream */
    bool eof, borrowed;
};

void window_init(struct window *w, struct feed *feed, size_t step);
void window_init_memory(struct window *w, const void *data, size_t len); /* borrowed, read-only */
void window_done(struct window *w);
int window_more(struct window *w, struct op *op);

static inline char *window_at(const struct window *w)
{
    return w->data + w->start;
}
static inline size_t window_len(const struct window *w)
{
    return w->end - w->start;
}
static inline void window_skip(struct window *w, size_t n)
{
    w->start += n;
    w->offset += n;
}
/* Forgets up to `n` bytes at position `at` of the view: what follows moves down. For rows too long
 * to keep. Gives how many: n, or 0 over borrowed memory. `offset` already counts them. */
size_t window_cut(struct window *w, size_t at, size_t n);

#endif
