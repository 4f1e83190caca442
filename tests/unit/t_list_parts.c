/* SPDX-License-Identifier: MIT
 * t_list_parts.c: a listing in parts gives every name once and in order, whatever the names are, in
 * whatever order answers come, and whatever the guesses about names were worth; and guesses that can be good are. */
#include "cache/list_parts.h"
#include "cache/listing.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/name.h"
#include "t.h"

#include <errno.h>

static uint64_t dice_state = 1;

static uint64_t dice(uint64_t n)
{
    dice_state ^= dice_state << 13;
    dice_state ^= dice_state >> 7;
    dice_state ^= dice_state << 17;
    return dice_state % n;
}

/* ---- a directory, and a server for it ---- */

struct name {
    char *text; /* a directory ends with '/' */
};

struct server {
    struct name *v;
    size_t n;
    unsigned page;
    enum { SOUND, IGNORES_AFTER, SHUFFLED } manner;
    unsigned requests;
    size_t listed;
};

static int by_text(const void *a, const void *b)
{
    return strcmp(((const struct name *)a)->text, ((const struct name *)b)->text);
}

static void server_add(struct server *s, char *text /* taken */)
{
    if ((s->n & (s->n - 1)) == 0) /* a power of two */
        s->v = xrealloc(s->v, (s->n ? 2 * s->n : 1) * sizeof(*s->v));
    s->v[s->n++].text = text;
}

static void server_sort(struct server *s)
{
    size_t kept = 0;
    if (s->n)
        qsort(s->v, s->n, sizeof(*s->v), by_text);
    for (size_t i = 0; i < s->n; i++) {
        if (kept && strcmp(s->v[kept - 1].text, s->v[i].text) == 0)
            free(s->v[i].text);
        else
            s->v[kept++] = s->v[i];
    }
    s->n = kept;
}

static void server_done(struct server *s)
{
    for (size_t i = 0; i < s->n; i++)
        free(s->v[i].text);
    free(s->v);
    *s = (struct server){0};
}

