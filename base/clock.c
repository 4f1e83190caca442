/* SPDX-License-Identifier: MIT
 * clock.c: time and randomness from the kernel.
 * Invariants: (1) the wall clock can be replaced by tests, the monotonic one cannot; (2) random
 * bytes come from getrandom(2), never from a seeded generator. */
#include "base/clock.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

static pthread_mutex_t wall_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct timespec wall_fixed;
static bool wall_is_fixed; /* written under wall_mutex */

uint64_t clock_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

struct timespec clock_wall(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    if (__atomic_load_n(&wall_is_fixed, __ATOMIC_RELAXED)) {
        pthread_mutex_lock(&wall_mutex);
        if (wall_is_fixed)
            t = wall_fixed;
        pthread_mutex_unlock(&wall_mutex);
    }
    return t;
}

void clock_set_wall_for_test(const struct timespec *t)
{
    pthread_mutex_lock(&wall_mutex);
    if (t)
        wall_fixed = *t;
    __atomic_store_n(&wall_is_fixed, t != NULL, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&wall_mutex);
}

void clock_sleep_ms(unsigned ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * (long)NS_PER_MS};
    while (clock_nanosleep(CLOCK_MONOTONIC, 0, &t, &t) == EINTR)
        ;
}

uint64_t clock_backoff_ms(uint64_t first_ms, uint64_t most_ms, unsigned times)
{
    uint64_t ms = first_ms;
    for (; times > 0 && ms > 0 && ms < most_ms; times--)
        ms *= 2;
    return ms < most_ms ? ms : most_ms;
}

void random_bytes(void *p, size_t n)
{
    unsigned char *to = p;
    while (n > 0) {
        ssize_t r = getrandom(to, n, 0);
        if (r < 0 && errno == EINTR)
            continue;
        if (r <= 0) {
            fprintf(stderr, "the kernel has no random bytes\n");
            abort();
        }
        to += r;
        n -= (size_t)r;
    }
}

uint32_t random_below(uint32_t limit)
{
    if (limit == 0)
        abort();
    uint32_t v, first = (uint32_t)-limit % limit; /* values below it would favour small results */
    do
        random_bytes(&v, sizeof(v));
    while (v < first);
    return v % limit;
}

void random_hex(char *out, size_t n)
{
    static const char hex[] = "0123456789abcdef";
    random_bytes(out, n);
    for (size_t i = 0; i < n; i++)
        out[i] = hex[(unsigned char)out[i] & 15];
    out[n] = '\0';
}
