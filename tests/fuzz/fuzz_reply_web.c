/* SPDX-License-Identifier: MIT
 * Every reply of a web server: index pages, manifests, files, what takes no ranges. */
#include "tests/fuzz/reply.h"

#include "backends/web/web.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const configs[] = {
        "url = http://127.0.0.1:1/files/\nspool_dir = /dev/shm\nspool_max = 1MiB\n",
        "url = http://127.0.0.1:1/files/\nmanifest = manifest.txt\nspool_dir = /dev/shm\nspool_max = 1MiB\n",
    };
    return reply_fuzz(&(struct reply_case){&web_class, configs, ARRAY_LEN(configs)}, data, size);
}
