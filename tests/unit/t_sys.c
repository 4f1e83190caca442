/* SPDX-License-Identifier: MIT
 * t_sys.c: checked calls and injected faults. */
#include "base/sys.h"

#include "base/buf.h"
#include "base/clock.h"
#include "tests/unit/t.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static char dir[] = "/tmp/t_sys.XXXXXX";
static char path[256];

static const char *in_dir(const char *name)
{
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    return path;
}

static int make_file(const char *name)
{
    int fd = sys_openat(AT_FDCWD, in_dir(name), O_RDWR | O_CREAT, 0600);
    CHECK(fd >= 0);
    CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    return fd;
}

static void test_calls(void)
{
    char text[16] = "";
    int fd = make_file("f");
    CHECK_INT(sys_pwrite(fd, "hello", 5, 3), 5);
    CHECK_INT(sys_pread(fd, text, sizeof(text), 3), 5);
    CHECK_STR(text, "hello");
    CHECK_INT(sys_pread(fd, text, sizeof(text), 100), 0);
    CHECK_INT(sys_pread(-1, text, 1, 0), -EBADF);
    CHECK_INT(sys_ftruncate(fd, 100), 0);
    CHECK_INT(sys_fsync(fd), 0);
    CHECK_INT(sys_fdatasync(fd), 0);
    close(fd);
    CHECK_INT(sys_openat(AT_FDCWD, in_dir("none"), O_RDONLY, 0), -ENOENT);
    int d = sys_openat(AT_FDCWD, dir, O_RDONLY | O_DIRECTORY, 0);
    CHECK(d >= 0);
    CHECK_INT(sys_renameat(d, "f", d, "g", 0), 0);
    CHECK_INT(sys_renameat(d, "f", d, "g", 0), -ENOENT);
    CHECK_INT(sys_mkdirat(d, "m", 0700), 0);
    CHECK_INT(sys_mkdirat(d, "m", 0700), -EEXIST);
    CHECK_INT(sys_unlinkat(d, "m", AT_REMOVEDIR), 0);
    CHECK_INT(sys_unlinkat(d, "g", 0), 0);
    CHECK_INT(sys_fsync_dir(dir), 0);
    CHECK_INT(sys_fsync_dir(in_dir("none")), -ENOENT);
    close(d);
}

static void test_mkdirs(void)
{
    struct stat st;
    CHECK_INT(sys_mkdirs(in_dir("a/b//c/"), 0700), 0);
    CHECK_INT(sys_mkdirs(in_dir("a/b/c"), 0700), 0);
    CHECK(stat(in_dir("a/b/c"), &st) == 0 && S_ISDIR(st.st_mode));
    close(make_file("plain"));
    CHECK_INT(sys_mkdirs(in_dir("plain"), 0700), -ENOTDIR);
    CHECK_INT(sys_mkdirs(in_dir("plain/x"), 0700), -ENOTDIR);
    CHECK_INT(sys_mkdirs("/", 0700), 0);
    CHECK_INT(unlink(in_dir("plain")), 0);
    CHECK_INT(rmdir(in_dir("a/b/c")) | rmdir(in_dir("a/b")) | rmdir(in_dir("a")), 0);
}

static void check_copy(uint64_t off_in, uint64_t off_out, uint64_t len)
{
    size_t n = 1500000;
    char *data = xmalloc(n), *back = xmalloc(n);
    random_bytes(data, n);
    int from = make_file("from"), to = make_file("to");
    CHECK_INT(sys_pwrite(from, data, n, 0), n);
    CHECK_INT(sys_copy_range(from, off_in, to, off_out, len), 0);
    CHECK_INT(sys_pread(to, back, n, off_out), len);
    CHECK(memcmp(back, data + off_in, len) == 0);
    CHECK_INT(sys_copy_range(from, n - 10, to, 0, 11), -EIO); /* past the source's end */
    close(from);
    close(to);
    unlink(in_dir("from"));
    unlink(in_dir("to"));
    free(data);
    free(back);
}

static void test_copy(void)
{
    check_copy(0, 0, 1048576);
    check_copy(4096, 8192, 65536);
    check_copy(7, 100001, 700001);
    check_copy(5, 0, 0);
}

static void test_faults(void)
{
    char c = 'x';
    int fd = make_file("faulty"), other = open("/tmp", O_TMPFILE | O_RDWR, 0600);
    CHECK(sys_set_faults("pwrite:28@2,fsync:5@1+", NULL));
    CHECK_INT(sys_pwrite(fd, &c, 1, 0), 1);
    CHECK_INT(sys_pwrite(fd, &c, 1, 0), -ENOSPC);
    CHECK_INT(sys_pwrite(fd, &c, 1, 0), 1);
    CHECK_INT(sys_fsync(fd), -EIO);
    CHECK_INT(sys_fsync(fd), -EIO);
    CHECK_INT(sys_fdatasync(fd), 0);
    CHECK(sys_set_faults("pwrite:28@1+,openat:13@1+,unlinkat:5@1+", dir));
    CHECK_INT(sys_pwrite(fd, &c, 1, 0), -ENOSPC);
    if (other >= 0)
        CHECK_INT(sys_pwrite(other, &c, 1, 0), 1); /* elsewhere */
    CHECK_INT(sys_openat(AT_FDCWD, in_dir("faulty"), O_RDONLY, 0), -EACCES);
    int tmp = sys_openat(AT_FDCWD, "/tmp", O_RDONLY | O_DIRECTORY, 0);
    CHECK(tmp >= 0);
    snprintf(path, sizeof(path), "%s/faulty", dir + strlen("/tmp/"));
    CHECK_INT(sys_unlinkat(tmp, path, 0), -EIO); /* relative to a descriptor */
    close(tmp);
    CHECK(!sys_set_faults("nonsense:1@1", NULL));
    CHECK(!sys_set_faults("fsync:x@1", NULL));
    CHECK(!sys_set_faults("fsync:5@0", NULL));
    CHECK(!sys_set_faults("fsync:5@1-", NULL));
    CHECK(sys_set_faults(NULL, NULL));
    CHECK_INT(sys_fsync(fd), 0);
    close(fd);
    if (other >= 0)
        close(other);
    setenv("QUAY_FAULT_SYS", "mkdirat:30@1+", 1);
    setenv("QUAY_FAULT_DIR", dir, 1);
    sys_init_faults();
    CHECK_INT(sys_mkdirs(in_dir("e"), 0700), -EROFS);
    sys_set_faults(NULL, NULL);
    unlink(in_dir("faulty"));
}

int main(void)
{
    CHECK(mkdtemp(dir) != NULL);
    RUN(test_calls);
    RUN(test_mkdirs);
    RUN(test_copy);
    RUN(test_faults);
    CHECK_INT(rmdir(dir), 0);
    return t_done();
}
