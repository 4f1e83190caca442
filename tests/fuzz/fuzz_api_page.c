/* SPDX-License-Identifier: MIT
 * Pages of a REST collection and Link headers. What comes out are names, which lead back to an id. */
#include "tests/fuzz/fuzz.h"

#include "backends/api/api_page.h"
#include "backends/web/web_url.h"

static void check_names(struct web_names *names)
{
    for (size_t i = 0; i < names->n; i++) {
        char *id = api_id_of_name(names->v[i].name, ".j");
        char *again = id ? api_name_of_id(id, ".j") : NULL;
        if (!again || strcmp(again, names->v[i].name) != 0 || !web_is_name(names->v[i].name))
            abort();
        free(id);
        free(again);
    }
    web_names_done(names);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct api_shape shape = {"", "id", "", ".j"};
    struct web_ref page = {.origin = (char[]){"http://host"}, .path = (char[]){"/a/"}}, next = {0};
    struct web_names names = {0};
    struct api_page p = API_PAGE_INIT;
    struct http_headers h = {0};
    struct err err = ERR_INIT;
    if (api_page_parse((const char *)data, size, &shape, &err, &names, &p) == 0 && p.next_is_url &&
        web_ref_resolve(&page, p.next, &next))
        web_ref_done(&next);
    check_names(&names);
    api_page_done(&p);
    (void)api_page_is_one((const char *)data, size, &shape);
    char *text = fuzz_text(data, size);
    http_headers_add(&h, "link", text);
    free(api_link_next(&h));
    http_headers_done(&h);
    free(text);
    return 0;
}
