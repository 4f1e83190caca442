/* SPDX-License-Identifier: MIT
 * db_postgres_missing.c: stands in the table of drivers where libpq was not found at build time. */
#include "loader/drivers.h"

const struct database_class db_postgres_class = {
    .abi = DATABASE_ABI,
    .name = "postgres",
    .summary = "PostgreSQL by COPY (not built)",
    .missing = "driver 'postgres' was not built: install libpq-dev and rebuild",
};
