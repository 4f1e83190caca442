/* SPDX-License-Identifier: MIT
 * t_volume_model.c: random operations on a volume and on a model of it in memory, while another client
 * changes and removes objects. After each step every answer must be one that the model allows: bytes of
 * exactly one version, or an error that says so; and nothing that was written may be nowhere.
 * The seed is printed; QUAY_TEST_SEED=N QUAY_TEST_STEPS=N repeat a run. */
#include "tests/unit/vol_fixture.h"

#define PATHS 6
#define HANDLES 5
#define SIZE_MAX_FILE 6000
#define RW (VFILE_READ | VFILE_WRITE)

static bool trace; /* QUAY_TEST_TRACE */

#define TRACE(...)                                                                                 \
    do {                                                                                           \
        if (trace)                                                                                 \
            fprintf(stderr, "   " __VA_ARGS__);                                                    \
    } while (0)

static const char *const paths[PATHS] = {"a", "a-b", "b", "d/a", "d/b", "e/f/g"};

struct content {
    size_t len;
    unsigned char data[SIZE_MAX_FILE + 1000];
};

struct object { /* at the store */
    bool exists;
    unsigned version;
    struct content c;
};

struct mnode { /* what the handles of a path share */
    int path;        /* -1: no name any more */
    bool dirty, stale;
    bool blind;      /* its base is gone: bytes of it may be unreadable */
    bool fresh;      /* made here, nothing at the store when it was */
    unsigned base;   /* version */
    int handles;
    struct content c;
};

struct handle {
    struct vfile *f;
    struct mnode *n;
    bool writes;
};

static struct object store[PATHS];
static struct mnode *nodes[PATHS]; /* attached ones */
static struct handle handles[HANDLES];
static unsigned versions;
static uint64_t rng;
static bool in_order; /* most writes go to the end */
static unsigned long conflicts, commits, stale_reads, steps_done;

static unsigned rnd(unsigned below)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return (unsigned)(rng >> 20) % below;
}

static void fill(unsigned char *p, size_t n)
{
    unsigned char c = (unsigned char)(1 + rnd(250));
    for (size_t i = 0; i < n; i++)
        p[i] = (unsigned char)(c + i % 5);
}

static void set_object(int p, const struct content *c)
{
    store[p].exists = c != NULL;
    store[p].version = ++versions;
    if (c)
        store[p].c = *c;
}

static bool base_gone(const struct mnode *n)
{
    return n->path < 0 ? n->blind
                       : n->blind || (!n->fresh && (!store[n->path].exists ||
                                                    store[n->path].version != n->base));
}

static void drop(struct mnode *n)
{
    if (n->handles || n->dirty)
        return;
    if (n->path >= 0)
        nodes[n->path] = NULL;
    free(n);
}

/* n loses its name; its handles keep it. */
static void detach(struct mnode *n)
{
    nodes[n->path] = NULL;
    n->path = -1;
    if (n->handles == 0)
        free(n);
}

static struct mnode *make_node(int p)
{
    struct mnode *n = xcalloc(1, sizeof(*n));
    n->path = p;
    nodes[p] = n;
    if (store[p].exists) {
        n->base = store[p].version;
        n->c = store[p].c;
    } else {
        n->fresh = n->dirty = true;
    }
    return n;
}

/* ---- the other client ---- */

static void step_foreign(struct vx *x)
{
    int p = (int)rnd(PATHS);
    TRACE("foreign %s\n", paths[p]);
    if (rnd(3) == 0) {
        if (store[p].exists) {
            vx_foreign_remove(x, paths[p]);
            set_object(p, NULL);
        }
        return;
    }
    static struct content c;
    c.len = rnd(SIZE_MAX_FILE);
    fill(c.data, c.len);
    struct source_mem src = source_mem(c.data, c.len);
    struct put_req req = {.key = paths[p], .src = &src.base};
    struct attr a = ATTR_INIT;
    CHECK_INT(store_put(x->store, &x->op, &req, &a), 0);
    attr_done(&a);
    set_object(p, &c);
}

/* ---- opening ---- */

