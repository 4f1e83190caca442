/* SPDX-License-Identifier: MIT
 * suite_reading.c: what reading promises, for stores that cannot be written to by themselves: somebody
 * else (`writer`, another store over the same bytes; of a store that can write: itself) makes and changes
 * the files. Times are set two minutes back, so that a server that tells versions by time can. */
#include "tests/contract/suite.h"

#include <pthread.h>

struct pair {
    struct suite *s; /* the store under test; s->prefix is the test's */
    struct suite w;  /* the same place, by the writer */
    time_t time;     /* of the next file; grows */
};

static void put(struct pair *p, const char *name, const void *data, size_t len)
{
    struct suite *s = &p->w;
    struct attr a = {.kind = ATTR_FILE, .known = ATTR_HAS_MTIME, .mtime.tv_sec = p->time++};
    make_parents(s, name);
    OK(put_bytes(s, name, data, len, &a, NULL, NULL));
}

static void content(struct pair *p)
{
    struct suite *s = p->s;
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    char buf[64] = "";
    put(p, "digits", "0123456789", 10);
    put(p, "deep/er/file", "x", 1);
    OK(stat_key(s, "digits", &a));
    CHECK_INT(a.kind, ATTR_FILE);
    CHECK_INT(a.size, 10);
    CHECK(a.version[0] != '\0');
    const char *versions[] = {NULL, a.version};
    for (size_t i = 0; i < ARRAY_LEN(versions); i++) {
        const char *v = versions[i];
        CHECK_INT(read_at(s, "digits", v, 0, buf, 4), 4);
        CHECK(memcmp(buf, "0123", 4) == 0);
        CHECK_INT(read_at(s, "digits", v, 3, buf, 4), 4);
        CHECK(memcmp(buf, "3456", 4) == 0);
        CHECK_INT(read_at(s, "digits", v, 7, buf, 64), 3); /* short only at the end */
        CHECK(memcmp(buf, "789", 3) == 0);
        CHECK_INT(read_at(s, "digits", v, 0, buf, 64), 10);
        CHECK_INT(read_at(s, "digits", v, 10, buf, 64), 0);
        CHECK_INT(read_at(s, "digits", v, 1000, buf, 64), 0);
        CHECK_INT(read_at(s, "digits", v, 5, buf, 0), 0);
    }
    check_text(s, "deep/er/file", "x");
}

static int stop_at(void *arg, size_t so_far)
{
    size_t *calls = arg;
    calls[0]++;
    calls[1] = so_far;
    return calls[2] != 0; /* stop? */
}

static void progress(struct pair *p)
{
    struct suite *s = p->s;
    char buf[16] = "";
    size_t calls[3] = {0};
    put(p, "progress", "0123456789", 10);
    struct read_req req = {.key = K(s, "progress"),
                           .iov = {.iov_base = buf, .iov_len = sizeof(buf)},
                           .on_data = stop_at,
                           .on_data_arg = calls};
    struct read_res res = READ_RES_INIT;
    OK(store_read(s->store, &s->op, &req, &res));
    CHECK_INT(res.length, 10);
    CHECK_INT(res.attr.size, 10);
    CHECK(calls[0] >= 1);
    CHECK_INT(calls[1], 10);
    read_res_done(&res);
    calls[2] = 1;
    FAILS(store_read(s->store, &s->op, &req, &res), EINTR);
    CHECK(res.length == 0 && res.attr.kind == ATTR_UNSET);
    op_cancel(&s->op);
    FAILS(store_read(s->store, &s->op, &req, &res), EINTR);
    op_init(&s->op, "suite", 0);
}

static void nothing_there(struct pair *p)
{
    struct suite *s = p->s;
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    char buf[8];
    check_gone(s, "absent");
    check_gone(s, "absent/below");
    FAILS((int)read_at(s, "absent", NULL, 0, buf, 8), ENOENT);
    int r = (int)read_at(s, "absent", "version", 0, buf, 8);
    CHECK(r == -ESTALE || r == -ENOENT);
    put(p, "file", "x", 1);
    check_gone(s, "file/below");
    put(p, "empty", "", 0);
    OK(stat_key(s, "empty", &a));
    CHECK_INT(a.size, 0);
    CHECK_INT(a.kind, ATTR_FILE);
    CHECK_INT(read_at(s, "empty", NULL, 0, buf, 8), 0);
    CHECK_INT(read_at(s, "empty", a.version, 0, buf, 8), 0);
}

