/* SPDX-License-Identifier: MIT
 * utf8.c: see utf8.h. Data is mostly ASCII: eight bytes at a time, then one character at a time. */
#include "loader/utf8.h"

/* Length of the valid character at p (p[0] >= 0x80), 0 when invalid, -1 when cut off by `left`. */
static int char_length(const uint8_t *p, size_t left)
{
    uint8_t lo = 0x80, hi = 0xBF;
    int n;

    if (p[0] >= 0xC2 && p[0] <= 0xDF) {
        n = 2;
    } else if ((p[0] & 0xF0) == 0xE0) {
        n = 3;
        lo = p[0] == 0xE0 ? 0xA0 : 0x80;
        hi = p[0] == 0xED ? 0x9F : 0xBF;
    } else if (p[0] >= 0xF0 && p[0] <= 0xF4) {
        n = 4;
        lo = p[0] == 0xF0 ? 0x90 : 0x80;
        hi = p[0] == 0xF4 ? 0x8F : 0xBF;
    } else {
        return 0;
    }
    for (int i = 1; i < n; i++) {
        if ((size_t)i >= left)
            return -1;
        if (p[i] < lo || p[i] > hi)
            return 0;
        lo = 0x80;
        hi = 0xBF;
    }
    return n;
}

size_t utf8_valid_prefix(const void *data, size_t len, bool *ret_cut)
{
    const uint8_t *p = data;
    size_t i = 0;

    if (ret_cut)
        *ret_cut = false;
    while (i < len) {
        uint64_t word;
        if (len - i >= 8 && (memcpy(&word, p + i, 8), (word & 0x8080808080808080ULL) == 0)) {
            i += 8;
            continue;
        }
        if (p[i] < 0x80) {
            i++;
            continue;
        }
        int n = char_length(p + i, len - i);
        if (n <= 0) {
            if (ret_cut)
                *ret_cut = n < 0;
            return i;
        }
        i += (size_t)n;
    }
    return i;
}

void utf8_add(struct buf *b, uint32_t code)
{
    if (code < 0x80) {
        buf_addc(b, (char)code);
    } else if (code < 0x800) {
        buf_addc(b, (char)(0xC0 | code >> 6));
        buf_addc(b, (char)(0x80 | (code & 0x3F)));
    } else if (code < 0x10000) {
        buf_addc(b, (char)(0xE0 | code >> 12));
        buf_addc(b, (char)(0x80 | (code >> 6 & 0x3F)));
        buf_addc(b, (char)(0x80 | (code & 0x3F)));
    } else {
        buf_addc(b, (char)(0xF0 | code >> 18));
        buf_addc(b, (char)(0x80 | (code >> 12 & 0x3F)));
        buf_addc(b, (char)(0x80 | (code >> 6 & 0x3F)));
        buf_addc(b, (char)(0x80 | (code & 0x3F)));
    }
}
