/* SPDX-License-Identifier: MIT
 * blob_postgres_missing.c: in place of blob_postgres.c where libpq was not there. */
#include "backends/blob/blob_int.h"

#include <errno.h>

static int missing_open(const struct conf_section *section, struct stats *stats, struct err *err,
                        struct store **ret)
{
    (void)stats, (void)ret;
    return conf_error(section, "backend", err, ENOTSUP,
                      "this quayfs was built without libpq: install libpq-dev and build it again");
}

const struct store_class blob_postgres_class = {
    .abi = STORE_ABI,
    .name = "postgres",
    .summary = "files as BLOBs in PostgreSQL (not in this build)",
    .options = blob_postgres_options,
    .n_options = BLOB_POSTGRES_N_OPTIONS,
    .open = missing_open,
    .close = blob_server_close,
    BLOB_SLOTS,
};
