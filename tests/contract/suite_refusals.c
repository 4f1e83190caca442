/* SPDX-License-Identifier: MIT
 * suite_refusals.c: a store that may only be read: every change is -EROFS, and reading goes on. */
#include "tests/contract/suite.h"

static void refuse_objects(struct suite *s, const char *key)
{
    struct store *st = s->store;
    struct attr a = ATTR_INIT, mode = {.known = ATTR_HAS_MODE, .mode = 0600};
    struct source_mem src = source_mem("x", 1);
    struct put_req put = {.key = key, .src = &src.base};
    struct patch_req patch = {.key = key, .src = &src.base, .new_size = 1};
    FAILS(store_put(st, &s->op, &put, &a), EROFS);
    put.precond.if_absent = true;
    FAILS(store_put(st, &s->op, &put, &a), EROFS);
    FAILS(store_patch(st, &s->op, &patch, &a), EROFS);
    FAILS(store_remove(st, &s->op, key, NULL), EROFS);
    FAILS(store_remove(st, &s->op, key, "version"), EROFS);
    struct remove_result result = {0};
    FAILS(store_remove_many(st, &s->op, &key, 1, &result), EROFS);
    FAILS(store_copy(st, &s->op, key, NULL, "copy", NULL, &a), EROFS);
    FAILS(store_copy_from(st, &s->op, st, key, NULL, "copy", NULL, &a), store_copies_from(st, st) ? EROFS : EXDEV);
    FAILS(store_rename(st, &s->op, key, "renamed", false), EROFS);
    FAILS(store_set_meta(st, &s->op, key, NULL, &mode, &a), EROFS);
    FAILS(store_make_dir(st, &s->op, "dir", NULL), EROFS);
    FAILS(store_remove_dir(st, &s->op, "dir"), EROFS);
}

static void refuse_uploads(struct suite *s, const char *key)
{
    struct store *st = s->store;
    struct attr a = ATTR_INIT;
    struct upload_req req = {.key = key};
    struct source_mem src = source_mem("x", 1);
    struct store_part part = {.number = 1, .size = 1};
    char *id = NULL;
    FAILS(store_upload_begin(st, &s->op, &req, &id), EROFS);
    FAILS(store_upload_part(st, &s->op, key, "id", &src.base, &part), EROFS);
    FAILS(store_upload_copy_part(st, &s->op, key, "id", key, NULL, 0, &part), EROFS);
    FAILS(store_upload_finish(st, &s->op, key, "id", &part, 1, NULL, &a), EROFS);
    FAILS(store_upload_abort(st, &s->op, key, "id"), EROFS);
    struct sign_req sign = {.key = key, .write = true, .expires_s = 60};
    struct buf url = BUF_INIT;
    int r = store_sign(st, &s->op, &sign, &url);
    CHECK(r == -EROFS || r == -ENOTSUP);
}

void suite_refusals(struct suite *s, const char *key, const char *text)
{
    char buf[256];
    struct list_page all = LIST_PAGE_INIT;
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    CHECK(!has(s, CAP_WRITE));
    refuse_objects(s, key);
    refuse_uploads(s, key);
    struct read_req req = {.key = key, .iov = {.iov_base = buf, .iov_len = sizeof(buf)}};
    struct read_res res = READ_RES_INIT;
    OK(store_read(s->store, &s->op, &req, &res));
    CHECK(res.length == strlen(text) && memcmp(buf, text, res.length) == 0);
    read_res_done(&res);
    OK(store_stat(s->store, &s->op, key, &a));
    list_all(s, "", true, 0, &all);
    CHECK(find_entry(&all, key) != NULL);
    list_page_done(&all);
}