static size_t behind(const struct server *s, const char *after)
{
    size_t lo = 0, hi = s->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (strcmp(s->v[mid].text, after) <= 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* The directory is "dir"; cursors are positions. */
static void serve(struct server *s, const struct list_query *q, struct list_page *ret)
{
    size_t at = q->cursor ? strtoul(q->cursor, NULL, 10) : 0, from = at;
    unsigned max = q->max && q->max < s->page ? q->max : s->page;
    s->requests++;
    if (q->after && s->manner != IGNORES_AFTER)
        at = behind(s, q->after + strlen("dir/"));
    else
        ret->unordered = q->after != NULL;
    for (; at < s->n && ret->count < max; at++) {
        size_t i = s->manner == SHUFFLED ? (at * 7919) % s->n : at;
        size_t len = strlen(s->v[i].text);
        bool dir = s->v[i].text[len - 1] == '/';
        CLEANUP_FREE char *key = xasprintf("dir/%.*s", (int)(len - dir), s->v[i].text);
        list_page_add(ret, key)->attr.kind = dir ? ATTR_DIR : ATTR_FILE;
    }
    s->listed += ret->count;
    ret->dir_exists = from == 0 && !q->after;
    ret->cursor = at < s->n ? xasprintf("%zu", at) : NULL;
}

/* ---- a client ---- */

struct run {
    struct list_parts p;
    struct server *s;
    struct list_part *asked[64];
    unsigned n_asked;
    unsigned fail_one_in; /* 0: none */
    char **got;
    size_t n_got;
    size_t at_most;       /* entries that waited at once */
};

static void answer_one(struct run *r, struct list_part *t)
{
    struct list_page page = LIST_PAGE_INIT;
    CLEANUP_FREE char *after = NULL;
    struct list_query q = list_parts_query(t, "dir/", &after);
    CHECK(!q.after || !q.cursor);
    CHECK(!q.after || !strchr(q.after + strlen("dir/"), '/') || q.after[strlen(q.after) - 1] == '/');
    if (r->fail_one_in && dice(r->fail_one_in) == 0) {
        list_parts_failed(&r->p, t);
        return;
    }
    serve(r->s, &q, &page);
    list_parts_answer(&r->p, t, &page);
}

static void answer_any(struct run *r)
{
    unsigned i = (unsigned)dice(r->n_asked);
    struct list_part *t = r->asked[i];
    r->asked[i] = r->asked[--r->n_asked];
    answer_one(r, t);
}

static void note(struct run *r, struct list_page *page)
{
    for (size_t i = 0; i < page->count; i++) {
        struct list_entry *e = &page->entries[i];
        if ((r->n_got & (r->n_got - 1)) == 0)
            r->got = xrealloc(r->got, (r->n_got ? 2 * r->n_got : 1) * sizeof(*r->got));
        r->got[r->n_got++] =
            xasprintf("%s%s", e->key + strlen("dir/"), e->attr.kind == ATTR_DIR ? "/" : "");
    }
    list_page_done(page);
}

static size_t waiting(const struct list_parts *p)
{
    size_t n = 0;
    for (const struct list_part *t = p->first; t; t = t->next)
        n += t->page.count;
    return n;
}

/* One step: 1 = goes on, 0 = end, -1 = broken. */
static int step(struct run *r)
{
    struct list_page page = LIST_PAGE_INIT;
    struct list_part *t;
    uint64_t ns;
    while (r->n_asked < 64 && (t = list_parts_ask(&r->p, false)) != NULL)
        r->asked[r->n_asked++] = t;
    if (r->n_asked && dice(3) > 0)
        answer_any(r);
    if (r->at_most < waiting(&r->p))
        r->at_most = waiting(&r->p);
    bool ready = list_parts_ready(&r->p);
    enum list_parts_answer a = list_parts_take(&r->p, &page, &ns);
    CHECK(ready == (a == LIST_PARTS_TAKEN || a == LIST_PARTS_END || a == LIST_PARTS_BROKEN));
    if (a == LIST_PARTS_ASK) {
        t = list_parts_ask(&r->p, true);
        CHECK(t != NULL);
        answer_one(r, t);
    } else if (a == LIST_PARTS_WAIT) {
        answer_any(r);
    }
    note(r, &page);
    return a == LIST_PARTS_END ? 0 : a == LIST_PARTS_BROKEN ? -1 : 1;
}

static int run_all(struct run *r, struct server *s, unsigned limit, const char *after, bool after_dir)
{
    r->s = s;
    s->requests = 0;
    s->listed = 0;
    list_parts_init(&r->p, "dir", limit, after, after_dir);
    int how;
    while ((how = step(r)) == 1)
        ;
    while (r->n_asked)
        answer_any(r);
    return how;
}

static void run_done(struct run *r)
{
    list_parts_done(&r->p);
    for (size_t i = 0; i < r->n_got; i++)
        free(r->got[i]);
    free(r->got);
    *r = (struct run){0};
}

static void check_whole(const struct run *r, const struct server *s, size_t from)
{
    if (r->n_got != s->n - from)
        fprintf(stderr, "%zu of %zu names\n", r->n_got, s->n - from);
    CHECK_INT(r->n_got, s->n - from);
    for (size_t i = from; i < s->n; i++)
        CHECK_STR(r->got[i - from], s->v[i].text);
}

/* ---- names of many kinds ---- */

typedef char *name_fn(size_t i);

static char *padded(size_t i) { return xasprintf("entry-%05zu", i); }
static char *unpadded(size_t i) { return xasprintf("file-%zu.txt", i); }
static char *hex(size_t i) { (void)i; return xasprintf("%016llx", (unsigned long long)dice(UINT64_MAX)); }
static char *dates(size_t i) { return xasprintf("2024-%02zu-%02zuT%02zu.log", 1 + i / 672 % 12, 1 + i / 24 % 28, i % 24); }
static char *deep(size_t i) { return xasprintf("%0120d%zu", 0, i); }
static char *folders(size_t i) { return xasprintf(i % 3 ? "d%04zu/" : "d%04zu", i / 3); }
static char *dense(size_t i) { return i % 10 ? xasprintf("m%06zu", i) : xasprintf("%c%zu", 'a' + (char)(i % 26), i); }
static char *greek(size_t i) { return xasprintf("\xCE%c\xCE%c-%zu", 0x91 + (char)(i % 24), 0x91 + (char)(i / 24 % 24), i); }
static char *wild(size_t i)
{
    static const char bytes[] = "\x01 !%+-.:09AZaz~\xC3\xA4\xF0\x9F\x98\x80";
    char s[12] = "";
    size_t n = 1 + dice(10);
    for (size_t k = 0; k < n; k++)
        s[k] = bytes[dice(sizeof(bytes) - 1)];
    return xasprintf("%s%s", s, i % 5 ? "" : "/");
}
static char *base62(size_t i)
{
    static const char set[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    char s[9] = "";
    (void)i;
    for (size_t k = 0; k < 8; k++)
        s[k] = set[dice(62)];
    return xstrdup(s);
}
static char *cliff(size_t i) /* the first page tells nothing about the rest */
{
    return i < 1100 ? xasprintf("a%05zu", i) : xasprintf("%s_%zu", i % 2 ? "zzz" : "", i);
}

static const struct kind {
    const char *name;
    name_fn *make;
    size_t n;
} kinds[] = {{"padded", padded, 10000}, {"unpadded", unpadded, 9000}, {"hex", hex, 9000},
             {"dates", dates, 8000},    {"deep", deep, 2500},         {"folders", folders, 9000},
             {"dense", dense, 9000},    {"greek", greek, 5000},       {"wild", wild, 6000},
             {"base62", base62, 9000},  {"cliff", cliff, 9000},  {"few", padded, 3},
             {"none", padded, 0},       {"exact", padded, 1000},      {"one more", padded, 1001}};

static struct server make(const struct kind *k, unsigned page)
{
    struct server s = {.page = page};
    for (size_t i = 0; i < k->n; i++)
        server_add(&s, k->make(i));
    server_sort(&s);
    return s;
}

static void test_every_name_once(void)
{
    static const unsigned pages[] = {1000, 333, 40};
    for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++)
        for (unsigned round = 0; round < 6; round++) {
            struct server s = make(&kinds[k], pages[round % 3]);
            struct run r = {.fail_one_in = round == 4 ? 5 : 0};
            CHECK_INT(run_all(&r, &s, 1 + 2 * round, NULL, false), 0);
            check_whole(&r, &s, 0);
            CHECK(!r.p.unordered);
            run_done(&r);
            server_done(&s);
        }
}

static void test_resumed(void)
{
    for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++)
        for (unsigned round = 0; round < 3; round++) {
            struct server s = make(&kinds[k], 100);
            if (s.n) {
                struct run r = {0};
                size_t at = dice(s.n), len = strlen(s.v[at].text);
                bool dir = s.v[at].text[len - 1] == '/';
                CLEANUP_FREE char *after = xstrndup(s.v[at].text, len - dir);
                CHECK_INT(run_all(&r, &s, 4, after, dir), 0);
                check_whole(&r, &s, at + 1);
                run_done(&r);
            }
            server_done(&s);
        }
}

/* What can be guessed is: few requests more than pages, and few entries listed twice. */
static void test_good_guesses(void)
{
    static const size_t good[] = {0, 2, 9};
    for (size_t k = 0; k < 3; k++) {
        struct server s = make(&kinds[good[k]], 500);
        struct run r = {0};
        unsigned pages = (unsigned)(s.n / 500) + 1;
        CHECK_INT(run_all(&r, &s, 6, NULL, false), 0);
        if (s.requests > 2 * pages || s.listed > s.n * 3 / 2)
            fprintf(stderr, "%s: %u requests, %zu listed\n", kinds[good[k]].name, s.requests, s.listed);
        CHECK(s.requests <= 2 * pages);
        CHECK(s.listed <= s.n * 3 / 2);
        run_done(&r);
        server_done(&s);
    }
}

static void test_bounded(void)
{
    struct kind k = {"long", padded, 30000};
    struct server s = make(&k, 50);
    struct run r = {0};
    CHECK_INT(run_all(&r, &s, 8, NULL, false), 0);
    check_whole(&r, &s, 0);
    CHECK(r.at_most <= (LIST_PARTS_WINDOW + 1) * s.page);
    run_done(&r);
    server_done(&s);
}

/* A server that ignores `after`, or lists in no order: nothing is lost and nothing twice, or it is an error. */
static void test_unordered(void)
{
    unsigned broken = 0;
    for (unsigned round = 0; round < 16; round++) {
        struct server s = make(&kinds[round % 2 ? 0 : 2], 200);
        struct run r = {0};
        s.manner = round % 4 < 2 ? IGNORES_AFTER : SHUFFLED;
        int how = run_all(&r, &s, 4, NULL, false);
        CHECK(r.p.unordered || s.manner == IGNORES_AFTER); /* no guess was needed, perhaps */
        broken += how < 0;
        if (how == 0) {
            CHECK_INT(r.n_got, s.n);
            qsort(r.got, r.n_got, sizeof(*r.got), by_text); /* a row of pointers, as names are */
            check_whole(&r, &s, 0);
        }
        run_done(&r);
        server_done(&s);
    }
    CHECK(broken < 16);
}

static void test_split_points(void)
{
    static struct list_split s;
    for (unsigned i = 0; i < 1000; i++) {
        CLEANUP_FREE char *name = padded(i);
        list_split_note(&s, name);
    }
    CLEANUP_FREE char *p = list_split_point(&s, "entry-00000", "entry-00999", "entry-00999", NULL, 1.0);
    CHECK(p && strcmp(p, "entry-01990") > 0 && strcmp(p, "entry-02000") < 0);
    CLEANUP_FREE char *q = list_split_point(&s, "entry-00000", "entry-00999", "entry-00999", "entry-01500", 1.0);
    CHECK(q == NULL);
    double ratio = list_split_ratio(&s, "entry-00000", "entry-00999", "entry-02000", "entry-05000");
    CHECK(ratio > 2.9 && ratio < 3.1);
    CHECK(list_split_point(&s, "entry-00000", "entry-00000", "entry-00999", NULL, 1.0) == NULL);
    static struct list_split digits;
    list_split_note(&digits, "10");
    list_split_note(&digits, "19");
    CLEANUP_FREE char *near = list_split_point(&digits, "10", "19", "19", NULL, 1.2);
    CHECK_STR(near, "29"); /* no room above the first position is needed */
    CLEANUP_FREE char *far = list_split_point(&s, "entry-00000", "entry-00999", "entry-99999", NULL, 1e6);
    CHECK(!far || strcmp(far, "entry-99999") > 0);
}

int main(void)
{
    RUN(test_split_points);
    RUN(test_every_name_once);
    RUN(test_resumed);
    RUN(test_good_guesses);
    RUN(test_bounded);
    RUN(test_unordered);
    return t_done();
}
