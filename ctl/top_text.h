/* SPDX-License-Identifier: MIT
 * top_text.h: what happened between two snapshots of the daemon ("top" of fs/control.c), as JSON and as a
 * table of at most 79 columns. Pure.
 *
 *     json_t *rates = top_rates(before, after);              // new reference
 *     top_table(rates, &(struct top_look){...}, &buf);
 * Counters become rates per second; gauges are those of `after`. A daemon that was restarted in between
 * (its start differs) counts from zero. Latencies are of the requests that ended in the interval: p50 and
 * p99 by interpolation within the histogram's buckets, so as exact as these are. */
#ifndef QUAY_CTL_TOP_TEXT_H
#define QUAY_CTL_TOP_TEXT_H

#include "base/buf.h"

#include <jansson.h>
#include <stdbool.h>

struct top_look {
    bool colour;
    unsigned rows; /* at most; 0 = all */
    const char *eol;
};

json_t *top_rates(const json_t *before, const json_t *after);
void top_table(const json_t *rates, const struct top_look *look, struct buf *b);

#endif
