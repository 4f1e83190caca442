/* SPDX-License-Identifier: MIT
 * stream.h: the upload of a file that is still being written.
 *
 * A new (or truncated) file that is written from its beginning on leaves in parts while the application
 * goes on: part i is [off, off + len) of stream_part(), cut when the bytes before `front` are complete and
 * the writer is 1 MiB (or a part) past it. Parts are read from the stage file by jobs of the volume's fetch
 * pool, at most limits.concurrency at once; a part remembers etag and size.
 *
 *     s = stream_new(v, path, file, &attr);             stream_ready(s, front);  // as often as wanted
 *     pwrite(file, ...); stream_changed(s, off, end);   // after every change of staged bytes
 *     r = stream_finish(s, op, size, pre, &a);          // the rest, then complete; may be tried again
 *     stream_drop(s);                                   // always: gives up what is not finished
 * States of a part: WAITING (cut, not sent) -> SENDING -> SENT; AGAIN: changed since it was sent, or while;
 * it goes again, under the same number, when the upload is finished (once, however often it changes).
 * A part is good when its last sending began after the last change: jobs read the file without the vnode's
 * token, so a change marks its parts after the bytes are written. A torn part is AGAIN, never SENT.
 *
 * Disk: bytes of SENT parts stay in the stage file (they become the cache) until room is needed:
 * stream_free() punches them out. What was freed is with the store only, in an upload that nobody can read
 * before it is finished: reading it gives EIO, changing it ENOSPC. The first part is never freed: formats
 * with a header go back to it.
 * What has been finished lets go of the stage file: the cache adopts it when nobody else has it.
 * Failure: a part that cannot be sent stops the jobs; stream_finish tries it again, and fails with its error.
 *
 * Threads: all but the jobs hold the vnode's token; stream_is_freed from any thread. Lock: LEAF. */
#ifndef QUAY_CACHE_STREAM_H
#define QUAY_CACHE_STREAM_H

#include "backends/store.h"

struct volume;
struct stage_file;
struct stream;

/* Part number `index` (from 0) of an upload whose size is not known yet: part_size long at first, doubled
 * every twelfth of parts_max, so that they are enough for the largest object. false: there is no such part. */
bool stream_part(const struct store_limits *l, uint64_t index, uint64_t *ret_off, uint64_t *ret_len);

/* `attr` is stored with the object, `file` is referenced. */
struct stream *stream_new(struct volume *v, const char *path, struct stage_file *file,
                          const struct attr *attr);
/* Never waits; an upload that was begun is aborted in the background. NULL ok. */
void stream_drop(struct stream *s);

/* The upload is neither aborted nor swept from now on: bytes that are nowhere else are in it. */
void stream_leave(struct stream *s);

void stream_ready(struct stream *s, uint64_t front);
/* May [off, end) be changed? -ENOSPC when some of it was freed. */
int stream_may_change(struct stream *s, struct op *op, uint64_t off, uint64_t end);
void stream_changed(struct stream *s, uint64_t off, uint64_t end);
/* Sends what is missing of `size` bytes and completes. The upload stays usable after a failure. */
int stream_finish(struct stream *s, struct op *op, uint64_t size, const struct precond *pre,
                  struct attr *ret);

/* Frees disk space of parts that are at the store; waits for one while parts are on their way. Gives how
 * much, 0: nothing can be had. */
uint64_t stream_free(struct stream *s, struct op *op);
bool stream_is_freed(struct stream *s, uint64_t off, uint64_t end); /* any byte of it */
bool stream_has_freed(struct stream *s);

/* For the journal: what is at the store, as text (malloc'd; NULL when nothing was freed: then all is staged),
 * and the same stream again. NULL: not such a text. */
char *stream_format(struct stream *s);
struct stream *stream_parse(struct volume *v, const char *path, struct stage_file *file,
                            const struct attr *attr, const char *text);

const struct attr *stream_attr(const struct stream *s); /* what is stored with it */
const char *stream_path(const struct stream *s);
char *stream_id(struct stream *s); /* malloc'd; NULL: not begun */

#endif
