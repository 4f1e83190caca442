/* SPDX-License-Identifier: MIT
 * contract_sftp.c: the suite over backend = sftp, against the server of QUAY_SFTP_ENDPOINT, with
 * QUAY_SFTP_USER, QUAY_SFTP_KEY, QUAY_SFTP_KNOWN_HOSTS and a directory there, QUAY_SFTP_DIR.
 * Without them it fails: ctest -L contract_sftp is for where there is a server; pytest runs it with
 * sshd. QUAY_SFTP_OPTIONS may add lines to the section. */
#include "base/crypto.h"
#include "tests/contract/suite.h"

#include <dirent.h>
#include <fcntl.h>
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
    suite_upload(&s);
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

static void make_file(const char *dir, const char *name)
{
    CLEANUP_FREE char *path = xasprintf("%s/%s", dir, name);
    FILE *f = fopen(path, "we");
    CHECK(f && fclose(f) == 0);
}

static bool is_there(const char *dir, const char *name)
{
    CLEANUP_FREE char *path = xasprintf("%s/%s", dir, name);
    return access(path, F_OK) == 0;
}

/* What a killed process left is removed when it is met, and holds no directory; what may be in use is not, and does. */
static void leftovers(void)
{
    CLEANUP_FREE char *text = section("leftovers", ""), *dir = xasprintf("%s/leftovers", need("QUAY_SFTP_DIR")),
                      *below = xasprintf("%s/d", dir);
    struct suite suite = {.store = open_store(text, NULL), .label = "sftp, leftovers"}, *s = &suite;
    static const char stranger[] = ".quay-tmp-0123456789abcdef";
    char left[TEMP_NAME_MAX];
    op_init(&s->op, "suite", 0);
    OK(store_make_dir(s->store, &s->op, "d", NULL));
    left_name(left);
    make_file(dir, left);
    make_file(dir, stranger);
    CLEANUP_FREE char *list = list_text(s, "", false, 0);
    CHECK_STR(list, "d/");
    for (int i = 0; i < 500 && is_there(dir, left); i++)
        (void)op_sleep(&s->op, 20);
    CHECK(!is_there(dir, left) && is_there(dir, stranger));

    make_file(below, left);
    make_file(below, stranger);
    FAILS(store_remove_dir(s->store, &s->op, "d"), ENOTEMPTY);
    CHECK(is_there(below, left)); /* it would not have helped */
    CLEANUP_FREE char *path = xasprintf("%s/%s", below, stranger);
    CHECK(remove(path) == 0);
    OK(store_remove_dir(s->store, &s->op, "d"));
    suite_done(s);
}

/* An upload that is given up while its directory is removed holds it for a moment only. */
static void given_up(void)
{
    CLEANUP_FREE char *text = section("given up", "");
    struct suite suite = {.store = open_store(text, NULL), .label = "sftp, given up"}, *s = &suite;
    struct upload_req req = {.key = "d/f"};
    char *id = NULL;
    op_init(&s->op, "suite", 0);
    OK(store_make_dir(s->store, &s->op, "d", NULL));
    OK(store_upload_begin(s->store, &s->op, &req, &id));
    s->op.deadline_ns = clock_now_ns() + 50 * NS_PER_MS; /* nobody removes it meanwhile */
    int r = store_remove_dir(s->store, &s->op, "d");
    CHECK(r == -ETIMEDOUT || r == -ENOTEMPTY);
    s->op.deadline_ns = 0;
    OK(store_upload_abort(s->store, &s->op, "d/f", id));
    OK(store_remove_dir(s->store, &s->op, "d"));
    free(id);
    suite_done(s);
}

/* An upload of a process that is no more may be taken up by another one: who only meets it leaves it alone. */
static void left_uploads(void)
{
    CLEANUP_FREE char *text = section("left uploads", ""), *dir = xasprintf("%s/left uploads", need("QUAY_SFTP_DIR")),
                      *below = xasprintf("%s/d", dir);
    struct suite suite = {.store = open_store(text, NULL), .label = "sftp, left uploads"}, *s = &suite;
    char plain[TEMP_NAME_MAX], upload[TEMP_NAME_MAX + 2];
    op_init(&s->op, "suite", 0);
    OK(store_make_dir(s->store, &s->op, "d", NULL));
    left_name(plain);
    snprintf(upload, sizeof(upload), TEMP_PREFIX "u-%s", plain + strlen(TEMP_PREFIX));
    make_file(below, plain);
    make_file(below, upload);
    CLEANUP_FREE char *path = xasprintf("%s/%s", below, upload), *list = list_text(s, "", true, 0);
    CHECK_STR(list, "d/"); /* and nothing in it */
    for (int i = 0; i < 500 && is_there(below, plain); i++)
        (void)op_sleep(&s->op, 20);
    CHECK(!is_there(below, plain) && is_there(below, upload));
    FAILS(store_remove_dir(s->store, &s->op, "d"), ENOTEMPTY);
    CHECK(strstr(err_text(&s->op.err), upload) && is_there(below, upload));
    CHECK(truncate(path, 1) == 0);
    struct timespec old[2] = {{.tv_sec = 1000000000}, {.tv_sec = 1000000000}};
    CHECK(utimensat(AT_FDCWD, path, old, 0) == 0);
    FAILS(store_remove_dir(s->store, &s->op, "d"), ENOTEMPTY);
    CHECK(is_there(below, upload)); /* it has something */
    CHECK(truncate(path, 0) == 0 && utimensat(AT_FDCWD, path, old, 0) == 0);
    OK(store_remove_dir(s->store, &s->op, "d"));
    suite_done(s);
}

