/* SPDX-License-Identifier: MIT
 * suite_move.c: rename and copy within a store. */
#include "tests/contract/suite.h"

static int rename_key(struct suite *s, const char *from, const char *to, bool no_replace)
{
    CLEANUP_FREE char *a = xstrdup(K(s, from)), *b = xstrdup(K(s, to));
    return store_rename(s->store, &s->op, a, b, no_replace);
}

static void rename_files(struct suite *s)
{
    CLEANUP_ATTR struct attr a = ATTR_INIT, b = ATTR_INIT;
    char buf[16];
    put_text(s, "old", "content", &a);
    OK(rename_key(s, "old", "new", false));
    check_gone(s, "old");
    check_text(s, "new", "content");
    if (has(s, CAP_LOCAL_FD) || has(s, CAP_PRIVATE)) /* an open reader goes on */
        CHECK_INT(read_at(s, "new", a.version, 0, buf, 16), 7);
    put_text(s, "other", "to be replaced", NULL);
    FAILS(rename_key(s, "new", "other", true), EEXIST);
    check_text(s, "other", "to be replaced");
    check_text(s, "new", "content");
    OK(rename_key(s, "new", "other", false));
    check_text(s, "other", "content");
    check_gone(s, "new");
    OK(rename_key(s, "other", "third", true));
    OK(rename_key(s, "third", "third", false)); /* to itself */
    check_text(s, "third", "content");
    FAILS(rename_key(s, "absent", "x", false), ENOENT);
    check_gone(s, "x");
    OK(stat_key(s, "third", &b));
    CHECK_INT(b.size, 7);
}

static void rename_keeps_metadata(struct suite *s)
{
    struct attr a = {.kind = ATTR_FILE,
                     .known = ATTR_HAS_MODE | ATTR_HAS_MTIME,
                     .mode = 0604,
                     .mtime = {.tv_sec = 1222222222}};
    CLEANUP_ATTR struct attr got = ATTR_INIT;
    if (!has(s, CAP_SET_META))
        return;
    OK(put_bytes(s, "meta", "x", 1, &a, NULL, NULL));
    OK(rename_key(s, "meta", "meta2", false));
    OK(stat_key(s, "meta2", &got));
    CHECK_INT(got.mode, 0604);
    CHECK_INT(got.mtime.tv_sec, 1222222222);
}

static void rename_directories(struct suite *s)
{
    put_text(s, "d/file", "content", NULL);
    put_text(s, "d/sub/deep", "deep", NULL);
    OK(rename_key(s, "d", "e", false));
    check_gone(s, "d");
    check_text(s, "e/file", "content");
    check_text(s, "e/sub/deep", "deep");
    OK(store_make_dir(s->store, &s->op, K(s, "empty"), NULL));
    OK(rename_key(s, "e", "empty", false)); /* onto an empty one */
    check_text(s, "empty/sub/deep", "deep");
    put_text(s, "full/x", "x", NULL);
    FAILS(rename_key(s, "empty", "full", false), ENOTEMPTY);
    FAILS(rename_key(s, "empty", "full", true), EEXIST);
    FAILS(rename_key(s, "empty", "empty/sub/me", false), EINVAL);
    put_text(s, "plain", "x", NULL);
    FAILS(rename_key(s, "empty", "plain", false), ENOTDIR);
    FAILS(rename_key(s, "plain", "empty", false), EISDIR);
    if (has(s, CAP_REAL_DIRS))
        FAILS(rename_key(s, "plain", "no/parent", false), ENOENT);
    check_text(s, "plain", "x");
}

static void directories_are_refused(struct suite *s)
{
    put_text(s, "d/file", "content", NULL);
    int r = rename_key(s, "d", "e", false);
    CHECK(r == -ENOTSUP || r == -ENOENT || r == -EISDIR);
    check_text(s, "d/file", "content");
}

static int copy(struct suite *s, const char *from, const char *version, const char *to,
                const struct precond *pre)
{
    CLEANUP_ATTR struct attr got = ATTR_INIT, seen = ATTR_INIT;
    CLEANUP_FREE char *a = xstrdup(K(s, from)), *b = xstrdup(K(s, to));
    int r = store_copy(s->store, &s->op, a, version, b, pre, &got);
    if (r == 0) {
        OK(store_stat(s->store, &s->op, b, &seen));
        CHECK_STR(got.version, seen.version);
    }
    return r;
}

static void copies(struct suite *s)
{
    struct attr a = {.kind = ATTR_FILE, .known = ATTR_HAS_MODE, .mode = 0620};
    CLEANUP_ATTR struct attr from = ATTR_INIT, to = ATTR_INIT;
    OK(put_bytes(s, "from", "content", 7, has(s, CAP_SET_META) ? &a : NULL, NULL, &from));
    OK(copy(s, "from", NULL, "to", NULL));
    check_text(s, "from", "content");
    check_text(s, "to", "content");
    OK(stat_key(s, "to", &to));
    if (has(s, CAP_SET_META))
        CHECK_INT(to.mode, 0620);
    put_text(s, "from", "changed", NULL);
    check_text(s, "to", "content"); /* two objects */
    FAILS(copy(s, "from", from.version, "to", NULL), ESTALE);
    check_text(s, "to", "content");
    OK(copy(s, "from", NULL, "to", NULL)); /* replaces */
    check_text(s, "to", "changed");
    FAILS(copy(s, "absent", NULL, "to", NULL), ENOENT);
    check_text(s, "to", "changed");
}

