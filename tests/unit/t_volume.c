/* SPDX-License-Identifier: MIT
 * t_volume.c: the volume over the memory store (as it is, and made to look like S3) and the local store:
 * names, content, metadata, other clients, conflicts, renames. */
#include "tests/unit/vol_fixture.h"

#define NO_NATIVE (CAP_PATCH | CAP_RENAME_FILE | CAP_RENAME_DIR)
#define RW (VFILE_READ | VFILE_WRITE)
#define NEW (VFILE_READ | VFILE_WRITE | VFILE_CREATE)

static uint32_t caps_off; /* of the memory store in this round */
static bool use_local;

static struct vx up_with_ttl(uint64_t ttl_ms)
{
    struct vx x = vx_new();
    x.mask = caps_off;
    x.policy.ttl_ms = ttl_ms;
    x.limits = (struct store_limits){
        .upload_threshold = 64 * KIB, .part_size = 16 * KIB, .part_min = 4 * KIB};
    if (use_local)
        vx_open_local(&x, "");
    else
        vx_open(&x, "backend = memory");
    return x;
}

static struct vx up(void)
{
    return up_with_ttl(5000);
}

static void test_create_and_read(void)
{
    struct vx x = up();
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    CHECK_INT(vx_stat(&x, "a", &a), -ENOENT);
    struct vfile *f = vx_fopen(&x, "a", NEW | VFILE_EXCL, 0);
    CHECK(vx_foreign_get(&x, "a") == NULL); /* no stub */
    CHECK_INT(vx_stat(&x, "a", &a), 0);
    CHECK_INT(a.size, 0);
    CHECK_STR(vx_ls(&x, ""), "a");
    vx_pwrite(&x, f, "hello", 5, 0);
    vx_pwrite(&x, f, "world", 5, 10);
    char buf[32];
    CHECK_INT(vx_pread(f, buf, sizeof(buf), 0), 15);
    CHECK(memcmp(buf, "hello\0\0\0\0\0world", 15) == 0);
    CHECK_INT(vx_stat(&x, "a", &a), 0);
    CHECK_INT(a.size, 15);
    vx_fopen(&x, "a", NEW | VFILE_EXCL, -EEXIST);
    CHECK_INT(vfile_flush(f, &x.op), 0);
    CHECK(memcmp(vx_foreign_get(&x, "a"), "hello\0\0\0\0\0world", 15) == 0);
    vx_pwrite(&x, f, "HE", 2, 0);
    CHECK_INT(vx_pread(f, buf, 4, 1), 4);
    CHECK(memcmp(buf, "Ello", 4) == 0);
    CHECK_INT(vx_fclose(&x, f), 0);
    CHECK(memcmp(vx_foreign_get(&x, "a"), "HEllo\0", 6) == 0);
    vx_write(&x, "empty", "");
    CHECK_STR(vx_foreign_get(&x, "empty"), "");
    CHECK_STR(vx_ls(&x, ""), "a empty");
    vx_done(&x);
}

