/* SPDX-License-Identifier: MIT
 * units.c: numbers, sizes and durations as people write them, and the nearest known name.
 * Invariants: (1) the whole text must be used up, blanks around it aside; (2) overflow is
 * malformed, never wrapped; (3) *ret is untouched when false is returned; (4) no locale has an
 * effect. */
#include "base/conf.h"

#include "base/cleanup.h"

#include <stdint.h>
#include <string.h>
#include <strings.h>

#define WORD_MAX_BYTES 64

static const char *skip_blanks(const char *s)
{
    return s + strspn(s, " \t\n");
}

/* True when s is `word` in any case, with blanks around. */
static bool is_word(const char *s, const char *word)
{
    size_t n = strlen(word);
    s = skip_blanks(s);
    return strncasecmp(s, word, n) == 0 && !*skip_blanks(s + n);
}

bool parse_bool(const char *s, bool *ret)
{
    static const char *const words[] = {"yes", "true", "on", "1", "no", "false", "off", "0"};
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (is_word(s, words[i])) {
            *ret = i < 4;
            return true;
        }
    }
    return false;
}

/* Digits into *ret; the end of them in *end. */
static bool parse_digits(const char *s, const char **end, uint64_t *ret)
{
    uint64_t v = 0;
    if (*s < '0' || *s > '9')
        return false;
    for (; *s >= '0' && *s <= '9'; s++)
        if (__builtin_mul_overflow(v, 10U, &v) || __builtin_add_overflow(v, *s - '0', &v))
            return false;
    *ret = v;
    *end = s;
    return true;
}

bool parse_int(const char *s, int64_t *ret)
{
    uint64_t v;
    s = skip_blanks(s);
    bool negative = *s == '-';
    if (*s == '-' || *s == '+')
        s++;
    if (!parse_digits(s, &s, &v) || *skip_blanks(s))
        return false;
    if (v > (uint64_t)INT64_MAX + negative)
        return false;
    *ret = negative ? (int64_t)(0 - v) : (int64_t)v;
    return true;
}

bool parse_size(const char *s, uint64_t *ret)
{
    static const char letters[] = "kmgtp";
    uint64_t v;
    if (!parse_digits(skip_blanks(s), &s, &v))
        return false;
    s = skip_blanks(s);
    char c = (char)(*s >= 'A' && *s <= 'Z' ? *s - 'A' + 'a' : *s);
    const char *at = c ? strchr(letters, c) : NULL;
    if (at) {
        unsigned shift = 10 * (unsigned)(at - letters + 1);
        if (v > UINT64_MAX >> shift)
            return false;
        v <<= shift;
        s++;
        if (*s == 'i' && (s[1] == 'B' || s[1] == 'b'))
            s++;
    }
    if (*s == 'B' || *s == 'b')
        s++;
    if (*skip_blanks(s) || v > INT64_MAX)
        return false;
    *ret = v;
    return true;
}

bool parse_duration_ms(const char *s, uint64_t *ret)
{
    static const struct {
        const char *word;
        uint64_t ms;
    } units[] = {{"", 1000},     {"ms", 1},       {"s", 1000},     {"m", 60000},
                 {"h", 3600000}, {"d", 86400000}, {"w", 604800000}};
    uint64_t whole, ms;
    if (!parse_digits(skip_blanks(s), &s, &whole))
        return false;
    uint64_t parts = 0, scale = 1; /* the fraction: parts / scale */
    if (*s == '.') {
        if (s[1] < '0' || s[1] > '9')
            return false;
        for (s++; *s >= '0' && *s <= '9'; s++) {
            if (scale >= 1000000)
                continue;
            parts = parts * 10 + (uint64_t)(*s - '0');
            scale *= 10;
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        if (!is_word(s, units[i].word))
            continue;
        if (__builtin_mul_overflow(whole, units[i].ms, &ms) || ms > INT64_MAX / 2)
            return false;
        *ret = ms + parts * units[i].ms / scale;
        return true;
    }
    return false;
}

static unsigned min3(unsigned a, unsigned b, unsigned c)
{
    unsigned m = a < b ? a : b;
    return m < c ? m : c;
}

static char lower(char c)
{
    return (char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
}

/* Edit distance with neighbours exchanged as one edit; both at most WORD_MAX_BYTES long. */
static unsigned distance(const char *a, const char *b)
{
    unsigned rows[3][WORD_MAX_BYTES + 1];
    unsigned *before = rows[0], *last = rows[1], *now = rows[2];
    size_t n = strlen(a), m = strlen(b);
    for (unsigned j = 0; j <= m; j++)
        last[j] = j;
    for (unsigned i = 1; i <= n; i++) {
        now[0] = i;
        for (unsigned j = 1; j <= m; j++) {
            char x = lower(a[i - 1]), y = lower(b[j - 1]);
            now[j] = min3(last[j] + 1, now[j - 1] + 1, last[j - 1] + (x != y));
            if (i > 1 && j > 1 && x == lower(b[j - 2]) && y == lower(a[i - 2]) &&
                before[j - 2] + 1 < now[j])
                now[j] = before[j - 2] + 1;
        }
        unsigned *free_row = before;
        before = last;
        last = now;
        now = free_row;
    }
    return last[m];
}

const char *nearest_name(const char *word, const char *const *names, size_t n)
{
    const char *best = NULL;
    size_t len = strlen(word);
    unsigned best_distance = 4;
    if (len > WORD_MAX_BYTES)
        return NULL;
    for (size_t i = 0; i < n; i++) {
        if (strlen(names[i]) > WORD_MAX_BYTES)
            continue;
        unsigned d = distance(word, names[i]);
        if (d < best_distance && 2 * (size_t)d < len) {
            best = names[i];
            best_distance = d;
        }
    }
    return best;
}

void format_size(uint64_t bytes, char out[32])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    double v = (double)bytes;
    size_t u = 0;
    while (v >= 1024 && u + 1 < ARRAY_LEN(units)) {
        v /= 1024;
        u++;
    }
    snprintf(out, 32, u == 0 ? "%.0f %s" : "%.1f %s", v, units[u]);
}
