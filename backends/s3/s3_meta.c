/* SPDX-License-Identifier: MIT
 * s3_meta.c: attributes <-> headers: x-amz-meta-* as flat_meta.c has them, and Content-Type.
 * Pure functions. Threads: any. */
#include "backends/s3/s3.h"

#include <stdlib.h>

const struct flat_meta_rules s3_meta_rules = {
    .head = "x-amz-meta-", .punct = "-_.", .max = S3_META_MAX, .title = "S3", .tags = true};

int s3_meta_to_headers(const struct attr *a, enum s3_meta_as as, struct err *err,
                       struct http_headers *h)
{
    return flat_meta_write(a, as == S3_META_DIR, &s3_meta_rules, err, h);
}

void s3_meta_from_headers(const struct http_headers *h, bool posix, struct attr *a)
{
    flat_meta_read(h, &s3_meta_rules, posix, a);
}

void s3_attr_from_reply(const struct http_res *res, uint64_t total, bool posix, struct attr *ret)
{
    struct attr a = {.kind = ATTR_FILE, .size = total};
    const char *etag = http_headers_get(&res->headers, "etag");
    if (etag)
        flat_version_of_etag(etag, a.version);
    flat_reply_times(res, &a);
    s3_meta_from_headers(&res->headers, posix, &a);
    *ret = a;
}