static struct mnode *expect_open(int p, unsigned flags, int *want)
{
    struct mnode *n = nodes[p];
    *want = 0;
    if ((flags & VFILE_EXCL) && (store[p].exists || (n && n->dirty))) {
        *want = -EEXIST;
        return NULL;
    }
    if (n && !n->dirty && (!store[p].exists || store[p].version != n->base || n->stale)) {
        n->stale = true;
        detach(n);
        n = NULL;
    }
    if (!n && !store[p].exists && !(flags & VFILE_CREATE)) {
        *want = -ENOENT;
        return NULL;
    }
    return n ? n : make_node(p);
}

static void step_open(struct vx *x)
{
    static const unsigned kinds[] = {VFILE_READ, RW, RW | VFILE_CREATE, RW | VFILE_TRUNC,
                                     RW | VFILE_CREATE | VFILE_EXCL,
                                     RW | VFILE_CREATE | VFILE_TRUNC, VFILE_READ | VFILE_DIRECT};
    struct handle *h = &handles[rnd(HANDLES)];
    if (h->f)
        return;
    int p = (int)rnd(PATHS), want = 0;
    unsigned flags = kinds[rnd(ARRAY_LEN(kinds))];
    struct mnode *n = expect_open(p, flags, &want);
    struct vfile_open how = {.flags = flags, .mode = 0644, .uid = getuid(), .gid = getgid()};
    struct attr a = ATTR_INIT;
    bool keep = false;
    int r = volume_open_file(x->v, &x->op, paths[p], &how, &h->f, &a, &keep);
    TRACE("open %s flags %u in %d: %d\n", paths[p], flags, (int)(h - handles), r);
    CHECK_INT(r, want);
    if (r < 0)
        return;
    h->n = n;
    h->writes = flags & VFILE_WRITE;
    n->handles++;
    if (flags & VFILE_TRUNC) {
        n->c.len = 0;
        n->dirty = true;
    }
    CHECK_INT(a.size, n->c.len);
    attr_done(&a);
}

/* ---- content ---- */

static struct handle *pick(void)
{
    struct handle *h = &handles[rnd(HANDLES)];
    return h->f ? h : NULL;
}

static void step_read(struct handle *h)
{
    static unsigned char buf[SIZE_MAX_FILE + 2000];
    struct mnode *n = h->n;
    uint64_t off = rnd(SIZE_MAX_FILE);
    size_t len = 1 + rnd(SIZE_MAX_FILE), left = off < n->c.len ? n->c.len - off : 0;
    if (left > len)
        left = len;
    ssize_t got = vx_pread(h->f, buf, len, off);
    TRACE("read %d @%llu +%zu: %zd\n", n->path, (unsigned long long)off, len, got);
    if (got == -ESTALE) {
        CHECK(n->stale || base_gone(n));
        stale_reads++;
        n->stale = n->stale || !n->dirty;
        return;
    }
    CHECK(!n->stale);
    CHECK_INT(got, left);
    CHECK(left == 0 || memcmp(buf, n->c.data + off, left) == 0);
}

static void step_write(struct vx *x, struct handle *h)
{
    struct mnode *n = h->n;
    size_t off = rnd(3) ? rnd((unsigned)n->c.len + 1) : rnd(SIZE_MAX_FILE), len = 1 + rnd(900);
    if (in_order && rnd(4))
        off = n->c.len;
    off = off < SIZE_MAX_FILE ? off : SIZE_MAX_FILE;
    unsigned char data[1000];
    fill(data, len);
    ssize_t r = vfile_write(h->f, &x->op, off, data, len);
    TRACE("write %d @%zu +%zu: %zd\n", n->path, off, len, r);
    if (!h->writes || n->stale) {
        CHECK_INT(r, h->writes ? -ESTALE : -EBADF);
        return;
    }
    CHECK_INT(r, len);
    if (off > n->c.len)
        memset(n->c.data + n->c.len, 0, off - n->c.len);
    memcpy(n->c.data + off, data, len);
    n->c.len = off + len > n->c.len ? off + len : n->c.len;
    n->dirty = n->path >= 0;
}

