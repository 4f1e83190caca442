/* SPDX-License-Identifier: MIT
 * memory_save.h: `persist = FILE`: the objects of a memory store in an SQLite database, so that they are there again
 * at the next start.
 *
 *     mem_save_begin(path, op, &save); mem_save_load(save, op, &tree, &bytes);     // once
 *     r = mem_save_write(save, op, changes, n);      // before each change is made in memory
 *     mem_save_end(save);
 *
 * Format: table quay_object (key TEXT, attr TEXT: attr_to_json(), content BLOB: NULL for a directory); PRAGMA
 * user_version is SAVE_FORM. Journal WAL with synchronous FULL: what is written is on the disk. The database is locked
 * as long as it is open: two stores never share one.
 * Threads: one at a time, without locks: see memory_begin().
 * Errors: op->err with the file: -ENOSPC, -EROFS, -EACCES; -EIO for what is no such database (it is left as it is) and
 * for a lock that another program holds. */
#ifndef QUAY_BACKENDS_MEMORY_MEMORY_SAVE_H
#define QUAY_BACKENDS_MEMORY_MEMORY_SAVE_H

#include "backends/memory/memory_int.h"

struct mem_save;

/* Why FILE cannot be one, or NULL. */
const char *mem_save_refusal(const char *path);
int mem_save_begin(const char *path, struct op *op, struct mem_save **ret);
int mem_save_load(struct mem_save *sv, struct op *op, struct tree *tree, uint64_t *ret_bytes);
/* All of them or none. */
int mem_save_write(struct mem_save *sv, struct op *op, const struct mem_change *changes, size_t n);
void mem_save_end(struct mem_save *sv); /* NULL ok */

#endif
