/* SPDX-License-Identifier: MIT
 * lister.h: the pages of one directory of a store in order, the next ones on their way.
 *
 * The first page is asked for by the caller's own thread; when it tells that there are more, jobs of
 * volume.fetch ask for what list_parts.h plans: the next page, and where the store can (CAP_LIST_AFTER)
 * several parts at once, at most limits.concurrency and LISTER_MAX. A job that fails says nothing: whoever
 * needs its page asks again, in his own name.
 *     l = lister_new(v, dir, NULL, false);
 *     while (lister_next(l, op, &page, &ns) == 1) { ...; list_page_done(&page); }
 *     lister_close(l);
 * Threads: one reader; lister_close does not wait for jobs, they end by themselves (cancelled). */
#ifndef QUAY_CACHE_LISTER_H
#define QUAY_CACHE_LISTER_H

#include "cache/volume_int.h"

#define LISTER_MAX 8

struct lister;

/* `after`: begin behind this name (that of a directory), or NULL. */
struct lister *lister_new(struct volume *v, const char *dir, const char *after, bool after_dir);
/* 1 and a page (which may be empty) with when it was asked for; 0 behind the last one; -errno. */
int lister_next(struct lister *l, struct op *op, struct list_page *ret, uint64_t *ret_asked_ns);
bool lister_ready(struct lister *l);  /* the next call does not wait */
bool lister_is_end(struct lister *l); /* the last page was given */
void lister_close(struct lister *l);  /* NULL ok */

#endif
