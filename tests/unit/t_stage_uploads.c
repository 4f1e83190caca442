/* SPDX-License-Identifier: MIT
 * t_stage_uploads.c: the journal's rows of uploads that the disk is not waited for: a kill leaves those that it must, and
 * those that are done with go with the next change. */
#include "tests/unit/stage_fixture.h"

static void list_row(void *arg, const char *path, const char *id)
{
    buf_addf(arg, "%s=%s ", path, id);
}

static void check_rows(const char *dir, const char *key, const char *want)
{
    struct err err = ERR_INIT;
    struct stage *s = NULL;
    CLEANUP_BUF struct buf rows = BUF_INIT;
    CHECK_INT(stage_open(dir, key, &err, &s), 0);
    CHECK_INT(stage_uploads(s, list_row, &rows, &err), 0);
    CHECK_STR(buf_str(&rows), want);
    stage_close(s);
}

/* Does not return. */
static void work(const char *dir)
{
    struct err err = ERR_INIT;
    struct stage *s = NULL;
    CHECK_INT(stage_open(dir, "lake", &err, &s), 0);
    CHECK_INT(stage_upload_put_relaxed(s, "p1", "a", &err), 0);
    CHECK_INT(stage_upload_put_relaxed(s, "p2", "b", &err), 0);
    CHECK_INT(stage_upload_put_relaxed(s, "p3", "c", &err), 0);
    stage_upload_forget(s, "a");
    CHECK_INT(stage_settle(s, "p1", &err), 0); /* of files */
    CHECK_INT(stage_upload_put(s, "p4", "d", &err), 0);
    stage_upload_forget(s, "b");
    kill(getpid(), SIGKILL);
}

static void run_killed(const char *dir, void (*fn)(const char *dir))
{
    int status = 0;
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0)
        fn(dir);
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void test_killed(void)
{
    struct vx x = vx_new();
    run_killed(x.dir, work);
    check_rows(x.dir, "lake", "p2=b p3=c p4=d "); /* b: not yet; it is gone at the store, and that is told then */
    check_rows(x.dir, "other", "");
    vx_done(&x);
}

/* More than are kept for the next change. */
static void test_many_are_done_with(void)
{
    struct vx x = vx_new();
    struct err err = ERR_INIT;
    struct stage *s = NULL;
    CHECK_INT(stage_open(x.dir, "lake", &err, &s), 0);
    for (int i = 0; i < 200; i++) {
        CLEANUP_FREE char *id = xasprintf("id%d", i);
        CHECK_INT(stage_upload_put_relaxed(s, "p", id, &err), 0);
        if (i != 77)
            stage_upload_forget(s, id);
    }
    stage_close(s);
    check_rows(x.dir, "lake", "p=id77 ");
    vx_done(&x);
}

int main(void)
{
    log_set_level(LOG_LEVEL_ERROR);
    RUN(test_killed);
    RUN(test_many_are_done_with);
    return t_done();
}
