/* SPDX-License-Identifier: MIT
 * A configuration file: any bytes give a conf or an error, never a crash. */
#include "tests/fuzz/fuzz.h"

#include "base/settings.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CLEANUP_FREE char *text = fuzz_text(data, size);
    struct err err = ERR_INIT;
    struct conf *c = NULL;
    struct settings s;
    if (conf_parse("fuzz.conf", text, &err, &c) < 0)
        return 0;
    if (conf_apply_env(c, "dev", &err) == 0 && settings_load(c, &err, &s) == 0)
        settings_done(&s);
    conf_free(c);
    return 0;
}
