/* SPDX-License-Identifier: MIT
 * utf8.h: UTF-8 validation (RFC 3629: no surrogates, no overlong forms, at most U+10FFFF). Pure. */
#ifndef QUAY_LOADER_UTF8_H
#define QUAY_LOADER_UTF8_H

#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Length of the longest valid prefix; = len when all is valid. A character cut off by the end is
 * not part of it; *ret_cut (may be NULL) tells whether that is what stopped it. NUL counts as
 * valid. */
size_t utf8_valid_prefix(const void *data, size_t len, bool *ret_cut);

static inline bool utf8_valid(const void *data, size_t len)
{
    return utf8_valid_prefix(data, len, NULL) == len;
}

/* Appends one code point (not a surrogate). */
void utf8_add(struct buf *b, uint32_t code);

#endif
