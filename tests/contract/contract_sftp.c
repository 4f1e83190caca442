/* SPDX-License-Identifier: MIT
 * contract_sftp.c: the suite over backend = sftp, against the server of QUAY_SFTP_ENDPOINT, with
 * QUAY_SFTP_USER, QUAY_SFTP_KEY, QUAY_SFTP_KNOWN_HOSTS and a directory there, QUAY_SFTP_DIR.
 * Without them it fails: ctest -L contract_sftp is for where there is a server; pytest runs it with
 * sshd. QUAY_SFTP_OPTIONS may add lines to the section. */
#include "tests/contract/suite.h"

#include <sys/stat.h>
#include <sys/un.h>

static char *section(const char *below, const char *more)
{
    const char *options = getenv("QUAY_SFTP_OPTIONS");
    return xasprintf("[store t]\nbackend = sftp\nendpoints = %s\nuser = %s\nkey_file = %s\n"
                     "known_hosts = %s\nbase_path = %s/%s\nagent = no\n%s%s\n",
                     need("QUAY_SFTP_ENDPOINT"), need("QUAY_SFTP_USER"), need("QUAY_SFTP_KEY"),
                     need("QUAY_SFTP_KNOWN_HOSTS"), need("QUAY_SFTP_DIR"), below, more,
                     options ? options : "");
}

static void run_suite(const char *label, const char *below, const char *more)
{
    CLEANUP_FREE char *text = section(below, more);
    suite_over(label, text);
}

/* Without the listings of a thousand objects, for which every one of them is put. */
static void run_most(const char *label, const char *below, const char *more)
{
    CLEANUP_FREE char *text = section(below, more);
    struct suite s;
    suite_init(&s, label, open_store(text, NULL));
    suite_basic(&s);
    suite_conditions(&s);
    suite_meta(&s);
    suite_dirs(&s);
    suite_move(&s);
    suite_patch(&s);
    suite_threads(&s);
    suite_done(&s);
}

static void plain(void)
{
    run_suite("sftp", "made/by the first", "");
}

static void one_connection(void)
{
    run_most("sftp, one connection", "one", "max_connections = 1\nauto_connect = no\n");
}

static void with_trouble(void)
{
    run_most("sftp, fault", "fault",
             "retries = 12\nretry_delay = 1ms\nfault = every=10,errno=EIO,retry=safe\n");
}

static void refusals(void)
{
    CLEANUP_FREE char *text = section("readonly", ""),
                      *ro = section("readonly", "read_only = yes\n");
    suite_read_only("sftp, readonly", text, ro);
}

/* The same second, the same size: what this process writes is kept apart all the same. */
static void one_second(void)
{
    CLEANUP_FREE char *text = section("second", "");
    struct suite suite = {.store = open_store(text, NULL), .label = "sftp, one second"},
                 *s = &suite;
    struct attr at = {.kind = ATTR_FILE, .known = ATTR_HAS_MTIME, .mtime = {.tv_sec = 1500000000}};
    struct attr seen[4] = {ATTR_INIT};
    char buf[8];
    op_init(&s->op, "suite", 0);
    for (unsigned i = 0; i < ARRAY_LEN(seen); i++) {
        char content[4] = {(char)('a' + i), 'x', 'x'};
        OK(put_bytes(s, "same", content, 3, &at, NULL, &seen[i]));
        CHECK_INT(seen[i].mtime.tv_sec, 1500000000);
        for (unsigned k = 0; k < i; k++) {
            CHECK(strcmp(seen[k].version, seen[i].version) != 0);
            FAILS((int)read_at(s, "same", seen[k].version, 0, buf, 8), ESTALE);
        }
        CHECK_INT(read_at(s, "same", seen[i].version, 0, buf, 8), 3);
        CHECK_INT(buf[0], 'a' + (int)i);
    }
    /* A rename over a file that looks the same. */
    OK(put_bytes(s, "other", "new", 3, &at, NULL, NULL));
    OK(store_rename(s->store, &s->op, "other", "same", false));
    FAILS((int)read_at(s, "same", seen[3].version, 0, buf, 8), ESTALE);
    check_text(s, "same", "new");
    OK(store_remove(s->store, &s->op, "same", NULL));
    for (unsigned i = 0; i < ARRAY_LEN(seen); i++)
        attr_done(&seen[i]);
    suite_done(s);
}

