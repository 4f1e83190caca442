/* SPDX-License-Identifier: MIT
 * suite_names.c: keys are bytes, and hostile ones: each is stored exactly as it is, or refused. */
#include "tests/contract/suite.h"

static bool is_refusal(int r)
{
    switch (-r) {
    case EACCES:
    case EINVAL:
    case ENAMETOOLONG:
    case ENOTSUP:
    case EISDIR:
    case ENOTDIR:
    case EEXIST:
        return true;
    default:
        return false;
    }
}

/* Stored under exactly this key, seen by stat, read and list, and removed again. */
static void check_stored(struct suite *s, const char *name)
{
    struct list_page all = LIST_PAGE_INIT;
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    CLEANUP_FREE char *key = xstrdup(K(s, name));
    check_text(s, name, name);
    OK(stat_key(s, name, &a));
    CHECK_INT(a.kind, ATTR_FILE);
    list_all(s, s->prefix, true, 0, &all);
    CHECK(find_entry(&all, key) != NULL);
    list_page_done(&all);
    OK(store_remove(s->store, &s->op, key, NULL));
    check_gone(s, name);
}

static void one_name(struct suite *s, const char *name, bool ordinary)
{
    if (ordinary)
        make_parents(s, name);
    int r = put_bytes(s, name, name, strlen(name), NULL, NULL, NULL);
    if (ordinary || has(s, CAP_PRIVATE)) /* memory stores everything */
        OK(r);
    if (r == 0) {
        check_stored(s, name);
        return;
    }
    if (!is_refusal(r))
        OK(r);
    struct attr a = ATTR_INIT;
    r = stat_key(s, name, &a);
    CHECK(r < 0); /* a HEAD has no text that could tell why */
    attr_done(&a);
}

static void hostile(struct suite *s)
{
    static const char *const names[] = {
        "..",     "../up",  "x/../../../../../../etc/passwd",
        "a/..",   "a/../b", ".",
        "./a",    "a/.",    "a/./b",
        "a//b",   "//",     "//a",
        "a/b//c", "...",    "..a",
    };
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        bool plain = (strcmp(names[i], "...") == 0 && has(s, CAP_LOCAL_FD)) || strcmp(names[i], "..a") == 0;
        size_t len = strlen(names[i]);
        if (names[i][len - 1] == '/')
            continue; /* the gate's business */
        one_name(s, names[i], plain);
    }
}

/* A key that begins with '/': its directory is "/"; real paths refuse it. */
static void leading_slash(struct suite *s)
{
    static const char *const want[][3] = {{"", "/", "dir"}, {"/", "/lead-quay", "file"}};
    struct source_mem src = source_mem("x", 1);
    struct put_req put = {.key = "/lead-quay", .src = &src.base};
    struct attr a = ATTR_INIT;
    int r = store_put(s->store, &s->op, &put, &a);
    attr_done(&a);
    if (r < 0) {
        CHECK(is_refusal(r) && !has(s, CAP_PRIVATE));
        CHECK(store_stat(s->store, &s->op, put.key, &a) < 0);
        attr_done(&a);
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(want); i++) {
        struct list_page all = LIST_PAGE_INIT;
        list_all(s, want[i][0], false, 0, &all);
        const struct list_entry *e = find_entry(&all, want[i][1]);
        CHECK(e && (e->attr.kind == ATTR_DIR) == (want[i][2][0] == 'd'));
        list_page_done(&all);
        OK(store_stat(s->store, &s->op, want[i][1], &a));
        CHECK((a.kind == ATTR_DIR) == (want[i][2][0] == 'd'));
        attr_done(&a);
    }
    OK(store_make_dir(s->store, &s->op, "//", NULL));
    FAILS(store_remove_dir(s->store, &s->op, "/"), ENOTEMPTY);
    OK(store_remove_dir(s->store, &s->op, "//"));
    OK(store_remove(s->store, &s->op, put.key, NULL));
    r = store_remove_dir(s->store, &s->op, "/");
    CHECK(r == -ENOENT || r == 0);
}

static void odd_but_legal(struct suite *s)
{
    static const char *const names[] = {
        " ",         "a b",         " leading",
        "trailing ", "tab\there",   "new\nline",
        "quote\"'",  "back\\slash", "percent%2Fsign",
        "%",         "%zz",         "plus+plus",
        "a&b=c?d#e", "<xml>&amp;",  "star*?[x]",
        "~",         "-rf",         "\xc3\xa9\xe4\xb8\xad\xf0\x9f\x98\x80",
        ".hidden",   "a:b;c,d",     "CaSe",
        "case",      "x$y`z|",
    };
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        one_name(s, names[i],
                 !strchr(names[i], '\n') && !strchr(names[i], '\t') && !strchr(names[i], '\\'));
}

static void not_utf8(struct suite *s)
{
    one_name(s, "\xff\xfe\x80", has(s, CAP_LOCAL_FD));
    one_name(s, "latin1-\xe9", has(s, CAP_LOCAL_FD));
    one_name(s, "\x01\x1f\x7f", has(s, CAP_LOCAL_FD));
}

static void long_names(struct suite *s)
{
    char name[1200];
    memset(name, 'n', sizeof(name));
    name[255] = '\0';
    one_name(s, name, has(s, CAP_LOCAL_FD));
    name[255] = 'n';
    name[300] = '\0'; /* longer than a file name can be */
    one_name(s, name, false);
    int r = put_bytes(s, name, "x", 1, NULL, NULL, NULL);
    CHECK(r == -ENAMETOOLONG || !has(s, CAP_LOCAL_FD));
    if (r == 0)
        OK(store_remove(s->store, &s->op, K(s, name), NULL));
}

/* An object "a" and objects below "a/": two things in an object store; a real directory cannot. */
static void object_and_prefix(struct suite *s)
{
    put_text(s, "both", "the object", NULL);
    int r = put_bytes(s, "both/below", "below", 5, NULL, NULL, NULL);
    check_text(s, "both", "the object");
    if (r < 0) {
        CHECK(is_refusal(r) && !has(s, CAP_PRIVATE));
        check_gone(s, "both/below");
    } else {
        check_text(s, "both/below", "below");
        CLEANUP_FREE char *got = list_text(s, "both", false, 0);
        if (has(s, CAP_PRIVATE) ||
            strcmp(got, "both") != 0) /* MinIO stores it and does not list it */
            CHECK_STR(got, "both both/");
        OK(store_remove(s->store, &s->op, K(s, "both/below"), NULL));
    }
    put_text(s, "dir/below", "below", NULL);
    r = put_bytes(s, "dir", "the object", 10, NULL, NULL, NULL);
    check_text(s, "dir/below", "below");
    if (r < 0)
        CHECK(is_refusal(r) && !has(s, CAP_PRIVATE));
    else
        check_text(s, "dir", "the object");
    OK(store_remove(s->store, &s->op, K(s, "dir/below"), NULL));
}

void suite_names(struct suite *s)
{
    suite_begin(s, "names");
    hostile(s);
    leading_slash(s);
    odd_but_legal(s);
    not_utf8(s);
    long_names(s);
    object_and_prefix(s);
}
