/* SPDX-License-Identifier: MIT
 * t_spool.c: the spool directory: what counts as complete, who owns it, a job's way through. */
#include "base/clock.h"
#include "base/sys.h"
#include "loader/spool.h"

#include "tests/unit/t.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[] = "/tmp/t_spool.XXXXXX";

static char *at(const char *rel)
{
    static char path[512];

    (void)snprintf(path, sizeof(path), "%s/%s", dir, rel);
    return path;
}

#define SETTLED_MS 150

static void put(const char *rel, const char *text)
{
    CHECK_INT(spool_file_write(at(rel), text, strlen(text), false), 0);
}

static bool there(const char *rel)
{
    struct stat st;

    return lstat(at(rel), &st) == 0;
}

static struct spool *open_spool(void)
{
    struct err err = ERR_INIT;
    struct spool *sp = NULL;

    if (spool_open(dir, &err, &sp) < 0) {
        fprintf(stderr, "%s\n", err_text(&err));
        exit(1);
    }
    return sp;
}

static void test_names(void)
{
    char name[SPOOL_NAME_MAX + 1], run_id[SPOOL_RUN_ID_MAX], id[SPOOL_RUN_ID_MAX], entry[300];
    char long_name[300];

    CHECK(spool_ignores(".hidden") && spool_ignores("a~") && spool_ignores("a.tmp"));
    CHECK(spool_ignores("a.job.swp") && spool_ignores("a.part") && !spool_ignores("a.job"));
    CHECK(!spool_ignores("a.tmp.job") && !spool_ignores("a"));
    spool_name("orders.job", name);
    CHECK_STR(name, "orders");
    spool_name("a\nb", name);
    CHECK_STR(name, "a_b");
    spool_name(".job", name);
    CHECK_STR(name, "_job");
    memset(long_name, 'x', 299);
    long_name[299] = 0;
    spool_name(long_name, name);
    CHECK_INT(strlen(name), SPOOL_NAME_MAX);
    spool_run_id(id);
    (void)snprintf(entry, sizeof(entry), "a.b.%s", id);
    CHECK(spool_split(entry, name, run_id));
    CHECK_STR(name, "a.b");
    CHECK_STR(run_id, id);
    CHECK(!spool_split("a.b", name, run_id));
}

static void test_one_owner(void)
{
    struct spool *sp = open_spool(), *other = NULL;
    struct err err = ERR_INIT;
    pid_t pid = 0;
    char want[64];

    CHECK_INT(spool_open(dir, &err, &other), -EBUSY);
    (void)snprintf(want, sizeof(want), "pid %ld", (long)getpid());
    CHECK(strstr(err_text(&err), want) != NULL);
    CHECK_INT(spool_owner(dir, &pid), 0);
    CHECK_INT(pid, getpid());
    CHECK(spool_is_ours(sp));
    CHECK_INT(unlink(at("lock")), 0); /* somebody removed the spool: our lock guards nothing */
    CHECK(!spool_is_ours(sp));
    spool_close(sp);
    CHECK_INT(spool_owner(dir, &pid), -ESRCH);
    CHECK(there("README") && there("new") && there("failed"));
    CHECK_INT(chmod(dir, 0777), 0);
    CHECK_INT(spool_open(dir, &err, &other), -EPERM);
    CHECK_INT(chmod(dir, 0700), 0);
}

/* The lock stays with the child of a fork when the parent ends. */
static void test_lock_survives_fork(void)
{
    struct spool *sp = open_spool();
    pid_t owner = 0, child = fork();

    CHECK(child >= 0);
    if (child == 0) {
        struct err err = ERR_INIT;

        if (spool_write_pid(sp, &err) < 0)
            _exit(1);
        (void)pause();
        _exit(0);
    }
    spool_close(sp);
    for (int i = 0; i < 6000 && owner != child; i++) {
        CHECK_INT(spool_owner(dir, &owner), 0);
        clock_sleep_ms(10);
    }
    CHECK_INT(owner, child);
    CHECK_INT(kill(child, SIGKILL), 0);
    CHECK_INT(waitpid(child, NULL, 0), child);
    CHECK_INT(spool_owner(dir, &owner), -ESRCH);
}

/* Makes the file and looks before it counts as settled: on a busy machine that may take more than one go. */
static void scan_what_is_new(struct spool *sp, const char *rel, struct spool_list *l)
{
    for (int i = 0; i < 1000; i++) {
        uint64_t start = clock_now_ns();
        put(rel, "x");
        CHECK_INT(spool_scan(sp, SPOOL_NEW, l), 0);
        if (clock_now_ns() - start < 80 * NS_PER_MS)
            return;
        spool_list_done(l);
    }
    CHECK(false); /* 1000 goes: something else is wrong */
}

