/* SPDX-License-Identifier: MIT
 * Every reply of an S3 server; of STS and of the instance's metadata service, which give the keys. */
#include "tests/fuzz/reply.h"

#include "backends/s3/s3.h"

#define BUCKET "endpoint_url = http://127.0.0.1:1\nbase_path = buck/p\nmultipart_chunksize = 5MiB\n"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const configs[] = {
        BUCKET "access_key_id = AKID\nsecret_access_key = secret\n",
        BUCKET "access_key_id = AKID\nsecret_access_key = secret\nrole_arn = arn:aws:iam::123456789012:role/r\n"
               "sts_endpoint_url = http://127.0.0.1:2\n",
        BUCKET "imds = yes\n",
    };
    return reply_fuzz(&(struct reply_case){&s3_class, configs, ARRAY_LEN(configs)}, data, size);
}
