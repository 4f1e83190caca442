/* SPDX-License-Identifier: MIT
 * strmap.c: chained hash map and SipHash-1-3.
 * Invariants: (1) n_buckets is 0 or a power of two and at least count / 2; (2) every item stands in
 * bucket hash & (n_buckets - 1); (3) the hash key is drawn once per process and never leaves it. */
#include "base/strmap.h"

#include "base/buf.h"
#include "base/clock.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static uint64_t seed[2];
static pthread_once_t seed_once = PTHREAD_ONCE_INIT;

static void seed_draw(void)
{
    random_bytes(seed, sizeof(seed));
}

static inline uint64_t rotl(uint64_t x, int n)
{
    return (x << n) | (x >> (64 - n));
}

static inline void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[1] = rotl(v[1], 13) ^ v[0];
    v[0] = rotl(v[0], 32);
    v[2] += v[3];
    v[3] = rotl(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = rotl(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = rotl(v[1], 17) ^ v[2];
    v[2] = rotl(v[2], 32);
}

uint64_t hash_bytes(const void *data, size_t len)
{
    pthread_once(&seed_once, seed_draw);
    uint64_t v[4] = {seed[0] ^ 0x736f6d6570736575ULL, seed[1] ^ 0x646f72616e646f6dULL,
                     seed[0] ^ 0x6c7967656e657261ULL, seed[1] ^ 0x7465646279746573ULL};
    const unsigned char *p = data;
    size_t left = len;
    for (; left >= 8; left -= 8, p += 8) {
        uint64_t m;
        memcpy(&m, p, 8);
        v[3] ^= m;
        sip_round(v);
        v[0] ^= m;
    }
    uint64_t last = 0;
    if (left)
        memcpy(&last, p, left); /* in either byte order: the value is never stored */
    last ^= (uint64_t)len << 56;
    v[3] ^= last;
    sip_round(v);
    v[0] ^= last;
    v[2] ^= 0xff;
    sip_round(v);
    sip_round(v);
    sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

static struct strmap_item **find(const struct strmap *m, const char *key, uint64_t hash)
{
    struct strmap_item **at = &m->buckets[hash & (m->n_buckets - 1)];
    while (*at && ((*at)->hash != hash || strcmp((*at)->key, key) != 0))
        at = &(*at)->next;
    return at;
}

static void grow(struct strmap *m)
{
    size_t n = m->n_buckets ? m->n_buckets * 2 : 8;
    struct strmap_item **buckets = xcalloc(n, sizeof(struct strmap_item *));
    for (size_t i = 0; i < m->n_buckets; i++) {
        struct strmap_item *it = m->buckets[i];
        while (it) {
            struct strmap_item *next = it->next;
            it->next = buckets[it->hash & (n - 1)];
            buckets[it->hash & (n - 1)] = it;
            it = next;
        }
    }
    free(m->buckets);
    m->buckets = buckets;
    m->n_buckets = n;
}

void *strmap_get(const struct strmap *m, const char *key)
{
    if (!m->count)
        return NULL;
    struct strmap_item *it = *find(m, key, hash_bytes(key, strlen(key)));
    return it ? it->value : NULL;
}

void *strmap_put(struct strmap *m, const char *key, void *value)
{
    uint64_t hash = hash_bytes(key, strlen(key));
    if (m->count >= m->n_buckets)
        grow(m);
    struct strmap_item **at = find(m, key, hash);
    if (*at) {
        void *old = (*at)->value;
        (*at)->value = value;
        return old;
    }
    struct strmap_item *it = xcalloc(1, sizeof(*it));
    it->key = xstrdup(key);
    it->value = value;
    it->hash = hash;
    *at = it;
    m->count++;
    return NULL;
}

void *strmap_del(struct strmap *m, const char *key)
{
    if (!m->count)
        return NULL;
    struct strmap_item **at = find(m, key, hash_bytes(key, strlen(key)));
    struct strmap_item *it = *at;
    if (!it)
        return NULL;
    void *old = it->value;
    *at = it->next;
    m->count--;
    free(it->key);
    free(it);
    return old;
}

void strmap_done(struct strmap *m)
{
    for (size_t i = 0; i < m->n_buckets; i++) {
        struct strmap_item *it = m->buckets[i];
        while (it) {
            struct strmap_item *next = it->next;
            free(it->key);
            free(it);
            it = next;
        }
    }
    free(m->buckets);
    *m = STRMAP_INIT;
}

struct strmap_item *strmap_next(const struct strmap *m, const struct strmap_item *it)
{
    if (it && it->next)
        return it->next;
    size_t i = it ? (it->hash & (m->n_buckets - 1)) + 1 : 0;
    for (; i < m->n_buckets; i++)
        if (m->buckets[i])
            return m->buckets[i];
    return NULL;
}
