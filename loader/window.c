/* SPDX-License-Identifier: MIT
 * window.c: see window.h. Invariant: start <= end <= cap; when borrowed, eof is set. */
#include "loader/window.h"

#include "base/buf.h"

#include <assert.h>
#include <errno.h>

void window_init(struct window *w, struct feed *feed, size_t step)
{
    *w = (struct window){.feed = feed, .step = step, .cap = 2 * step};
    w->data = xmalloc(w->cap);
}

void window_init_memory(struct window *w, const void *data, size_t len)
{
    *w = (struct window){.end = len, .cap = len, .eof = true, .borrowed = true};
    memcpy(&w->data, &data, sizeof(data)); /* never written: window_cut is not used on memory */
}

void window_done(struct window *w)
{
    if (!w->borrowed)
        free(w->data);
    *w = (struct window){0};
}

int window_more(struct window *w, struct op *op)
{
    size_t got = 0;

    if (w->eof)
        return 0;
    if (w->cap - w->end < w->step && w->start > 0) {
        memmove(w->data, w->data + w->start, w->end - w->start);
        w->end -= w->start;
        w->start = 0;
    }
    if (w->cap - w->end < w->step) {
        w->cap = 2 * w->cap;
        w->data = xrealloc(w->data, w->cap);
    }
    int r = w->feed->read(w->feed, op, w->data + w->end, w->step, &got);
    if (r < 0)
        return r;
    w->end += got;
    w->eof = got == 0;
    return got > 0;
}

size_t window_cut(struct window *w, size_t at, size_t n)
{
    char *p = w->data + w->start + at;

    assert(at <= window_len(w) && n <= window_len(w) - at);
    if (w->borrowed || n == 0)
        return 0;
    memmove(p, p + n, window_len(w) - at - n);
    w->end -= n;
    w->offset += n;
    return n;
}
