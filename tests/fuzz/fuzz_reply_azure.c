/* SPDX-License-Identifier: MIT
 * Every reply of Azure Blob Storage. */
#include "tests/fuzz/reply.h"

#include "backends/azure/azure.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const configs[] = {
        "endpoint_url = http://127.0.0.1:1/acc\ncontainer = cont\nbase_path = p\naccount = acc\naccount_key = a2V5\n",
    };
    return reply_fuzz(&(struct reply_case){&azure_class, configs, ARRAY_LEN(configs)}, data, size);
}