static int fails_in_the_middle(const struct source *src, uint64_t off, void *buf, size_t len)
{
    if (off >= src->size / 2)
        return -EIO;
    memset(buf, 0, len);
    return 0;
}

/* A part whose bytes a lost connection had on their way is taken again, but not with other bytes. */
static void a_part_that_failed(void)
{
    CLEANUP_FREE char *text = section("torn", "");
    struct suite suite = {.store = open_store(text, NULL), .label = "sftp, a part that failed"}, *s = &suite;
    struct upload_req req = {.key = "f"};
    size_t size = 4 << 20;
    CLEANUP_FREE char *data = xcalloc(1, size);
    struct store_part part = {.number = 1, .size = size};
    struct source_mem src = source_mem(data, size);
    char *id = NULL, buf[8];
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    op_init(&s->op, "suite", 0);
    OK(store_upload_begin(s->store, &s->op, &req, &id));
    struct source_mem half = src;
    half.base.read_at = fails_in_the_middle;
    FAILS(store_upload_part(s->store, &s->op, "f", id, &half.base, &part), EIO);
    OK(store_upload_part(s->store, &s->op, "f", id, &src.base, &part)); /* the same bytes */
    data[100] = 'x';
    FAILS(store_upload_part(s->store, &s->op, "f", id, &src.base, &part), ENOENT);
    OK(store_upload_abort(s->store, &s->op, "f", id));
    free(id);
    OK(store_upload_begin(s->store, &s->op, &req, &id));
    OK(store_upload_part(s->store, &s->op, "f", id, &src.base, &part));
    OK(store_upload_finish(s->store, &s->op, "f", id, &part, 1, NULL, &a));
    CHECK_INT(read_at(s, "f", NULL, 100, buf, 1), 1);
    CHECK_INT(buf[0], 'x');
    free(id);
    suite_done(s);
}

/* So is an end before what a lost connection had on its way, which the server may still write. */
static void an_end_before_a_part_that_failed(void)
{
    CLEANUP_FREE char *text = section("torn end", "");
    struct suite suite = {.store = open_store(text, NULL), .label = "sftp, an end before a part that failed"}, *s = &suite;
    struct upload_req req = {.key = "f"};
    size_t size = 4 << 20;
    CLEANUP_FREE char *data = xcalloc(1, size);
    struct store_part parts[2] = {{.number = 1, .size = size}, {.number = 2, .offset = size, .size = size}};
    struct source_mem src = source_mem(data, size), half = src;
    char *id = NULL;
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    op_init(&s->op, "suite", 0);
    half.base.read_at = fails_in_the_middle;
    OK(store_upload_begin(s->store, &s->op, &req, &id));
    OK(store_upload_part(s->store, &s->op, "f", id, &src.base, &parts[0]));
    FAILS(store_upload_part(s->store, &s->op, "f", id, &half.base, &parts[1]), EIO);
    FAILS(store_upload_finish(s->store, &s->op, "f", id, parts, 1, NULL, &a), ENOENT);
    OK(store_upload_part(s->store, &s->op, "f", id, &src.base, &parts[1]));
    OK(store_upload_finish(s->store, &s->op, "f", id, parts, 2, NULL, &a));
    CHECK_INT(a.size, 2 * size);
    free(id);
    suite_done(s);
}

/* The inode of the temporary file in dir; 0: there is none. */
static ino_t temp_in(const char *dir)
{
    DIR *d = opendir(dir);
    ino_t found = 0;
    CHECK(d != NULL);
    for (const struct dirent *e; (e = readdir(d)) != NULL;)
        if (temp_name_is(e->d_name))
            found = e->d_ino;
    closedir(d);
    return found;
}

static ino_t inode_of(const char *dir, const char *name)
{
    CLEANUP_FREE char *path = xasprintf("%s/%s", dir, name);
    struct stat st;
    return stat(path, &st) == 0 ? st.st_ino : 0;
}

/* Puts files into `below`, one after the other, until the server has another temporary file there. */
static ino_t put_row(struct suite *s, const char *below, const char *dir)
{
    ino_t ahead = 0;
    for (unsigned i = 0; i < 2000 && !ahead; i++) {
        CLEANUP_FREE char *name = xasprintf("%s/row%u", below, i % 10);
        put_text(s, name, name, NULL);
        ahead = temp_in(dir);
    }
    CHECK(ahead != 0);
    return ahead;
}

static void await_no_temp(struct suite *s, const char *dir)
{
    for (int i = 0; i < 500 && temp_in(dir); i++)
        (void)op_sleep(&s->op, 20);
    CHECK(!temp_in(dir));
}

