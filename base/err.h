/* SPDX-License-Identifier: MIT
 * err.h: what went wrong, in a form both code and people can use.
 *
 * Purpose: every function that can fail returns 0 or -errno; those that talk to something outside
 * also fill a struct err with the text a user needs: what failed, on what, what the server said.
 *
 * Calling sequence:
 *     struct err e = ERR_INIT;
 *     return err_set(&e, EACCES, "put %s: bucket policy refuses it", path);   // gives -EACCES
 *
 * Ownership: plain struct, no allocation; copy by assignment. Threads: one owner at a time.
 * A NULL `struct err *` is accepted everywhere and only loses the text.
 * Secrets must never be put into the text. */
#ifndef QUAY_BASE_ERR_H
#define QUAY_BASE_ERR_H

#include <stdarg.h>
#include <stdbool.h>

enum err_retry {
    ERR_RETRY_NEVER = 0, /* the same call will fail again */
    ERR_RETRY_SAFE,      /* nothing happened, or repeating is harmless: try again */
    ERR_RETRY_UNKNOWN    /* a change may or may not have been made: look before trying again */
};

struct err {
    int code;                /* positive errno, 0 = no error */
    enum err_retry retry;    /* may the same call be repeated */
    unsigned retry_after_ms; /* the server's own Retry-After, 0 = none given */
    int status;              /* HTTP status or driver code, 0 = none */
    char remote[64];         /* the server's own error code ("NoSuchKey", SQLSTATE); without an answer the step
                                that failed ("DNS", "connect", "TLS", "host key", "login", "database"); or "" */
    char text[704];          /* one line for people, without a trailing newline */
};

#define ERR_INIT ((struct err){0})

/* Sets code and text (retry class NEVER, no status). Returns -code. Control bytes in the result are
 * replaced by '?', as remote text is hostile. `code` must be positive. */
int err_set(struct err *e, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
int err_vset(struct err *e, int code, const char *fmt, va_list ap)
    __attribute__((format(printf, 3, 0)));

/* Puts "<formatted>: " in front of the text. Returns -e->code (or -EIO when there was none). */
int err_prefix(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* A change failed as `r` with *e: may it have been made all the same, or be made yet? (Also when its caller was
 * interrupted: the request is on its way.) */
bool err_is_unknown(const struct err *e, int r);

void err_clear(struct err *e);

/* The text, or strerror of the code when there is none. Never NULL. */
const char *err_text(const struct err *e);

#endif
