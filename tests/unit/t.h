/* SPDX-License-Identifier: MIT
 * t.h: the whole unit-test harness. A test program is one file:
 *     static void test_x(void) { CHECK(a == b); CHECK_STR(got, "want"); CHECK_INT(got, 3); }
 *     int main(void) { RUN(test_x); return t_done(); }
 * A failed check prints FILE:LINE and ends the program with status 1. */
#ifndef QUAY_TESTS_T_H
#define QUAY_TESTS_T_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int t_passed;

#define CHECK(cond)                                                                                \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "%s:%d: CHECK(%s) failed\n", __FILE__, __LINE__, #cond);               \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

#define CHECK_INT(got, want)                                                                       \
    do {                                                                                           \
        long long g_ = (long long)(got), w_ = (long long)(want);                                   \
        if (g_ != w_) {                                                                            \
            fprintf(stderr, "%s:%d: %s is %lld, want %lld\n", __FILE__, __LINE__, #got, g_, w_);   \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

#define CHECK_STR(got, want)                                                                       \
    do {                                                                                           \
        const char *g_ = (got), *w_ = (want);                                                      \
        if (!g_ || strcmp(g_, w_) != 0) {                                                          \
            fprintf(stderr, "%s:%d: %s is \"%s\", want \"%s\"\n", __FILE__, __LINE__, #got,        \
                    g_ ? g_ : "(null)", w_);                                                       \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

#define RUN(fn)                                                                                    \
    do {                                                                                           \
        fn();                                                                                      \
        t_passed++;                                                                                \
    } while (0)

static inline int t_done(void)
{
    printf("%d passed, 0 failed\n", t_passed);
    return 0;
}

#endif