static void test_truncate_append(void)
{
    struct vx x = up();
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    vx_write(&x, "f", "0123456789");
    struct vfile *f = vx_fopen(&x, "f", RW, 0);
    CHECK_INT(vfile_truncate(f, &x.op, 4), 0);
    CHECK_INT(vfile_truncate(f, &x.op, 8), 0);
    CHECK_INT(vx_fclose(&x, f), 0);
    CHECK(memcmp(vx_foreign_get(&x, "f"), "0123\0\0\0\0", 8) == 0);
    CHECK_INT(volume_truncate(x.v, &x.op, "f", 2, &a), 0);
    CHECK_INT(a.size, 2);
    CHECK_STR(vx_foreign_get(&x, "f"), "01");
    struct vfile *p = vx_fopen(&x, "f", VFILE_WRITE, 0);
    struct vfile *q = vx_fopen(&x, "f", VFILE_WRITE, 0);
    vx_pwrite(&x, p, "ab", 2, VFILE_END);
    vx_pwrite(&x, q, "cd", 2, VFILE_END);
    vx_pwrite(&x, p, "ef", 2, VFILE_END);
    CHECK_INT(vx_fclose(&x, p), 0);
    CHECK_INT(vx_fclose(&x, q), 0);
    CHECK_STR(vx_foreign_get(&x, "f"), "01abcdef");
    f = vx_fopen(&x, "f", RW | VFILE_TRUNC, 0);
    CHECK_STR(vx_foreign_get(&x, "f"), "01abcdef"); /* good content until the new is whole */
    vx_pwrite(&x, f, "new", 3, 0);
    CHECK_INT(vx_fclose(&x, f), 0);
    CHECK_STR(vx_foreign_get(&x, "f"), "new");
    f = vx_fopen(&x, "f", RW, 0);
    CHECK_INT(vfile_fallocate(f, &x.op, 0, 0, 6), 0);
    CHECK_INT(vfile_fallocate(f, &x.op, 3 /* PUNCH_HOLE | KEEP_SIZE */, 1, 1), 0);
    CHECK_INT(vfile_fallocate(f, &x.op, 0x20, 0, 1), -EOPNOTSUPP);
    CHECK_INT(vx_fclose(&x, f), 0);
    CHECK(memcmp(vx_foreign_get(&x, "f"), "n\0w\0\0\0", 6) == 0);
    vx_done(&x);
}

/* Edits in a large object: patched, or sent in parts with copies between. */
static void test_large_edit(void)
{
    struct vx x = up();
    size_t size = 300 * KIB + 123;
    unsigned char *want = xmalloc(2 * size), *got = xmalloc(2 * size);
    for (size_t i = 0; i < size; i++)
        want[i] = (unsigned char)(i * 7 + i / 251);
    CHECK_INT(vx_write_n(&x, "big", want, size), 0);
    struct vfile *f = vx_fopen(&x, "big", RW, 0);
    memcpy(want + 100000, "12345678", 8);
    vx_pwrite(&x, f, "12345678", 8, 100000);
    memcpy(want + size, "tail", 4);
    vx_pwrite(&x, f, "tail", 4, size);
    size += 4;
    CHECK_INT(vx_pread(f, got, size + 10, 0), size);
    CHECK(memcmp(got, want, size) == 0);
    CHECK_INT(vfile_fsync(f, &x.op), 0);
    CHECK_INT(vx_pread(f, got, size + 10, 0), size);
    CHECK(memcmp(got, want, size) == 0);
    CHECK_INT(vfile_truncate(f, &x.op, size - 50000), 0);
    size -= 50000;
    memset(want + size, 0, 60000);
    CHECK_INT(vfile_truncate(f, &x.op, size + 60000), 0);
    size += 60000;
    CHECK_INT(vx_fclose(&x, f), 0);
    volume_forget(x.v, NULL, true);
    f = vx_fopen(&x, "big", VFILE_READ | VFILE_DIRECT, 0);
    CHECK_INT(vx_pread(f, got, 2 * size, 0), size);
    CHECK(memcmp(got, want, size) == 0);
    CHECK_INT(vx_fclose(&x, f), 0);
    free(want);
    free(got);
    vx_done(&x);
}

static void test_directories(void)
{
    struct vx x = up();
    CLEANUP_ATTR struct attr a = ATTR_INIT, b = ATTR_INIT;
    CHECK_INT(volume_mkdir(x.v, &x.op, "d", 0700, getuid(), getgid(), &a), 0);
    CHECK_INT(a.kind, ATTR_DIR);
    CHECK_INT(a.mode, 0700);
    CHECK_INT(volume_mkdir(x.v, &x.op, "d", 0755, 0, 0, &b), -EEXIST);
    vx_write(&x, "d/one", "1");
    struct vfile *f = vx_fopen(&x, "d/two", NEW, 0);
    CHECK_STR(vx_ls(&x, "d"), "one two");
    CHECK_STR(vx_ls(&x, ""), "d/");
    CHECK_INT(volume_rmdir(x.v, &x.op, "d"), -ENOTEMPTY);
    CHECK_INT(volume_unlink(x.v, &x.op, "d/one"), 0);
    CHECK_INT(volume_rmdir(x.v, &x.op, "d"), -ENOTEMPTY); /* two is only here */
    CHECK_INT(volume_unlink(x.v, &x.op, "d/two"), 0);
    CHECK_INT(vx_fclose(&x, f), 0);
    CHECK_STR(vx_ls(&x, "d"), "");
    CHECK_INT(vx_stat(&x, "d", &b), 0);
    CHECK_INT(b.mode, 0700);
    CHECK_INT(volume_rmdir(x.v, &x.op, "d"), 0);
    CHECK_INT(vx_stat(&x, "d", &b), -ENOENT);
    CHECK_INT(volume_rmdir(x.v, &x.op, "d"), -ENOENT);
    CHECK_STR(vx_ls(&x, "d"), "error 2");
    vx_write(&x, "plain", "x");
    CHECK_INT(volume_rmdir(x.v, &x.op, "plain"), -ENOTDIR);
    CHECK_INT(volume_unlink(x.v, &x.op, "nothing"), -ENOENT);
    CHECK_INT(volume_rmdir(x.v, &x.op, ""), -EBUSY);
    vx_done(&x);
}

