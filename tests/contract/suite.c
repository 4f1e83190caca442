/* SPDX-License-Identifier: MIT
 * suite.c: what the tests of the suite share. */
#include "tests/contract/suite.h"

#include "base/name.h"

#include <ftw.h>
#include <sys/wait.h>
#include <unistd.h>

void suite_init(struct suite *s, const char *label, struct store *store)
{
    char hex[9];
    random_hex(hex, 8);
    *s = (struct suite){.store = store, .label = label};
    snprintf(s->run, sizeof(s->run), "contract-%s", hex);
    op_init(&s->op, "suite", 0);
    if (has(s, CAP_REAL_DIRS))
        OK(store_make_dir(s->store, &s->op, s->run, NULL));
}

/* Removes everything that is there, deepest first. */
void suite_clear(struct suite *s)
{
    CLEANUP_FREE char *prefix = xasprintf("%s/", s->run);
    struct list_page all = LIST_PAGE_INIT;
    list_all(s, prefix, true, 0, &all);
    for (size_t i = all.count; i-- > 0;) {
        const struct list_entry *e = &all.entries[i];
        int r = e->attr.kind == ATTR_DIR ? store_remove_dir(s->store, &s->op, e->key)
                                         : store_remove(s->store, &s->op, e->key, NULL);
        if (r != -ENOENT)
            OK(r);
    }
    list_page_done(&all);
    int r = store_remove_dir(s->store, &s->op, s->run);
    if (r != -ENOENT)
        OK(r);
}

void suite_done(struct suite *s)
{
    store_close(s->store);
}

static void read_own(struct suite *s)
{
    suite_reading(s, s->store);
}

void suite_run(struct suite *s)
{
    static const struct {
        const char *name;
        void (*run)(struct suite *s);
    } parts[] = {
        {"basic", suite_basic},   {"conditions", suite_conditions},
        {"list", suite_list},     {"names", suite_names},
        {"meta", suite_meta},     {"dirs", suite_dirs},
        {"move", suite_move},     {"patch", suite_patch},
        {"upload", suite_upload}, {"threads", suite_threads},
        {"reading", read_own},
    };
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        uint64_t start = clock_now_ns();
        parts[i].run(s);
        printf("%s: %-10s ok, %llu ms\n", s->label, parts[i].name,
               (unsigned long long)((clock_now_ns() - start) / NS_PER_MS));
        fflush(stdout);
        t_passed++;
    }
    suite_clear(s);
}

bool has(const struct suite *s, uint32_t cap)
{
    return (s->store->caps & cap) == cap;
}

const char *K(struct suite *s, const char *name)
{
    static char keys[32][5000];
    static unsigned next;
    char *k = keys[next++ % 32];
    snprintf(k, sizeof(keys[0]), "%s%s", s->prefix, name);
    return k;
}

void suite_begin(struct suite *s, const char *test)
{
    snprintf(s->prefix, sizeof(s->prefix), "%s/%s/", s->run, test);
    if (!has(s, CAP_REAL_DIRS))
        return;
    CLEANUP_FREE char *dir = xasprintf("%s/%s", s->run, test);
    OK(store_make_dir(s->store, &s->op, dir, NULL));
}

void check_ok(struct suite *s, const char *file, int line, const char *what, int r)
{
    if (r == 0)
        return;
    fprintf(stderr, "%s:%d: %s: %s is %d (%s), want 0: %s\n", file, line, s->label, what, r,
            strerror(-r), err_text(&s->op.err));
    exit(1);
}

void check_fails(struct suite *s, const char *file, int line, const char *what, int r, int code)
{
    const struct err *e = &s->op.err;
    if (r != -code) {
        fprintf(stderr, "%s:%d: %s: %s is %d (%s), want %d: %s\n", file, line, s->label, what, r,
                strerror(-r), -code, err_text(e));
        exit(1);
    }
    if (e->code != code || e->text[0] == '\0') {
        fprintf(stderr, "%s:%d: %s: %s: op->err has code %d and text '%s'\n", file, line, s->label,
                what, e->code, e->text);
        exit(1);
    }
}

void make_parents(struct suite *s, const char *name)
{
    CLEANUP_FREE char *dir = xstrdup(K(s, name));
    if (!has(s, CAP_REAL_DIRS))
        return;
    for (char *p = dir + strlen(s->prefix); (p = strchr(p, '/')) != NULL; p++) {
        *p = '\0';
        int r = store_make_dir(s->store, &s->op, dir, NULL);
        if (r != -EEXIST)
            OK(r);
        *p = '/';
    }
}

