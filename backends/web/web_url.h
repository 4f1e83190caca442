/* SPDX-License-Identifier: MIT
 * web_url.h: URLs as the HTTP classes need them: resolving links, whose they are, names in them.
 *
 * An origin is "https://host[:port]" with a lower-case host and without the scheme's own port: two URLs
 * are the same server's when their origins are equal bytes. A path begins with '/', its percent-encoding
 * is kept, bytes that may not be in a URL are encoded, and "." and ".." segments are gone (RFC 3986 5.2.4).
 * A URL is put together from these parts again before it is used, so that nobody reads it in another way
 * than it was checked: user names, odd hosts and fragments never reach the HTTP client.
 * Pure functions. Threads: any. Ownership: struct web_ref owns its strings: web_ref_done().
 * Source: RFC 3986. */
#ifndef QUAY_BACKENDS_WEB_URL_H
#define QUAY_BACKENDS_WEB_URL_H

#include <stdbool.h>

struct web_ref {
    char *origin;
    char *path;  /* "/..." */
    char *query; /* without '?', or NULL */
};

/* "http(s)://HOST[:PORT][/PATH][?QUERY]"; false when it is not one. */
bool web_ref_parse(const char *url, struct web_ref *ret);
/* A link or Location as found in what `base` gave; false: not http(s), or not a URL. */
bool web_ref_resolve(const struct web_ref *base, const char *link, struct web_ref *ret);
char *web_ref_url(const struct web_ref *r); /* malloc'd */
void web_ref_done(struct web_ref *r);

bool web_same_origin(const struct web_ref *a, const struct web_ref *b);
/* Is `to` the same place with a '/' at its end: how servers say that it is a directory? */
bool web_is_dir_of(const struct web_ref *from, const struct web_ref *to);
/* NULL, or why a redirect from one to the other is not followed: from https to http, and from another
 * machine's server to this machine or to a link-local address (metadata services). */
const char *web_redirect_refused(const struct web_ref *from, const struct web_ref *to);

/* What `link` in the index page of the directory `page` names, if that is directly in it: the decoded
 * name, malloc'd, and whether it ends in '/'. NULL: another host, another directory, a sort order
 * (query), itself, or what is no name ("..", an encoded '/', a NUL). */
char *web_child_name(const struct web_ref *page, const char *link, bool *ret_dir);
/* May one segment of a key be called that? Not "", ".", "..", nothing with a '/'. */
bool web_is_name(const char *name);

#define CLEANUP_REF __attribute__((cleanup(web_ref_done)))
#define WEB_REF_INIT ((struct web_ref){0})

#endif
