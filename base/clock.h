/* SPDX-License-Identifier: MIT
 * clock.h: time and randomness, behind a seam that tests may replace.
 * Units are in the names. Threads: any. */
#ifndef QUAY_BASE_CLOCK_H
#define QUAY_BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define NS_PER_S 1000000000ULL
#define NS_PER_MS 1000000ULL

uint64_t clock_now_ns(void);            /* monotonic */
struct timespec clock_wall(void);       /* CLOCK_REALTIME */
void clock_sleep_ms(unsigned ms);
/* A pause that grows: first_ms, doubled `times` times, and never more than most_ms. */
uint64_t clock_backoff_ms(uint64_t first_ms, uint64_t most_ms, unsigned times);
void random_bytes(void *p, size_t n);   /* cryptographic; aborts when the kernel has none */
uint32_t random_below(uint32_t limit);  /* 0 .. limit-1; limit > 0 */
void random_hex(char *out, size_t n);   /* n hex digits and a NUL: out has n+1 bytes */

/* Tests: replaces the wall clock by a fixed time; NULL restores it. */
void clock_set_wall_for_test(const struct timespec *t);

#endif
