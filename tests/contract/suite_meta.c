/* SPDX-License-Identifier: MIT
 * suite_meta.c: modes, owners, times, extended attributes, symbolic links. */
#include "tests/contract/suite.h"

#include <unistd.h>

static struct attr full_attr(const struct suite *s)
{
    struct attr a = {.kind = ATTR_FILE,
                     .known = ATTR_HAS_MODE | ATTR_HAS_UID | ATTR_HAS_GID | ATTR_HAS_MTIME |
                              ATTR_HAS_ATIME,
                     .mode = 0640,
                     .uid = geteuid() ? geteuid() : 12345,
                     .gid = geteuid() ? getegid() : 54321,
                     .mtime = {.tv_sec = 1234567890, .tv_nsec = 123456789},
                     .atime = {.tv_sec = 1300000000, .tv_nsec = 5}};
    if (has(s, CAP_NO_XATTRS))
        return a;
    attr_xattr_set(&a, "user.comment", "caf\xc3\xa9 \x01\xff", 8);
    attr_xattr_set(&a, "user.empty", "", 0);
    return a;
}

static void check_xattr(const struct attr *a, const char *name, const void *value, size_t size)
{
    const struct xattr *x = attr_xattr(a, name);
    CHECK(x != NULL);
    CHECK_INT(x->size, size);
    CHECK(memcmp(x->value, value, size) == 0);
}

static void check_full(const struct suite *s, const struct attr *a)
{
    CHECK(a->known & ATTR_META);
    CHECK(a->known & ATTR_HAS_MODE);
    CHECK_INT(a->mode, 0640);
    CHECK_INT(a->uid, geteuid() ? geteuid() : 12345);
    CHECK_INT(a->gid, geteuid() ? getegid() : 54321);
    CHECK_INT(a->mtime.tv_sec, 1234567890);
    CHECK_INT(a->mtime.tv_nsec, has(s, CAP_WHOLE_SECONDS) ? 0 : 123456789);
    CHECK_INT(a->n_xattrs, has(s, CAP_NO_XATTRS) ? 0 : 2);
    if (a->n_xattrs == 0)
        return;
    check_xattr(a, "user.comment", "caf\xc3\xa9 \x01\xff", 8);
    check_xattr(a, "user.empty", "", 0);
}

static void stored_by_put(struct suite *s)
{
    CLEANUP_ATTR struct attr a = full_attr(s), put = ATTR_INIT, got = ATTR_INIT;
    OK(put_bytes(s, "meta", "content", 7, &a, NULL, &put));
    CHECK_STR(put.version[0] ? "" : "no version", "");
    OK(stat_key(s, "meta", &got));
    check_full(s, &got);
    CHECK_INT(got.size, 7);
    check_text(s, "meta", "content");
}

/* A whole GET without a version tells what a stat would have told, of the bytes that it brings. */
static void told_by_read(struct suite *s)
{
    CLEANUP_ATTR struct attr a = full_attr(s), stat = ATTR_INIT;
    struct read_res res = READ_RES_INIT;
    char buf[4096] = "";
    struct read_req req = {.iov = {.iov_base = buf, .iov_len = sizeof(buf)}};
    OK(put_bytes(s, "told", "content", 7, &a, NULL, NULL));
    OK(stat_key(s, "told", &stat));
    req.key = K(s, "told");
    OK(store_read(s->store, &s->op, &req, &res));
    CHECK_INT(res.length, 7);
    CHECK(memcmp(buf, "content", 7) == 0);
    check_full(s, &res.attr);
    CHECK_INT(res.attr.size, 7);
    CHECK_INT(res.attr.kind, ATTR_FILE);
    CHECK_STR(res.attr.version, stat.version);
    CHECK_STR(res.attr.content_type ? res.attr.content_type : "",
              stat.content_type ? stat.content_type : "");
    read_res_done(&res);
    if (!has(s, CAP_SYMLINK))
        return;
    struct attr link = {.kind = ATTR_SYMLINK};
    OK(put_bytes(s, "told-link", "target", 6, &link, NULL, NULL));
    req.key = K(s, "told-link");
    OK(store_read(s->store, &s->op, &req, &res));
    CHECK_INT(res.attr.kind, ATTR_SYMLINK);
    read_res_done(&res);
}

/* A put replaces everything: what the new one does not name is gone. */
static void replaced_by_put(struct suite *s)
{
    CLEANUP_ATTR struct attr got = ATTR_INIT;
    put_text(s, "meta", "again", NULL);
    OK(stat_key(s, "meta", &got));
    CHECK(!attr_xattr(&got, "user.comment"));
    CHECK(got.mtime.tv_sec != 1234567890);
}