static void step_truncate(struct vx *x, struct handle *h)
{
    struct mnode *n = h->n;
    size_t size = rnd(SIZE_MAX_FILE);
    int r = vfile_truncate(h->f, &x->op, size);
    TRACE("truncate %d to %zu: %d\n", n->path, size, r);
    if (!h->writes || n->stale) {
        CHECK_INT(r, h->writes ? -ESTALE : -EBADF);
        return;
    }
    CHECK_INT(r, 0);
    if (size == n->c.len && size > 0)
        return;
    if (size > n->c.len)
        memset(n->c.data + n->c.len, 0, size - n->c.len);
    n->c.len = size;
    n->dirty = n->path >= 0;
}

/* ---- commits ---- */

/* The conflict copy must have every byte, or say that it has not. */
static void check_copy(struct vx *x, const char *path, const struct content *c)
{
    static unsigned char buf[SIZE_MAX_FILE + 2000];
    CLEANUP_FREE char *prefix = xasprintf("%s.conflict-", path);
    struct list_query q = {.prefix = prefix, .recursive = true};
    struct list_page page = LIST_PAGE_INIT;
    bool found = false;
    CHECK_INT(store_list(x->store, &x->op, &q, &page), 0);
    for (size_t i = 0; i < page.count; i++) {
        struct read_req req = {.key = page.entries[i].key,
                               .iov = {.iov_base = buf, .iov_len = sizeof(buf)}};
        struct read_res res = READ_RES_INIT;
        CHECK_INT(store_read(x->store, &x->op, &req, &res), 0);
        bool partial = strstr(page.entries[i].key, "-incomplete") != NULL;
        found = found || (res.length == c->len && (partial || memcmp(buf, c->data, c->len) == 0));
        read_res_done(&res);
        vx_foreign_remove(x, page.entries[i].key); /* seen */
    }
    list_page_done(&page);
    CHECK(found || c->len == 0);
}

/* What a commit of n must return; changes the model. */
static int expect_commit(struct mnode *n)
{
    struct object *o = &store[n->path];
    if (!n->dirty)
        return 0;
    bool lost = n->fresh ? o->exists : !o->exists || o->version != n->base;
    if (lost)
        return -ESTALE;
    set_object(n->path, &n->c);
    n->base = o->version;
    n->dirty = n->fresh = false;
    commits++;
    return 0;
}

static void lose(struct vx *x, struct mnode *n)
{
    check_copy(x, paths[n->path], &n->c);
    n->stale = true;
    n->dirty = false;
    conflicts++;
    detach(n);
}

static int flush(struct vx *x, struct handle *h)
{
    struct mnode *n = h->n;
    int r = vfile_fsync(h->f, &x->op);
    TRACE("flush %d: %d\n", n->path, r);
    if (n->path < 0 || n->stale) {
        CHECK(r == 0 || (n->stale && (r == -ESTALE || r == -EEXIST)));
        return r;
    }
    int want = expect_commit(n);
    if (r != want && r != -EEXIST)
        fprintf(stderr, "flush: %s\n", err_text(&x->op.err));
    CHECK_INT(r == -EEXIST ? -ESTALE : r, want);
    if (want < 0)
        lose(x, n);
    return r;
}

static void step_close(struct vx *x, struct handle *h)
{
    (void)flush(x, h);
    vfile_release(h->f);
    h->n->handles--;
    drop(h->n);
    *h = (struct handle){0};
}

/* ---- names ---- */

static void unname(int p)
{
    struct mnode *n = nodes[p];
    if (!n)
        return;
    n->blind = n->blind || base_gone(n);
    n->dirty = false;
    detach(n);
}

static void step_unlink(struct vx *x)
{
    int p = (int)rnd(PATHS);
    bool there = nodes[p] ? nodes[p]->dirty || store[p].exists : store[p].exists;
    bool only_here = nodes[p] && nodes[p]->dirty && nodes[p]->fresh;
    int r = volume_unlink(x->v, &x->op, paths[p]);
    TRACE("unlink %s: %d\n", paths[p], r);
    if (there)
        CHECK(r == 0 || (r == -ENOENT && !store[p].exists));
    else
        CHECK_INT(r, -ENOENT);
    unname(p);
    if (store[p].exists && !only_here)
        set_object(p, NULL);
}

