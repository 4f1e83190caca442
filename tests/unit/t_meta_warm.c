/* SPDX-License-Identifier: MIT
 * t_meta_warm.c: what one process knew of names, in the next one: whole, of its age, of that store, once. */
#include "base/buf.h"
#include "base/crypto.h"
#include "cache/meta.h"
#include "cache_fixture.h"

#define MINUTE 60000ULL

static struct cache_index *idx;

static void fresh(void)
{
    struct err err = ERR_INIT;
    fx_fresh_dir();
    CHECK_INT(index_open(fx_dir, &err, &idx), 0);
}

static struct meta *start_with(const char *identity, bool ageless)
{
    struct err err = ERR_INIT;
    struct meta *m = NULL;
    struct meta_how how = {.identity = identity, .ageless = ageless};
    CHECK_INT(meta_open(idx, "lake", &how, &err, &m), 0);
    return m;
}

static struct meta *start(void)
{
    return start_with("here", false);
}

static struct attr file(const char *version, uint64_t size, time_t mtime)
{
    struct attr a = {.kind = ATTR_FILE, .size = size, .mtime = {.tv_sec = mtime}};
    snprintf(a.version, sizeof(a.version), "%s", version);
    return a;
}

/* d/: "plain" as listed, "rich" with all an attribute can have, "sub" a directory. */
static void learn(struct meta *m)
{
    struct listing *l = listing_new();
    struct attr plain = file("v1", 10, 1000), rich = file("v2", 20, 2000), sub = {.kind = ATTR_DIR};
    rich.known = ATTR_META | ATTR_HAS_MODE | ATTR_HAS_ATIME;
    rich.mode = 0600;
    rich.atime.tv_sec = 77;
    rich.content_type = xstrdup("text/plain");
    attr_xattr_set(&rich, "user.note", "x\0y", 3);
    listing_add(l, "plain", &plain, 1000);
    listing_add(l, "rich", &rich, 2001);
    listing_add(l, "sub", &sub, 0);
    l->marker = true;
    meta_listing_put(m, "d", l, meta_seq(m, "d"));
    listing_put(l);
    attr_done(&rich);
}

/* The same with the metadata that a stat has told. */
static void stat_plain(struct meta *m)
{
    struct attr a = file("v1", 10, 900);
    a.known = ATTR_META | ATTR_HAS_MODE;
    a.mode = 0640;
    meta_put(m, "d/plain", false, &a, meta_seq(m, "d/plain"));
    meta_put(m, "e/gone", false, NULL, meta_seq(m, "e/gone"));
}

static enum meta_answer ask(struct meta *m, const char *path, uint64_t max_age_ms, bool need_meta)
{
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    return meta_get(m, path, false, max_age_ms, need_meta, &a, NULL);
}

static void test_all_of_it_is_there(void)
{
    fresh();
    struct meta *m = start();
    learn(m);
    stat_plain(m);
    meta_close(m);
    m = start();
    struct listing *l = meta_listing(m, "d", MINUTE);
    CHECK(l && l->n == 3 && l->marker);
    listing_put(l);
    CLEANUP_ATTR struct attr a = ATTR_INIT, b = ATTR_INIT;
    CHECK_INT(meta_get(m, "d/rich", false, MINUTE, true, &a, NULL), META_THERE);
    CHECK(a.mode == 0600 && a.atime.tv_sec == 77 && a.mtime.tv_sec == 2000 && a.size == 20);
    CHECK_STR(a.content_type, "text/plain");
    CHECK_STR(a.version, "v2");
    const struct xattr *x = attr_xattr(&a, "user.note");
    CHECK(x && x->size == 3 && memcmp(x->value, "x\0y", 3) == 0);
    CHECK_INT(meta_get(m, "d/plain", false, MINUTE, true, &b, NULL), META_THERE);
    CHECK(b.mode == 0640 && b.mtime.tv_sec == 900);
    CHECK_INT(ask(m, "d/other", MINUTE, false), META_ABSENT);
    CHECK_INT(ask(m, "e/gone", MINUTE, false), META_ABSENT);
    CHECK_INT(ask(m, "e/else", MINUTE, false), META_MISS);
    CHECK_INT(ask(m, "d/sub", MINUTE, false), META_THERE);
    CHECK_INT(ask(m, "d/rich", 0, false), META_MISS);
    meta_close(m);
    index_close(idx);
}

static void test_our_changes_are_not_forgotten(void)
{
    fresh();
    struct meta *m = start();
    learn(m);
    meta_own(m, "d/rich", NULL);
    meta_close(m);
    m = start();
    CHECK(!meta_listing(m, "d", MINUTE)); /* not the whole truth any more */
    CHECK_INT(ask(m, "d/rich", MINUTE, false), META_MISS);
    CHECK_INT(ask(m, "d/plain", MINUTE, false), META_THERE);
    meta_close(m);
    index_close(idx);
}

