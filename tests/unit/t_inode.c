/* SPDX-License-Identifier: MIT
 * t_inode.c: which handles of an inode may be passed through together, and who gets another inode. */
#include "fs/inode.h"
#include "t.h"

#include "cache/volume_int.h"
#include "fs/handle.h"

static struct inode_table *t;
static struct fs_key *no_key;

static struct inode *enter(const char *name)
{
    struct inode_spec spec = {.kind = INODE_OBJECT, .key = no_key, .name = name, .segment = name};
    return inode_enter(t, inode_root(t), &spec);
}

static void leave(struct inode *i)
{
    inode_forget(t, i->ino, 1);
    inode_unref(t, i);
}

static enum inode_io claim(struct inode *i, const void *file, int *backing)
{
    struct inode_io_claim c = {.file = file, .backing = backing ? *backing : 0};
    enum inode_io io = inode_claim_io(t, i, &c);
    if (backing)
        *backing = c.backing;
    return io;
}

static void opened(struct inode *i, struct handle *h, enum inode_io io)
{
    *h = (struct handle){.refs = 1, .io = io};
    inode_add_handle(t, i, h);
}

static int closed(struct handle *h)
{
    int backing = -1;
    CHECK(inode_drop_handle(t, h, &backing));
    return backing;
}

static void test_passed_handles_share_a_number(void)
{
    struct inode *i = enter("a");
    struct handle h1, h2;
    int file, n = 0;
    CHECK_INT(claim(i, &file, &n), INODE_IO_FREE);
    n = 7;
    CHECK_INT(claim(i, &file, &n), INODE_IO_PASSED);
    opened(i, &h1, INODE_IO_PASSED);
    n = 8; /* made by somebody who was slower */
    CHECK_INT(claim(i, &file, &n), INODE_IO_PASSED);
    CHECK_INT(n, 7);
    opened(i, &h2, INODE_IO_PASSED);
    CHECK_INT(closed(&h1), 0);
    CHECK_INT(closed(&h2), 7);
    n = 0;
    CHECK_INT(claim(i, &file, &n), INODE_IO_FREE);
    leave(i);
}

static void test_cached_handles_keep_it_cached(void)
{
    struct inode *i = enter("a");
    struct handle h1, h2;
    int file, n = 0;
    CHECK_INT(claim(i, NULL, NULL), INODE_IO_CACHED);
    opened(i, &h1, INODE_IO_CACHED);
    n = 3;
    CHECK_INT(claim(i, &file, &n), INODE_IO_CACHED);
    opened(i, &h2, INODE_IO_CACHED);
    CHECK_INT(closed(&h1), 0);
    CHECK_INT(closed(&h2), 0);
    n = 0;
    CHECK_INT(claim(i, &file, &n), INODE_IO_FREE);
    leave(i);
}

static void test_who_does_not_fit_gets_another_inode(void)
{
    struct inode *i = enter("a");
    struct handle h1, h2, h3;
    int file, other, n = 5;
    CHECK_INT(claim(i, &file, &n), INODE_IO_PASSED);
    opened(i, &h1, INODE_IO_PASSED);
    CHECK_INT(claim(i, NULL, NULL), INODE_IO_AGAIN);
    CHECK(i->successor && !inode_path(t, i));
    CHECK_INT(claim(i, &other, &n), INODE_IO_AGAIN);
    struct inode *next = enter("a");
    CHECK(next == i->successor && next->ino != i->ino);
    n = 6;
    CHECK_INT(claim(next, &other, &n), INODE_IO_CACHED); /* a reader is faster than who needs it */
    opened(next, &h2, INODE_IO_CACHED);
    (void)closed(&h2);
    CHECK_INT(claim(next, &other, &n), INODE_IO_CACHED); /* and must still not be passed */
    opened(next, &h2, INODE_IO_CACHED);
    CHECK_INT(claim(next, NULL, NULL), INODE_IO_CACHED);
    opened(next, &h3, INODE_IO_CACHED);
    CHECK_INT(closed(&h1), 5);
    CHECK_INT(claim(i, &file, &n), INODE_IO_CACHED); /* known by number only: never passed again */
    opened(i, &h1, INODE_IO_CACHED);
    (void)closed(&h1);
    leave(i); /* the successor stays */
    CHECK(enter("a") == next);
    leave(next);
    (void)closed(&h2);
    (void)closed(&h3);
    leave(next);
    CHECK_INT(inode_count(t), 1);
}

static enum inode_io claim_by(struct inode *i, pid_t thread)
{
    struct inode_io_claim c = {.opener = thread};
    return inode_claim_io(t, i, &c);
}

/* Who opens a name whose inode has handles of an older version gets another inode, but is sent there once only: the
 * kernel comes twice. */
static void test_an_older_version_keeps_its_inode(void)
{
    struct inode *i = enter("a");
    struct vnode old = {.stale = true};
    struct vfile file = {.n = &old};
    struct handle h1, h2;
    CHECK_INT(claim_by(i, 7), INODE_IO_CACHED);
    opened(i, &h1, INODE_IO_CACHED);
    CHECK_INT(claim_by(i, 7), INODE_IO_CACHED); /* the same version */
    opened(i, &h2, INODE_IO_CACHED);
    (void)closed(&h2);
    h1.file = &file;
    CHECK_INT(claim_by(i, 7), INODE_IO_AGAIN);
    struct inode *next = enter("a");
    CHECK(next == i->successor && next->ino != i->ino);
    opened(next, &h2, INODE_IO_CACHED); /* another was faster, and its version is old already */
    h2.file = &file;
    next->io.cached++;
    CHECK_INT(claim_by(next, 7), INODE_IO_CACHED);
    CHECK_INT(claim_by(next, 8), INODE_IO_AGAIN);
    CHECK_INT(claim_by(i, INODE_NOBODY), INODE_IO_CACHED); /* it has no name any more */
    next->io.cached--;
    i->io.cached--;
    (void)closed(&h1);
    (void)closed(&h2);
    leave(i);
    leave(next);
    CHECK_INT(inode_count(t), 1);
}

static void check_path(struct inode *i, const char *want)
{
    char *path = inode_path(t, i);
    CHECK_STR(path, want);
    free(path);
}

static void test_exchanged(void)
{
    struct inode *root = inode_root(t), *dir = enter("dir"), *file = enter("file");
    struct inode_spec spec = {.kind = INODE_OBJECT, .key = no_key, .name = "in", .segment = "in"};
    struct inode *in = inode_enter(t, dir, &spec);
    struct inode_place a = {dir, "in", "in"}, b = {root, "file", "file"}, c = {root, "dir", "dir"}, none = {root, "x", "x"};
    inode_exchanged(t, &a, &b);
    check_path(in, "file");
    check_path(file, "dir/in");
    inode_exchanged(t, &b, &c); /* a directory, with what is in it */
    check_path(dir, "file");
    check_path(in, "dir");
    check_path(file, "file/in");
    inode_exchanged(t, &c, &none); /* one of the two was never looked up */
    check_path(in, "x");
    inode_exchanged(t, &none, &none);
    inode_exchanged(t, &(struct inode_place){root, "y", "y"}, &none);
    check_path(in, "y");
    leave(in);
    leave(file);
    leave(dir);
}

int main(void)
{
    t = inode_table_new();
    RUN(test_passed_handles_share_a_number);
    RUN(test_cached_handles_keep_it_cached);
    RUN(test_who_does_not_fit_gets_another_inode);
    RUN(test_an_older_version_keeps_its_inode);
    RUN(test_exchanged);
    inode_table_free(t);
    return t_done();
}
