/* SPDX-License-Identifier: MIT
 * local.h: backend = local, see README.md here. */
#ifndef QUAY_BACKENDS_LOCAL_LOCAL_H
#define QUAY_BACKENDS_LOCAL_LOCAL_H

#include "backends/store.h"

#include <sys/stat.h>

extern const struct store_class local_class;

/* What local tells of such a file, without its xattrs; the version is of inode, size, mtime and ctime. */
void local_attr_from_stat(const struct stat *st, struct attr *ret);

#endif
