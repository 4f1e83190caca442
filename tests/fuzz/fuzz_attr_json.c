/* SPDX-License-Identifier: MIT
 * Attributes as kept in the index: a damaged row is refused, a good one survives the way back. */
#include "tests/fuzz/fuzz.h"

#include "backends/attr.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CLEANUP_FREE char *text = fuzz_text(data, size);
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    if (!attr_from_json(text, &a))
        return 0;
    CLEANUP_FREE char *again = attr_to_json(&a);
    CLEANUP_ATTR struct attr b = ATTR_INIT;
    if (!attr_from_json(again, &b))
        abort();
    return 0;
}
