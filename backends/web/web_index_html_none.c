/* SPDX-License-Identifier: MIT
 * web_index_html_none.c: a build without libxml2: HTML index pages cannot be read. */
#include "backends/web/web_index.h"

#include <errno.h>

int web_index_html(const struct web_ref *page, const char *text, size_t len, struct err *err,
                   struct web_names *ret)
{
    (void)page, (void)text, (void)len, (void)ret;
    return err_set(err, ENOTSUP,
                   "this quayfs was built without libxml2 and reads no HTML index pages; set "
                   "'manifest', or let the server list in JSON");
}
