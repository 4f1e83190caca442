/* SPDX-License-Identifier: MIT
 * buf.h: a growable byte string, always NUL-terminated after its length.
 *
 * Purpose: the only place that formats into memory. Calling sequence:
 *     struct buf b = BUF_INIT;              // or CLEANUP_BUF struct buf b = BUF_INIT;
 *     buf_addf(&b, "%s=%d", k, v);
 *     use(b.data, b.len);  buf_done(&b);
 * Errors: running out of memory aborts the program (see HACKING.md: small allocations do not fail on
 * Linux; the large ones, block buffers, are allocated by callers that check). Threads: one owner. */
#ifndef QUAY_BASE_BUF_H
#define QUAY_BASE_BUF_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

struct buf {
    char *data; /* never NULL once something was added; see buf_str() */
    size_t len;
    size_t cap;
};

#define BUF_INIT ((struct buf){0})

void buf_add(struct buf *b, const void *data, size_t len);
void buf_adds(struct buf *b, const char *s);
void buf_add_lower(struct buf *b, const char *s); /* ASCII letters: host names */
void buf_addc(struct buf *b, char c);
void buf_addf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void buf_vaddf(struct buf *b, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));
/* Makes room for `extra` more bytes and returns where they go (len is not moved). */
char *buf_reserve(struct buf *b, size_t extra);
void buf_truncate(struct buf *b, size_t len); /* len <= b->len */
void buf_reset(struct buf *b);                /* empties, keeps the memory */
void buf_done(struct buf *b);                 /* frees; the buf is empty and usable again */
const char *buf_str(const struct buf *b);     /* "" when nothing was added */
char *buf_take(struct buf *b);                /* gives the malloc'd string, b becomes empty */

/* malloc family that aborts with a message when memory ends; for small things. */
void *xmalloc(size_t n);
void *xcalloc(size_t n, size_t size);
void *xrealloc(void *p, size_t n);
char *xstrdup(const char *s);
char *xstrndup(const char *s, size_t n);
char *xasprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#define CLEANUP_BUF __attribute__((cleanup(buf_done)))

#endif
