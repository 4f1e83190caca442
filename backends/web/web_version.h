/* SPDX-License-Identifier: MIT
 * web_version.h: what a reply tells about a file, and which version of it that is.
 *
 * The version of a file, as struct attr has it (RFC 9110 8.8):
 *   TAG                    the server's strong ETag, without quotes: equal tags are equal bytes
 *   W/"TAG" SECONDS SIZE   a weak ETag with Last-Modified and size
 *   "" SECONDS SIZE        Last-Modified and size
 *   "raw" TAG, "long" HEX  an ETag without quotes, or one too long (its SHA-256): compared, not sent
 *   "sha256" HEX           of the content (web_spool.h): the server tells nothing that could be trusted
 *   (empty)                none of these
 * A weak ETag or a time alone does not tell bytes apart, and a time that is younger than two seconds by
 * the server's own clock may be that of several versions: these count only when both hold, a
 * Last-Modified at least two seconds before Date. Else there is no version, and the file is read as a
 * whole, by one GET (web_spool.h). No tag can begin with '"', so the forms cannot be confused.
 *
 * Pure functions. Threads: any. */
#ifndef QUAY_BACKENDS_WEB_VERSION_H
#define QUAY_BACKENDS_WEB_VERSION_H

#include "backends/attr.h"
#include "backends/http.h"

struct web_facts {
    char version[ATTR_VERSION_MAX];
    uint64_t size;   /* of the whole file */
    bool has_size;
    time_t mtime;    /* 0: not told */
    char type[128];  /* Content-Type or "" */
};

/* Of a reply with status 200, 206 or (HEAD) any 2xx; the size of a 206 is its Content-Range's total. */
void web_facts_read(const struct http_res *res, struct web_facts *ret);
/* The size was not told and is known now. */
void web_facts_set_size(struct web_facts *f, uint64_t size);
void web_facts_to_attr(const struct web_facts *f, struct attr *ret /* empty */);
/* Is the reply of version `expected`? A size that the reply does not tell is not compared. */
bool web_facts_agree(const struct web_facts *f, const char *expected);
/* If-Match or If-Unmodified-Since, where the version is one that a server understands. */
void web_version_add_condition(const char *version, struct http_headers *h);
bool web_version_is_hash(const char *version);
void web_version_of_hash(const uint8_t digest[32], char out[ATTR_VERSION_MAX]);

#endif