/* 0: go on; else the rename has failed as it must. */
static int rename_commits_first(struct vx *x, int from, int r)
{
    struct mnode *n = nodes[from];
    if (!n || !n->dirty)
        return 0;
    int want = expect_commit(n);
    if (want == 0)
        return 0;
    CHECK_INT(r == -EEXIST ? -ESTALE : r, -ESTALE);
    lose(x, n);
    return 1;
}

static void step_rename(struct vx *x)
{
    int from = (int)rnd(PATHS), to = (int)rnd(PATHS);
    bool no_replace = rnd(4) == 0;
    if (from == to)
        return;
    int r = volume_rename(x->v, &x->op, paths[from], paths[to], no_replace, NULL);
    TRACE("rename %s %s%s: %d\n", paths[from], paths[to], no_replace ? " (no replace)" : "", r);
    bool local = nodes[from] && nodes[from]->dirty;
    if (!local && !store[from].exists) {
        CHECK_INT(r, -ENOENT);
        return;
    }
    if (rename_commits_first(x, from, r))
        return;
    if (no_replace && (store[to].exists || (nodes[to] && nodes[to]->dirty))) {
        CHECK_INT(r, -EEXIST);
        return;
    }
    CHECK_INT(r, 0);
    struct mnode *n = nodes[from];
    if (n && base_gone(n)) { /* its handles have a version that was not renamed */
        n->stale = true;
        detach(n);
        n = NULL;
    }
    unname(to);
    struct content c = store[from].c;
    set_object(to, &c);
    set_object(from, NULL);
    if (n) {
        nodes[from] = NULL;
        nodes[to] = n;
        n->path = to;
        n->base = store[to].version;
    }
}

/* ---- looking ---- */

static void check_stat(struct vx *x, int p)
{
    struct attr a = ATTR_INIT;
    int r = volume_stat(x->v, &x->op, paths[p], 0, &a);
    const struct mnode *n = nodes[p] && nodes[p]->dirty ? nodes[p] : NULL;
    CHECK_INT(r, n || store[p].exists ? 0 : -ENOENT);
    if (r == 0)
        CHECK_INT(a.size, n ? n->c.len : store[p].c.len);
    attr_done(&a);
}

static void check_list(struct vx *x)
{
    CLEANUP_FREE char *top = xstrdup(vx_ls(x, "")), *d = xstrdup(vx_ls(x, "d"));
    for (int p = 0; p < PATHS - 1; p++) {
        const char *list = p < 3 ? top : d, *name = p < 3 ? paths[p] : paths[p] + 2;
        bool want = store[p].exists || (nodes[p] && nodes[p]->dirty), found = false;
        for (const char *at = list; *at;) {
            size_t len = strcspn(at, " ");
            found = found || (len == strlen(name) && strncmp(at, name, len) == 0);
            at += len + (at[len] == ' ');
        }
        CHECK(found == want);
    }
}

static void step_names(struct vx *x)
{
    switch (rnd(5)) {
    case 0:
        step_foreign(x);
        break;
    case 1:
        step_unlink(x);
        break;
    case 2:
        step_rename(x);
        break;
    case 3:
        check_list(x);
        break;
    default:
        check_stat(x, (int)rnd(PATHS));
    }
}

static void step_handle(struct vx *x, struct handle *h)
{
    switch (rnd(9)) {
    case 0:
    case 1:
    case 2:
        step_read(h);
        break;
    case 3:
    case 4:
        step_write(x, h);
        break;
    case 5:
        step_truncate(x, h);
        break;
    case 6:
        step_close(x, h);
        break;
    default:
        (void)flush(x, h);
        if (h->n->path < 0)
            step_close(x, h);
    }
}