/* A prefix without a marker stays when its last object goes. */
static void test_parent_stays(void)
{
    struct vx x = up();
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    if (!use_local) {
        vx_foreign_put(&x, "p/q/one", "1");
        vx_foreign_put(&x, "p/q/two", "2");
        CHECK_INT(volume_unlink(x.v, &x.op, "p/q/one"), 0);
        CHECK_INT(volume_unlink(x.v, &x.op, "p/q/two"), 0);
        CHECK_INT(vx_stat(&x, "p/q", &a), 0);
        CHECK_INT(volume_rmdir(x.v, &x.op, "p/q"), 0);
        CHECK_INT(vx_stat(&x, "p", &a), 0);
        CHECK_STR(vx_ls(&x, "p"), "");
        vx_foreign_put(&x, "m/f", "1");
        CHECK_INT(volume_rename(x.v, &x.op, "m/f", "f", false, NULL), 0);
        CHECK_INT(vx_stat(&x, "m", &a), 0);
    }
    vx_done(&x);
}

static void test_meta(void)
{
    struct vx x = up();
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    struct vfile *f = vx_fopen(&x, "f", NEW, 0);
    struct attr change = {.known = ATTR_HAS_MODE | ATTR_HAS_MTIME,
                          .mode = 0640,
                          .mtime = {.tv_sec = 1000000000, .tv_nsec = 123456789}};
    vx_pwrite(&x, f, "abc", 3, 0);
    CHECK_INT(vfile_set_attr(f, &x.op, &change), 0); /* cp -a: before the first flush */
    CHECK_INT(vx_fclose(&x, f), 0);
    volume_forget(x.v, NULL, false);
    CHECK_INT(vx_stat(&x, "f", &a), 0);
    CHECK_INT(a.mode, 0640);
    CHECK_INT(a.mtime.tv_sec, 1000000000);
    CHECK_INT(a.mtime.tv_nsec, 123456789);
    change.mode = 0600; /* a clean file: at once */
    change.known = ATTR_HAS_MODE;
    attr_done(&a);
    CHECK_INT(volume_set_attr(x.v, &x.op, "f", &change, &a), 0);
    CHECK_INT(a.mode, 0600);
    f = vx_fopen(&x, "f", RW, 0);
    change.mode = 0644;
    CHECK_INT(vfile_set_attr(f, &x.op, &change), 0); /* on a handle, nothing staged */
    char buf[8];
    CHECK_INT(vx_pread(f, buf, 8, 0), 3);
    vx_pwrite(&x, f, "X", 1, 0);
    CHECK_INT(vx_fclose(&x, f), 0);
    volume_forget(x.v, NULL, false);
    CHECK_INT(vx_stat(&x, "f", &a), 0);
    CHECK_INT(a.mode, 0644);
    CHECK_STR(vx_read(&x, "f"), "Xbc");
    CHECK_INT(volume_mkdir(x.v, &x.op, "d", 0755, getuid(), getgid(), (attr_done(&a), &a)), 0);
    change.mode = 0711;
    attr_done(&a);
    CHECK_INT(volume_set_attr(x.v, &x.op, "d", &change, &a), 0);
    volume_forget(x.v, NULL, false);
    CHECK_INT(vx_stat(&x, "d", &a), 0);
    CHECK_INT(a.mode, 0711);
    vx_done(&x);
}

