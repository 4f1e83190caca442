/* SPDX-License-Identifier: MIT
 * blob.h: backend = sqlite, postgres, mysql: files as BLOBs in the tables of a database. See README.md here.
 * A class whose client library was not there at build time is in the list all the same: opening it says so. */
#ifndef QUAY_BACKENDS_BLOB_BLOB_H
#define QUAY_BACKENDS_BLOB_BLOB_H

#include "backends/store.h"

extern const struct store_class blob_sqlite_class;
extern const struct store_class blob_postgres_class;
extern const struct store_class blob_mysql_class;

#endif
