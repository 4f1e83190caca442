/* SPDX-License-Identifier: MIT
 * t_lock.c: ranks are enforced, conditions keep the books. */
#include "base/lock.h"

#include "base/clock.h"
#include "tests/unit/t.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static struct lock low, high;

/* Runs fn in a child; true when it aborted. */
static bool aborts(void (*fn)(void))
{
    pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        signal(SIGABRT, SIG_DFL);
        if (!freopen("/dev/null", "w", stderr))
            _exit(1);
        fn();
        _exit(0);
    }
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static void wrong_order(void)
{
    lock_acquire(&high);
    lock_acquire(&low);
}

static void right_order(void)
{
    lock_acquire(&low);
    lock_acquire(&high);
    lock_release(&low); /* any order of release */
    lock_release(&high);
    lock_acquire(&low);
    lock_release(&low);
    lock_assert_none_held();
}

static void twice(void)
{
    lock_acquire(&low);
    lock_acquire(&low);
}

static void not_mine(void)
{
    lock_release(&low);
}

static void assert_not_held(void)
{
    lock_assert_held(&low);
}

static void io_under_lock(void)
{
    LOCK_SCOPE(&low);
    lock_assert_none_held();
}

static void wait_with_two(void)
{
    struct cond c;
    cond_init(&c);
    lock_acquire(&low);
    lock_acquire(&high);
    cond_wait_until(&c, &high, clock_now_ns() + NS_PER_MS);
}

static void destroy_held(void)
{
    lock_acquire(&low);
    lock_done(&low);
}

static void test_ranks(void)
{
    CHECK(!aborts(right_order));
    CHECK(aborts(wrong_order));
    CHECK(aborts(twice));
    CHECK(aborts(not_mine));
    CHECK(aborts(assert_not_held));
    CHECK(aborts(io_under_lock));
    CHECK(aborts(wait_with_two));
    CHECK(aborts(destroy_held));
}

static void test_scope(void)
{
    {
        LOCK_SCOPE(&low);
        lock_assert_held(&low);
        LOCK_SCOPE(&high);
        lock_assert_held(&high);
    }
    lock_assert_none_held();
}

static struct cond changed;
static int turn;

static void *other(void *arg)
{
    (void)arg;
    for (int i = 0; i < 1000; i++) {
        LOCK_SCOPE(&high);
        while (turn % 2 == 0)
            cond_wait(&changed, &high);
        lock_assert_held(&high);
        turn++;
        cond_signal(&changed);
    }
    lock_assert_none_held();
    return NULL;
}

static void test_condition(void)
{
    pthread_t thread;
    cond_init(&changed);
    CHECK(pthread_create(&thread, NULL, other, NULL) == 0);
    for (int i = 0; i < 1000; i++) {
        lock_acquire(&high);
        while (turn % 2 == 1)
            cond_wait_until(&changed, &high, 0);
        turn++;
        cond_broadcast(&changed);
        lock_release(&high);
    }
    pthread_join(thread, NULL);
    CHECK_INT(turn, 2000);

    lock_acquire(&low);
    uint64_t start = clock_now_ns();
    CHECK(!cond_wait_until(&changed, &low, start + 30 * NS_PER_MS));
    CHECK(clock_now_ns() - start >= 30 * NS_PER_MS);
    CHECK(!cond_wait_until(&changed, &low, 1)); /* long past */
    lock_assert_held(&low);
    lock_release(&low);
    lock_assert_none_held();
    cond_done(&changed);
}

int main(void)
{
    lock_init(&low, LOCK_RANK_INODE, "inode");
    lock_init(&high, LOCK_RANK_CACHE, "cache");
    RUN(test_ranks);
    RUN(test_scope);
    RUN(test_condition);
    lock_done(&low);
    lock_done(&high);
    return t_done();
}
