/* SPDX-License-Identifier: MIT
 * api_page.h: one page of a REST collection: the names of its records, and where the next page is.
 *
 * Records: an array, at `items_field` ("data", "result.items"), or found: the whole reply, or the member data,
 * items, results, records, entries or value, or the only array in it. A record is an object whose `id_field`
 * is a string or an integer, or a string or an integer itself. An id becomes a name: '/' is %2F, and a '%' that
 * would read as such an escape is %25; ids that can be no name ("", ".", "..") are left out and counted.
 * Next page: the Link header's rel="next" (api_link_next), or a member: `cursor_field`, or one of the usual
 * ones (next, next_cursor, next_page_token, nextPageToken, next_page_url, links.next, _links.next.href,
 * paging.next, pagination.next, meta.next_cursor). What looks like a URL or begins with '/' or '?' is where the
 * next page is; anything else is a cursor.
 *
 * Pure functions. Threads: any. Errors: -EBADMSG with a text. */
#ifndef QUAY_BACKENDS_API_API_PAGE_H
#define QUAY_BACKENDS_API_API_PAGE_H

#include "backends/http.h"
#include "backends/web/web_list.h"

struct api_shape {
    const char *items_field;  /* or "" */
    const char *id_field;
    const char *cursor_field; /* or "" */
    const char *suffix;       /* of the names: ".json" or "" */
};

struct api_page {
    size_t records;
    size_t left_out;
    char *next;       /* URL or cursor; NULL: not told */
    bool next_is_url;
};

#define API_PAGE_INIT ((struct api_page){0})

/* Adds the names to `names` (not sorted). */
int api_page_parse(const char *text, size_t len, const struct api_shape *shape, struct err *err,
                   struct web_names *names, struct api_page *ret);
void api_page_done(struct api_page *p);
/* Does it look like a page of records (and not like one record)? */
bool api_page_is_one(const char *text, size_t len, const struct api_shape *shape);
/* The rel="next" of the Link headers (RFC 8288), malloc'd, or NULL. */
char *api_link_next(const struct http_headers *h);

/* One segment of a key <-> the id. api_id_of_name: NULL when the name has not the suffix. */
char *api_name_of_id(const char *id, const char *suffix);
char *api_id_of_name(const char *name, const char *suffix);

#endif