static void test_xattr(void)
{
    struct vx x = up();
    struct buf b = BUF_INIT;
    vx_write(&x, "f", "abc");
    CHECK_INT(volume_set_xattr(x.v, &x.op, "f", "user.one", "1", 1, 0), 0);
    CHECK_INT(volume_set_xattr(x.v, &x.op, "f", "user.two", "22", 2, VOLUME_XATTR_CREATE), 0);
    CHECK_INT(volume_set_xattr(x.v, &x.op, "f", "user.two", "", 0, VOLUME_XATTR_CREATE), -EEXIST);
    CHECK_INT(volume_set_xattr(x.v, &x.op, "f", "user.no", "", 0, VOLUME_XATTR_REPLACE), -ENODATA);
    CHECK_INT(volume_set_xattr(x.v, &x.op, "f", "security.x", "", 0, 0), -EOPNOTSUPP);
    vx_write(&x, "f", "other content"); /* survives an overwrite */
    volume_forget(x.v, NULL, false);
    CHECK_INT(volume_get_xattr(x.v, &x.op, "f", "user.two", &b), 0);
    CHECK_STR(b.data, "22");
    buf_reset(&b);
    CHECK_INT(volume_list_xattr(x.v, &x.op, "f", &b), 0);
    CHECK_INT(b.len, 18);
    CHECK_INT(volume_remove_xattr(x.v, &x.op, "f", "user.one"), 0);
    CHECK_INT(volume_get_xattr(x.v, &x.op, "f", "user.one", &b), -ENODATA);
    CHECK_INT(volume_remove_xattr(x.v, &x.op, "f", "user.one"), -ENODATA);
    buf_reset(&b);
    CHECK_INT(volume_get_xattr(x.v, &x.op, "f", "user.etag", &b), 0);
    CHECK(b.len > 0);
    buf_done(&b);
    vx_done(&x);
}

static void test_symlink(void)
{
    struct vx x = up();
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    struct buf b = BUF_INIT;
    if (x.store->caps & CAP_SYMLINK) {
        CHECK_INT(volume_symlink(x.v, &x.op, "../some/where", "l", getuid(), getgid(), &a), 0);
        CHECK_INT(a.kind, ATTR_SYMLINK);
        CHECK_INT(a.size, 13);
        CHECK_INT(volume_readlink(x.v, &x.op, "l", &b), 0);
        CHECK_STR(b.data, "../some/where");
        CHECK_INT(volume_rename(x.v, &x.op, "l", "m", false, NULL), 0);
        buf_reset(&b);
        CHECK_INT(volume_readlink(x.v, &x.op, "m", &b), 0);
        CHECK_STR(b.data, "../some/where");
        CHECK_STR(vx_ls(&x, ""), "m@");
        vx_fopen(&x, "m", VFILE_READ, -ELOOP);
        CHECK_INT(volume_unlink(x.v, &x.op, "m"), 0);
    }
    buf_done(&b);
    vx_done(&x);
}

/* ---- other clients ---- */

static void test_close_to_open(void)
{
    struct vx x = up();
    vx_foreign_put(&x, "f", "first");
    struct vfile *f = vx_fopen(&x, "f", VFILE_READ, 0);
    vx_foreign_put(&x, "f", "second!");
    CHECK_STR(vx_read(&x, "f"), "second!");
    char buf[16];
    CHECK(vfile_is_stale(f));
    CHECK_INT(vx_pread(f, buf, 16, 0), -ESTALE);
    CHECK_INT(vx_fclose(&x, f), 0);
    vx_foreign_remove(&x, "f");
    vx_fopen(&x, "f", VFILE_READ, -ENOENT);
    vx_done(&x);
}