int put_bytes(struct suite *s, const char *name, const void *data, size_t len,
              const struct attr *attr, const struct precond *pre, struct attr *ret)
{
    CLEANUP_ATTR struct attr got = ATTR_INIT;
    struct source_mem src = source_mem(data, len);
    struct put_req req = {.key = K(s, name), .src = &src.base, .attr = attr};
    if (pre)
        req.precond = *pre;
    int r = store_put(s->store, &s->op, &req, &got);
    if (r == 0 && ret)
        attr_move(ret, &got);
    return r;
}

void put_text(struct suite *s, const char *name, const char *text, struct attr *ret)
{
    make_parents(s, name);
    OK(put_bytes(s, name, text, strlen(text), NULL, NULL, ret));
}

ssize_t read_at(struct suite *s, const char *name, const char *version, uint64_t off, void *buf,
                size_t len)
{
    struct read_req req = {.key = K(s, name),
                           .version = version,
                           .offset = off,
                           .iov = {.iov_base = buf, .iov_len = len}};
    struct read_res res = READ_RES_INIT;
    int r = store_read(s->store, &s->op, &req, &res);
    ssize_t n = (ssize_t)res.length;
    read_res_done(&res);
    return r < 0 ? r : n;
}

void check_text(struct suite *s, const char *name, const char *text)
{
    char buf[4096];
    CHECK(strlen(text) < sizeof(buf));
    ssize_t n = read_at(s, name, NULL, 0, buf, sizeof(buf));
    if (n < 0)
        OK((int)n);
    CHECK_INT(n, strlen(text));
    CHECK(memcmp(buf, text, strlen(text)) == 0);
}

int stat_key(struct suite *s, const char *name, struct attr *ret)
{
    return store_stat(s->store, &s->op, K(s, name), ret);
}

void check_gone(struct suite *s, const char *name)
{
    struct attr a = ATTR_INIT;
    FAILS(stat_key(s, name, &a), ENOENT);
    CHECK(a.kind == ATTR_UNSET && !a.xattrs); /* untouched on failure */
}

/* ---- listing ---- */

static char *sort_key(const struct list_entry *e)
{
    return xasprintf("%s%s", e->key, e->attr.kind == ATTR_DIR ? "/" : "");
}

static void append_page(struct list_page *all, struct list_page *page)
{
    for (size_t i = 0; i < page->count; i++) {
        CLEANUP_FREE char *now = sort_key(&page->entries[i]);
        if (all->count) {
            CLEANUP_FREE char *before = sort_key(&all->entries[all->count - 1]);
            if (strcmp(before, now) >= 0) {
                fprintf(stderr, "list: '%s' comes after '%s'\n", now, before);
                exit(1);
            }
        }
        struct list_entry *e = list_page_add(all, page->entries[i].key);
        attr_move(&e->attr, &page->entries[i].attr);
        CHECK(e->attr.kind != ATTR_UNSET);
    }
}

void list_all(struct suite *s, const char *prefix, bool recursive, unsigned max,
              struct list_page *ret)
{
    CLEANUP_FREE char *cursor = NULL;
    for (bool first = true;; first = false) {
        struct list_query q = {
            .prefix = prefix, .recursive = recursive, .cursor = cursor, .max = max};
        struct list_page page = LIST_PAGE_INIT;
        OK(store_list(s->store, &s->op, &q, &page));
        CHECK(max == 0 || page.count <= max);
        if (first) {
            ret->dir_exists = page.dir_exists;
            attr_move(&ret->dir_attr, &page.dir_attr);
        }
        append_page(ret, &page);
        CHECK(!cursor || !page.cursor || strcmp(cursor, page.cursor) != 0);
        free(cursor);
        cursor = take_ptr(&page.cursor);
        list_page_done(&page);
        if (!cursor)
            return;
    }
}

char *list_text(struct suite *s, const char *prefix, bool recursive, unsigned max)
{
    struct list_page all = LIST_PAGE_INIT;
    struct buf b = BUF_INIT;
    list_all(s, K(s, prefix), recursive, max, &all);
    for (size_t i = 0; i < all.count; i++) {
        const struct list_entry *e = &all.entries[i];
        CHECK(strncmp(e->key, s->prefix, strlen(s->prefix)) == 0);
        buf_addf(&b, "%s%s%s", i ? " " : "", e->key + strlen(s->prefix),
                 e->attr.kind == ATTR_DIR ? "/" : "");
    }
    list_page_done(&all);
    return b.data ? buf_take(&b) : xstrdup("");
}