/* What others leave in the directory: special files are not shown, temporary files never. */
static void strangers(void)
{
    CLEANUP_FREE char *text = section("strangers", ""),
                      *dir = xasprintf("%s/strangers", need("QUAY_SFTP_DIR")),
                      *fifo = xasprintf("%s/fifo", dir),
                      *temp = xasprintf("%s/.quay-tmp-0123456789abcdef", dir);
    struct suite suite = {.store = open_store(text, NULL), .label = "sftp, strangers"}, *s = &suite;
    struct list_page all = LIST_PAGE_INIT;
    struct attr a = ATTR_INIT;
    op_init(&s->op, "suite", 0);
    put_text(s, "file", "x", NULL);
    CHECK(mkfifo(fifo, 0600) == 0);
    FILE *f = fopen(temp, "we");
    CHECK(f && fclose(f) == 0);
    list_all(s, "", true, 0, &all);
    CHECK_INT(all.count, 1);
    list_page_done(&all);
    FAILS(stat_key(s, "fifo", &a), EACCES);
    FAILS(put_bytes(s, "fifo", "x", 1, NULL, NULL, NULL), EACCES);
    FAILS(stat_key(s, ".quay-tmp-0123456789abcdef", &a), EACCES);
    CHECK(remove(fifo) == 0 && remove(temp) == 0);
    OK(store_remove(s->store, &s->op, "file", NULL));
    suite_done(s);
}

/* A server that offers no extensions: nothing is replaced, since that could not be done in one
 * step. */
static void bare(void)
{
    CLEANUP_FREE char *text = section("bare", "");
    struct suite suite = {.store = open_store(text, NULL), .label = "sftp, bare"}, *s = &suite;
    struct precond absent = {.if_absent = true};
    struct attr link = {.kind = ATTR_SYMLINK}, a = ATTR_INIT;
    struct store_space space;
    op_init(&s->op, "suite", 0);
    OK(put_bytes(s, "file", "content", 7, NULL, NULL, NULL));
    FAILS(put_bytes(s, "file", "again", 5, NULL, NULL, NULL), ENOTSUP);
    FAILS(put_bytes(s, "file", "again", 5, NULL, &absent, NULL), EEXIST);
    check_text(s, "file", "content");
    OK(put_bytes(s, "new", "new", 3, NULL, &absent, NULL));
    OK(put_bytes(s, "link", "file", 4, &link, NULL, NULL));
    OK(stat_key(s, "link", &a));
    CHECK_INT(a.kind, ATTR_SYMLINK);
    attr_done(&a);
    FAILS(store_rename(s->store, &s->op, "new", "file", false), ENOTSUP);
    FAILS(store_rename(s->store, &s->op, "new", "file", true), EEXIST);
    OK(store_rename(s->store, &s->op, "new", "newer", false));
    check_text(s, "newer", "new");
    FAILS(store_space(s->store, &s->op, &space), ENOTSUP);
    struct attr mode = {.known = ATTR_HAS_MODE, .mode = 0600};
    OK(store_set_meta(s->store, &s->op, "file", NULL, &mode, &a));
    CHECK_INT(a.mode, 0600);
    attr_done(&a);
    mode = (struct attr){.known = ATTR_HAS_MTIME, .mtime = {.tv_sec = 1000000000}};
    FAILS(store_set_meta(s->store, &s->op, "link", NULL, &mode, &a), ENOTSUP);
    CLEANUP_FREE char *list = list_text(s, "", false, 0);
    CHECK_STR(list, "file link newer"); /* and no temporary file */
    suite_done(s);
}

int main(void)
{
    if (getenv("QUAY_SFTP_BARE")) {
        RUN(bare);
        return t_done();
    }
    RUN(plain);
    RUN(one_connection);
    RUN(with_trouble);
    RUN(refusals);
    RUN(one_second);
    RUN(strangers);
    return t_done();
}
