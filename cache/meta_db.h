/* SPDX-License-Identifier: MIT
 * meta_db.h: the rows that meta.c keeps in index.db. Only meta.c includes this.
 *
 * Rows of directories have a path that ends with '/'. Changes are posted and never waited for; reads wait
 * for the index thread. meta_db_remove takes the path without it, and removes both. */
#ifndef QUAY_CACHE_META_DB_H
#define QUAY_CACHE_META_DB_H

#include "cache/meta.h"

#include <time.h>

typedef void meta_db_row_fn(void *arg, const char *path, struct attr *a /* taken */,
                            time_t listed);

/* Makes the tables, drops the oldest rows beyond what is worth keeping, gives the youngest `max`. */
int meta_db_open(struct cache_index *idx, const char *key, unsigned max, meta_db_row_fn *row,
                 void *arg, struct err *err);
void meta_db_put(struct cache_index *idx, const char *key, const char *path, const struct attr *a,
                 time_t listed);
/* Would both make the same row? (Of what has xattrs: not known.) */
bool meta_db_is_same(const struct attr *a, const struct attr *b);
void meta_db_remove(struct cache_index *idx, const char *key, const char *path, bool tree);
void meta_db_put_listing(struct cache_index *idx, const char *key, const char *dir,
                         struct listing *l);
/* 0 and *ret, or -ENOENT, or another -errno. */
int meta_db_get(struct cache_index *idx, const char *key, const char *path, struct attr *ret);
int meta_db_listing(struct cache_index *idx, const char *key, const char *dir,
                    struct listing **ret);

#endif
