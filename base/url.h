/* SPDX-License-Identifier: MIT
 * url.h: percent-encoding (RFC 3986) and splitting of URLs. Pure functions. Threads: any. */
#ifndef QUAY_BASE_URL_H
#define QUAY_BASE_URL_H

#include "base/buf.h"

#include <stdbool.h>

/* Appends s with everything but unreserved characters (A-Z a-z 0-9 - . _ ~) as %XX upper case;
 * '/' is kept when keep_slash. This is also SigV4's URI encoding. */
void url_encode(struct buf *b, const char *s, size_t len, bool keep_slash);
/* Appends the decoded bytes; false (b unchanged) for a bad %XX or a %00. '+' stays '+'. */
bool url_decode(struct buf *b, const char *s, size_t len);

struct url {
    char *scheme;   /* lower case: "https", "s3" */
    char *user;     /* or "" */
    char *host;     /* without brackets */
    int port;       /* 0 = not given */
    char *path;     /* with leading '/', or "" */
    char *query;    /* without '?', or "" */
};

/* false when not SCHEME://... . Ownership: url_done(). Passwords in URLs are refused (false). */
bool url_parse(const char *s, struct url *ret);
void url_done(struct url *u);

#endif
