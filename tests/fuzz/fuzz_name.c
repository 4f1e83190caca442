/* SPDX-License-Identifier: MIT
 * A key segment: what is shown is a legal file name and leads back to the segment. */
#include "tests/fuzz/fuzz.h"

#include "base/name.h"

#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char shown[NAME_MAX_BYTES + 1];
    char back[NAME_MAX_BYTES + 1];
    if (size == 0 || memchr(data, '/', size))
        return 0;
    bool shadow = data[0] & 1;
    name_encode((const char *)data + 1, size - 1, shadow, shown);
    assert(*shown && !strchr(shown, '/') && strcmp(shown, ".") != 0 && strcmp(shown, "..") != 0);
    enum name_form form = name_decode(shown, back);
    if (form != NAME_LONG)
        assert(strlen(back) == size - 1 && memcmp(back, data + 1, size - 1) == 0);
    assert((form == NAME_SHADOW) == shadow || form == NAME_LONG);
    CLEANUP_FREE char *name = fuzz_text(data, size);
    if (strlen(name) <= NAME_MAX_BYTES)
        (void)name_decode(name, back);
    (void)path_is_inside(name);
    (void)path_glob(name, "a/b/c.csv");
    return 0;
}
