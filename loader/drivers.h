/* SPDX-License-Identifier: MIT
 * drivers.h: the class of each driver; the table in database.c lists them. Each is in a file of its
 * own (db_NAME.c), or in db_NAME_missing.c when its library was not found. */
#ifndef QUAY_LOADER_DRIVERS_H
#define QUAY_LOADER_DRIVERS_H

#include "loader/database.h"

extern const struct database_class db_sqlite_class;
extern const struct database_class db_postgres_class;

#endif
