/* SPDX-License-Identifier: MIT
 * fuzz.h: what the targets share: the input as a C string. */
#ifndef QUAY_TESTS_FUZZ_H
#define QUAY_TESTS_FUZZ_H

#include "base/buf.h"
#include "base/cleanup.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static inline char *fuzz_text(const uint8_t *data, size_t size)
{
    return xstrndup((const char *)data, size);
}

#endif
