/* SPDX-License-Identifier: MIT
 * t_strmap.c: the hash map against a plain array. */
#include "base/strmap.h"

#include "tests/unit/t.h"

#include <stdint.h>

#define N 5000

static int values[N];

static void test_many(void)
{
    struct strmap m = STRMAP_INIT;
    char key[32];
    CHECK(strmap_get(&m, "x") == NULL && strmap_del(&m, "x") == NULL);
    CHECK(strmap_next(&m, NULL) == NULL);
    for (int i = 0; i < N; i++) {
        snprintf(key, sizeof(key), "key/%d", i);
        CHECK(strmap_put(&m, key, &values[i]) == NULL);
    }
    CHECK_INT(m.count, N);
    for (int i = 0; i < N; i += 2) {
        snprintf(key, sizeof(key), "key/%d", i);
        CHECK(strmap_del(&m, key) == &values[i]);
        CHECK(strmap_del(&m, key) == NULL);
    }
    for (int i = 0; i < N; i++) {
        snprintf(key, sizeof(key), "key/%d", i);
        CHECK(strmap_get(&m, key) == (i % 2 ? &values[i] : NULL));
    }
    size_t seen = 0;
    STRMAP_EACH(&m, it)
    {
        int *v = it->value;
        CHECK(*v == 0);
        *v = 1;
        seen++;
    }
    CHECK_INT(seen, N / 2);
    CHECK_INT(m.count, N / 2);
    strmap_done(&m);
    CHECK_INT(m.count, 0);
}

static void test_replace(void)
{
    struct strmap m = STRMAP_INIT;
    int a, b;
    CHECK(strmap_put(&m, "", &a) == NULL);
    CHECK(strmap_put(&m, "", &b) == &a);
    CHECK(strmap_get(&m, "") == &b);
    CHECK_INT(m.count, 1);
    strmap_done(&m);
}

static void test_hash(void)
{
    CHECK(hash_bytes("abc", 3) == hash_bytes("abc", 3));
    CHECK(hash_bytes("abc", 3) != hash_bytes("abd", 3));
    CHECK(hash_bytes("", 0) != hash_bytes("\0", 1));
    CHECK(hash_bytes("12345678", 8) != hash_bytes("12345678\0", 9));
}

int main(void)
{
    RUN(test_many);
    RUN(test_replace);
    RUN(test_hash);
    return t_done();
}