/* A replaced file is ESTALE for whoever has the old version, and the new one for everybody else. */
static void versions(struct pair *p)
{
    struct suite *s = p->s;
    char old[ATTR_VERSION_MAX] = "", buf[64];
    for (unsigned i = 0; i < 5; i++) {
        CLEANUP_ATTR struct attr a = ATTR_INIT;
        char text[16];
        snprintf(text, sizeof(text), "content %02u", i);
        put(p, "version", text, 10);
        OK(stat_key(s, "version", &a));
        CHECK(a.version[0] && strcmp(a.version, old) != 0);
        if (old[0]) {
            FAILS((int)read_at(s, "version", old, 0, buf, 4), ESTALE);
            FAILS((int)read_at(s, "version", old, 0, buf, 64), ESTALE);
            FAILS((int)read_at(s, "version", old, 0, buf, 0), ESTALE);
        }
        CHECK_INT(read_at(s, "version", a.version, 0, buf, 64), 10);
        CHECK(memcmp(buf, text, 10) == 0);
        memcpy(old, a.version, sizeof(old));
    }
    FAILS((int)read_at(s, "version", "nonsense", 0, buf, 4), ESTALE);
}

static void directories(struct pair *p)
{
    struct suite *s = p->s;
    CLEANUP_ATTR struct attr a = ATTR_INIT, b = ATTR_INIT;
    char buf[8];
    put(p, "dir/sub/f", "x", 1);
    OK(stat_key(s, "dir", &a));
    CHECK_INT(a.kind, ATTR_DIR);
    CHECK_STR(a.version, "");
    OK(stat_key(s, "dir/sub", &b));
    CHECK_INT(b.kind, ATTR_DIR);
    if (has(s, CAP_REAL_DIRS)) {
        struct attr none = ATTR_INIT;
        FAILS((int)read_at(s, "dir", NULL, 0, buf, 8), EISDIR);
        FAILS(store_stat(s->store, &s->op, "../up", &none), EACCES);
        FAILS(store_stat(s->store, &s->op, "a//b", &none), EACCES);
    }
}

/* Azure cannot hold some: it says so. */
static bool put_odd(struct pair *p, const char *name)
{
    struct suite *s = &p->w;
    struct attr a = {.kind = ATTR_FILE, .known = ATTR_HAS_MTIME, .mtime.tv_sec = p->time++};
    make_parents(s, name);
    int r = put_bytes(s, name, name, strlen(name), &a, NULL, NULL);
    bool hard = strpbrk(name, "\t\\") || name[strlen(name) - 1] == '.';
    if (r == 0 || !hard)
        OK(r);
    else
        FAILS(r, EINVAL);
    return r == 0;
}

static void names(struct pair *p)
{
    static const char *const odd[] = {
        "n/a b",     "n/per%cent", "n/%41",   "n/q?x",         "n/h#x",   "n/amp&semi;",  "n/plus+",
        "n/col:on",  "n/~tilde",   "n/üöß",   "n/quote\"'<>",  "n/tab\tx", "n/back\\slash", "n/dots..",
        "n/-dash",   "n/[x]",      "n/{y}",   "n/at@host",     "n/1,2",   "n/&amp;",
    };
    struct suite *s = p->s;
    struct list_page all = LIST_PAGE_INIT;
    bool held[ARRAY_LEN(odd)];
    size_t n = 0;
    for (size_t i = 0; i < ARRAY_LEN(odd); i++)
        n += held[i] = put_odd(p, odd[i]);
    list_all(s, K(s, "n/"), false, 3, &all);
    CHECK_INT(all.count, n);
    for (size_t i = 0; i < ARRAY_LEN(odd); i++) {
        if (!held[i])
            continue;
        CLEANUP_ATTR struct attr a = ATTR_INIT;
        CHECK(find_entry(&all, K(s, odd[i])) != NULL);
        check_text(s, odd[i], odd[i]);
        OK(stat_key(s, odd[i], &a));
        CHECK_INT(a.kind, ATTR_FILE);
        CHECK_INT(a.size, strlen(odd[i]));
    }
    list_page_done(&all);
}

static void check_list(struct suite *s, const char *prefix, bool recursive, unsigned max,
                       const char *want)
{
    CLEANUP_FREE char *text = list_text(s, prefix, recursive, max);
    CHECK_STR(text, want);
}

