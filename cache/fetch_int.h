/* SPDX-License-Identifier: MIT
 * fetch_int.h: what fetch.c and fetch_run.c share. */
#ifndef QUAY_CACHE_FETCH_INT_H
#define QUAY_CACHE_FETCH_INT_H

#include "cache/fetch.h"
#include "cache/object_int.h"

void part_prepare(struct fetch_part *p); /* fills in the jobs */
void part_unref_locked(struct fetch_part *p, struct fetch_work *w);
void part_take_out_locked(struct fetch_part *p, struct fetch_work *w); /* of the table */
void part_settle_locked(struct fetch_part *p, struct fetch_work *w);
void part_keep_locked(struct fetch_part *p, struct fetch_work *w); /* queues what is to be written */

#endif