static void step(struct vx *x)
{
    struct handle *h = pick();
    TRACE("%lu: handle %d\n", steps_done, h ? (int)(h - handles) : -1);
    if (rnd(8) == 0)
        step_names(x);
    else if (h)
        step_handle(x, h);
    else
        step_open(x);
}

static void check_store(struct vx *x)
{
    static unsigned char buf[SIZE_MAX_FILE + 2000];
    for (int p = 0; p < PATHS; p++) {
        struct read_req req = {.key = paths[p], .iov = {.iov_base = buf, .iov_len = sizeof(buf)}};
        struct read_res res = READ_RES_INIT;
        int r = store_read(x->store, &x->op, &req, &res);
        CHECK_INT(r, store[p].exists ? 0 : -ENOENT);
        if (r == 0) {
            CHECK_INT(res.length, store[p].c.len);
            CHECK(memcmp(buf, store[p].c.data, res.length) == 0);
        }
        read_res_done(&res);
    }
}

static struct store_limits limits = {.upload_threshold = 2500, .part_size = 1100, .part_min = 1024};
static uint64_t stage_memory;

static void run(const char *conf, uint32_t mask, unsigned count)
{
    struct vx x = vx_new();
    struct attr a = ATTR_INIT;
    x.mask = mask;
    x.policy.ttl_ms = 0;
    x.limits = limits;
    x.policy.stage_memory = stage_memory;
    if (conf)
        vx_open(&x, conf);
    else
        vx_open_local(&x, "");
    CHECK_INT(volume_mkdir(x.v, &x.op, "d", 0755, getuid(), getgid(), &a), 0);
    attr_done(&a);
    CHECK_INT(volume_mkdir(x.v, &x.op, "e", 0755, getuid(), getgid(), &a), 0);
    attr_done(&a);
    CHECK_INT(volume_mkdir(x.v, &x.op, "e/f", 0755, getuid(), getgid(), &a), 0);
    attr_done(&a);
    for (unsigned i = 0; i < count; i++, steps_done++)
        step(&x);
    for (int i = 0; i < HANDLES; i++)
        if (handles[i].f)
            step_close(&x, &handles[i]);
    check_store(&x);
    vx_done(&x);
    memset(store, 0, sizeof(store));
    memset(nodes, 0, sizeof(nodes));
}

static unsigned steps = 4000;

static void test_native(void)
{
    run("backend = memory", 0, steps);
}

static void test_like_s3(void)
{
    run("backend = memory", CAP_PATCH | CAP_RENAME_FILE, steps);
}

/* Files that are written in order leave while they are written; small ones are staged in memory. */
static void test_streaming(void)
{
    in_order = true;
    limits = (struct store_limits){.upload_threshold = 1200, .part_size = 1100, .part_min = 1024};
    run("backend = memory", CAP_PATCH | CAP_RENAME_FILE, steps);
    stage_memory = 900;
    run("backend = memory", CAP_PATCH | CAP_RENAME_FILE, steps);
}

static void test_without_copies(void)
{
    run("backend = memory", CAP_PATCH | CAP_RENAME_FILE | CAP_COPY | CAP_COPY_PART, steps / 2);
}

static void test_local(void)
{
    run(NULL, 0, steps / 4);
}

static void report(void)
{
    printf("%lu steps, %lu commits, %lu conflicts, %lu stale reads\n", steps_done, commits,
           conflicts, stale_reads);
}

int main(void)
{
    const char *seed = getenv("QUAY_TEST_SEED"), *count = getenv("QUAY_TEST_STEPS");
    steps = count ? (unsigned)strtoul(count, NULL, 10) : steps;
    random_bytes(&rng, sizeof(rng));
    rng = seed ? strtoull(seed, NULL, 10) : rng >> 20;
    rng += rng == 0;
    printf("QUAY_TEST_SEED=%llu\n", (unsigned long long)rng);
    fflush(stdout);
    trace = getenv("QUAY_TEST_TRACE") != NULL;
    atexit(report);
    log_set_level(LOG_LEVEL_ERROR);
    RUN(test_native);
    RUN(test_like_s3);
    RUN(test_without_copies);
    RUN(test_local);
    RUN(test_streaming);
    return t_done();
}
