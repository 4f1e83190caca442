/* SPDX-License-Identifier: MIT
 * t_err.c: struct err keeps clean one-line text. */
#include "base/err.h"

#include "tests/unit/t.h"

#include <errno.h>

static void test_set(void)
{
    struct err e = ERR_INIT;
    e.retry = ERR_RETRY_SAFE;
    e.status = 503;
    CHECK_INT(err_set(&e, EACCES, "put %s: %d", "a/b", 7), -EACCES);
    CHECK_INT(e.code, EACCES);
    CHECK_INT(e.retry, ERR_RETRY_NEVER);
    CHECK_INT(e.status, 0);
    CHECK_STR(e.text, "put a/b: 7");
    CHECK_INT(err_set(NULL, EIO, "%s", "x"), -EIO);
    CHECK_INT(err_set(&e, 0, "no code"), -EIO);
}

static void test_hostile_text(void)
{
    struct err e = ERR_INIT;
    err_set(&e, EIO, "a\r\nb\033[31m\x7f");
    CHECK_STR(e.text, "a??b?[31m?");
    char big[2000];
    memset(big, 'x', sizeof(big));
    big[702] = (char)0xC3; /* a two-byte character across the end */
    big[703] = (char)0xA4;
    big[1999] = '\0';
    err_set(&e, EIO, "%s", big);
    CHECK_INT(strlen(e.text), 702);
    memcpy(big + 701, "\xE2\x82\xAC", 3); /* three bytes that end exactly outside */
    err_set(&e, EIO, "%s", big);
    CHECK_INT(strlen(e.text), 701);
    memcpy(big + 700, "\xE2\x82\xAC", 3); /* and exactly inside */
    err_set(&e, EIO, "%s", big);
    CHECK_INT(strlen(e.text), 703);
}

static void test_prefix_and_text(void)
{
    struct err e = ERR_INIT;
    CHECK_STR(err_text(&e), strerror(0));
    CHECK_INT(err_prefix(&e, "open"), -EIO);
    CHECK_STR(e.text, "open: Input/output error");
    err_set(&e, ENOENT, "gone");
    CHECK_INT(err_prefix(&e, "%s %d", "key", 3), -ENOENT);
    CHECK_STR(e.text, "key 3: gone");
    CHECK_INT(err_set(&e, EBUSY, "again: %s", e.text), -EBUSY); /* the text as its own argument */
    CHECK_STR(e.text, "again: key 3: gone");
    err_clear(&e);
    CHECK_INT(e.code, 0);
    CHECK_STR(e.text, "");
    CHECK(err_text(NULL) != NULL);
    CHECK_INT(err_prefix(NULL, "x"), -EIO);
}

int main(void)
{
    RUN(test_set);
    RUN(test_hostile_text);
    RUN(test_prefix_and_text);
    return t_done();
}