static void in_listings(struct suite *s)
{
    CLEANUP_ATTR struct attr a = full_attr(s);
    struct list_page all = LIST_PAGE_INIT;
    OK(put_bytes(s, "listed", "content", 7, &a, NULL, NULL));
    list_all(s, s->prefix, false, 0, &all);
    const struct list_entry *e = find_entry(&all, K(s, "listed"));
    CHECK(e);
    CHECK_INT(e->attr.size, 7);
    if (e->attr.known & ATTR_META)
        check_full(s, &e->attr);
    else
        CHECK(!has(s, CAP_LIST_META));
    list_page_done(&all);
}

/* An object without a stored time has the same one wherever it is told. */
static void one_time(struct suite *s)
{
    CLEANUP_ATTR struct attr got = ATTR_INIT;
    struct list_page all = LIST_PAGE_INIT;
    put_text(s, "timed", "content", NULL);
    OK(stat_key(s, "timed", &got));
    list_all(s, s->prefix, false, 0, &all);
    const struct list_entry *e = find_entry(&all, K(s, "timed"));
    CHECK(e);
    CHECK_INT(e->attr.mtime.tv_sec, got.mtime.tv_sec);
    CHECK_INT(e->attr.mtime.tv_nsec, got.mtime.tv_nsec);
    list_page_done(&all);
}

static int set(struct suite *s, const char *name, const char *if_match, const struct attr *change,
               struct attr *ret)
{
    CLEANUP_ATTR struct attr got = ATTR_INIT;
    int r = store_set_meta(s->store, &s->op, K(s, name), if_match, change, &got);
    if (r == 0 && ret)
        attr_move(ret, &got);
    return r;
}

static void one_field_at_a_time(struct suite *s)
{
    CLEANUP_ATTR struct attr a = full_attr(s), got = ATTR_INIT, after = ATTR_INIT;
    OK(put_bytes(s, "change", "content", 7, &a, NULL, NULL));
    struct attr change = {.known = ATTR_HAS_MODE, .mode = 0400};
    OK(set(s, "change", NULL, &change, &got));
    CHECK_INT(got.mode, 0400);
    OK(stat_key(s, "change", &after));
    CHECK_STR(after.version, got.version);
    CHECK_INT(after.mode, 0400);
    CHECK_INT(after.mtime.tv_sec, 1234567890); /* the rest stays */
    CHECK_INT(after.n_xattrs, has(s, CAP_NO_XATTRS) ? 0 : 2);
    attr_done(&after);

    change = (struct attr){
        .known = ATTR_HAS_MODE | ATTR_HAS_MTIME, .mode = 0644, .mtime = {.tv_sec = 1111111111}};
    OK(set(s, "change", NULL, &change, NULL));
    OK(stat_key(s, "change", &after));
    CHECK_INT(after.mtime.tv_sec, 1111111111);
    CHECK_INT(after.mode, 0644);
    CHECK_INT(after.size, 7);
    check_text(s, "change", "content");
}

static void xattrs_are_replaced(struct suite *s)
{
    CLEANUP_ATTR struct attr change = ATTR_INIT, got = ATTR_INIT;
    attr_xattr_set(&change, "user.new", "value", 5);
    if (has(s, CAP_NO_XATTRS)) { /* refused, also in a put: never lost without a word */
        FAILS(set(s, "change", NULL, &change, NULL), ENOTSUP);
        change.kind = ATTR_FILE;
        FAILS(put_bytes(s, "change", "new", 3, &change, NULL, NULL), ENOTSUP);
        check_text(s, "change", "content");
        return;
    }
    OK(set(s, "change", NULL, &change, NULL));
    OK(stat_key(s, "change", &got));
    CHECK_INT(got.n_xattrs, 1);
    check_xattr(&got, "user.new", "value", 5);
    attr_done(&got);
    struct attr none = {.known = ATTR_HAS_XATTRS};
    OK(set(s, "change", NULL, &none, NULL));
    OK(stat_key(s, "change", &got));
    CHECK_INT(got.n_xattrs, 0);
}

/* What the change does not name is as it is there, whoever has set it. */
static void xattrs_are_edited(struct suite *s)
{
    CLEANUP_ATTR struct attr a = full_attr(s), change = ATTR_INIT, got = ATTR_INIT;
    OK(put_bytes(s, "edit", "content", 7, &a, NULL, NULL));
    attr_xattr_edit(&change, "user.meta.new", "value", 5);
    attr_xattr_edit(&change, "user.empty", NULL, 0);
    attr_xattr_edit(&change, "user.absent", NULL, 0);
    if (has(s, CAP_NO_XATTRS)) {
        FAILS(set(s, "edit", NULL, &change, NULL), ENOTSUP);
        return;
    }
    OK(set(s, "edit", NULL, &change, NULL));
    OK(stat_key(s, "edit", &got));
    CHECK_INT(got.n_xattrs, 2);
    check_xattr(&got, "user.meta.new", "value", 5);
    check_xattr(&got, "user.comment", "caf\xc3\xa9 \x01\xff", 8);
    CHECK_INT(got.mtime.tv_sec, 1234567890);
    CHECK_INT(got.mode, a.mode);
    check_text(s, "edit", "content");
}