static void test_outdated_behind_the_ttl(void)
{
    struct vx x = up_with_ttl(1);
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    vx_foreign_put(&x, "f", "first");
    struct vfile *f = vx_fopen(&x, "f", VFILE_READ, 0);
    clock_sleep_ms(10);
    vx_foreign_put(&x, "f", "second!");
    CHECK(!vfile_is_outdated(f)); /* nobody has asked */
    CHECK_INT(volume_stat(x.v, &x.op, "f", 0, &a), 0);
    CHECK_INT(a.size, 7);
    clock_sleep_ms(10);
    CHECK(vfile_is_outdated(f));
    CHECK(!vfile_is_stale(f));
    CHECK_INT(vx_fclose(&x, f), 0);
    vx_done(&x);
}

static void test_keep(void)
{
    struct vx x = up();
    struct vfile_open how = {.flags = RW};
    struct vfile *f = NULL;
    bool keep = true;
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    vx_foreign_put(&x, "f", "first");
    for (int i = 0; i < 5; i++) {
        if (i == 2)
            vx_foreign_put(&x, "f", "second");
        attr_done(&a);
        CHECK_INT(volume_open_file(x.v, &x.op, "f", &how, &f, &a, &keep), 0);
        CHECK_INT(keep, i != 0 && i != 2); /* 3: ours was written through the kernel */
        if (i == 3)
            vx_pwrite(&x, f, "X", 1, 0);
        CHECK_INT(vx_fclose(&x, f), 0);
    }
    vx_done(&x);
}

static char *conflict_name(struct vx *x, const char *prefix)
{
    static char name[512];
    CLEANUP_FREE char *all = xstrdup(vx_foreign_ls(x, ""));
    CLEANUP_FREE char *begin = xasprintf("%s.conflict-", prefix);
    char *at = strstr(all, begin);
    if (!at)
        return NULL;
    snprintf(name, sizeof(name), "%.*s", (int)strcspn(at, " "), at);
    return name;
}

static void test_conflict(void)
{
    struct vx x = up();
    vx_foreign_put(&x, "f", "base content");
    struct vfile *f = vx_fopen(&x, "f", RW, 0);
    struct vfile *r = vx_fopen(&x, "f", VFILE_READ, 0);
    vx_pwrite(&x, f, "OURS", 4, 0);
    CHECK_INT(vfile_fsync(f, &x.op), 0);
    vx_pwrite(&x, f, "mine", 4, 0);
    char buf[32];
    CHECK_INT(vx_pread(f, buf, 32, 0), 12); /* all of it is known here */
    vx_foreign_put(&x, "f", "theirs");
    CHECK_INT(vfile_flush(f, &x.op), -ESTALE);
    CHECK_STR(vx_foreign_get(&x, "f"), "theirs");
    char *name = conflict_name(&x, "f");
    CHECK(name != NULL);
    CHECK(memcmp(vx_foreign_get(&x, name), "mine", 4) == 0);
    CHECK_INT(vfile_flush(f, &x.op), -ESTALE);
    CHECK_INT(vfile_write(f, &x.op, 0, "x", 1), -ESTALE);
    CHECK_INT(vx_pread(r, buf, 32, 0), -ESTALE);
    vfile_release(f);
    vfile_release(r);
    CHECK_STR(vx_read(&x, "f"), "theirs");
    vx_done(&x);
}

static void test_excl_race(void)
{
    struct vx x = up();
    struct vfile *f = vx_fopen(&x, "lock", NEW | VFILE_EXCL, 0);
    vx_foreign_put(&x, "lock", "winner");
    vx_pwrite(&x, f, "loser", 5, 0);
    CHECK_INT(vx_fclose(&x, f), -EEXIST);
    CHECK_STR(vx_foreign_get(&x, "lock"), "winner");
    CHECK_STR(vx_foreign_get(&x, conflict_name(&x, "lock")), "loser");
    f = vx_fopen(&x, "empty", NEW | VFILE_EXCL, 0);
    vx_foreign_put(&x, "empty", "winner");
    CHECK_INT(vx_fclose(&x, f), -EEXIST);
    CHECK(conflict_name(&x, "empty") == NULL);
    f = vx_fopen(&x, "plain", NEW, 0);
    vx_foreign_put(&x, "plain", "theirs");
    vx_pwrite(&x, f, "ours", 4, 0);
    bool conditional = x.store->caps & CAP_IF_MATCH; /* else the last writer wins */
    CHECK_INT(vx_fclose(&x, f), conditional ? -ESTALE : 0);
    CHECK_STR(vx_foreign_get(&x, "plain"), conditional ? "theirs" : "ours");
    CHECK((conflict_name(&x, "plain") != NULL) == conditional);
    vx_done(&x);
}

