/* SPDX-License-Identifier: MIT
 * memory.h: backend = memory, see README.md here. */
#ifndef QUAY_BACKENDS_MEMORY_MEMORY_H
#define QUAY_BACKENDS_MEMORY_MEMORY_H

#include "backends/store.h"

extern const struct store_class memory_class;

#endif
