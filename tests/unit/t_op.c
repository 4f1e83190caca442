/* SPDX-License-Identifier: MIT
 * t_op.c: deadlines, cancelling, sleeping. */
#include "base/op.h"

#include "base/clock.h"
#include "tests/unit/t.h"

#include <errno.h>
#include <pthread.h>

static void test_check(void)
{
    struct op a, b;
    op_init(&a, "stat", 0);
    op_init(&b, "read", 1500);
    CHECK(b.id > a.id);
    CHECK_INT(a.attempt, 1);
    CHECK_INT(a.deadline_ns, 0);
    CHECK_INT(op_check(&a), 0);
    CHECK_INT(op_sleep(&a, 5), 0);
    CHECK_INT(op_check(&b), 0);
    uint64_t start = clock_now_ns();
    CHECK_INT(op_sleep(&b, 30000), -ETIMEDOUT);
    CHECK(clock_now_ns() - start < 20 * NS_PER_S);
    CHECK_INT(b.err.code, ETIMEDOUT);
    CHECK_STR(b.err.text, "read: deadline passed");
    op_cancel(&a);
    CHECK_INT(op_check(&a), -EINTR);
    CHECK_INT(op_sleep(&a, 10000), -EINTR);
}

static void *cancel_soon(void *arg)
{
    clock_sleep_ms(30);
    op_cancel(arg);
    return NULL;
}

static void test_cancel_while_sleeping(void)
{
    struct op op;
    pthread_t thread;
    op_init(&op, "list", 0);
    CHECK(pthread_create(&thread, NULL, cancel_soon, &op) == 0);
    uint64_t start = clock_now_ns();
    CHECK_INT(op_sleep(&op, 20000), -EINTR);
    CHECK(clock_now_ns() - start < 10 * NS_PER_S);
    pthread_join(thread, NULL);
}

static void test_what_moves(void)
{
    struct op op;
    atomic_uint_fast64_t moved = 0;
    op_init(&op, "test", 0);
    op_moved(&op); /* nobody counts */
    op_sent(&op);
    op.moved = &moved;
    op_moved(&op);
    op_sent(&op);
    CHECK_INT(atomic_load(&moved), 2);
    op.attempt = 2;
    op_sent(&op); /* a silent server takes this for ever */
    CHECK_INT(atomic_load(&moved), 2);
    op_moved(&op);
    CHECK_INT(atomic_load(&moved), 3);
}

int main(void)
{
    RUN(test_check);
    RUN(test_cancel_while_sleeping);
    RUN(test_what_moves);
    return t_done();
}
