/* SPDX-License-Identifier: MIT
 * Every reply of Cloud Storage, and of the token endpoint. */
#include "tests/fuzz/reply.h"

#include "backends/gcs/gcs.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const configs[] = {
        "endpoint_url = http://127.0.0.1:1\nbucket = buck\nbase_path = p\nanonymous = yes\n",
        "endpoint_url = http://127.0.0.1:1\nbucket = buck\nservice_account_key = {\"type\":\"authorized_user\","
        "\"client_id\":\"i\",\"client_secret\":\"s\",\"refresh_token\":\"r\",\"token_uri\":\"http://127.0.0.1:2/t\"}\n",
    };
    return reply_fuzz(&(struct reply_case){&gcs_class, configs, ARRAY_LEN(configs)}, data, size);
}
