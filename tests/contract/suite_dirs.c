/* SPDX-License-Identifier: MIT
 * suite_dirs.c: directories, real and implied; removing many objects. */
#include "tests/contract/suite.h"

static int make(struct suite *s, const char *name)
{
    return store_make_dir(s->store, &s->op, K(s, name), NULL);
}

static int remove_dir(struct suite *s, const char *name)
{
    return store_remove_dir(s->store, &s->op, K(s, name));
}

static void check_dir(struct suite *s, const char *name)
{
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    OK(stat_key(s, name, &a));
    CHECK_INT(a.kind, ATTR_DIR);
    CHECK_STR(a.version, "");
    CHECK_INT(a.size, 0);
}

static void explicit_directories(struct suite *s)
{
    OK(make(s, "dir"));
    check_dir(s, "dir");
    int r = make(s, "dir");
    CHECK(r == -EEXIST || (r == 0 && !has(s, CAP_REAL_DIRS)));
    CLEANUP_FREE char *list = list_text(s, "", false, 0);
    CHECK_STR(list, "dir/");
    put_text(s, "dir/file", "x", NULL);
    FAILS(remove_dir(s, "dir"), ENOTEMPTY);
    OK(store_remove(s->store, &s->op, K(s, "dir/file"), NULL));
    check_dir(s, "dir"); /* it was made: it stays */
    OK(make(s, "dir/sub"));
    FAILS(remove_dir(s, "dir"), ENOTEMPTY);
    OK(remove_dir(s, "dir/sub"));
    OK(remove_dir(s, "dir"));
    check_gone(s, "dir");
    FAILS(remove_dir(s, "dir"), ENOENT);
}

/* A directory is not an object, an object is not a directory. */
static void kinds(struct suite *s)
{
    char buf[8];
    OK(make(s, "kind"));
    int r = (int)read_at(s, "kind", NULL, 0, buf, 8);
    CHECK(r == -EISDIR || (r == -ENOENT && !has(s, CAP_REAL_DIRS)));
    r = store_remove(s->store, &s->op, K(s, "kind"), NULL);
    CHECK(r == -EISDIR || (!has(s, CAP_REAL_DIRS) && (r == 0 || r == -ENOENT)));
    check_dir(s, "kind");
    if (has(s, CAP_REAL_DIRS))
        FAILS(put_bytes(s, "kind", "x", 1, NULL, NULL, NULL), EISDIR);
    put_text(s, "file", "x", NULL);
    r = remove_dir(s, "file");
    CHECK(r == -ENOTDIR || (r == -ENOENT && !has(s, CAP_REAL_DIRS)));
    check_text(s, "file", "x");
    if (has(s, CAP_REAL_DIRS))
        FAILS(make(s, "file"), EEXIST);
}

static void parents(struct suite *s)
{
    int r = put_bytes(s, "no/such/parent", "x", 1, NULL, NULL, NULL);
    if (has(s, CAP_REAL_DIRS)) {
        CHECK_INT(r, -ENOENT);
        FAILS(make(s, "no/such"), ENOENT);
        return;
    }
    OK(r);
    check_dir(s, "no/such"); /* implied by what is below */
    check_dir(s, "no");
    FAILS(remove_dir(s, "no/such"), ENOTEMPTY);
    OK(store_remove(s->store, &s->op, K(s, "no/such/parent"), NULL));
    check_gone(s, "no");
}

static void remove_many(struct suite *s)
{
    enum { N = 25 };
    const char *keys[N + 1];
    char store[N + 1][200];
    struct remove_result results[N + 1];
    make_parents(s, "many/x");
    for (unsigned i = 0; i <= N; i++) {
        char name[40];
        snprintf(name, sizeof(name), "many/%u <&>", i);
        if (i < N)
            put_text(s, name, "x", NULL);
        snprintf(store[i], sizeof(store[i]), "%s", K(s, name));
        keys[i] = store[i];
        results[i].code = 99;
    }
    OK(store_remove_many(s->store, &s->op, keys, N + 1, results));
    for (unsigned i = 0; i < N; i++)
        CHECK_INT(results[i].code, 0);
    CHECK(results[N].code == 0 || results[N].code == ENOENT);
    CLEANUP_FREE char *list = list_text(s, "many/", false, 0);
    CHECK_STR(list, "");
    OK(store_remove_many(s->store, &s->op, keys, 0, results));
}

void suite_dirs(struct suite *s)
{
    suite_begin(s, "dirs");
    explicit_directories(s);
    kinds(s);
    remove_many(s);
    suite_begin(s, "parents");
    put_text(s, "anchor", "x", NULL);
    parents(s);
}
