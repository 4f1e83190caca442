/* SPDX-License-Identifier: MIT
 * suite_conditions.c: if_absent, if_match, and several writers of one object. */
#include "tests/contract/suite.h"

#include <pthread.h>

#define WRITERS 8

static void one_writer(struct suite *s)
{
    CLEANUP_ATTR struct attr first = ATTR_INIT, second = ATTR_INIT;
    struct precond absent = {.if_absent = true};
    OK(put_bytes(s, "new", "one", 3, NULL, &absent, &first));
    FAILS(put_bytes(s, "new", "two", 3, NULL, &absent, NULL), EEXIST);
    check_text(s, "new", "one");

    struct precond match = {.if_match = first.version};
    OK(put_bytes(s, "new", "two", 3, NULL, &match, &second));
    check_text(s, "new", "two");
    FAILS(put_bytes(s, "new", "three", 5, NULL, &match, NULL), ESTALE);
    check_text(s, "new", "two");

    int r = put_bytes(s, "never", "x", 1, NULL, &match, NULL);
    CHECK(r == -ESTALE || r == -ENOENT);
    check_gone(s, "never");
    struct precond both = {.if_match = first.version, .if_absent = true};
    FAILS(put_bytes(s, "new", "x", 1, NULL, &both, NULL), EINVAL);
}

static void conditional_remove(struct suite *s)
{
    CLEANUP_ATTR struct attr a = ATTR_INIT, b = ATTR_INIT;
    put_text(s, "gone", "one", &a);
    put_text(s, "gone", "two", &b);
    int r = store_remove(s->store, &s->op, K(s, "gone"), a.version);
    CHECK(r == -ESTALE || r == -ENOTSUP); /* honoured or refused, never ignored */
    check_text(s, "gone", "two");
    if (r == -ENOTSUP)
        return;
    OK(store_remove(s->store, &s->op, K(s, "gone"), b.version));
    check_gone(s, "gone");
}

struct writer {
    struct store *store;
    char key[200], text[48];
    struct precond pre;
    int result;
    pthread_t thread;
};

static void *write_once(void *arg)
{
    struct writer *w = arg;
    struct op op;
    struct attr a = ATTR_INIT;
    struct source_mem src = source_mem(w->text, strlen(w->text));
    struct put_req req = {.key = w->key, .src = &src.base, .precond = w->pre};
    op_init(&op, "writer", 0);
    w->result = store_put(w->store, &op, &req, &a);
    attr_done(&a);
    return NULL;
}

/* All start with one condition: one wins, and the object is the winner's. The contents differ from
 * each other and from those before, as an ETag may be the content's digest. */
static void race(struct suite *s, const char *name, struct precond pre, int lost)
{
    struct writer w[WRITERS];
    for (unsigned i = 0; i < WRITERS; i++) {
        w[i] = (struct writer){.store = s->store, .pre = pre};
        snprintf(w[i].key, sizeof(w[i].key), "%s", K(s, name));
        snprintf(w[i].text, sizeof(w[i].text), "writer %u, loser is %d", i, lost);
        CHECK(pthread_create(&w[i].thread, NULL, write_once, &w[i]) == 0);
    }
    unsigned winners = 0, winner = 0;
    for (unsigned i = 0; i < WRITERS; i++) {
        CHECK(pthread_join(w[i].thread, NULL) == 0);
        if (w[i].result == 0) {
            winners++;
            winner = i;
        } else {
            CHECK_INT(w[i].result, -lost);
        }
    }
    CHECK_INT(winners, 1);
    check_text(s, name, w[winner].text);
}

static void writers(struct suite *s)
{
    for (unsigned round = 0; round < 5; round++) {
        CLEANUP_ATTR struct attr a = ATTR_INIT;
        CLEANUP_FREE char *name = xasprintf("race%u", round);
        race(s, name, (struct precond){.if_absent = true}, EEXIST);
        OK(stat_key(s, name, &a));
        race(s, name, (struct precond){.if_match = a.version}, ESTALE);
    }
}

static void without_conditions(struct suite *s)
{
    struct precond absent = {.if_absent = true};
    FAILS(put_bytes(s, "x", "x", 1, NULL, &absent, NULL), ENOTSUP);
    check_gone(s, "x");
}

void suite_conditions(struct suite *s)
{
    suite_begin(s, "conditions");
    if (!has(s, CAP_IF_MATCH)) {
        without_conditions(s);
        return;
    }
    one_writer(s);
    conditional_remove(s);
    writers(s);
}
