/* SPDX-License-Identifier: MIT
 * XML from an S3 server: listings, of versions too, and delete results. */
#include "tests/fuzz/fuzz.h"

#include "backends/s3/s3.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct flat_result list = {0};
    struct s3_delete_errors errors = {0};
    struct s3_versions versions = {0};
    if (s3_xml_list((const char *)data, size, &list) == 0)
        flat_result_done(&list);
    if (s3_xml_delete((const char *)data, size, &errors) == 0)
        s3_delete_errors_done(&errors);
    if (s3_xml_versions((const char *)data, size, &versions) == 0)
        s3_versions_done(&versions);
    return 0;
}
