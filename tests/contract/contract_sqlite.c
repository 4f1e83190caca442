/* SPDX-License-Identifier: MIT
 * contract_sqlite.c: the suite over backend = sqlite, and what is particular to it: its tables, two stores over
 * one file, what an upload leaves that nobody finishes. */
#include "tests/contract/suite.h"

#include "base/sqldb.h"

#define MIB (1024ULL * 1024)

static struct store *open_at(const char *dir, const char *more)
{
    CLEANUP_FREE char *text =
        xasprintf("[store t]\nbackend = sqlite\npath = %s/files.db\n%s", dir, more);
    return open_store(text, NULL);
}

static void begin(struct suite *s, const char *dir, const char *more)
{
    *s = (struct suite){.store = open_at(dir, more), .label = "sqlite"};
    op_init(&s->op, "suite", 0);
}

/* What another program does to the tables; the first column of the last row (-1: none). */
static int64_t behind(const char *dir, const char *sql)
{
    CLEANUP_FREE char *path = xasprintf("%s/files.db", dir);
    struct sqldb *db = NULL;
    struct sqlstmt *st = NULL;
    struct err err = ERR_INIT;
    int64_t n = -1;
    CHECK_INT(sqldb_open(path, SQLDB_WAL_FULL, &err, &db), 0);
    CHECK_INT(sqldb_prepare(db, sql, &err, &st), 0);
    while (sqldb_step(st, &err) == 1)
        n = sqldb_i64(st, 0);
    CHECK_STR(err.text, "");
    sqldb_close(db);
    return n;
}

static void whole_suite(void)
{
    CLEANUP_FREE char *dir = temp_dir();
    struct suite s;
    suite_init(&s, "sqlite", open_at(dir, ""));
    suite_run(&s);
    suite_done(&s);
    CHECK_INT(behind(dir, "SELECT count(*) FROM files"), 0); /* it has removed what it made: */
    CHECK_INT(behind(dir, "SELECT count(*) FROM files_content WHERE state = 1"), 0);
    CHECK_INT(behind(dir, "SELECT count(*) FROM files_chunk WHERE content NOT IN"
                          " (SELECT id FROM files_content)"),
              0);
    CHECK_INT(behind(dir, "SELECT count(*) FROM files_content"), 0); /* and nothing is left staged */
    temp_dir_remove(dir);
}

static void with_trouble(void)
{
    CLEANUP_FREE char *dir = temp_dir();
    struct suite s;
    suite_init(&s, "sqlite, fault",
               open_at(dir, "table = other_table\nretries = 12\nretry_delay = 1ms\n"
                            "fault = every=10,errno=EIO,retry=safe\n"));
    suite_run(&s);
    suite_done(&s);
    temp_dir_remove(dir);
}

static void refused_tables(void)
{
    CLEANUP_FREE char *dir = temp_dir();
    struct suite suite, *s = &suite;
    begin(s, dir, "create_if_missing = no\n");
    check_fails(s, __FILE__, __LINE__, "no file", stat_key(s, "x", &(struct attr){0}), EIO);
    suite_done(s);
    begin(s, dir, "");
    put_text(s, "x", "content", NULL);
    suite_done(s);
    CHECK_INT(behind(dir, "CREATE TABLE mine (path, data)"), -1);
    begin(s, dir, "table = mine\n");
    FAILS(put_bytes(s, "x", "x", 1, NULL, NULL, NULL), EIO);
    CHECK(strstr(s->op.err.text, "was not made by quayfs"));
    suite_done(s);
    begin(s, dir, "table = third\ncreate_if_missing = no\n");
    FAILS(put_bytes(s, "x", "x", 1, NULL, NULL, NULL), EIO);
    suite_done(s);
    CHECK_INT(behind(dir, "UPDATE files_meta SET value = '7'"), -1);
    begin(s, dir, "");
    FAILS(stat_key(s, "x", &(struct attr){0}), EIO);
    CHECK(strstr(s->op.err.text, "version '7'"));
    suite_done(s);
    temp_dir_remove(dir);
}

static void read_only(void)
{
    CLEANUP_FREE char *dir = temp_dir();
    struct suite suite, *s = &suite;
    begin(s, dir, "");
    put_text(s, "object", "content", NULL);
    suite_done(s);
    begin(s, dir, "read_only = yes\n");
    suite_refusals(s, "object", "content");
    suite_done(s);
    temp_dir_remove(dir);
}

/* Two processes would be no different: what they share is the file. */
static void two_stores(void)
{
    CLEANUP_FREE char *dir = temp_dir();
    struct suite one, two, *s = &one;
    CLEANUP_ATTR struct attr a = ATTR_INIT, b = ATTR_INIT;
    begin(&one, dir, "");
    begin(&two, dir, "");
    put_text(&one, "f", "first", &a);
    struct precond match = {.if_match = a.version};
    s = &two;
    OK(put_bytes(s, "f", "second", 6, NULL, &match, &b));
    s = &one;
    FAILS(put_bytes(s, "f", "third", 5, NULL, &match, NULL), ESTALE);
    check_text(s, "f", "second");
    OK(store_copy(s->store, &s->op, "f", NULL, "g", NULL, &(struct attr){0}));
    put_text(&two, "f", "changed", NULL);
    check_text(&one, "g", "second"); /* the copy has its content */
    s = &two;
    OK(store_remove(s->store, &s->op, "g", NULL));
    OK(store_remove(s->store, &s->op, "f", NULL));
    CHECK_INT(behind(dir, "SELECT count(*) FROM files_chunk"), 0);
    suite_done(&one);
    suite_done(&two);
    temp_dir_remove(dir);
}