/* Files in a row have the next one's temporary opened ahead: it becomes that file, or goes. */
static void ahead_is_used(struct suite *s, const char *dir)
{
    struct precond old = {.if_match = "1-1"};
    bool used = false;
    for (unsigned i = 0; i < 200 && !used; i++) {
        CLEANUP_FREE char *name = xasprintf("d/next%u", i);
        ino_t ahead = put_row(s, "d", dir);
        put_text(s, name, name, NULL);
        check_text(s, name, name);
        used = inode_of(dir, name + 2) == ahead; /* not where the machine was too slow: it is kept for a moment only */
    }
    CHECK(used);
    await_no_temp(s, dir); /* nobody goes on */
    (void)put_row(s, "d", dir);
    FAILS(put_bytes(s, "d/next0", "x", 1, NULL, &old, NULL), ESTALE);
    check_text(s, "d/next0", "d/next0");
    await_no_temp(s, dir);
}

/* What others do to it meanwhile is seen by nobody. */
static void ahead_is_taken_away(struct suite *s, const char *dir, const char *aside)
{
    struct attr was = ATTR_INIT;
    put_text(s, "d/kept", "kept", &was);
    struct precond same = {.if_match = was.version};
    (void)put_row(s, "d", dir);
    CLEANUP_FREE char *remove_all = xasprintf("rm -f %s/" TEMP_PREFIX "*", dir);
    CHECK_INT(system(remove_all), 0);
    OK(put_bytes(s, "d/kept", "kept", 4, NULL, &same, NULL));
    attr_done(&was);
    (void)put_row(s, "d", dir);
    CHECK(rename(dir, aside) == 0 && mkdir(dir, 0700) == 0);
    put_text(s, "d/new", "new", NULL);
    check_text(s, "d/new", "new");
    CLEANUP_FREE char *clear = xasprintf("rm -r %s", aside);
    CHECK_INT(system(clear), 0);
}

static void in_a_row(void)
{
    CLEANUP_FREE char *text = section("row", "max_connections = 1\n"), *root = xasprintf("%s/row", need("QUAY_SFTP_DIR")),
                      *dir = xasprintf("%s/d", root), *aside = xasprintf("%s/aside", root);
    struct suite suite = {.store = open_store(text, NULL), .label = "sftp, in a row"}, *s = &suite;
    op_init(&s->op, "suite", 0);
    OK(store_make_dir(s->store, &s->op, "d", NULL));
    ahead_is_used(s, dir);
    ahead_is_taken_away(s, dir, aside);
    (void)put_row(s, "d", dir);
    OK(store_rename(s->store, &s->op, "d", "aside", false));
    CHECK(!temp_in(aside));
    (void)put_row(s, "aside", aside);
    suite_done(s);
    CHECK(!temp_in(aside));
}

struct busy {
    struct suite *s;
    bool renamed;
};

static int rename_meanwhile(void *arg, size_t got)
{
    struct busy *b = arg;
    struct op op; /* the suite's is the reader's */
    (void)got;
    op_init(&op, "rename", 0);
    if (!b->renamed)
        CHECK_INT(store_rename(b->s->store, &op, "d", "e", false), 0);
    b->renamed = true;
    return 0;
}

/* What a connection has opened ahead goes, though it is reading while the directory is renamed. */
static void in_a_row_and_busy(void)
{
    CLEANUP_FREE char *text = section("busy", ""), *root = xasprintf("%s/busy", need("QUAY_SFTP_DIR")),
                      *dir = xasprintf("%s/d", root), *moved = xasprintf("%s/e", root);
    struct suite suite = {.store = open_store(text, NULL), .label = "sftp, in a row, busy"}, *s = &suite;
    op_init(&s->op, "suite", 0);
    put_text(s, "file", "content", NULL);
    for (unsigned i = 0; i < 5; i++) {
        char buf[8];
        struct busy busy = {.s = s};
        struct read_req req = {.key = "file",
                               .iov = {.iov_base = buf, .iov_len = 7},
                               .on_data = rename_meanwhile,
                               .on_data_arg = &busy};
        struct read_res res = READ_RES_INIT;
        OK(store_make_dir(s->store, &s->op, "d", NULL));
        (void)put_row(s, "d", dir);
        OK(store_read(s->store, &s->op, &req, &res));
        read_res_done(&res);
        CHECK(busy.renamed);
        await_no_temp(s, moved);
        CLEANUP_FREE char *clear = xasprintf("rm -f %s/row*", moved);
        CHECK_INT(system(clear), 0);
        OK(store_remove_dir(s->store, &s->op, "e"));
    }
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
    crypto_ctr_start();
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
    RUN(leftovers);
    RUN(given_up);
    RUN(left_uploads);
    RUN(a_part_that_failed);
    RUN(an_end_before_a_part_that_failed);
    if (!getenv("QUAY_SFTP_OPTIONS")) {
        RUN(in_a_row);
        RUN(in_a_row_and_busy);
    }
    return t_done();
}