static void test_scan_ready(void)
{
    struct spool *sp = open_spool();
    struct spool_list l = {0};
    int fd;

    put("new/.b.job", "x");
    put("new/c.job~", "x");
    put("new/d.tmp", "x");
    fd = open(at("new/e.job"), O_WRONLY | O_CREAT, 0600); /* still being written */
    CHECK(fd >= 0 && write(fd, "x", 1) == 1);
    scan_what_is_new(sp, "new/a.job", &l);
    CHECK_INT(l.n, 0); /* just made */
    CHECK_INT(l.unready, 2);
    spool_list_done(&l);
    clock_sleep_ms(SETTLED_MS);
    CHECK_INT(spool_scan(sp, SPOOL_NEW, &l), 0);
    CHECK_INT(l.n, 1);
    CHECK_STR(l.v[0].name, "a");
    CHECK_INT(l.unready, 1);
    spool_list_done(&l);
    (void)close(fd);
    CHECK_INT(spool_scan(sp, SPOOL_NEW, &l), 0);
    CHECK_INT(l.n, 2);
    spool_list_done(&l);
    put("new/empty.job", ""); /* empty: somebody may fill it */
    CHECK_INT(spool_scan(sp, SPOOL_NEW, &l), 0);
    CHECK_INT(l.n, 2);
    CHECK_INT(l.unready, 1);
    spool_list_done(&l);
    put("check/f.job", "x");
    put("check/f.out", "x");
    clock_sleep_ms(SETTLED_MS);
    CHECK_INT(spool_scan(sp, SPOOL_CHECK, &l), 0);
    CHECK_INT(l.n, 1);
    spool_list_done(&l);
    CHECK_INT(unlink(at("new/empty.job")) | unlink(at("new/e.job")) | unlink(at("check/f.job")), 0);
    spool_close(sp);
}

static void test_events(void)
{
    struct spool *sp = open_spool();
    struct err err = ERR_INIT;

    CHECK_INT(spool_watch(sp, &err), 0);
    CHECK(spool_fd(sp) >= 0);
    CHECK_INT(spool_events(sp), 0);
    put("check/x.job", "x");
    put("ctl", "cancel x");
    CHECK_INT(spool_events(sp), SPOOL_CHECK | SPOOL_CTL);
    CHECK_INT(spool_events(sp), 0);
    CHECK_INT(unlink(at("check/x.job")), 0);
    spool_close(sp);
}

static void test_way_through(void)
{
    struct spool *sp = open_spool();
    struct spool_list l = {0};
    struct err err = ERR_INIT;
    char id[SPOOL_RUN_ID_MAX], entry[300];

    spool_run_id(id);
    CHECK_INT(spool_take(sp, "a.job", "a", &err), 0);
    CHECK(!there("new/a.job") && there("run/a/job"));
    put("new/a.job", "second");
    CHECK_INT(spool_take(sp, "a.job", "a", &err), -EEXIST);
    CHECK_INT(spool_take(sp, "gone.job", "gone", &err), -ENOENT);
    CHECK(there("new/a.job") && !there("run/gone"));
    CHECK_INT(spool_scan_running(sp, &l), 0);
    CHECK_INT(l.n, 1);
    CHECK_STR(l.v[0].file, "a");
    spool_list_done(&l);
    CHECK_INT(spool_finish(sp, "a", id, true, &err), 0);
    (void)snprintf(entry, sizeof(entry), "failed/a.%s/job", id);
    CHECK(!there("run/a") && there(entry));
    CHECK_INT(spool_retry(dir, "a", &err), -EEXIST); /* one waits */
    CHECK_INT(unlink(at("new/a.job")), 0);
    CHECK_INT(spool_retry(dir, "a", &err), 0);
    CHECK(there("new/a.job"));
    CHECK_INT(spool_retry(dir, "nothing", &err), -ENOENT);
    CHECK_INT(spool_history(sp, "line\n"), 0);
    CHECK(there("history.tsv"));
    spool_close(sp);
}

static void test_prune(void)
{
    struct spool *sp = open_spool();
    struct timespec later = clock_wall();
    unsigned n = 0;

    CHECK_INT(spool_prune(sp, 3600 * 1000, &n), 0);
    CHECK_INT(n, 0);
    CHECK_INT(spool_prune(sp, 0, &n), 0);
    later.tv_sec += 7200;
    clock_set_wall_for_test(&later);
    CHECK_INT(spool_prune(sp, 3600 * 1000, &n), 0);
    clock_set_wall_for_test(NULL);
    CHECK_INT(n, 1);
    spool_close(sp);
}

static void test_files(void)
{
    struct buf b = BUF_INIT;

    put("f", "hello");
    CHECK_INT(spool_file_read(at("f"), 5, &b), 0);
    CHECK_STR(buf_str(&b), "hello");
    CHECK_INT(spool_file_read(at("f"), 4, &b), -EFBIG);
    CHECK_INT(spool_file_read(at("new"), 4, &b), -EINVAL);
    CHECK_INT(symlink("f", at("link")), 0);
    CHECK_INT(spool_file_read(at("link"), 10, &b), -ELOOP);
    CHECK_INT(spool_file_read(at("none"), 10, &b), -ENOENT);
    CHECK_INT(spool_file_append(at("f"), " you", 4), 0);
    buf_reset(&b);
    CHECK_INT(spool_file_read(at("f"), 100, &b), 0);
    CHECK_STR(buf_str(&b), "hello you");
    buf_done(&b);
    CHECK_INT(spool_tree_remove(at("link")), 0); /* the link, not what it names */
    CHECK(there("f"));
    CHECK_INT(spool_tree_remove(dir), 0);
    CHECK(!there(""));
}

int main(void)
{
    CHECK(mkdtemp(dir) != NULL);
    RUN(test_names);
    RUN(test_one_owner);
    RUN(test_lock_survives_fork);
    RUN(test_scan_ready);
    RUN(test_events);
    RUN(test_way_through);
    RUN(test_prune);
    RUN(test_files);
    return t_done();
}
