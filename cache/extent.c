/* SPDX-License-Identifier: MIT
 * extent.c: sorted ranges of a block.
 * Invariants: (1) ranges are disjoint and in rising order; (2) neighbours that touch differ in
 * flags, or one has no CRC; (3) cap == 0 iff many == NULL, and then n <= 1. */
#include "cache/extent.h"

#include "base/buf.h"

#include <stdlib.h>
#include <string.h>

void extents_done(struct extent_set *s)
{
    free(s->many);
    *s = (struct extent_set){0};
}

const struct extent *extents_array(const struct extent_set *s)
{
    return s->many ? s->many : &s->one;
}

static struct extent *data(struct extent_set *s)
{
    return s->many ? s->many : &s->one;
}

uint32_t extents_bytes(const struct extent_set *s)
{
    uint32_t sum = 0;
    const struct extent *e = extents_array(s);
    for (uint32_t i = 0; i < s->n; i++)
        sum += e[i].len;
    return sum;
}

/* The index of the first range that ends behind `off`. */
static uint32_t lower(const struct extent_set *s, uint32_t off)
{
    const struct extent *e = extents_array(s);
    uint32_t lo = 0, hi = s->n;
    while (lo < hi) {
        uint32_t mid = (lo + hi) / 2;
        if (e[mid].off + e[mid].len <= off)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

struct extent *extents_at(struct extent_set *s, uint32_t off)
{
    uint32_t i = lower(s, off);
    struct extent *e = data(s);
    return i < s->n && e[i].off <= off ? &e[i] : NULL;
}

uint32_t extents_run(const struct extent_set *s, uint32_t off)
{
    const struct extent *e = extents_array(s);
    uint32_t end = off;
    for (uint32_t i = lower(s, off); i < s->n && e[i].off <= end; i++)
        end = e[i].off + e[i].len;
    return end - off;
}

uint32_t extents_gap(const struct extent_set *s, uint32_t off, uint32_t max)
{
    uint32_t i = lower(s, off);
    if (i == s->n)
        return max;
    const struct extent *e = &extents_array(s)[i];
    if (e->off <= off)
        return 0;
    return e->off - off < max ? e->off - off : max;
}

bool extents_trim(const struct extent_set *s, uint32_t *off, uint32_t *len)
{
    uint32_t from = *off, to = *off + *len;
    uint32_t run = extents_run(s, from);
    if (run >= to - from)
        return false;
    from += run;
    const struct extent *e = extents_array(s);
    for (uint32_t i = lower(s, to - 1); i < s->n && e[i].off < to && e[i].off > from; i--) {
        if (e[i].off + e[i].len < to)
            break;
        to = e[i].off;
        if (i == 0)
            break;
    }
    *off = from;
    *len = to - from;
    return true;
}

static void insert_at(struct extent_set *s, uint32_t i, struct extent e)
{
    if (s->n == 0 && s->cap == 0) {
        s->one = e;
        s->n = 1;
        return;
    }
    if (s->n >= s->cap) {
        uint32_t cap = s->cap ? s->cap * 2 : 4;
        struct extent *many = xrealloc(s->many, cap * sizeof(*many));
        if (s->cap == 0 && s->n)
            many[0] = s->one;
        s->many = many;
        s->cap = cap;
    }
    memmove(&s->many[i + 1], &s->many[i], (s->n - i) * sizeof(*s->many));
    s->many[i] = e;
    s->n++;
}

static void remove_range(struct extent_set *s, uint32_t i, uint32_t n)
{
    if (n == 0)
        return;
    struct extent *e = data(s);
    memmove(&e[i], &e[i + n], (s->n - i - n) * sizeof(*e));
    s->n -= n;
}

/* Joins ranges i and i + 1 where they touch and are of the same kind. */
static bool join(struct extent_set *s, uint32_t i)
{
    struct extent *e = data(s);
    struct extent *a = &e[i], *b = &e[i + 1];
    if (i + 1 >= s->n || a->off + a->len != b->off || a->flags != b->flags ||
        (a->flags & EXTENT_NO_CRC))
        return false;
    a->crc = crc32c_join(a->crc, b->crc, b->len);
    a->len += b->len;
    remove_range(s, i + 1, 1);
    return true;
}

bool extents_add(struct extent_set *s, struct extent e, struct extent *ret)
{
    const struct extent *a = extents_array(s);
    uint32_t i = lower(s, e.off), inside = 0;
    for (; i + inside < s->n && a[i + inside].off < e.off + e.len; inside++) {
        const struct extent *x = &a[i + inside];
        if (x->off < e.off || x->off + x->len > e.off + e.len)
            return false;
    }
    remove_range(s, i, inside);
    insert_at(s, i, e);
    (void)join(s, i);
    if (i > 0 && join(s, i - 1))
        i--;
    *ret = data(s)[i];
    return true;
}

bool extents_remove(struct extent_set *s, uint32_t off, uint32_t len)
{
    uint32_t i = lower(s, off);
    struct extent *e = data(s);
    if (i == s->n || e[i].off != off || e[i].len != len)
        return false;
    remove_range(s, i, 1);
    return true;
}

/* ---- joining CRCs: appending len zero bytes multiplies by x^(8 len) modulo the polynomial ---- */
#define POLY 0x82F63B78u /* CRC-32C, reflected: bit 31 is x^0 */

static uint32_t poly_mul(uint32_t a, uint32_t b)
{
    uint32_t product = 0;
    for (uint32_t bit = 1u << 31; bit; bit >>= 1) {
        if (a & bit)
            product ^= b;
        b = b & 1 ? (b >> 1) ^ POLY : b >> 1;
    }
    return product;
}

uint32_t crc32c_join(uint32_t crc_a, uint32_t crc_b, uint64_t len_b)
{
    uint32_t power = 1u << 23;  /* x^8 */
    uint32_t factor = 1u << 31; /* x^0 */
    for (uint64_t n = len_b; n; n >>= 1) {
        if (n & 1)
            factor = poly_mul(factor, power);
        power = poly_mul(power, power);
    }
    return poly_mul(factor, crc_a) ^ crc_b;
}