/* ---- names of open files ---- */

static void test_unlink_open(void)
{
    struct vx x = up();
    char buf[32];
    vx_foreign_put(&x, "f", "still here");
    struct vfile *f = vx_fopen(&x, "f", RW, 0);
    CHECK_INT(volume_unlink(x.v, &x.op, "f"), 0);
    CHECK(vx_foreign_get(&x, "f") == NULL);
    CHECK_INT(vx_pread(f, buf, 32, 0), 10);
    CHECK(memcmp(buf, "still here", 10) == 0);
    vx_pwrite(&x, f, "STILL", 5, 0);
    CHECK_INT(vx_pread(f, buf, 32, 0), 10);
    CHECK(memcmp(buf, "STILL here", 10) == 0);
    vx_write(&x, "f", "another"); /* the name is free */
    CHECK_INT(vx_fclose(&x, f), 0);
    CHECK_STR(vx_foreign_get(&x, "f"), "another");
    f = vx_fopen(&x, "g", NEW, 0);
    vx_pwrite(&x, f, "tmp", 3, 0);
    CHECK_INT(volume_unlink(x.v, &x.op, "g"), 0);
    CHECK_INT(vx_pread(f, buf, 32, 0), 3);
    CHECK_INT(vx_fclose(&x, f), 0);
    CHECK(vx_foreign_get(&x, "g") == NULL);
    vx_done(&x);
}

static void test_rename_file(void)
{
    struct vx x = up();
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    char buf[32];
    vx_write(&x, "f", "old");
    vx_write(&x, "f.tmp", "newer");
    struct vfile *old = vx_fopen(&x, "f", VFILE_READ, 0);
    struct vfile *w = vx_fopen(&x, "f.tmp", RW, 0);
    CHECK_INT(volume_rename(x.v, &x.op, "f.tmp", "f", true, NULL), -EEXIST);
    CHECK_INT(volume_rename(x.v, &x.op, "f.tmp", "f", false, NULL), 0); /* save by rename */
    CHECK_STR(vx_foreign_get(&x, "f"), "newer");
    CHECK(vx_foreign_get(&x, "f.tmp") == NULL);
    CHECK_INT(vx_stat(&x, "f.tmp", &a), -ENOENT);
    CHECK_INT(vx_pread(old, buf, 32, 0), 3);
    CHECK(memcmp(buf, "old", 3) == 0);
    CHECK_INT(vx_pread(w, buf, 32, 0), 5); /* moved along */
    vx_pwrite(&x, w, "N", 1, 0);
    CHECK_INT(vx_fclose(&x, w), 0);
    CHECK_STR(vx_foreign_get(&x, "f"), "Newer");
    CHECK_INT(vx_fclose(&x, old), 0);
    w = vx_fopen(&x, "g", NEW, 0); /* staged only */
    vx_pwrite(&x, w, "staged", 6, 0);
    CHECK_INT(volume_rename(x.v, &x.op, "g", "h", false, NULL), 0);
    vx_pwrite(&x, w, "S", 1, 0);
    CHECK_INT(vx_fclose(&x, w), 0);
    CHECK_STR(vx_foreign_get(&x, "h"), "Staged");
    CHECK_INT(volume_mkdir(x.v, &x.op, "d", 0755, getuid(), getgid(), &a), 0);
    CHECK_INT(volume_rename(x.v, &x.op, "h", "d", false, NULL), -EISDIR);
    CHECK_INT(volume_rename(x.v, &x.op, "d", "h", false, NULL), -ENOTDIR);
    CHECK_INT(volume_rename(x.v, &x.op, "h", "h", false, NULL), 0);
    CHECK_INT(volume_rename(x.v, &x.op, "nothing", "h", false, NULL), -ENOENT);
    CHECK_INT(volume_rename(x.v, &x.op, "h", "d/h", false, NULL), 0);
    CHECK_STR(vx_ls(&x, "d"), "h");
    CHECK_STR(vx_ls(&x, ""), "d/ f");
    vx_done(&x);
}

