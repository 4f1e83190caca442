/* SPDX-License-Identifier: MIT
 * Index pages and manifests from a web server; the first byte says which. What comes out are names. */
#include "tests/fuzz/fuzz.h"

#include "backends/web/web_index.h"
#include "base/name.h"

static void check(struct web_names *names, bool paths)
{
    for (size_t i = 0; i < names->n; i++) {
        size_t n = strlen(names->v[i].name);
        char *bare = xstrndup(names->v[i].name, n - (n > 1 && names->v[i].name[n - 1] == '/'));
        if (paths ? !path_is_inside(bare) : !web_is_name(bare))
            abort();
        free(bare);
    }
    web_names_done(names);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct web_ref page = {.origin = (char[]){"http://host"}, .path = (char[]){"/a%20b/"}};
    struct web_names names = {0};
    struct err err = ERR_INIT;
    if (size == 0)
        return 0;
    const char *text = (const char *)data + 1;
    int kind = data[0] % 3;
    int r = kind == 0   ? web_index_html(&page, text, size - 1, &err, &names)
            : kind == 1 ? web_index_json(text, size - 1, &err, &names)
                        : web_manifest_parse(text, size - 1, &err, &names);
    if (r == 0)
        check(&names, kind == 2);
    return 0;
}
