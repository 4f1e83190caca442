/* SPDX-License-Identifier: MIT
 * api_rate.h: at most so many requests per time: a token bucket, pure but for the caller's clock.
 *
 * "10/s", "100/m" (or "100/min"), "5000/h", "10000/d", or a number (per second). In no window of the period
 * are there more than that many: up to a quarter of them may go at once (at least one), and the bucket fills
 * with the rest evenly. A server's Retry-After closes the bucket until then.
 *     wait_ns = api_rate_take(&r, now);     // the request may be sent after that long; it is counted
 * Threads: the caller's lock. */
#ifndef QUAY_BACKENDS_API_API_RATE_H
#define QUAY_BACKENDS_API_API_RATE_H

#include <stdbool.h>
#include <stdint.h>

struct api_rate {
    uint64_t each_ns;  /* between tokens; 0: no limit */
    uint64_t burst;
    uint64_t empty_ns; /* when the bucket was empty, as if it filled from then on without an end */
    uint64_t closed_until_ns;
};

bool api_rate_parse(const char *text, struct api_rate *ret); /* "" = no limit */
uint64_t api_rate_take(struct api_rate *r, uint64_t now_ns);
void api_rate_close(struct api_rate *r, uint64_t until_ns);

#endif