static void test_rename_dir(void)
{
    struct vx x = up();
    CLEANUP_ATTR struct attr a = ATTR_INIT, b = ATTR_INIT, c = ATTR_INIT;
    char buf[32];
    CHECK_INT(volume_mkdir(x.v, &x.op, "d", 0700, getuid(), getgid(), &a), 0);
    CHECK_INT(volume_mkdir(x.v, &x.op, "d/sub", 0750, getuid(), getgid(), &b), 0);
    CHECK_INT(volume_mkdir(x.v, &x.op, "t", 0755, getuid(), getgid(), &c), 0);
    vx_write(&x, "d/one", "1");
    vx_write(&x, "d/sub/two", "2");
    struct vfile *clean = vx_fopen(&x, "d/one", VFILE_READ, 0);
    struct vfile *w = vx_fopen(&x, "d/sub/three", NEW, 0);
    vx_pwrite(&x, w, "3", 1, 0);
    CHECK_INT(volume_rename(x.v, &x.op, "d", "d/sub/x", false, NULL), -EINVAL);
    CHECK_INT(volume_rename(x.v, &x.op, "d/sub", "d", false, NULL), -ENOTEMPTY);
    CHECK_INT(volume_rename(x.v, &x.op, "t", "d", false, NULL), -ENOTEMPTY);
    CHECK_INT(volume_rename(x.v, &x.op, "d", "t", true, NULL), -EEXIST);
    CHECK_INT(volume_rename(x.v, &x.op, "d", "t", false, NULL), 0); /* onto an empty one */
    CHECK_STR(vx_ls(&x, ""), "t/");
    CHECK_STR(vx_ls(&x, "t"), "one sub/");
    CHECK_STR(vx_ls(&x, "t/sub"), "three two");
    CHECK_STR(vx_read(&x, "t/one"), "1");
    CHECK_INT(vx_stat(&x, "t/sub", &a), 0);
    CHECK_INT(a.mode, 0750);
    CHECK_INT(vx_stat(&x, "d", &a), -ENOENT);
    CHECK_INT(vx_pread(clean, buf, 8, 0), 1);
    vx_pwrite(&x, w, "33", 2, 0);
    CHECK_INT(vx_fclose(&x, w), 0);
    CHECK_STR(vx_foreign_get(&x, "t/sub/three"), "33");
    CHECK_INT(vx_fclose(&x, clean), 0);
    CHECK(strstr(vx_foreign_ls(&x, ""), "d/") == NULL);
    vx_done(&x);
}

static void test_shadow(void)
{
    struct vx x = up();
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    if (!use_local) {
        vx_foreign_put(&x, "a", "file");
        vx_foreign_put(&x, "a-b", "x");
        vx_foreign_put(&x, "a/c", "below");
        CHECK_STR(vx_ls(&x, ""), "a a-b a/!");
        CHECK_INT(volume_stat(x.v, &x.op, "a", VOLUME_STAT_DIR, &a), 0);
        CHECK_INT(a.kind, ATTR_DIR);
        CHECK_INT(vx_stat(&x, "a", &a), 0);
        CHECK_INT(a.kind, ATTR_FILE);
        CHECK_STR(vx_read(&x, "a"), "file");
        CHECK_STR(vx_read(&x, "a/c"), "below");
        CHECK_STR(vx_ls(&x, "a"), "c");
    }
    vx_done(&x);
}

