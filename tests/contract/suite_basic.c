/* SPDX-License-Identifier: MIT
 * suite_basic.c: objects come back as they went in, whole and in ranges; the gate's own refusals.
 */
#include "tests/contract/suite.h"

static void whole_objects(struct suite *s)
{
    CLEANUP_ATTR struct attr put = ATTR_INIT, got = ATTR_INIT;
    put_text(s, "hello", "hello, world\n", &put);
    CHECK_INT(put.kind, ATTR_FILE);
    CHECK_INT(put.size, 13);
    CHECK(put.version[0] != '\0');
    OK(stat_key(s, "hello", &got));
    CHECK_INT(got.kind, ATTR_FILE);
    CHECK_INT(got.size, 13);
    CHECK_STR(got.version, put.version);
    CHECK(llabs((long long)got.mtime.tv_sec - (long long)clock_wall().tv_sec) < 120);
    check_text(s, "hello", "hello, world\n");
    put_text(s, "deep/er/file", "x", NULL);
    check_text(s, "deep/er/file", "x");
}

static int stop_at(void *arg, size_t so_far)
{
    size_t *calls = arg;
    calls[0]++;
    calls[1] = so_far;
    return calls[2] != 0; /* stop? */
}

static void ranges(struct suite *s)
{
    char buf[64] = "";
    put_text(s, "range", "0123456789", NULL);
    CHECK_INT(read_at(s, "range", NULL, 0, buf, 4), 4);
    CHECK(memcmp(buf, "0123", 4) == 0);
    CHECK_INT(read_at(s, "range", NULL, 3, buf, 4), 4);
    CHECK(memcmp(buf, "3456", 4) == 0);
    CHECK_INT(read_at(s, "range", NULL, 9, buf, 1), 1);
    CHECK(buf[0] == '9');
    CHECK_INT(read_at(s, "range", NULL, 7, buf, 64), 3); /* short only at the end */
    CHECK(memcmp(buf, "789", 3) == 0);
    CHECK_INT(read_at(s, "range", NULL, 10, buf, 64), 0);
    CHECK_INT(read_at(s, "range", NULL, 1000, buf, 64), 0);
    CHECK_INT(read_at(s, "range", NULL, 5, buf, 0), 0);
    FAILS((int)read_at(s, "absent", NULL, 5, buf, 0), ENOENT);
}

static void progress(struct suite *s)
{
    char buf[16] = "";
    size_t calls[3] = {0};
    put_text(s, "progress", "0123456789", NULL);
    struct read_req req = {.key = K(s, "progress"),
                           .iov = {.iov_base = buf, .iov_len = sizeof(buf)},
                           .on_data = stop_at,
                           .on_data_arg = calls};
    struct read_res res = READ_RES_INIT;
    OK(store_read(s->store, &s->op, &req, &res));
    CHECK_INT(res.length, 10);
    CHECK_INT(res.attr.size, 10);
    CHECK(res.attr.version[0]);
    CHECK(calls[0] >= 1);
    CHECK_INT(calls[1], 10);
    read_res_done(&res);
    calls[2] = 1;
    FAILS(store_read(s->store, &s->op, &req, &res), EINTR);
    CHECK(res.length == 0 && res.attr.kind == ATTR_UNSET);
}

static void missing(struct suite *s)
{
    char buf[8];
    check_gone(s, "absent");
    check_gone(s, "absent/below");
    FAILS((int)read_at(s, "absent", NULL, 0, buf, 8), ENOENT);
    int r = store_remove(s->store, &s->op, K(s, "absent"), NULL);
    CHECK(r == 0 || r == -ENOENT); /* S3 does not tell */
    put_text(s, "file", "x", NULL);
    check_gone(s, "file/below");
    put_text(s, "removed", "x", NULL);
    OK(store_remove(s->store, &s->op, K(s, "removed"), NULL));
    check_gone(s, "removed");
}

static void empty_object(struct suite *s)
{
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    char buf[8];
    put_text(s, "empty", "", NULL);
    OK(stat_key(s, "empty", &a));
    CHECK_INT(a.size, 0);
    CHECK_INT(a.kind, ATTR_FILE);
    CHECK_INT(read_at(s, "empty", NULL, 0, buf, 8), 0);
    CHECK_INT(read_at(s, "empty", a.version, 0, buf, 8), 0);
    put_text(s, "empty", "now it has content", NULL);
    check_text(s, "empty", "now it has content");
    put_text(s, "empty", "", NULL);
    check_text(s, "empty", "");
}

static void binary_content(struct suite *s)
{
    unsigned char data[1024], got[2048];
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (unsigned char)(i * 7);
    OK(put_bytes(s, "binary", data, sizeof(data), NULL, NULL, NULL));
    CHECK_INT(read_at(s, "binary", NULL, 0, got, sizeof(got)), sizeof(data));
    CHECK(memcmp(data, got, sizeof(data)) == 0);
}

