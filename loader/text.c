/* SPDX-License-Identifier: MIT
 * text.c: numbers and lines for people and for TSV. */
#include "loader/text.h"

#include "base/date.h"

#include <inttypes.h>

void text_count(struct buf *b, uint64_t n)
{
    char digits[24];
    int len = snprintf(digits, sizeof(digits), "%" PRIu64, n);

    for (int i = 0; i < len; i++) {
        if (i > 0 && (len - i) % 3 == 0)
            buf_addc(b, ',');
        buf_addc(b, digits[i]);
    }
}

void text_bytes(struct buf *b, uint64_t n)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    double v = (double)n;
    size_t u = 0;

    while (v >= 1024 && u + 1 < sizeof(units) / sizeof(units[0])) {
        v /= 1024;
        u++;
    }
    if (u == 0)
        buf_addf(b, "%" PRIu64 " B", n);
    else
        buf_addf(b, v < 10 ? "%.2f %s" : v < 100 ? "%.1f %s" : "%.0f %s", v, units[u]);
}

void text_seconds(struct buf *b, double s)
{
    unsigned long whole = s > 0 ? (unsigned long)s : 0;

    if (s < 60)
        buf_addf(b, s < 0.095 ? "%.2f s" : "%.1f s", s > 0 ? s : 0.0);
    else if (whole < 3600)
        buf_addf(b, "%lu min %lu s", whole / 60, whole % 60);
    else
        buf_addf(b, "%lu h %lu min", whole / 3600, whole / 60 % 60);
}

void text_time(struct buf *b, struct timespec t)
{
    char iso[32];

    date_format_iso(t, iso);
    buf_adds(b, iso);
}

void text_tsv(struct buf *b, const char *s, size_t max)
{
    for (size_t i = 0; s[i] && i < max; i++) {
        unsigned char c = (unsigned char)s[i];

        if (c == '\\')
            buf_adds(b, "\\\\");
        else if (c == '\t')
            buf_adds(b, "\\t");
        else if (c == '\n')
            buf_adds(b, "\\n");
        else if (c < ' ' || c == 127)
            buf_addf(b, "\\x%02x", c);
        else
            buf_addc(b, (char)c);
    }
}
