/* SPDX-License-Identifier: MIT
 * Header values from a server: ranges, dates, URLs, metadata. */
#include "tests/fuzz/fuzz.h"

#include "backends/http.h"
#include "backends/s3/s3.h"
#include "base/date.h"
#include "base/url.h"

static void metadata(const char *text)
{
    static const char *const names[] = {"x-amz-meta-mode",  "x-amz-meta-mtime", "x-amz-meta-xattr",
                                        "x-amz-meta-uid",   "content-type",     "etag",
                                        "last-modified",    "content-length",   "retry-after"};
    struct http_headers h = {0};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        http_headers_add(&h, names[i], text);
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    s3_meta_from_headers(&h, true, &a);
    (void)http_retry_after_ms(&h);
    http_headers_done(&h);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CLEANUP_FREE char *text = fuzz_text(data, size);
    CLEANUP_BUF struct buf b = BUF_INIT;
    uint64_t first, last, total;
    struct timespec ts;
    time_t t;
    struct url u;
    (void)http_parse_content_range(text, &first, &last, &total);
    (void)date_parse_http(text, &t);
    (void)date_parse_iso(text, &ts);
    (void)date_parse_unix(text, &ts);
    (void)url_decode(&b, text, strlen(text));
    if (url_parse(text, &u))
        url_done(&u);
    metadata(text);
    return 0;
}
