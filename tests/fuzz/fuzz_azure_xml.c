/* SPDX-License-Identifier: MIT
 * XML from Azure: listings, and what becomes of them. */
#include "tests/fuzz/fuzz.h"

#include "backends/azure/azure.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct flat_result l = {0};
    struct list_page page = LIST_PAGE_INIT;
    struct list_query q = {.prefix = ""};
    struct op op;
    const struct flat_view view = {
        .uri = (char[]){"az://c"}, .prefix = "", .posix = true, .rules = &azure_meta_rules};
    op_init(&op, "fuzz", 0);
    if (azure_xml_list((const char *)data, size, &l) == 0)
        (void)flat_fill_page(&view, &op, "", &q, &l, &page);
    list_page_done(&page);
    flat_result_done(&l);
    return 0;
}
