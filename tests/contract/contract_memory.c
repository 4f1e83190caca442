/* SPDX-License-Identifier: MIT
 * contract_memory.c: the suite over backend = memory, and its max_size. */
#include "tests/contract/suite.h"

static void whole_suite(void)
{
    suite_over("memory", "[store t]\nbackend = memory\n");
}

static char *saved(const char *dir)
{
    return xasprintf("[store t]\nbackend = memory\npersist = %s/kept.sqlite\n", dir);
}

static void begin_saved(struct suite *s, const char *dir)
{
    CLEANUP_FREE char *text = saved(dir);
    *s = (struct suite){.store = open_store(text, NULL), .label = "memory, saved"};
    op_init(&s->op, "suite", 0);
}

static void whole_suite_saved(void)
{
    CLEANUP_FREE char *dir = temp_dir(), *text = saved(dir);
    suite_over("memory, saved", text);
    temp_dir_remove(dir);
}

/* Everything that a store can be told is there again, with its version; what was removed is not. */
static void again(void)
{
    CLEANUP_FREE char *dir = temp_dir();
    struct suite suite, *s = &suite;
    CLEANUP_ATTR struct attr made = ATTR_INIT, now = ATTR_INIT, changed = ATTR_INIT, link = ATTR_INIT;
    struct attr mode = {.known = ATTR_HAS_MODE, .mode = 0640}, symlink = {.kind = ATTR_SYMLINK};
    begin_saved(s, dir);
    OK(put_bytes(s, "odd '\x01\xff name", "a\0b", 3, NULL, NULL, &made));
    OK(put_bytes(s, "empty", "", 0, NULL, NULL, NULL));
    OK(put_bytes(s, "link", "empty", 5, &symlink, NULL, NULL));
    OK(put_bytes(s, "gone", "x", 1, NULL, NULL, NULL));
    OK(put_bytes(s, "from", "moved", 5, NULL, NULL, NULL));
    OK(put_bytes(s, "a", "A", 1, NULL, NULL, NULL));
    OK(put_bytes(s, "b", "B", 1, NULL, NULL, NULL));
    OK(store_make_dir(s->store, &s->op, "dir", NULL));
    OK(store_make_dir(s->store, &s->op, "no dir", NULL));
    OK(store_set_meta(s->store, &s->op, "odd '\x01\xff name", NULL, &mode, &changed));
    OK(store_remove(s->store, &s->op, "gone", NULL));
    OK(store_remove_dir(s->store, &s->op, "no dir"));
    OK(store_rename(s->store, &s->op, "from", "to", false));
    OK(store_exchange(s->store, &s->op, "a", "b"));
    suite_done(s);
    begin_saved(s, dir);
    CLEANUP_FREE char *list = list_text(s, "", false, 0);
    CHECK_STR(list, "a b dir/ empty link odd '\x01\xff name to");
    OK(stat_key(s, "odd '\x01\xff name", &now));
    CHECK_STR(now.version, made.version);
    CHECK_INT(now.mode, 0640);
    CHECK_INT(now.mtime.tv_nsec, made.mtime.tv_nsec);
    OK(stat_key(s, "link", &link));
    CHECK_INT(link.kind, ATTR_SYMLINK);
    check_text(s, "to", "moved");
    check_text(s, "a", "B");
    check_text(s, "empty", "");
    CHECK_INT(put_bytes(s, "new", "x", 1, NULL, NULL, &changed), 0);
    CHECK(strcmp(changed.version, made.version) != 0);
    suite_done(s);
    temp_dir_remove(dir);
}

/* What cannot be saved has not happened. */
static void one_at_a_time(void)
{
    CLEANUP_FREE char *dir = temp_dir();
    struct suite first, second, *s = &first;
    begin_saved(s, dir);
    put_text(s, "f", "old", NULL);
    begin_saved(&second, dir);
    s = &second;
    FAILS(put_bytes(s, "f", "new", 3, NULL, NULL, NULL), EIO);
    CHECK(strstr(err_text(&s->op.err), "another program has it open"));
    suite_done(&first);
    check_text(s, "f", "old"); /* it is free now */
    suite_done(s);
    temp_dir_remove(dir);
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
    RUN(whole_suite_saved);
    RUN(again);
    RUN(one_at_a_time);
    RUN(limited);
    RUN(an_upload_left_behind);
    return t_done();
}