/* The last reference of a content goes with whoever drops it. */
static void shared_contents(void)
{
    CLEANUP_FREE char *dir = temp_dir();
    struct suite suite, *s = &suite;
    CLEANUP_ATTR struct attr a = ATTR_INIT, b = ATTR_INIT;
    begin(s, dir, "");
    struct pattern_source src = pattern_source(20 * MIB, 1);
    struct put_req put = {.key = "big", .src = &src.base};
    OK(store_put(s->store, &s->op, &put, &a));
    OK(store_copy(s->store, &s->op, "big", a.version, "copy", NULL, &b));
    CHECK_INT(behind(dir, "SELECT count(*) FROM files_chunk"), 20);
    const struct patch_range one = {3 * MIB, 5};
    struct pattern_source new = pattern_source(20 * MIB, 2);
    struct patch_req patch = {
        .key = "big", .src = &new.base, .ranges = &one, .n_ranges = 1, .new_size = 20 * MIB};
    struct attr c = ATTR_INIT;
    OK(store_patch(s->store, &s->op, &patch, &c));
    attr_done(&c);
    CHECK_INT(behind(dir, "SELECT count(*) FROM files_chunk"), 40); /* its own now */
    char buf[8];
    CHECK_INT(read_at(s, "copy", b.version, 3 * MIB, buf, 8), 8);
    check_pattern(buf, 8, 3 * MIB, 1);
    CHECK_INT(read_at(s, "big", NULL, 3 * MIB, buf, 5), 5);
    check_pattern(buf, 5, 3 * MIB, 2);
    OK(store_remove(s->store, &s->op, "big", NULL));
    CHECK_INT(behind(dir, "SELECT count(*) FROM files_chunk"), 20);
    put_text(s, "copy", "small", NULL);
    CHECK_INT(behind(dir, "SELECT count(*) FROM files_chunk"), 1);
    CHECK_INT(behind(dir, "SELECT count(*) FROM files_content"), 1);
    suite_done(s);
    temp_dir_remove(dir);
}

static void damage_is_told(void)
{
    CLEANUP_FREE char *dir = temp_dir();
    struct suite suite, *s = &suite;
    char buf[16];
    begin(s, dir, "");
    put_text(s, "lost", "content", NULL);
    put_text(s, "odd", "content", NULL);
    behind(dir, "DELETE FROM files_chunk WHERE content = (SELECT content FROM files WHERE path = x'6c6f7374')");
    behind(dir, "UPDATE files SET meta = 'no json' WHERE path = x'6f6464'");
    FAILS((int)read_at(s, "lost", NULL, 0, buf, 16), EIO);
    CHECK(strstr(s->op.err.text, "chunks are missing"));
    FAILS(stat_key(s, "odd", &(struct attr){0}), EIO);
    suite_done(s);
    temp_dir_remove(dir);
}

/* What nobody goes on with is removed, by the first change of the next program; what is young stays. */
static void sweeping(void)
{
    CLEANUP_FREE char *dir = temp_dir();
    struct suite suite, *s = &suite;
    struct upload_req old = {.key = "old"}, young = {.key = "young"};
    struct source_mem src = source_mem("x", 1);
    struct store_part part = {.number = 1, .size = 1};
    CLEANUP_FREE char *old_id = NULL, *young_id = NULL;
    begin(s, dir, "");
    OK(store_upload_begin(s->store, &s->op, &old, &old_id));
    OK(store_upload_part(s->store, &s->op, "old", old_id, &src.base, &part));
    suite_done(s);
    behind(dir, "UPDATE files_content SET touched = touched - 25 * 3600000");
    begin(s, dir, "");
    OK(store_upload_begin(s->store, &s->op, &young, &young_id));
    OK(store_upload_part(s->store, &s->op, "young", young_id, &src.base, &part));
    CHECK_INT(behind(dir, "SELECT count(*) FROM files_content"), 1);
    CHECK_INT(behind(dir, "SELECT count(*) FROM files_chunk"), 1);
    FAILS(store_upload_part(s->store, &s->op, "old", old_id, &src.base, &part), ENOENT);
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    OK(store_upload_finish(s->store, &s->op, "young", young_id, &part, 1, NULL, &a));
    check_text(s, "young", "x");
    suite_done(s);
    temp_dir_remove(dir);
}

/* A level whose directories are full: only its entries are told, and pages go on behind them. */
static void full_directories(void)
{
    CLEANUP_FREE char *dir = temp_dir();
    struct suite suite, *s = &suite;
    begin(s, dir, "");
    snprintf(s->prefix, sizeof(s->prefix), "top/");
    put_text(s, "a", "x", NULL);
    behind(dir, "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000)"
                " INSERT INTO files SELECT CAST('top/d' || (i % 3) || '/' || i AS BLOB), 1, 0, 0, 'e' || i, 0,"
                " '{\"kind\":1,\"known\":0}' FROM n");
    put_text(s, "z", "x", NULL);
    for (unsigned max = 0; max < 4; max++) {
        CLEANUP_FREE char *got = list_text(s, "", false, max);
        CHECK_STR(got, "a d0/ d1/ d2/ z");
    }
    suite_done(s);
    temp_dir_remove(dir);
}

int main(void)
{
    RUN(whole_suite);
    RUN(with_trouble);
    RUN(refused_tables);
    RUN(read_only);
    RUN(two_stores);
    RUN(shared_contents);
    RUN(damage_is_told);
    RUN(sweeping);
    RUN(full_directories);
    return t_done();
}
