/* SPDX-License-Identifier: MIT
 * local.h: backend = local, see README.md here. */
#ifndef QUAY_BACKENDS_LOCAL_LOCAL_H
#define QUAY_BACKENDS_LOCAL_LOCAL_H

#include "backends/store.h"

extern const struct store_class local_class;

#endif