static void listings(struct pair *p)
{
    struct suite *s = p->s;
    const char *files[] = {"l/a.txt", "l/a/x", "l/a/y", "l/a0", "l/b", "l/c/d/e"};
    for (size_t i = 0; i < ARRAY_LEN(files); i++)
        put(p, files[i], "12345", 5);
    for (unsigned max = 0; max <= 3; max++) {
        check_list(s, "l/", false, max, "l/a.txt l/a/ l/a0 l/b l/c/");
        check_list(s, "l/a", false, max, "l/a.txt l/a/ l/a0");
        check_list(s, "l/none/", false, max, "");
    }
    struct list_page all = LIST_PAGE_INIT;
    list_all(s, K(s, "l/"), true, 2, &all);
    size_t n = 0;
    for (size_t i = 0; i < all.count; i++)
        n += all.entries[i].attr.kind == ATTR_FILE;
    CHECK_INT(n, ARRAY_LEN(files));
    for (size_t i = 0; i < ARRAY_LEN(files); i++)
        CHECK(find_entry(&all, K(s, files[i])) != NULL);
    list_page_done(&all);
    struct list_page page = LIST_PAGE_INIT;
    struct list_query q = {.prefix = K(s, "l/"), .after = K(s, "l/a/")};
    OK(store_list(s->store, &s->op, &q, &page));
    CHECK_INT(page.count, 3); /* a0 b c/ */
    list_page_done(&page);
    q = (struct list_query){.prefix = K(s, "l/"), .recursive = true, .after = K(s, "l/a/x")};
    OK(store_list(s->store, &s->op, &q, &page));
    CHECK_STR(page.entries[0].key, K(s, "l/a/y"));
    CHECK_STR(page.entries[1].key, K(s, "l/a0"));
    list_page_done(&page);
}

/* What a listing tells is what stat tells; what it does not know, it does not claim. */
static void listed_attributes(struct pair *p)
{
    struct suite *s = p->s;
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    struct list_page all = LIST_PAGE_INIT;
    put(p, "t/file", "12345", 5);
    OK(stat_key(s, "t/file", &a));
    list_all(s, K(s, "t/"), false, 0, &all);
    CHECK_INT(all.count, 1);
    const struct attr *l = &all.entries[0].attr;
    CHECK_INT(l->kind, ATTR_FILE);
    if (l->known & ATTR_META) {
        CHECK_INT(l->size, a.size);
        CHECK_INT(l->mtime.tv_sec, a.mtime.tv_sec);
    }
    CHECK(!l->version[0] || strcmp(l->version, a.version) == 0);
    list_page_done(&all);
}

/* Many at once, each its own range of one version. */
#define BIG (600u << 10)

struct thread_arg {
    struct pair *p;
    char version[ATTR_VERSION_MAX];
    char key[200];
    unsigned nr;
};

static void *read_ranges(void *arg)
{
    struct thread_arg *t = arg;
    char *buf = xmalloc(40000);
    struct op op;
    op_init(&op, "thread", 0);
    for (unsigned i = 0; i < 8; i++) {
        uint64_t off = (uint64_t)(t->nr * 7919 + i * 75011) % BIG;
        struct read_req req = {.key = t->key,
                               .version = t->version,
                               .offset = off,
                               .iov = {.iov_base = buf, .iov_len = 40000}};
        struct read_res res = READ_RES_INIT;
        int r = store_read(t->p->s->store, &op, &req, &res);
        if (r < 0)
            fprintf(stderr, "thread: %s\n", err_text(&op.err));
        CHECK_INT(r, 0);
        CHECK_INT(res.length, BIG - off < 40000 ? BIG - off : 40000);
        check_pattern(buf, res.length, off, 11);
        read_res_done(&res);
    }
    free(buf);
    return NULL;
}

static void threads(struct pair *p)
{
    struct suite *s = p->s;
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    struct thread_arg args[6];
    pthread_t ids[ARRAY_LEN(args)];
    unsigned char *data = xmalloc(BIG);
    for (uint64_t i = 0; i < BIG; i++)
        data[i] = pattern(i, 11);
    put(p, "big", data, BIG);
    free(data);
    OK(stat_key(s, "big", &a));
    CHECK_INT(a.size, BIG);
    for (unsigned i = 0; i < ARRAY_LEN(args); i++) {
        args[i] = (struct thread_arg){.p = p, .nr = i};
        memcpy(args[i].version, a.version, sizeof(a.version));
        snprintf(args[i].key, sizeof(args[i].key), "%s", K(s, "big"));
        CHECK(pthread_create(&ids[i], NULL, read_ranges, &args[i]) == 0);
    }
    for (unsigned i = 0; i < ARRAY_LEN(args); i++)
        pthread_join(ids[i], NULL);
}

void suite_reading(struct suite *s, struct store *writer)
{
    struct pair p = {.s = s, .time = clock_wall().tv_sec - 120};
    p.w = (struct suite){.store = writer, .label = "writer"};
    memcpy(p.w.run, s->run, sizeof(s->run));
    op_init(&p.w.op, "writer", 0);
    suite_begin(&p.w, "reading");
    memcpy(s->prefix, p.w.prefix, sizeof(s->prefix));
    content(&p);
    progress(&p);
    nothing_there(&p);
    versions(&p);
    directories(&p);
    names(&p);
    listings(&p);
    listed_attributes(&p);
    threads(&p);
}
