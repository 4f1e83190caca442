/* SPDX-License-Identifier: MIT
 * web_spool.h: whole downloads, for files that cannot be read in ranges.
 *
 * When a server ignores Range, tells no length, or tells nothing by which a version could be pinned, a
 * file is read by one GET of all of it: that one reply is one version. Its body goes to an unlinked
 * temporary file while a thread of the spool reads it; readers wait for their range only, and take it
 * as soon as it is there. Further ranges of the same version come from the file.
 *   - With a version: the reply must be of it (-ESTALE), and bytes are given as they arrive.
 *   - Without one, or with a "sha256" one: bytes are given when all has come, and the version is that of
 *     the server, or the hash of the content.
 * A read without a version always begins a download of its own: what is there may be older than it.
 * Limits: `max` bytes on disk in all (-EFBIG for a file larger than that, -ENOSPC while others that are
 * being read fill it); finished ones go, the least recently used first. A download that nobody has
 * waited for during IDLE_S ends.
 * Threads: any; the spool's own are at most THREADS. Errors: of the download, with its retry class. */
#ifndef QUAY_BACKENDS_WEB_SPOOL_H
#define QUAY_BACKENDS_WEB_SPOOL_H

#include "backends/store.h"
#include "backends/web/web_client.h"
#include "backends/web/web_version.h"

struct web_spool;

struct web_spool *web_spool_new(struct web *w, const char *dir, uint64_t max);
void web_spool_free(struct web_spool *s); /* cancels what is under way; NULL ok */

/* Is the version there or on its way? */
bool web_spool_has(struct web_spool *s, const char *key, const char *version);
/* As store_read; `at`: where `key` is. An iov of no bytes waits for the end and tells the facts. */
int web_spool_read(struct web_spool *s, struct op *op, const struct web_ref *at,
                   const struct read_req *req, size_t *ret_len, struct web_facts *ret);

#endif
