/* SPDX-License-Identifier: MIT
 * web_index.h: what an index page or a manifest names.
 *
 * Index pages: HTML (nginx and Apache autoindex, Python's http.server, lighttpd, Caddy, any page of
 * links): every link to something directly in the directory is an entry; links to other hosts, other
 * directories, sort orders (?C=N) and what is no name are left out. Sizes: where the line ends with whole
 * bytes; times are not read, as pages show minutes in a zone that they do not tell. JSON (nginx's
 * autoindex_format json, Caddy): names, sizes and times are exact.
 * Manifests: one path a line ('#' begins a comment; bytes are taken as they are, '/' at the end: a
 * directory), or JSON: an array, or an object whose member "files", "items" or "entries" is one, of
 * strings or of objects: name | path | key | url, size, mtime | mod_time | modified | last_modified
 * (seconds, ISO 8601, or as HTTP has it), etag | version, type ("directory") | is_dir.
 * A path that is not below the root (absolute, "..", an empty segment) makes a manifest an error.
 *
 * Hostile input: HTML goes through libxml2's push parser without network and entities' files; nothing is
 * built but the names. Pure functions. Errors: -EBADMSG (not such a document), -ENOTSUP (built without
 * libxml2), with a text. Ownership: *ret is the caller's. Threads: any. */
#ifndef QUAY_BACKENDS_WEB_INDEX_H
#define QUAY_BACKENDS_WEB_INDEX_H

#include "backends/web/web_list.h"
#include "backends/web/web_url.h"

/* `page` is where it came from. Sorted. */
int web_index_html(const struct web_ref *page, const char *text, size_t len, struct err *err,
                   struct web_names *ret);
int web_index_json(const char *text, size_t len, struct err *err, struct web_names *ret);
/* Names are whole paths ("a/b.txt"); directories are named with '/' where the manifest does so. Sorted. */
int web_manifest_parse(const char *text, size_t len, struct err *err, struct web_names *ret);
/* Does it look like JSON? (Servers give both as what they like.) */
bool web_is_json(const char *text, size_t len);
/* "   21-Nov-2026 15:04    1234": the bytes at the end of an index line; false: none, or rounded. */
bool web_index_size(const char *tail, uint64_t *ret);

#endif