const struct list_entry *find_entry(const struct list_page *p, const char *key)
{
    for (size_t i = 0; i < p->count; i++)
        if (strcmp(p->entries[i].key, key) == 0)
            return &p->entries[i];
    return NULL;
}

/* ---- generated content ---- */

unsigned char pattern(uint64_t off, unsigned seed)
{
    uint64_t x = (off >> 3) * 0x9e3779b97f4a7c15ULL + seed;
    x ^= x >> 29;
    return (unsigned char)(x >> ((off & 7) * 8));
}

static int pattern_read(const struct source *src, uint64_t off, void *buf, size_t len)
{
    const struct pattern_source *p = (const struct pattern_source *)src;
    if (off > src->size || len > src->size - off)
        return -EINVAL;
    if (p->sleep_ms)
        clock_sleep_ms(p->sleep_ms);
    for (size_t i = 0; i < len; i++)
        ((unsigned char *)buf)[i] = pattern(off + i, p->seed);
    return 0;
}

struct pattern_source pattern_source(uint64_t size, unsigned seed)
{
    return (struct pattern_source){.base = {.read_at = pattern_read, .size = size}, .seed = seed};
}

void check_pattern(const void *data, size_t len, uint64_t off, unsigned seed)
{
    for (size_t i = 0; i < len; i++) {
        if (((const unsigned char *)data)[i] != pattern(off + i, seed)) {
            fprintf(stderr, "byte %llu is wrong\n", (unsigned long long)(off + i));
            exit(1);
        }
    }
}

/* ---- for the programs ---- */

struct store *open_store(const char *text, struct stats *stats)
{
    struct err err = ERR_INIT;
    struct conf *c = NULL;
    struct store *store = NULL;
    int r = conf_parse("contract.conf", text, &err, &c);
    if (r == 0)
        r = registry_open(c, conf_find(c, "store", "t"), stats, &err, &store);
    conf_free(c);
    if (r < 0) {
        fprintf(stderr, "cannot open the store: %s\n", err_text(&err));
        exit(1);
    }
    return store;
}

char *temp_dir(void)
{
    const char *base = getenv("TMPDIR");
    char *path = xasprintf("%s/quay-contract-XXXXXX", base && *base ? base : "/tmp");
    CHECK(mkdtemp(path) != NULL);
    return path;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

void temp_dir_remove(const char *path)
{
    (void)nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

const char *need(const char *name)
{
    const char *v = getenv(name);
    if (!v || !*v) {
        fprintf(stderr, "%s is not set\n", name);
        exit(1);
    }
    return v;
}

void left_name(char ret[TEMP_NAME_MAX])
{
    int told[2], status = -1;
    CHECK(pipe(told) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        temp_name_make(ret);
        _exit(write(told[1], ret, TEMP_NAME_MAX) == TEMP_NAME_MAX ? 0 : 1);
    }
    CHECK(pid > 0 && read(told[0], ret, TEMP_NAME_MAX) == TEMP_NAME_MAX);
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    close(told[0]);
    close(told[1]);
}

void suite_over(const char *label, const char *text)
{
    struct stats *stats = stats_new();
    struct suite s;
    suite_init(&s, label, open_store(text, stats));
    suite_run(&s);
    suite_done(&s);
    stats_free(stats);
}

void suite_read_only(const char *label, const char *text, const char *ro)
{
    struct suite suite = {.store = open_store(text, NULL), .label = label}, *s = &suite;
    op_init(&s->op, "suite", 0);
    put_text(s, "object", "content", NULL);
    struct store *writable = s->store;
    s->store = open_store(ro, NULL);
    suite_refusals(s, "object", "content");
    suite_done(s);
    s->store = writable;
    OK(store_remove(s->store, &s->op, "object", NULL));
    suite_done(s);
}

void suite_wrong_password(const char *label, const char *text, const char *password)
{
    struct suite suite = {.store = open_store(text, NULL), .label = label}, *s = &suite;
    struct attr a = ATTR_INIT;
    op_init(&s->op, "suite", 0);
    FAILS(store_stat(s->store, &s->op, "x", &a), EACCES);
    CHECK(!strstr(s->op.err.text, password));
    suite_done(s);
}
