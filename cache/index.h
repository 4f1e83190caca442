/* SPDX-License-Identifier: MIT
 * index.h: CACHE_DIR/index.db, its one writer thread, and who may use it.
 *
 * The hot path never waits for SQLite: in-memory structures answer, changes are handed to the writer,
 * which runs them in order and commits in batches (at most 20 ms or 1,000 jobs apart).
 *     index_post(idx, fn, arg);          // fn(db, arg) runs later on the writer thread, in a transaction
 *     index_call(idx, fn, arg, &err);    // the same, and waits for the commit
 * A fn that fails (negative return) is logged at debug and undone alone (savepoint).
 * Tables: `meta_*` belong to meta.c, `object`/`extent` to the block cache. Each owner creates its tables
 * with index_call at start. The schema has a version row; an older one is moved aside (a newer one is refused), as is a
 * file that is not a sound database: the cache then starts empty, with one warning.
 * Threads: any. posted args are freed by fn. index_close runs what is queued first. */
#ifndef QUAY_CACHE_INDEX_H
#define QUAY_CACHE_INDEX_H

#include "base/sqldb.h"

struct cache_index;
typedef int index_fn(struct sqldb *db, void *arg, struct err *err);

int index_open(const char *dir, struct err *err, struct cache_index **ret);
void index_post(struct cache_index *idx, index_fn *fn, void *arg);
int index_call(struct cache_index *idx, index_fn *fn, void *arg, struct err *err);
void index_close(struct cache_index *idx);

#endif
