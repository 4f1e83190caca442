/* SPDX-License-Identifier: MIT
 * A job file: anybody may drop one. */
#include "tests/fuzz/fuzz.h"

#include "loader/job.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CLEANUP_FREE char *text = fuzz_text(data, size);
    struct err err = ERR_INIT;
    struct job *job = NULL;
    if (job_parse("fuzz.job", text, &err, &job) == 0)
        job_free(job);
    return 0;
}