static void test_many_entries(void)
{
    struct vx x = up();
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    CHECK_INT(volume_mkdir(x.v, &x.op, "d", 0755, getuid(), getgid(), &a), 0);
    struct vfile *staged[7];
    for (int i = 0; i < 2300; i++) {
        char path[32];
        snprintf(path, sizeof(path), "d/%04d", i);
        if (i % 331 == 5)
            staged[i / 331] = vx_fopen(&x, path, NEW, 0);
        else
            vx_foreign_put(&x, path, "");
    }
    for (int round = 0; round < 2; round++) { /* the second comes from the cache */
        struct volume_dir *d = NULL;
        const struct volume_entry *e;
        uint64_t i = 0;
        CHECK_INT(volume_opendir(x.v, &x.op, "d", &d), 0);
        for (; volume_readdir(d, &x.op, i, &e) == 1; i++)
            CHECK_INT(strtol(e->name, NULL, 10), i);
        CHECK_INT(i, 2300);
        CHECK(volume_readdir_ready(d, 5000));
        volume_closedir(d);
    }
    CHECK_INT(volume_peek(x.v, "d/0003", 0, (attr_done(&a), &a)), 0);
    CHECK_INT(volume_peek(x.v, "d/absent", 0, (attr_done(&a), &a)), -ENOENT);
    CHECK(volume_valid_ms(x.v, "d/0003") > 0);
    for (int i = 0; i < 7; i++)
        CHECK_INT(vx_fclose(&x, staged[i]), 0);
    vx_done(&x);
}

/* ---- an attempt that succeeded, but whose answer was lost, is no conflict ---- */

static void test_lost_answer(void)
{
    struct vx x = vx_new();
    x.mask = caps_off;
    vx_open(&x, "backend = memory\nretries = 0\n"
                "fault = op=put,nth=2,errno=EIO,lost=yes,retry=unknown");
    vx_write(&x, "f", "first");
    vx_write(&x, "f", "second");
    CHECK_STR(vx_foreign_get(&x, "f"), "second");
    CHECK(conflict_name(&x, "f") == NULL);
    vx_done(&x);
}

/* It was an edit in place, nobody could look at once, and then the program changed what it begins (and ends) with. */
static void test_lost_answer_of_an_edit(void)
{
    for (int theirs = 0; theirs < 2; theirs++) {
        struct vx x = vx_new();
        vx_open_local(&x, "retries = 0\nfault = op=patch,nth=1,errno=EIO,lost=yes;op=read,nth=1,errno=EIO");
        vx_foreign_put(&x, "f", "0123456789");
        struct vfile *f = vx_fopen(&x, "f", VFILE_WRITE, 0);
        vx_pwrite(&x, f, "edit", 4, 3);
        vx_pwrite(&x, f, "more", 4, 10);
        CHECK_INT(vfile_flush(f, &x.op), -EIO);
        CHECK_STR(vx_foreign_get(&x, "f"), "012edit789more");
        vx_pwrite(&x, f, "B", 1, 3);
        vx_pwrite(&x, f, "E", 1, 13);
        if (theirs)
            vx_foreign_put(&x, "f", "012EDIT789more");
        CHECK_INT(vx_fclose(&x, f), theirs ? -ESTALE : 0);
        CHECK_STR(vx_foreign_get(&x, "f"), theirs ? "012EDIT789more" : "012Bdit789morE");
        CHECK((conflict_name(&x, "f") != NULL) == theirs);
        vx_done(&x);
    }
}

static void all(void)
{
    RUN(test_create_and_read);
    RUN(test_truncate_append);
    RUN(test_large_edit);
    RUN(test_directories);
    RUN(test_parent_stays);
    RUN(test_meta);
    RUN(test_xattr);
    RUN(test_symlink);
    RUN(test_close_to_open);
    RUN(test_outdated_behind_the_ttl);
    RUN(test_keep);
    RUN(test_conflict);
    RUN(test_excl_race);
    RUN(test_unlink_open);
    RUN(test_rename_file);
    RUN(test_rename_dir);
    RUN(test_shadow);
    RUN(test_many_entries);
}

int main(void)
{
    log_set_level(LOG_LEVEL_ERROR);
    all();
    RUN(test_lost_answer);
    caps_off = NO_NATIVE; /* as S3 */
    all();
    RUN(test_lost_answer);
    caps_off = NO_NATIVE | CAP_IF_MATCH | CAP_COPY | CAP_COPY_PART; /* as little as there is */
    all();
    caps_off = 0;
    use_local = true;
    all();
    RUN(test_lost_answer_of_an_edit);
    return t_done();
}
