/* SPDX-License-Identifier: MIT
 * t_sftp_exec.c: words for a shell, and what stat and strerror() say (exec_text.h). */
#include "backends/sftp/exec_text.h"
#include "base/cleanup.h"
#include "tests/unit/t.h"

#include <errno.h>

static void quoting(void)
{
    static const char *const cases[][2] = {
        {"/a b", "'/a b'"},
        {"rel", "./'rel'"},
        {"-rf", "./'-rf'"},
        {"./x", "'./x'"},
        {"/it's", "'/it'\\''s'"},
        {"/a\nb", "'/a'\"$n\"'b'"},
        {"/$(x)`\\", "'/$(x)`\\'"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct buf b = BUF_INIT;
        exec_quote_path(&b, cases[i][0], "");
        CHECK_STR(buf_str(&b), cases[i][1]);
        buf_done(&b);
    }
}

static ssize_t attrs(const char *s, struct wire_attr *w)
{
    return exec_attrs(s, s + strlen(s), w);
}

static void attributes(void)
{
    struct wire_attr w = {.flags = 0};
    const char *good = "81a4 1000 100 6 1700000000 1500000001 42|2017-07-14 02:40:01.0234 +0000|";
    CHECK_INT(attrs(good, &w), (ssize_t)strlen(good));
    CHECK(w.flags == (WIRE_ALL | WIRE_EXACT) && w.mode == 0100644 && w.uid == 1000 && w.gid == 100);
    CHECK(w.size == 6 && w.atime == 1700000000 && w.mtime == 1500000001 && w.inode == 42);
    CHECK_INT(w.mtime_ns, 23400000);
    CHECK(attrs("a1ff 0 0 1 -5 99999999999 1|no fraction|", &w) > 0);
    CHECK(w.atime == 0 && w.mtime == UINT32_MAX && w.mtime_ns == 0);
    for (size_t n = 0; n < strlen(good); n++) {
        CLEANUP_FREE char *part = xstrndup(good, n);
        CHECK_INT(attrs(part, &w), 0);
    }
    static const char *const bad[] = {
        "|x|", "81a4 0 0 6 1 2|x|", "81a4 0 0 6 1 2 3 4|x|", "81g4 0 0 6 1 2 3|x|",
        "81a4 0 0 99999999999999999999 1 2 3|x|", "81a4  0 0 6 1 2 3|x|",
        "181a40000 0 0 6 1 2 3|x|"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        CHECK_INT(attrs(bad[i], &w), -1);
}

static void records(void)
{
    static const char one[] = "81a4 0 0 6 1 2 3|x|./d/it's\na name|/\nREST";
    struct wire_attr w;
    const char *name;
    size_t len;
    size_t whole = strlen(one) - 4;
    CHECK_INT(exec_record(one, one + strlen(one), "./d/", &w, &name, &len), (ssize_t)whole);
    CHECK(len == strlen("it's\na name|") && memcmp(name, "it's\na name|", len) == 0);
    for (size_t n = 0; n < whole; n++)
        CHECK_INT(exec_record(one, one + n, "./d/", &w, &name, &len), 0);
    CHECK_INT(exec_record(one, one + whole, "./e/", &w, &name, &len), -1);
    static const char below[] = "81a4 0 0 6 1 2 3|x|./d/a/b/\n";
    CHECK_INT(exec_record(below, below + strlen(below), "./d/", &w, &name, &len), -1);
}

static void reasons(void)
{
    CHECK_INT(exec_errno(1, "No such file or directory"), ENOENT);
    CHECK_INT(exec_errno(2, "Directory nonexistent"), ENOENT);
    CHECK_INT(exec_errno(127, "No such file or directory"), EIO); /* a library, say */
    CHECK_INT(exec_errno(127, "not found"), EIO);
    CHECK_INT(exec_errno(1, "No such file or directory (maybe)"), EIO);
    CHECK_INT(exec_errno(1, "Not a directory"), ENOENT);
    CHECK_INT(exec_errno(1, "'x' is a directory"), EISDIR);
    CHECK_INT(exec_errno(1, "Permission denied"), EACCES);
    CHECK_INT(exec_errno(1, "No space left on device"), ENOSPC);
    CHECK_INT(exec_errno(137, ""), EIO);
}

int main(void)
{
    RUN(quoting);
    RUN(attributes);
    RUN(records);
    RUN(reasons);
    return t_done();
}