static void conditional_copies(struct suite *s)
{
    struct precond absent = {.if_absent = true};
    put_text(s, "cc-from", "content", NULL);
    put_text(s, "cc-to", "old", NULL);
    int r = copy(s, "cc-from", NULL, "cc-to", &absent);
    CHECK(r == -EEXIST || r == -ENOTSUP);
    check_text(s, "cc-to", "old");
    r = copy(s, "cc-from", NULL, "cc-new", &absent);
    CHECK(r == 0 || r == -ENOTSUP);
    struct precond wrong = {.if_match = "0-0-0-0"};
    r = copy(s, "cc-from", NULL, "cc-to", &wrong);
    CHECK(r == -ESTALE || r == -ENOTSUP);
    check_text(s, "cc-to", "old");
}

static int copy_from(struct suite *s, struct store *to, struct store *from)
{
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    CLEANUP_FREE char *source = xstrdup(K(s, "cf-from")), *target = xstrdup(K(s, "cf-to"));
    return store_copy_from(to, &s->op, from, source, NULL, target, NULL, &a);
}

/* From a store of another class never; from one of the same class where the class can (more of that: suite_between). */
static void copies_of_services(struct suite *s)
{
    struct store *other = open_store("[store t]\nbackend = memory\n", NULL);
    struct attr a = ATTR_INIT;
    put_text(s, "cf-from", "content", NULL);
    CHECK(!store_copies_from(s->store, other) && !store_copies_from(other, s->store));
    FAILS(copy_from(s, s->store, other), EXDEV);
    FAILS(copy_from(s, other, s->store), EXDEV);
    store_close(other);
    check_gone(s, "cf-to");
    if (store_copies_from(s->store, s->store)) {
        OK(copy_from(s, s->store, s->store));
        check_text(s, "cf-to", "content");
        FAILS(store_copy_from(s->store, &s->op, s->store, K(s, "cf-to"), NULL, K(s, "cf-to"), NULL, &a), EINVAL);
        CHECK_STR(s->op.err.remote, STORE_SAME_FILE);
        check_text(s, "cf-to", "content");
        return;
    }
    FAILS(copy_from(s, s->store, s->store), EXDEV);
    check_gone(s, "cf-to");
}

static int exchange_keys(struct suite *s, const char *a, const char *b)
{
    CLEANUP_FREE char *x = xstrdup(K(s, a)), *y = xstrdup(K(s, b));
    return store_exchange(s->store, &s->op, x, y);
}

/* Each name has what the other had, and a version is a version still. */
static void exchanges(struct suite *s)
{
    CLEANUP_ATTR struct attr a = ATTR_INIT, b = ATTR_INIT;
    char buf[16];
    put_text(s, "left", "of the left", &a);
    put_text(s, "x/right", "right", &b);
    OK(exchange_keys(s, "left", "x/right"));
    check_text(s, "left", "right");
    check_text(s, "x/right", "of the left");
    CHECK_INT(read_at(s, "x/right", a.version, 0, buf, 16), 11);
    CHECK_INT(read_at(s, "left", b.version, 0, buf, 16), 5);
    FAILS(exchange_keys(s, "left", "absent"), ENOENT);
    FAILS(exchange_keys(s, "absent", "left"), ENOENT);
    FAILS(exchange_keys(s, "left", "left"), EINVAL);
    FAILS(exchange_keys(s, "x", "x/right"), EINVAL);
    check_text(s, "left", "right");
    put_text(s, "y/sub/deep", "deep", NULL);
    if (!has(s, CAP_RENAME_DIR)) {
        FAILS(exchange_keys(s, "left", "y"), ENOTSUP);
        FAILS(exchange_keys(s, "y", "left"), ENOTSUP);
        return;
    }
    OK(exchange_keys(s, "x", "y")); /* directories that are not empty */
    check_text(s, "y/right", "of the left");
    check_text(s, "x/sub/deep", "deep");
    OK(exchange_keys(s, "x", "left")); /* a directory and a file */
    check_text(s, "x", "right");
    check_text(s, "left/sub/deep", "deep");
}

void suite_move(struct suite *s)
{
    suite_begin(s, "move");
    if (has(s, CAP_RENAME_FILE)) {
        rename_files(s);
        rename_keeps_metadata(s);
    } else {
        put_text(s, "old", "x", NULL);
        FAILS(rename_key(s, "old", "new", false), ENOTSUP);
        check_text(s, "old", "x");
    }
    if (has(s, CAP_RENAME_DIR))
        rename_directories(s);
    else
        directories_are_refused(s);
    if (has(s, CAP_EXCHANGE)) {
        exchanges(s);
    } else {
        put_text(s, "one", "1", NULL);
        put_text(s, "two", "2", NULL);
        FAILS(exchange_keys(s, "one", "two"), ENOTSUP);
        check_text(s, "one", "1");
    }
    if (has(s, CAP_COPY))
        copies(s);
    copies_of_services(s);
    if (has(s, CAP_COPY | CAP_IF_MATCH))
        conditional_copies(s);
}
