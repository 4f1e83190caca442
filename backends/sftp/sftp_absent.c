/* SPDX-License-Identifier: MIT
 * sftp_absent.c: stands in for the backend where quayfs is built without libssh2 (QUAY_WITH_SFTP).
 */
#include "backends/sftp/sftp.h"

#include <errno.h>

static int absent_open(const struct conf_section *section, struct stats *stats, struct err *err,
                       struct store **ret)
{
    (void)stats, (void)ret;
    return conf_error(section, "backend", err, ENOTSUP,
                      "backend = sftp: this quayfs was built without libssh2 (QUAY_WITH_SFTP)");
}

static void absent_close(struct store *s)
{
    (void)s;
}

static int absent_stat(struct store *s, struct op *op, const char *key, struct attr *ret)
{
    (void)s, (void)key, (void)ret;
    return err_set(&op->err, ENOTSUP, "built without libssh2");
}

static int absent_list(struct store *s, struct op *op, const struct list_query *q,
                       struct list_page *ret)
{
    (void)s, (void)q, (void)ret;
    return err_set(&op->err, ENOTSUP, "built without libssh2");
}

static int absent_read(struct store *s, struct op *op, const struct read_req *req,
                       struct read_res *ret)
{
    (void)s, (void)req, (void)ret;
    return err_set(&op->err, ENOTSUP, "built without libssh2");
}

const struct store_class sftp_class = {
    .abi = STORE_ABI,
    .name = "sftp",
    .summary = "a directory of an SSH server (not in this build)",
    .options = sftp_options,
    .n_options = SFTP_OPTIONS,
    .open = absent_open,
    .close = absent_close,
    .stat = absent_stat,
    .list = absent_list,
    .read = absent_read,
};
