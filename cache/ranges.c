/* SPDX-License-Identifier: MIT
 * ranges.c: see ranges.h.
 * Invariants: (1) v[i].off < v[i].end; (2) v[i].end < v[i + 1].off: neighbours that touch are one;
 * (3) bytes is the sum of all lengths. */
#include "cache/ranges.h"

#include "base/cleanup.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

void ranges_done(struct ranges *e)
{
    free(e->v);
    *e = RANGES_INIT;
}

void ranges_copy(struct ranges *to, const struct ranges *from)
{
    *to = RANGES_INIT;
    if (from->n == 0)
        return;
    to->v = xmalloc(from->n * sizeof(*to->v));
    memcpy(to->v, from->v, from->n * sizeof(*to->v));
    to->n = to->cap = from->n;
    to->bytes = from->bytes;
}

/* The first range that ends behind `pos` (at or behind it, with `touch`). */
static size_t find(const struct ranges *e, uint64_t pos, bool touch)
{
    size_t lo = 0, hi = e->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (e->v[mid].end < pos || (!touch && e->v[mid].end == pos))
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* Replaces `drop` ranges at `at` by `n` (0 to 2) new ones. Counts no bytes. */
static void splice(struct ranges *e, size_t at, size_t drop, const struct range *with, size_t n)
{
    if (e->n - drop + n > e->cap) {
        e->cap = e->cap ? e->cap * 2 : 4;
        e->v = xrealloc(e->v, e->cap * sizeof(*e->v));
    }
    if (e->n > at + drop)
        memmove(e->v + at + n, e->v + at + drop, (e->n - at - drop) * sizeof(*e->v));
    for (size_t i = 0; i < n; i++)
        e->v[at + i] = with[i];
    e->n = e->n - drop + n;
}

void ranges_add(struct ranges *e, uint64_t off, uint64_t end)
{
    if (off >= end)
        return;
    size_t first = find(e, off, true), last = first;
    struct range x = {off, end};
    for (; last < e->n && e->v[last].off <= end; last++) {
        e->bytes -= e->v[last].end - e->v[last].off;
        if (e->v[last].off < x.off)
            x.off = e->v[last].off;
        if (e->v[last].end > x.end)
            x.end = e->v[last].end;
    }
    splice(e, first, last - first, &x, 1);
    e->bytes += x.end - x.off;
}

void ranges_remove(struct ranges *e, uint64_t off, uint64_t end)
{
    if (off >= end)
        return;
    struct range keep[2] = {{0, 0}, {0, 0}};
    size_t n = 0, first = find(e, off, false), last = first;
    for (; last < e->n && e->v[last].off < end; last++) {
        struct range x = e->v[last];
        e->bytes -= x.end - x.off;
        if (x.off < off)
            keep[n++] = (struct range){x.off, off};
        if (x.end > end)
            keep[n++] = (struct range){end, x.end};
    }
    splice(e, first, last - first, keep, n);
    for (size_t i = 0; i < n; i++)
        e->bytes += keep[i].end - keep[i].off;
}

uint64_t ranges_overlap(const struct ranges *e, uint64_t off, uint64_t end)
{
    uint64_t sum = 0;
    for (size_t i = find(e, off, false); i < e->n && e->v[i].off < end; i++) {
        uint64_t from = e->v[i].off > off ? e->v[i].off : off;
        uint64_t to = e->v[i].end < end ? e->v[i].end : end;
        if (to > from)
            sum += to - from;
    }
    return sum;
}

bool ranges_has(const struct ranges *e, uint64_t off, uint64_t end)
{
    if (off >= end)
        return true;
    size_t i = find(e, off, false);
    return i < e->n && e->v[i].off <= off && e->v[i].end >= end;
}

bool ranges_run(const struct ranges *e, uint64_t pos, uint64_t limit, uint64_t *ret_end)
{
    size_t i = find(e, pos, false);
    bool in = i < e->n && e->v[i].off <= pos;
    uint64_t end = i == e->n ? limit : in ? e->v[i].end : e->v[i].off;
    *ret_end = end < limit ? end : limit;
    return in;
}

void ranges_format(const struct ranges *e, struct buf *b)
{
    for (size_t i = 0; i < e->n; i++)
        buf_addf(b, "%s%" PRIu64 "-%" PRIu64, i ? "," : "", e->v[i].off, e->v[i].end);
}

static bool parse_number(const char **p, uint64_t *ret)
{
    char *end = NULL;
    if (**p < '0' || **p > '9')
        return false;
    errno = 0;
    *ret = strtoull(*p, &end, 10);
    *p = end;
    return errno == 0;
}

bool ranges_parse(const char *text, struct ranges *ret)
{
    struct ranges e = RANGES_INIT;
    for (const char *p = text; *p;) {
        uint64_t off = 0, end = 0;
        bool ok = parse_number(&p, &off) && *p++ == '-' && parse_number(&p, &end) && off < end &&
                  (*p == '\0' || *p == ',');
        if (!ok) {
            ranges_done(&e);
            return false;
        }
        ranges_add(&e, off, end);
        if (*p == ',')
            p++;
    }
    *ret = e;
    return true;
}