/* Each content has its own version, also when they follow each other at once and have one size. */
static void versions(struct suite *s)
{
    char versions[30][ATTR_VERSION_MAX], buf[16], text[16];
    for (unsigned i = 0; i < 30; i++) {
        CLEANUP_ATTR struct attr a = ATTR_INIT;
        snprintf(text, sizeof(text), "content %02u", i);
        put_text(s, "version", text, &a);
        memcpy(versions[i], a.version, sizeof(a.version));
        for (unsigned k = 0; k < i; k++)
            CHECK(strcmp(versions[k], versions[i]) != 0);
        if (i > 0)
            FAILS((int)read_at(s, "version", versions[i - 1], 0, buf, 4), ESTALE);
        CHECK_INT(read_at(s, "version", versions[i], 0, buf, sizeof(buf)), 10);
        CHECK(memcmp(buf, text, 10) == 0);
    }
    FAILS((int)read_at(s, "version", versions[0], 0, buf, 0), ESTALE);
    FAILS((int)read_at(s, "version", "nonsense", 0, buf, 4), ESTALE);
    OK(store_remove(s->store, &s->op, K(s, "version"), NULL));
    int r = (int)read_at(s, "version", versions[29], 0, buf, 4);
    CHECK(r == -ENOENT || r == -ESTALE);
}

/* The same bytes, user-set times: overwriting must not hide behind an equal mtime and size. */
static void versions_with_set_times(struct suite *s)
{
    struct attr attr = {
        .kind = ATTR_FILE, .known = ATTR_HAS_MTIME, .mtime = {.tv_sec = 1700000000}};
    CLEANUP_ATTR struct attr a = ATTR_INIT, b = ATTR_INIT;
    if (!has(s, CAP_SET_META))
        return;
    OK(put_bytes(s, "timed", "first", 5, &attr, NULL, &a));
    OK(put_bytes(s, "timed", "other", 5, &attr, NULL, &b));
    CHECK(strcmp(a.version, b.version) != 0);
}

static void keys_that_cannot_be(struct suite *s)
{
    struct store *st = s->store;
    struct attr a = ATTR_INIT;
    char buf[8];
    struct source_mem src = source_mem("x", 1);
    struct put_req put = {.key = "", .src = &src.base};
    struct read_req read = {.key = "", .iov = {.iov_base = buf, .iov_len = 8}};
    struct read_res res = READ_RES_INIT;
    FAILS(store_put(st, &s->op, &put, &a), EISDIR);
    put.key = "dir/";
    FAILS(store_put(st, &s->op, &put, &a), EISDIR);
    FAILS(store_read(st, &s->op, &read, &res), EISDIR);
    FAILS(store_remove_dir(st, &s->op, ""), EBUSY);
    FAILS(store_make_dir(st, &s->op, "", NULL), EEXIST);
    CLEANUP_FREE char *endless = xmalloc(100001);
    memset(endless, 'k', 100000);
    endless[100000] = '\0';
    put.key = endless;
    if (st->limits.key_max)
        FAILS(store_put(st, &s->op, &put, &a), ENAMETOOLONG);
    OK(store_stat(st, &s->op, "", &a)); /* the root is always a directory */
    CHECK_INT(a.kind, ATTR_DIR);
    attr_done(&a);
}

static void cancelled_and_late(struct suite *s)
{
    struct attr a = ATTR_INIT;
    struct op op;
    op_init(&op, "test", 0);
    op_cancel(&op);
    CHECK_INT(store_stat(s->store, &op, "x", &a), -EINTR);
    CHECK_INT(op.err.code, EINTR);
    op_init(&op, "test", 1);
    clock_sleep_ms(3);
    CHECK_INT(store_stat(s->store, &op, "x", &a), -ETIMEDOUT);
    CHECK_INT(op.err.code, ETIMEDOUT);
}

static void big_object(struct suite *s)
{
    const size_t size = 20 * 1024 * 1024 + 12345, step = 1024 * 1024;
    if (s->store->limits.put_max && s->store->limits.put_max < size)
        return;
    struct pattern_source src = pattern_source(size, 7);
    struct put_req put = {.key = K(s, "big"), .src = &src.base};
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    CLEANUP_FREE unsigned char *buf = xmalloc(step);
    OK(store_put(s->store, &s->op, &put, &a));
    CHECK_INT(a.size, size);
    for (size_t off = 0; off < size; off += step) {
        ssize_t n = read_at(s, "big", a.version, off, buf, step);
        CHECK_INT(n, size - off < step ? size - off : step);
        check_pattern(buf, (size_t)n, off, 7);
    }
    for (unsigned i = 0; i < 20; i++) {
        uint64_t off = random_below((uint32_t)size - 5000);
        CHECK_INT(read_at(s, "big", a.version, off, buf, 5000), 5000);
        check_pattern(buf, 5000, off, 7);
    }
}

static void status(struct suite *s)
{
    struct buf text = BUF_INIT;
    OK(store_probe(s->store, &s->op, &text));
    CHECK(text.len > 0);
    buf_done(&text);
    struct store_space space = {0};
    int r = store_space(s->store, &s->op, &space);
    CHECK(r == -ENOTSUP || (r == 0 && space.total > 0 && space.avail <= space.total));
    CHECK(s->store->base_uri && strstr(s->store->base_uri, "://"));
    CHECK_STR(s->store->key, "t");
}

void suite_basic(struct suite *s)
{
    suite_begin(s, "basic");
    whole_objects(s);
    ranges(s);
    progress(s);
    missing(s);
    empty_object(s);
    binary_content(s);
    versions(s);
    versions_with_set_times(s);
    keys_that_cannot_be(s);
    cancelled_and_late(s);
    big_object(s);
    status(s);
}