static void test_it_is_taken_once(void)
{
    fresh();
    struct meta *m = start();
    learn(m);
    meta_close(m);
    struct meta *killed = start();
    CHECK_INT(ask(killed, "d/plain", MINUTE, false), META_THERE);
    m = start();
    CHECK_INT(ask(m, "d/plain", MINUTE, false), META_MISS);
    meta_close(m);
    meta_close(killed);
    index_close(idx);
}

static void test_another_store(void)
{
    fresh();
    struct meta *m = start();
    learn(m);
    meta_close(m);
    m = start_with("there", false);
    CHECK_INT(ask(m, "d/plain", MINUTE, false), META_MISS);
    meta_close(m);
    m = start(); /* and back: it was removed */
    CHECK_INT(ask(m, "d/plain", MINUTE, false), META_MISS);
    meta_close(m);
    index_close(idx);
}

/* A machine that sleeps: the monotonic clock stands still, the other one goes on. */
static void test_it_ages_meanwhile(void)
{
    fresh();
    struct meta *m = start();
    learn(m);
    meta_close(m);
    struct timespec later = clock_wall();
    later.tv_sec += 30;
    clock_set_wall_for_test(&later);
    m = start();
    CHECK_INT(ask(m, "d/plain", 10 * 1000, false), META_MISS);
    /* Since the machine was started there may not have been so much time. */
    CHECK(clock_now_ns() < MINUTE * NS_PER_MS || ask(m, "d/plain", MINUTE, false) == META_THERE);
    meta_close(m);
    clock_set_wall_for_test(NULL);
    index_close(idx);
}

/* Asked for again, it gives the metadata of what is as it was. */
static void test_old_listings_give_metadata(void)
{
    fresh();
    struct meta *m = start();
    learn(m);
    stat_plain(m);
    meta_close(m);
    m = start_with("here", true);
    CHECK(!meta_listing(m, "d", UINT64_MAX));
    CHECK_INT(ask(m, "d/plain", UINT64_MAX, false), META_MISS);
    CHECK_INT(ask(m, "d/other", UINT64_MAX, false), META_MISS);
    CLEANUP_ATTR struct attr same = file("v1", 10, 1000), rich = file("v2", 20, 2001);
    CLEANUP_ATTR struct attr later = file("v1", 10, 1001), other = file("v3", 10, 1000);
    meta_fill(m, "d/plain", &same);
    meta_fill(m, "d/rich", &rich);
    CHECK(same.known & ATTR_META && same.mode == 0640 && same.mtime.tv_sec == 900);
    CHECK(rich.known & ATTR_META && rich.n_xattrs == 1);
    meta_fill(m, "d/plain", &later);
    meta_fill(m, "d/plain", &other);
    CHECK(!(later.known & ATTR_META) && !(other.known & ATTR_META));
    meta_close(m);
    index_close(idx);
}

/* ---- damage ---- */
struct cut {
    size_t n, had;
    bool honest; /* the CRC is that of what is left */
};

static int cut_run(struct sqldb *db, void *arg, struct err *err)
{
    struct cut *c = arg;
    struct sqlstmt *st = NULL, *put = NULL;
    struct buf body = BUF_INIT;
    int r = sqldb_prepare(db, "SELECT body FROM meta_warm WHERE kind = 1", err, &st);
    if (r == 0 && (r = sqldb_step(st, err)) == 1) {
        const void *p = sqldb_blob(st, 0, &c->had);
        buf_add(&body, p, c->had);
    }
    sqldb_finalize(st);
    size_t n = c->n < body.len ? c->n : body.len;
    r = sqldb_prepare(db, "UPDATE meta_warm SET body = ?, crc = crc + ? WHERE kind = 1", err, &put);
    int64_t change = (int64_t)crc32c(0, buf_str(&body), n) - (int64_t)crc32c(0, buf_str(&body), body.len);
    sqldb_bind_blob(put, 1, buf_str(&body), n);
    sqldb_bind_i64(put, 2, c->honest ? change : 0);
    if (r == 0)
        r = sqldb_run(put, err);
    sqldb_finalize(put);
    buf_done(&body);
    return r;
}

static void test_damage_is_not_believed(void)
{
    struct cut c = {.had = 1};
    fresh();
    for (; c.n < c.had; c.n++) {
        struct err err = ERR_INIT;
        struct meta *m = start();
        learn(m);
        meta_close(m);
        c.honest = c.n % 2;
        CHECK_INT(index_call(idx, cut_run, &c, &err), 0);
        m = start();
        struct listing *l = meta_listing(m, "d", MINUTE);
        CHECK(!l);
        listing_put(l);
        meta_forget(m, NULL);
        meta_close(m);
    }
    CHECK(c.had > 100);
    index_close(idx);
}

int main(void)
{
    RUN(test_all_of_it_is_there);
    RUN(test_our_changes_are_not_forgotten);
    RUN(test_it_is_taken_once);
    RUN(test_another_store);
    RUN(test_it_ages_meanwhile);
    RUN(test_old_listings_give_metadata);
    RUN(test_damage_is_not_believed);
    return t_done();
}
