/* SPDX-License-Identifier: MIT
 * suite_versions.c: kept versions (contract 11), for a store that keeps them now; others refuse with -ENOTSUP.
 * Its store shows them as files, too (backends/versions.h). */
#include "tests/contract/suite.h"

#include "backends/versions.h"

static struct version_page all_versions(struct suite *s, const char *name, unsigned max)
{
    struct version_page all = VERSION_PAGE_INIT;
    CLEANUP_FREE char *cursor = NULL;
    do {
        struct version_page page = VERSION_PAGE_INIT;
        OK(store_list_versions(s->store, &s->op, K(s, name), cursor, max, &page));
        for (size_t i = 0; i < page.count; i++) {
            struct kept_version *k = version_page_add(&all, page.v[i].id);
            k->deleted = page.v[i].deleted;
            attr_move(&k->attr, &page.v[i].attr);
        }
        free(cursor);
        cursor = take_ptr(&page.cursor);
        version_page_done(&page);
    } while (cursor);
    return all;
}

/* "three", "two two", "one"; not every store tells of deletions that something followed. */
static void check_history(struct suite *s, const struct version_page *p)
{
    static const char *const want[] = {"three", "two two", "one"};
    size_t n = 0;
    for (size_t i = 0; i < p->count; i++) {
        CLEANUP_ATTR struct attr a = ATTR_INIT;
        CHECK(p->v[i].attr.mtime.tv_sec > 0);
        int r = store_stat_version(s->store, &s->op, K(s, "f"), p->v[i].id, &a);
        CHECK_INT(r, p->v[i].deleted ? -ENOENT : 0);
        if (p->v[i].deleted)
            continue;
        CHECK(n < ARRAY_LEN(want));
        size_t len = strlen(want[n]);
        CHECK_INT(a.size, len);
        CHECK_STR(a.version, p->v[i].attr.version);
        char buf[16];
        CHECK_INT(read_at(s, "f", a.version, 1, buf, sizeof(buf)), (ssize_t)len - 1);
        CHECK(memcmp(buf, want[n] + 1, len - 1) == 0);
        n++;
    }
    CHECK_INT(n, ARRAY_LEN(want));
}

static void history(struct suite *s)
{
    suite_begin(s, "versions-history");
    put_text(s, "f", "one", NULL);
    put_text(s, "f", "two two", NULL);
    put_text(s, "f2", "another", NULL);
    put_text(s, "f/below", "another", NULL);
    OK(store_remove(s->store, &s->op, K(s, "f"), NULL));
    put_text(s, "f", "three", NULL);
    for (unsigned max = 0; max < 3; max++) {
        struct version_page p = all_versions(s, "f", max);
        check_history(s, &p);
        CHECK(!p.v[0].deleted);
        version_page_done(&p);
    }
    OK(store_remove(s->store, &s->op, K(s, "f"), NULL));
    struct version_page last = all_versions(s, "f", 0);
    check_history(s, &last);
    CHECK(last.v[0].deleted);
    version_page_done(&last);
    struct version_page none = all_versions(s, "nothing", 0);
    CHECK_INT(none.count, 0);
    FAILS(store_stat_version(s->store, &s->op, K(s, "f"), "00000000-0000-0000-0000-000000000000",
                             &(struct attr){0}), ENOENT);
}

static void copies(struct suite *s)
{
    suite_begin(s, "versions-copies");
    put_text(s, "f", "old", NULL);
    put_text(s, "f", "new", NULL);
    struct version_page p = all_versions(s, "f", 0);
    struct attr copied = ATTR_INIT;
    OK(store_copy(s->store, &s->op, K(s, "f"), p.v[1].attr.version, K(s, "g"), NULL, &copied));
    CHECK(copied.version[0] && copied.version[0] != '@');
    attr_done(&copied);
    check_text(s, "g", "old");
    OK(store_copy(s->store, &s->op, K(s, "f"), p.v[1].attr.version, K(s, "f"), NULL, &copied));
    attr_done(&copied);
    check_text(s, "f", "old");
    version_page_done(&p);
    if (!has(s, CAP_COPY_PART))
        return;
    CLEANUP_FREE char *id = NULL;
    struct upload_req begin = {.key = K(s, "h"), .attr = &(struct attr){.kind = ATTR_FILE}};
    struct store_part part = {.number = 1, .size = 3};
    p = all_versions(s, "f", 0);
    OK(store_upload_begin(s->store, &s->op, &begin, &id));
    OK(store_upload_copy_part(s->store, &s->op, K(s, "h"), id, K(s, "f"), p.v[1].attr.version, 0, &part));
    OK(store_upload_finish(s->store, &s->op, K(s, "h"), id, &part, 1, NULL, &copied));
    attr_done(&copied);
    check_text(s, "h", "new");
    version_page_done(&p);
}

static void shown_as_files(struct suite *s)
{
    struct list_page page = LIST_PAGE_INIT;
    CLEANUP_ATTR struct attr a = ATTR_INIT, b = ATTR_INIT;
    suite_begin(s, "versions-files");
    if (!has(s, CAP_VERSION_DIRS))
        return;
    put_text(s, "f.txt", "one", NULL);
    put_text(s, "f.txt", "two", NULL);
    CLEANUP_FREE char *text = list_text(s, "", true, 0);
    CHECK_STR(text, "f.txt");
    for (unsigned max = 0; max < 3; max++) {
        list_all(s, K(s, "f.txt@versions/"), max == 2, max, &page);
        CHECK_INT(page.count, 2);
        const char *name = page.entries[0].key;
        CHECK(strcmp(name + strlen(name) - 4, ".txt") == 0);
        char buf[8];
        struct read_req req = {.key = name, .iov = {buf, sizeof(buf)}};
        struct read_res res = READ_RES_INIT;
        OK(store_read(s->store, &s->op, &req, &res));
        CHECK_INT(res.length, 3);
        CHECK_STR(res.attr.version, page.entries[0].attr.version);
        read_res_done(&res);
        FAILS(store_remove(s->store, &s->op, name, NULL), EROFS);
        FAILS(store_check_change(s->store, &s->op, name), EROFS);
        list_page_done(&page);
    }
    OK(stat_key(s, "f.txt@versions", &a));
    CHECK_INT(a.kind, ATTR_DIR);
    FAILS(store_make_dir(s->store, &s->op, K(s, "f.txt@versions"), NULL), EROFS);
    FAILS(put_bytes(s, "f.txt@versions/x", "x", 1, NULL, NULL, NULL), EROFS);
    FAILS(stat_key(s, "g.txt@versions", &b), ENOENT);
    OK(store_check_change(s->store, &s->op, K(s, "g.txt@versions")));
    put_text(s, "g.txt@versions/x", "real", NULL);
    check_text(s, "g.txt@versions/x", "real");
}

void suite_versions(struct suite *s)
{
    history(s);
    copies(s);
    shown_as_files(s);
}
