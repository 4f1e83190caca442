/* SPDX-License-Identifier: MIT
 * budget.h: the memory that block buffers may take, all readers together.
 *
 *     b = budget_new(80 << 20);  budget_set_reclaim(b, fn, arg);
 *     p = budget_get(b, 1 << 20, true);  ...  budget_put(b, p, 1 << 20);
 * Buffers are page-aligned and not zeroed; large ones are kept for reuse (page faults cost more
 * than the copy), which counts as well. Who may not wait gets NULL, also while others wait: a
 * reader's need goes before read-ahead. Reclaim: before it waits, budget_get asks the callback to
 * give back `want` bytes, at first what costs nothing (RECLAIM_SPARE: it is on disk), at last what
 * can be fetched again (RECLAIM_FORCE). It is called without locks and calls budget_put. Threads:
 * any. Errors: NULL when size exceeds the total, or it may not wait. */
#ifndef QUAY_CACHE_BUDGET_H
#define QUAY_CACHE_BUDGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum reclaim_level { RECLAIM_SPARE = 0, RECLAIM_AHEAD, RECLAIM_FORCE };
typedef void budget_reclaim_fn(void *arg, uint64_t want, enum reclaim_level level);

struct budget;
struct budget *budget_new(uint64_t total);
void budget_resize(struct budget *b, uint64_t total); /* what is handed out beyond it comes back */
void budget_free(struct budget *b);                   /* all buffers are back; NULL ok */
void budget_set_reclaim(struct budget *b, budget_reclaim_fn *fn, void *arg);
void *budget_get(struct budget *b, size_t size, bool wait);
void budget_put(struct budget *b, void *p, size_t size);
bool budget_has_room(struct budget *b, size_t size); /* a hint: would not wait now */
uint64_t budget_total(struct budget *b);
uint64_t budget_used(struct budget *b); /* handed out */
void budget_trim(struct budget *b);     /* frees what is kept for reuse and was not used of late */

#endif