/* Metadata is not content: an open reader goes on, where the store can tell the two apart. */
static void reading_goes_on(struct suite *s)
{
    CLEANUP_ATTR struct attr before = ATTR_INIT, after = ATTR_INIT;
    char buf[16];
    put_text(s, "open", "content", &before);
    struct attr change = {
        .known = ATTR_HAS_MODE | ATTR_HAS_MTIME, .mode = 0600, .mtime = {.tv_sec = 1000000000}};
    OK(set(s, "open", before.version, &change, &after));
    CHECK_INT(read_at(s, "open", after.version, 0, buf, 16), 7);
    if (has(s, CAP_LOCAL_FD) || has(s, CAP_PRIVATE))
        CHECK_INT(read_at(s, "open", before.version, 0, buf, 16), 7);
    put_text(s, "open", "changed", NULL);
    FAILS((int)read_at(s, "open", before.version, 0, buf, 16), ESTALE);
    FAILS((int)read_at(s, "open", after.version, 0, buf, 16), ESTALE);
    int r = set(s, "open", after.version, &change, NULL);
    CHECK(r == -ESTALE || r == -ENOTSUP);
    r = set(s, "absent", NULL, &change, NULL);
    CHECK_INT(r, -ENOENT);
}

static void of_directories(struct suite *s)
{
    CLEANUP_ATTR struct attr got = ATTR_INIT;
    struct attr a = {.kind = ATTR_DIR, .known = ATTR_HAS_MODE, .mode = 0711};
    OK(store_make_dir(s->store, &s->op, K(s, "dir"), &a));
    OK(stat_key(s, "dir", &got));
    CHECK_INT(got.kind, ATTR_DIR);
    if (got.known & ATTR_HAS_MODE)
        CHECK_INT(got.mode, 0711);
    attr_done(&got);
    struct attr change = {.known = ATTR_HAS_MODE, .mode = 0700};
    int r = set(s, "dir", NULL, &change, NULL);
    if (r == -ENOTSUP)
        return;
    OK(r);
    OK(stat_key(s, "dir", &got));
    CHECK_INT(got.kind, ATTR_DIR);
    CHECK_INT(got.mode, 0700);
}

static void symlinks(struct suite *s)
{
    CLEANUP_ATTR struct attr got = ATTR_INIT;
    struct attr link = {.kind = ATTR_SYMLINK};
    static const char *const targets[] = {"plain", "../up/and away", "/etc/passwd", "loop",
                                          "\xff\x01"};
    char buf[64];
    for (size_t i = 0; i < ARRAY_LEN(targets); i++) {
        size_t len = strlen(targets[i]);
        OK(put_bytes(s, "loop", targets[i], len, &link, NULL, NULL));
        OK(stat_key(s, "loop", &got));
        CHECK_INT(got.kind, ATTR_SYMLINK);
        CHECK_INT(got.size, len);
        CHECK_INT(read_at(s, "loop", got.version, 0, buf, sizeof(buf)), len); /* verbatim */
        CHECK(memcmp(buf, targets[i], len) == 0);
        attr_done(&got);
    }
    struct list_page all = LIST_PAGE_INIT;
    list_all(s, s->prefix, false, 0, &all);
    const struct list_entry *e = find_entry(&all, K(s, "loop"));
    CHECK(e && (e->attr.kind == ATTR_SYMLINK || !(e->attr.known & ATTR_META)));
    list_page_done(&all);
    int r = stat_key(s, "loop/below", &got); /* never followed */
    CHECK(r == -ENOENT || r == -EACCES);
    put_text(s, "loop", "a file again", NULL);
    OK(stat_key(s, "loop", &got));
    CHECK_INT(got.kind, ATTR_FILE);
    OK(store_remove(s->store, &s->op, K(s, "loop"), NULL));
}

static void links_are_refused(struct suite *s)
{
    struct attr link = {.kind = ATTR_SYMLINK};
    FAILS(put_bytes(s, "link", "target", 6, &link, NULL, NULL), ENOTSUP);
    struct attr dir = {.kind = ATTR_DIR};
    FAILS(put_bytes(s, "link", "", 0, &dir, NULL, NULL), EISDIR);
}

void suite_meta(struct suite *s)
{
    suite_begin(s, "meta");
    if (has(s, CAP_SYMLINK))
        symlinks(s);
    else
        links_are_refused(s);
    one_time(s);
    if (!has(s, CAP_SET_META)) {
        struct attr change = {.known = ATTR_HAS_MODE, .mode = 0600};
        put_text(s, "file", "x", NULL);
        FAILS(set(s, "file", NULL, &change, NULL), ENOTSUP);
        return;
    }
    stored_by_put(s);
    if (has(s, CAP_READ_META))
        told_by_read(s);
    replaced_by_put(s);
    in_listings(s);
    one_field_at_a_time(s);
    xattrs_are_replaced(s);
    xattrs_are_edited(s);
    reading_goes_on(s);
    of_directories(s);
}
