/* SPDX-License-Identifier: MIT
 * t_buf.c: the growable string. */
#include "base/buf.h"

#include "tests/unit/t.h"

static void test_add(void)
{
    CLEANUP_BUF struct buf b = BUF_INIT;
    CHECK_STR(buf_str(&b), "");
    buf_adds(&b, "ab");
    buf_addc(&b, 'c');
    buf_addf(&b, "-%d-%s", 42, "x");
    buf_add(&b, "\0z", 2);
    CHECK_INT(b.len, 10);
    CHECK(memcmp(b.data, "abc-42-x\0z", 11) == 0);
    buf_truncate(&b, 3);
    CHECK_STR(buf_str(&b), "abc");
    buf_reset(&b);
    CHECK_INT(b.len, 0);
    CHECK_STR(buf_str(&b), "");
    buf_add(&b, NULL, 0);
    CHECK_STR(buf_str(&b), "");
}

static void test_growth(void)
{
    CLEANUP_BUF struct buf b = BUF_INIT;
    for (int i = 0; i < 10000; i++)
        buf_addf(&b, "%04d", i);
    CHECK_INT(b.len, 40000);
    CHECK(memcmp(b.data + 4 * 9999, "9999", 5) == 0);
    char *big = xmalloc(5001);
    memset(big, 'y', 5000);
    big[5000] = '\0';
    buf_addf(&b, "%s!", big);
    CHECK_INT(b.len, 45001);
    CHECK(b.data[45000] == '!' && b.data[45001] == '\0');
    free(big);
    memset(buf_reserve(&b, 100000), 'q', 100000);
    b.len += 100000;
    buf_addc(&b, 'e');
    CHECK_INT(b.len, 145002);
}

static void test_take(void)
{
    struct buf b = BUF_INIT;
    char *s = buf_take(&b);
    CHECK_STR(s, "");
    free(s);
    buf_adds(&b, "mine");
    s = buf_take(&b);
    CHECK_STR(s, "mine");
    CHECK(b.data == NULL && b.len == 0);
    free(s);
    s = xasprintf("%s/%d", "a", 1);
    CHECK_STR(s, "a/1");
    free(s);
    s = xstrndup("abcdef", 3);
    CHECK_STR(s, "abc");
    free(s);
}

int main(void)
{
    RUN(test_add);
    RUN(test_growth);
    RUN(test_take);
    return t_done();
}
