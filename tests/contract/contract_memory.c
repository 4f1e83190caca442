/* SPDX-License-Identifier: MIT
 * contract_memory.c: the suite over backend = memory, and its max_size. */
#include "tests/contract/suite.h"

static void whole_suite(void)
{
    struct suite s;
    suite_init(&s, "memory", open_store("[store t]\nbackend = memory\n", NULL));
    suite_run(&s);
    suite_done(&s);
}

static uint64_t used(struct suite *s)
{
    struct store_space space = {0};
    OK(store_space(s->store, &s->op, &space));
    return space.total - space.free;
}

static void limited(void)
{
    struct suite suite, *s = &suite;
    suite_init(s, "memory, 10K", open_store("[store t]\nbackend = memory\nmax_size = 10K\n", NULL));
    suite_begin(s, "limited");
    char data[8192] = "";
    OK(put_bytes(s, "a", data, 8192, NULL, NULL, NULL));
    FAILS(put_bytes(s, "b", data, 4096, NULL, NULL, NULL), ENOSPC);
    check_gone(s, "b");
    OK(put_bytes(s, "a", data, 8000, NULL, NULL, NULL)); /* what it replaces makes room */
    OK(put_bytes(s, "b", data, 2000, NULL, NULL, NULL));
    CHECK_INT(used(s), 10000);
    struct attr none = ATTR_INIT;
    struct source_mem src = source_mem(data, 8192);
    struct patch_req grow = {.key = K(s, "b"), .src = &src.base, .new_size = 5000};
    FAILS(store_patch(s->store, &s->op, &grow, &none), ENOSPC);
    OK(store_remove(s->store, &s->op, K(s, "a"), NULL));
    CHECK_INT(used(s), 2000);

    struct upload_req req = {.key = K(s, "up")};
    struct store_part part = {.number = 1, .size = 8000};
    char *id = NULL;
    OK(store_upload_begin(s->store, &s->op, &req, &id));
    src = source_mem(data, 8000);
    OK(store_upload_part(s->store, &s->op, K(s, "up"), id, &src.base, &part));
    CHECK_INT(used(s), 10000); /* parts count */
    struct store_part more = {.number = 2, .size = 8000};
    FAILS(store_upload_part(s->store, &s->op, K(s, "up"), id, &src.base, &more), ENOSPC);
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    OK(store_upload_finish(s->store, &s->op, K(s, "up"), id, &part, 1, NULL, &a));
    CHECK_INT(used(s), 10000);
    free(id);
    OK(store_remove(s->store, &s->op, K(s, "up"), NULL));
    OK(store_remove(s->store, &s->op, K(s, "b"), NULL));
    CHECK_INT(used(s), 0);
    suite_done(s);
}

static void an_upload_left_behind(void)
{
    struct suite suite, *s = &suite;
    suite_init(s, "memory", open_store("[store t]\nuri = memory://\n", NULL));
    suite_begin(s, "left");
    struct upload_req req = {.key = K(s, "up")};
    struct source_mem src = source_mem("x", 1);
    struct store_part part = {.number = 7, .size = 1};
    char *id = NULL;
    OK(store_upload_begin(s->store, &s->op, &req, &id));
    OK(store_upload_part(s->store, &s->op, K(s, "up"), id, &src.base, &part));
    free(id);
    suite_done(s); /* frees it: the leak checker watches */
}

int main(void)
{
    RUN(whole_suite);
    RUN(limited);
    RUN(an_upload_left_behind);
    return t_done();
}
