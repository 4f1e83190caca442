/* SPDX-License-Identifier: MIT
 * Every reply of a REST service: collections in pages, records. */
#include "tests/fuzz/reply.h"

#include "backends/api/api.h"

#define SERVICE "endpoint = http://127.0.0.1:1/v1\nspool_dir = /dev/shm\n"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const configs[] = {
        SERVICE "suffix = .json\n",
        SERVICE "collections = d\npagination = page\npage_param = page\n",
        SERVICE "collections = d\npagination = cursor\ncursor_field = meta.next\nitems_field = data.rows\n",
    };
    return reply_fuzz(&(struct reply_case){&api_class, configs, ARRAY_LEN(configs)}, data, size);
}
