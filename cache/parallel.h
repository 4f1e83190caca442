/* SPDX-License-Identifier: MIT
 * parallel.h: the same work on many items by a few threads of its own, and waiting for them.
 *
 * For requests that wait for the network: parts of an upload, objects of a directory. Not for a pool's
 * worker to wait on its own pool: these threads are started for the call and joined.
 *     r = parallel_each(n, 8, copy_one, &arg, op);
 * The caller's thread works too. After a failure no new item is begun; what runs is finished; the first
 * failure is returned with its text in op->err. Each thread has its own op with op's deadline, and is
 * cancelled between items when op is. */
#ifndef QUAY_CACHE_PARALLEL_H
#define QUAY_CACHE_PARALLEL_H

#include "base/op.h"

#include <stddef.h>

typedef int parallel_fn(void *arg, size_t i, struct op *op); /* 0 or -errno with op->err */

int parallel_each(size_t n, unsigned threads, parallel_fn *fn, void *arg, struct op *op);

#endif
