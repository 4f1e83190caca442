/* SPDX-License-Identifier: MIT
 * stage_fixture.h: vol_fixture.h for tests of what is staged: its files, its rows, processes that are killed. */
#ifndef QUAY_TESTS_STAGE_FIXTURE_H
#define QUAY_TESTS_STAGE_FIXTURE_H

#include "cache/stage.h"
#include "tests/unit/vol_fixture.h"

#include <signal.h>
#include <sys/wait.h>

static inline size_t stage_files(struct vx *x)
{
    CLEANUP_FREE char *dir = xasprintf("%s/cache/stage", x->dir);
    DIR *d = opendir(dir);
    size_t n = 0;
    for (struct dirent *e; d && (e = readdir(d));)
        n += e->d_name[0] != '.';
    if (d)
        closedir(d);
    return n;
}

/* No file is left. A nameless one has a name for the moment between its creation and its unlink, while uploads run: so
 * one look that sees none is the proof, and is not asked for twice. */
static inline void check_no_files(struct vx *x)
{
    size_t left = stage_files(x);
    for (int i = 0; i < 3000 && left; i++) {
        clock_sleep_ms(20);
        left = stage_files(x);
    }
    CHECK_INT(left, 0);
}

static inline size_t staged(struct vx *x)
{
    struct staged_info *list = NULL;
    size_t n = 0;
    CHECK_INT(volume_staged(x->v, &list, &n), 0);
    staged_list_free(list, n);
    return n;
}

/* The one file that waits was tried, and the store is away. */
static inline void wait_refused(struct vx *x)
{
    bool refused = false;
    for (int i = 0; i < 3000 && !refused; i++) {
        struct staged_info *list = NULL;
        size_t n = 0;
        clock_sleep_ms(10);
        CHECK_INT(volume_staged(x->v, &list, &n), 0);
        refused = n == 1 && strstr(list[0].last_error, "EHOSTUNREACH");
        staged_list_free(list, n);
    }
    CHECK(refused);
}

static inline void wait_stored(struct vx *x)
{
    for (int i = 0; i < 3000 && staged(x); i++)
        clock_sleep_ms(20);
    CHECK_INT(staged(x), 0);
}

/* Runs in a child: what it does ends without any goodbye. */
static inline void killed(struct vx *x, const char *more, void (*work)(struct vx *x))
{
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        vx_open_local(x, more);
        work(x);
        kill(getpid(), SIGKILL);
    }
    int status = 0;
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

#endif
