/* SPDX-License-Identifier: MIT
 * undo.h: what the journal has promised of a stage file can be had back while the file is edited in place.
 *
 * A row promises bytes of its stage file, those of `staged`. Before one of them changes it is copied, durably, to
 * CACHE_DIR/stage/FILE.undo; the start after a crash copies it back. So an edit of a file that waits for its upload
 * costs what is edited, not what the file is long, and whoever reads or uploads it has one file as ever. What is not
 * promised (behind the promised end, or of the base) is not copied, so that to append costs nothing; nor are holes,
 * which are made again.
 *
 *     struct undo *u = undo_new(stage, file, promise, size, &staged);   // at the first change
 *     while (undo_next(u, off, end, &r))      // before each: what is to be copied next, if anything
 *         undo_keep(u, fd, r, &err);          // durable when it returns 0
 *     ...                                     // only now change [off, end)
 *     undo_drop(u);                           // after there is another row, or none
 *
 * The file is a sequence of records: a head (with the row's `promise`, a random number, as a row that was
 * replaced since must not be undone by it), the bytes, a CRC32C over both. A record that is not whole was being
 * written: nothing had changed yet. Windows grow with what was copied already, so that a large file that is
 * rewritten from end to end, or at random, does not wait for the disk at each write.
 * Threads: the vnode's token. I/O: no struct lock is held. */
#ifndef QUAY_CACHE_UNDO_H
#define QUAY_CACHE_UNDO_H

#include "base/err.h"
#include "cache/ranges.h"

#include <stdbool.h>
#include <stdint.h>

struct stage;
struct stage_file;
struct stage_row;
struct undo;

/* Borrows all; `file`: the stage file's name. No I/O. */
struct undo *undo_new(struct stage *s, const char *file, uint64_t promise, uint64_t size, const struct ranges *staged);
/* The first bytes of [off, end) that are to be copied, and some behind them; at most 32 MiB. */
bool undo_next(const struct undo *u, uint64_t off, uint64_t end, struct range *ret);
uint64_t undo_need(const struct undo *u, struct range r); /* bytes that undo_keep would copy */
int undo_keep(struct undo *u, int fd, struct range r, struct err *err);
uint64_t undo_bytes(const struct undo *u); /* copied so far */
void undo_drop(struct undo *u);  /* with its file; NULL ok */
void undo_leave(struct undo *u); /* without: the next start needs it; NULL ok */

/* At start, before anybody uses the file: makes it what the row has promised, durably, and as long. */
int undo_apply(struct stage *s, struct stage_file *f, const struct stage_row *row, struct err *err);

#endif
