/* SPDX-License-Identifier: MIT
 * JSON from Cloud Storage: listings and resources; and what a listing becomes. */
#include "tests/fuzz/fuzz.h"

#include "backends/gcs/gcs.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct flat_result l = {0};
    struct gcs_object g = {0};
    struct list_page page = LIST_PAGE_INIT;
    struct list_query q = {.prefix = ""};
    struct op op;
    op_init(&op, "fuzz", 0);
    const struct flat_view view = {
        .uri = (char[]){"gs://b"}, .prefix = "", .hide = GCS_PARTS, .posix = true, .rules = &gcs_meta_rules};
    if (gcs_json_list((const char *)data, size, &l) == 0)
        (void)flat_fill_page(&view, &op, "", &q, &l, &page);
    list_page_done(&page);
    flat_result_done(&l);
    json_t *o = json_loadb((const char *)data, size, 0, NULL);
    if (gcs_json_object(o, true, &g) == 0)
        gcs_object_done(&g);
    json_decref(o);
    return 0;
}
