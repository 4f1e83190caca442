/* SPDX-License-Identifier: MIT
 * suite_list.c: listings: order, prefixes, pages, cursors. */
#include "tests/contract/suite.h"

static void check_list(struct suite *s, const char *prefix, bool recursive, const char *want)
{
    for (unsigned max = 0; max < 5; max++) { /* in pages of every small size */
        CLEANUP_FREE char *got = list_text(s, prefix, recursive, max);
        CHECK_STR(got, want);
    }
}

/* A listing without the directories that some stores also tell in a flat one. */
static void check_flat(struct suite *s, const char *prefix, const char *want)
{
    CLEANUP_FREE char *got = list_text(s, prefix, true, 0);
    struct buf b = BUF_INIT;
    char *rest = got;
    for (char *word; (word = strsep(&rest, " ")) != NULL;)
        if (*word && word[strlen(word) - 1] != '/')
            buf_addf(&b, "%s%s", b.len ? " " : "", word);
    CHECK_STR(buf_str(&b), want);
    buf_done(&b);
}

/* '-' and '.' sort before '/', '0' behind it: a directory sorts as its name plus '/'. */
static void order(struct suite *s)
{
    const char *names[] = {"a/1", "a/2", "a-b", "a.txt", "a0", "b", "a/sub/x", "a/sub/y", "B"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        put_text(s, names[i], names[i], NULL);
    check_list(s, "", false, "B a-b a.txt a/ a0 b");
    check_list(s, "a/", false, "a/1 a/2 a/sub/");
    check_list(s, "a/sub/", false, "a/sub/x a/sub/y");
    check_flat(s, "", "B a-b a.txt a/1 a/2 a/sub/x a/sub/y a0 b");
    check_flat(s, "a/", "a/1 a/2 a/sub/x a/sub/y");
}

static void prefixes(struct suite *s)
{
    check_list(s, "a", false, "a-b a.txt a/ a0");
    check_list(s, "a/s", false, "a/sub/");
    check_list(s, "a.", false, "a.txt");
    check_list(s, "zzz", false, "");
    check_list(s, "zzz/", false, "");
    check_list(s, "b/", false, ""); /* an object is not a directory */
    check_list(s, "a/1/", false, "");
    check_flat(s, "a/s", "a/sub/x a/sub/y");
    check_flat(s, "a", "a-b a.txt a/1 a/2 a/sub/x a/sub/y a0");
    check_flat(s, "nothing/here", "");
}

static void attributes(struct suite *s)
{
    struct list_page all = LIST_PAGE_INIT;
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    list_all(s, s->prefix, false, 0, &all);
    const struct list_entry *file = find_entry(&all, K(s, "a.txt"));
    const struct list_entry *dir = find_entry(&all, K(s, "a"));
    CHECK(file && dir);
    OK(stat_key(s, "a.txt", &a));
    CHECK_INT(file->attr.kind, ATTR_FILE);
    CHECK_INT(file->attr.size, 5);
    CHECK_STR(file->attr.version, a.version);
    CHECK(llabs((long long)file->attr.mtime.tv_sec - (long long)a.mtime.tv_sec) < 2);
    CHECK_INT(dir->attr.kind, ATTR_DIR);
    CHECK_STR(dir->attr.version, "");
    CHECK(!has(s, CAP_LIST_META) || (file->attr.known & ATTR_META));
    list_page_done(&all);
}

static void after(struct suite *s)
{
    struct list_page page = LIST_PAGE_INIT;
    struct list_query q = {.prefix = K(s, "a/sub/"), .after = K(s, "a/sub/x")};
    OK(store_list(s->store, &s->op, &q, &page));
    CHECK_INT(page.count, 1);
    CHECK_STR(page.entries[0].key, K(s, "a/sub/y"));
    CHECK(!page.cursor);
    list_page_done(&page);
    q = (struct list_query){.prefix = s->prefix, .recursive = true, .after = K(s, "a/sub/xx")};
    OK(store_list(s->store, &s->op, &q, &page));
    CHECK_INT(page.count, 3); /* a/sub/y a0 b */
    CHECK_STR(page.entries[0].key, K(s, "a/sub/y"));
    list_page_done(&page);
    q.cursor = "x";
    FAILS(store_list(s->store, &s->op, &q, &page), EINVAL);
}

/* More than any store's page; names that sort unlike their numbers. */
static void many(struct suite *s)
{
    enum { N = 1250 };
    struct list_page all = LIST_PAGE_INIT;
    make_parents(s, "many/x");
    for (unsigned i = 0; i < N; i++) {
        char name[32];
        snprintf(name, sizeof(name), "many/%u", i);
        OK(put_bytes(s, name, name, strlen(name), NULL, NULL, NULL));
    }
    for (unsigned max = 0; max <= 400; max += 200) {
        list_all(s, K(s, "many/"), false, max, &all);
        CHECK_INT(all.count, N);
        list_page_done(&all);
    }
    list_all(s, K(s, "many/"), true, 1000, &all);
    CHECK_INT(all.count, N);
    list_page_done(&all);
    list_all(s, K(s, "many/12"), false, 7, &all); /* 12, 120..129, 1200..1249 */
    CHECK_INT(all.count, 1 + 10 + 50);
    list_page_done(&all);
}

/* Entries come and go between two pages: what was there throughout is told exactly once. */
static void changing(struct suite *s)
{
    const char *names[] = {"c/1", "c/2", "c/3", "c/4", "c/5"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        put_text(s, names[i], "x", NULL);
    struct list_page page = LIST_PAGE_INIT, next = LIST_PAGE_INIT;
    struct list_query q = {.prefix = K(s, "c/"), .max = 2};
    OK(store_list(s->store, &s->op, &q, &page));
    CHECK_INT(page.count, 2);
    CHECK(page.cursor);
    OK(store_remove(s->store, &s->op, K(s, "c/2"), NULL)); /* where the cursor stands */
    OK(store_remove(s->store, &s->op, K(s, "c/4"), NULL));
    put_text(s, "c/0", "x", NULL);
    q.cursor = page.cursor;
    q.max = 0;
    OK(store_list(s->store, &s->op, &q, &next));
    CHECK_INT(next.count, 2);
    CHECK_STR(next.entries[0].key, K(s, "c/3"));
    CHECK_STR(next.entries[1].key, K(s, "c/5"));
    list_page_done(&page);
    list_page_done(&next);
}

static struct list_page next_page(struct suite *s, const char *prefix, const char *cursor, unsigned max)
{
    struct list_page page = LIST_PAGE_INIT;
    struct list_query q = {.prefix = prefix, .cursor = cursor, .max = max};
    OK(store_list(s->store, &s->op, &q, &page));
    return page;
}

/* The same cursor may be used again, by another reader or with another size of page. */
static void cursors_again(struct suite *s)
{
    const char *names[] = {"r/1", "r/2", "r/3", "r/4", "r/5", "r/6"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        put_text(s, names[i], "x", NULL);
    struct list_page a = next_page(s, K(s, "r/"), NULL, 2);
    for (unsigned max = 1; max <= 4; max++) {
        struct list_page b = next_page(s, K(s, "r/"), a.cursor, max);
        CHECK_INT(b.count, max < 4 ? max : 4);
        CHECK_STR(b.entries[0].key, K(s, "r/3"));
        if (b.cursor) {
            struct list_page c = next_page(s, K(s, "r/"), b.cursor, 0);
            CHECK_INT(c.count, 4 - max);
            list_page_done(&c);
        }
        list_page_done(&b);
    }
    list_page_done(&a);
}

/* A part of a listing: behind a name that is not there, that nothing is below, or that all is. */
static void parts(struct suite *s)
{
    static const struct {
        const char *after;
        size_t n;
    } want[] = {{"p/a", 4}, {"p/b", 4}, {"p/b0", 2}, {"p/c", 1}, {"p/zz", 0}};
    const char *names[] = {"p/b-", "p/b/x", "p/c", "p/d/x"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        put_text(s, names[i], "x", NULL);
    for (size_t i = 0; i < ARRAY_LEN(want); i++) {
        struct list_page page = LIST_PAGE_INIT;
        struct list_query q = {.prefix = K(s, "p/"), .after = K(s, want[i].after)};
        OK(store_list(s->store, &s->op, &q, &page));
        CHECK_INT(page.count, want[i].n);
        CHECK(!page.unordered);
        list_page_done(&page);
    }
}

/* What a listing tells of the directory is what a stat tells. */
static void check_told(struct suite *s, const char *name, const struct attr *told)
{
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    OK(stat_key(s, name, &a));
    CHECK_INT(told->kind, ATTR_DIR);
    CHECK_INT(told->known & ~ATTR_META, a.known & ~ATTR_META);
    CHECK_INT(told->mode, a.mode);
    CHECK_INT(told->mtime.tv_sec, a.mtime.tv_sec);
    CHECK_INT(told->mtime.tv_nsec, a.mtime.tv_nsec);
}

static void directory_is_known(struct suite *s)
{
    struct list_page all = LIST_PAGE_INIT;
    if (store_make_dir(s->store, &s->op, K(s, "empty-dir"), NULL) != -ENOTSUP) {
        list_all(s, K(s, "empty-dir/"), false, 0, &all);
        CHECK_INT(all.count, 0);
        CHECK(all.dir_exists);
        if (all.dir_attr.kind != ATTR_UNSET && (all.dir_attr.known & ATTR_META))
            check_told(s, "empty-dir", &all.dir_attr);
        list_page_done(&all);
    }
    list_all(s, K(s, "no-dir/"), false, 0, &all);
    CHECK(!all.dir_exists);
    list_page_done(&all);
}

void suite_list(struct suite *s)
{
    suite_begin(s, "list");
    order(s);
    prefixes(s);
    attributes(s);
    after(s);
    changing(s);
    cursors_again(s);
    parts(s);
    directory_is_known(s);
    many(s);
}
