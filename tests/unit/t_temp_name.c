/* SPDX-License-Identifier: MIT
 * t_temp_name.c: who made a temporary file, and whether that process is still there. */
#include "backends/temp_name.h"
#include "tests/unit/t.h"

#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void ours(void)
{
    char a[TEMP_NAME_MAX], b[TEMP_NAME_MAX];
    temp_name_make(a);
    temp_name_make(b);
    CHECK(strcmp(a, b) != 0);
    CHECK(temp_name_is(a) && strlen(a) < TEMP_NAME_MAX - 1);
    CHECK_INT(temp_name_owner(a), TEMP_OURS);
}

/* A name that a child has made, which ends when it is told to. */
static pid_t child(char ret[TEMP_NAME_MAX], int *ret_go)
{
    int told[2], go[2];
    CHECK(pipe(told) == 0 && pipe(go) == 0);
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        char byte;
        close(go[1]);
        temp_name_make(ret);
        ssize_t n = write(told[1], ret, TEMP_NAME_MAX);
        _exit(n == TEMP_NAME_MAX && read(go[0], &byte, 1) == 0 ? 0 : 1);
    }
    close(told[1]);
    close(go[0]);
    CHECK_INT(read(told[0], ret, TEMP_NAME_MAX), TEMP_NAME_MAX);
    close(told[0]);
    *ret_go = go[1];
    return pid;
}

static void left(void)
{
    char name[TEMP_NAME_MAX] = "";
    int go, status = -1;
    pid_t pid = child(name, &go);
    CHECK_INT(temp_name_owner(name), TEMP_STRANGE); /* in use */
    close(go);
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    CHECK_INT(temp_name_owner(name), TEMP_LEFT);
}

/* The number of a process is used again by another one. */
static void reused(void)
{
    char name[TEMP_NAME_MAX];
    temp_name_make(name);
    char *start = strrchr(name, '-') - 1; /* the last digit of START */
    *start = *start == '1' ? '2' : '1';
    CHECK_INT(temp_name_owner(name), TEMP_LEFT);
}

static void strange(void)
{
    char name[TEMP_NAME_MAX];
    temp_name_make(name);
    char *host = name + strlen(TEMP_PREFIX);
    *host = *host == '1' ? '2' : '1';
    CHECK_INT(temp_name_owner(name), TEMP_STRANGE);
    static const char *const others[] = {
        "", "file", ".quay-tmp-", ".quay-tmp-0123456789abcdef", ".quay-tmp-0123456789ab-1-1",
        ".quay-tmp-0123456789ab-1-1-", ".quay-tmp-0123456789ab-0-1-00", ".quay-tmp-0123456789ab-1-1-00x"};
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
        CHECK_INT(temp_name_owner(others[i]), TEMP_STRANGE);
    CHECK(!temp_name_is("file") && temp_name_is(".quay-tmp-0123456789abcdef"));
}

/* What another process may go on with is not taken for left. */
static void uploads(void)
{
    char name[TEMP_NAME_MAX], plain[TEMP_NAME_MAX];
    time_t now = time(NULL), old = now - 25L * 3600;
    temp_name_make(plain);
    temp_name_make_upload(name);
    CHECK(temp_name_is(name) && temp_name_is_upload(name) && !temp_name_is_upload(plain));
    CHECK(strlen(name) < TEMP_NAME_MAX - 1);
    CHECK_INT(temp_name_owner(name), TEMP_OURS);
    CHECK(!temp_name_is_left(name, old, true) && !temp_name_is_left(plain, old, true));
    for (unsigned i = 0; i < 2; i++) {
        char *at = i ? plain : name, *start = strrchr(at, '-') - 1;
        *start = *start == '1' ? '2' : '1';
    }
    CHECK_INT(temp_name_owner(name), TEMP_LEFT);
    CHECK(!temp_name_is_left(name, now, true) && !temp_name_is_left(name, old, false));
    CHECK(temp_name_is_left(name, old, true)); /* nobody came to know it */
    CHECK(temp_name_is_left(plain, now, false));
    CHECK(!temp_name_is_left(".quay-tmp-u-0123456789abcdef", old, false));
    CHECK(!temp_name_is_left(".quay-tmp-0123456789abcdef", now, false));
    CHECK(temp_name_is_left(".quay-tmp-0123456789abcdef", old, false));
}

int main(void)
{
    RUN(ours);
    RUN(left);
    RUN(reused);
    RUN(strange);
    RUN(uploads);
    return t_done();
}
