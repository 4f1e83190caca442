/* SPDX-License-Identifier: MIT
 * readahead.c: streams and windows.
 * States of a slot: FREE (tick 0) -> CANDIDATE (one read seen) -> CONFIRMED (it goes on) ->
 * replaced by a newer stream: the least recently read candidate first, then the least recently read
 * stream. Invariants: (1) window and trust are between start and
 * max_window; (2) ahead never moves back; (3) a
 * candidate that did not start at 0 causes no read-ahead. */
#include "cache/readahead.h"

#include <string.h>

#define START_WINDOW (1u << 20)
#define NEAR (256u << 10)          /* how close a candidate's next read must be */
#define CONFIRM_BYTES (128u << 10) /* enough with the first continuation */
#define CONFIRM_HITS 2             /* enough for smaller reads */
#define LARGE_READ (64u << 10)     /* the kernel reads ahead as well: a stream for sure */
#define LARGE_CREDIT 4             /* windows of the usual size, and so many times as much when it goes on */
#define TAIL (256u << 10)          /* a rest of the object this small goes with the last GET */

void readahead_init(struct readahead *ra, uint64_t block_size, uint64_t max_part,
                    uint64_t max_window)
{
    memset(ra, 0, sizeof(*ra));
    ra->block_size = block_size;
    ra->max_part = max_part < block_size ? block_size : max_part;
    ra->start = block_size < START_WINDOW ? START_WINDOW : block_size;
    ra->max_window = max_window < ra->start ? ra->start : max_window;
    ra->trust = ra->max_window;
}

/* Does a read at `off` belong to the stream? Behind as well as ahead of what is expected. */
static bool continues(const struct readahead_stream *s, uint64_t off, uint64_t len)
{
    if (s->tick == 0)
        return false;
    uint64_t reach = s->confirmed ? READAHEAD_REORDER : NEAR;
    uint64_t end = off + len;
    return off <= s->next + reach && end + reach >= s->next;
}

static uint64_t distance(const struct readahead_stream *s, uint64_t off)
{
    return off > s->next ? off - s->next : s->next - off;
}

static struct readahead_stream *find(struct readahead *ra, uint64_t off, uint64_t len)
{
    struct readahead_stream *best = NULL;
    for (unsigned i = 0; i < READAHEAD_STREAMS; i++) {
        struct readahead_stream *s = &ra->streams[i];
        if (continues(s, off, len) && (!best || distance(s, off) < distance(best, off)))
            best = s;
    }
    return best;
}

static bool goes_before(const struct readahead_stream *a, const struct readahead_stream *b)
{
    if (a->confirmed != b->confirmed)
        return !a->confirmed;
    return a->tick < b->tick;
}

/* Fetched for nothing: the next streams are likely to end as early. */
static void learn(struct readahead *ra, const struct readahead_stream *ended)
{
    uint64_t wasted = ended->ahead - ended->next;
    if (!ended->confirmed || wasted <= ended->bytes / 2)
        return;
    uint64_t limit = ended->window < ra->trust ? ended->window : ra->trust;
    ra->trust = limit / 2 > ra->start ? limit / 2 : ra->start;
}

static struct readahead_stream *replace(struct readahead *ra, struct readahead_plan *p)
{
    struct readahead_stream *victim = &ra->streams[0];
    for (unsigned i = 1; i < READAHEAD_STREAMS; i++)
        if (goes_before(&ra->streams[i], victim))
            victim = &ra->streams[i];
    if (victim->tick && victim->ahead > victim->next) {
        p->dropped = true;
        p->drop_from = victim->next;
        p->drop_to = victim->ahead;
        learn(ra, victim);
    }
    *victim = (struct readahead_stream){0};
    return victim;
}

static void go_on(struct readahead *ra, struct readahead_stream *s, uint64_t off, uint64_t len)
{
    s->hits++;
    s->bytes += len;
    if (!s->confirmed && (s->bytes > CONFIRM_BYTES || s->hits >= CONFIRM_HITS)) {
        s->confirmed = true;
        s->window *= len >= LARGE_READ ? LARGE_CREDIT : 2; /* far stores: a round trip less */
    }
    if (off + len > s->next) {
        s->progress += off + len - s->next;
        s->next = off + len;
    }
    if (s->confirmed && s->progress >= s->window / 4) { /* two doublings in what one round trip brings */
        s->window *= 2;
        s->progress = 0;
    }
    if (s->bytes > 2 * ra->trust)
        ra->trust = ra->trust * 2 < ra->max_window ? ra->trust * 2 : ra->max_window;
    if (s->window > ra->trust)
        s->window = ra->trust;
}

/* A quarter of the window, so that several GETs share it: a power of two of blocks. */
static uint64_t part_of(const struct readahead *ra, uint64_t window)
{
    uint64_t part = ra->start;
    while (part * 2 <= window / 4 && part * 2 <= ra->max_part)
        part *= 2;
    return part < ra->max_part ? part : ra->max_part;
}

static void plan_window(const struct readahead *ra, const struct readahead_stream *s, uint64_t off,
                        uint64_t size, struct readahead_plan *p)
{
    p->part = part_of(ra, s->window);
    p->from = s->ahead > off ? s->ahead : off;
    p->to = s->next + s->window;
    if (p->to + TAIL >= size)
        p->to = size;
    else
        p->to -= p->to % ra->block_size;
    bool whole_part = p->to >= p->from + p->part || p->to == size;
    if (p->to <= p->from || !whole_part)
        p->to = p->from;
}

struct readahead_plan readahead_note(struct readahead *ra, uint64_t off, uint64_t len,
                                     uint64_t size)
{
    struct readahead_plan p = {0};
    struct readahead_stream *s = find(ra, off, len);
    if (s) {
        go_on(ra, s, off, len);
    } else {
        s = replace(ra, &p);
        s->next = off + len;
        s->window = ra->start * (off == 0 && len >= LARGE_READ ? LARGE_CREDIT : 1);
        s->bytes = len;
    }
    s->tick = ++ra->tick;
    p.slot = (unsigned)(s - ra->streams);
    p.stream = s->confirmed || (off == 0 && s->hits == 0);
    if (p.stream)
        plan_window(ra, s, off, size, &p);
    return p;
}

void readahead_issued(struct readahead *ra, const struct readahead_plan *p, uint64_t upto)
{
    struct readahead_stream *s = &ra->streams[p->slot];
    if (upto > s->ahead)
        s->ahead = upto;
    if (upto < p->to && s->ahead < s->next + s->window / 2) { /* memory is short */
        s->window = s->window / 2 > ra->start ? s->window / 2 : ra->start;
        s->progress = 0;
    }
}
