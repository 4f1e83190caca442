/* SPDX-License-Identifier: MIT
 * blob_mysql_missing.c: in place of blob_mysql.c where libmariadb was not there. */
#include "backends/blob/blob_int.h"

#include <errno.h>

static int missing_open(const struct conf_section *section, struct stats *stats, struct err *err,
                        struct store **ret)
{
    (void)stats, (void)ret;
    return conf_error(section, "backend", err, ENOTSUP,
                      "this quayfs was built without libmariadb: install libmariadb-dev and build it again");
}

const struct store_class blob_mysql_class = {
    .abi = STORE_ABI,
    .name = "mysql",
    .summary = "files as BLOBs in MariaDB or MySQL (not in this build)",
    .options = blob_mysql_options,
    .n_options = BLOB_MYSQL_N_OPTIONS,
    .open = missing_open,
    .close = blob_server_close,
    BLOB_SLOTS,
};
