/* SPDX-License-Identifier: MIT
 * contract_local.c: the suite over backend = local, with openat2 and without, and what only a real
 * directory can do: symbolic links that lead out, special files, other programs, a full disk. */
#include "tests/contract/suite.h"

#include "base/sys.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static char *dir; /* of the current test */

static struct store *open_dir(const char *more)
{
    CLEANUP_FREE char *text =
        xasprintf("[store t]\nbackend = local\nbase_path = %s/store\nretries = 0\n%s", dir, more);
    return open_store(text, NULL);
}

static char *real(const char *name)
{
    return xasprintf("%s/store/%s", dir, name);
}

static void write_real(const char *name, const char *text)
{
    CLEANUP_FREE char *path = real(name);
    CLEANUP_FILE FILE *f = fopen(path, "w");
    CHECK(f && fputs(text, f) >= 0);
}

static bool is_there(const char *name)
{
    CLEANUP_FREE char *path = real(name);
    return access(path, F_OK) == 0;
}

/* A store without the suite's run directory around the names. */
static struct suite begin_plain(const char *more)
{
    struct suite s = {.store = open_dir(more), .label = "local"};
    op_init(&s.op, "suite", 0);
    return s;
}

static void whole_suite(void)
{
    struct suite s;
    suite_init(&s, "local", open_dir(""));
    suite_run(&s);
    suite_done(&s);
    suite_init(&s, "local without openat2", open_dir("use_openat2 = no\n"));
    suite_run(&s);
    suite_done(&s);
}

static void nothing_leads_out(const char *more)
{
    struct suite suite = begin_plain(more), *s = &suite;
    CLEANUP_FREE char *out = real("out"), *up = real("up"), *secret = xasprintf("%s/secret", dir);
    char buf[64];
    CHECK(mkdir(secret, 0700) == 0);
    CHECK(symlink(secret, out) == 0 && symlink("..", up) == 0);
    CLEANUP_FREE char *file = xasprintf("%s/file", secret);
    CLEANUP_FILE FILE *f = fopen(file, "w");
    CHECK(f && fputs("secret", f) >= 0 && fflush(f) == 0);

    static const char *const keys[] = {"out/file", "up/secret/file", "up/store/out/file"};
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        struct attr a = ATTR_INIT;
        FAILS((int)read_at(s, keys[i], NULL, 0, buf, sizeof(buf)), EACCES);
        FAILS(stat_key(s, keys[i], &a), EACCES);
        FAILS(put_bytes(s, keys[i], "x", 1, NULL, NULL, NULL), EACCES);
        FAILS(store_remove(s->store, &s->op, keys[i], NULL), EACCES);
        FAILS(store_make_dir(s->store, &s->op, keys[i], NULL), EACCES);
    }
    struct list_page page = LIST_PAGE_INIT;
    struct list_query q = {.prefix = "out/"};
    FAILS(store_list(s->store, &s->op, &q, &page), EACCES);
    CLEANUP_FREE char *flat = list_text(s, "", true, 0);
    CHECK_STR(flat, "out up"); /* the links themselves, nothing behind them */
    check_text(s, "out", secret);
    put_text(s, "x", "content", NULL);
    FAILS(store_rename(s->store, &s->op, "x", "out/x", false), EACCES);
    put_text(s, "out", "a file now", NULL); /* replaces the link, not what it points at */
    check_text(s, "out", "a file now");
    CHECK(access(file, F_OK) == 0);
    suite_done(s);
}

static void links(void)
{
    nothing_leads_out("");
    temp_dir_remove(dir);
    CHECK(mkdir(dir, 0700) == 0);
    nothing_leads_out("use_openat2 = no\n");
}

static void special_files(void)
{
    struct suite suite = begin_plain(""), *s = &suite;
    CLEANUP_FREE char *fifo = real("fifo");
    struct attr a = ATTR_INIT;
    char buf[8];
    CHECK(mkfifo(fifo, 0600) == 0);
    put_text(s, "file", "x", NULL);
    CLEANUP_FREE char *list = list_text(s, "", false, 0);
    CHECK_STR(list, "file");
    FAILS(stat_key(s, "fifo", &a), EACCES);
    FAILS((int)read_at(s, "fifo", NULL, 0, buf, 8), EACCES); /* and does not wait for a writer */
    FAILS(put_bytes(s, "fifo", "x", 1, NULL, NULL, NULL), EACCES);
    CHECK(is_there("fifo"));
    suite_done(s);
}

static void temporary_files(void)
{
    struct suite suite = begin_plain(""), *s = &suite;
    struct attr a = ATTR_INIT;
    OK(store_make_dir(s->store, &s->op, "d", NULL));
    write_real(".quay-tmp-0123456789abcdef", "of a crashed process");
    write_real("d/.quay-tmp-0123456789abcdef", "of a crashed process");
    CLEANUP_FREE char *list = list_text(s, "", true, 0);
    CHECK_STR(list, "d/");
    CHECK(is_there(".quay-tmp-0123456789abcdef")); /* it may be in use */
    char left[TEMP_NAME_MAX];
    left_name(left);
    CLEANUP_FREE char *below = xasprintf("d/%s", left);
    write_real(left, "of a killed process of this machine");
    write_real(below, "and another");
    CLEANUP_FREE char *shown = list_text(s, "", false, 0);
    CHECK_STR(shown, "d/");
    CHECK(!is_there(left) && is_there(below)); /* nobody has it: at once */
    FAILS(stat_key(s, ".quay-tmp-0123456789abcdef", &a), EACCES);
    FAILS(put_bytes(s, "d/.quay-tmp-x", "x", 1, NULL, NULL, NULL), EACCES);
    FAILS(store_remove_dir(s->store, &s->op, "d"), ENOTEMPTY);
    CHECK(!is_there(below));

    struct timespec later = clock_wall();
    later.tv_sec += 2 * 24 * 3600;
    clock_set_wall_for_test(&later);
    CLEANUP_FREE char *again = list_text(s, "", false, 0);
    CHECK_STR(again, "d/");
    CHECK(!is_there(".quay-tmp-0123456789abcdef"));
    OK(store_remove_dir(s->store, &s->op, "d"));
    clock_set_wall_for_test(NULL);
    suite_done(s);
}

/* What other programs do to the files makes new versions, even if they hide it. */
static void other_programs(void)
{
    struct suite suite = begin_plain(""), *s = &suite;
    CLEANUP_ATTR struct attr a = ATTR_INIT, b = ATTR_INIT, c = ATTR_INIT;
    char buf[16];
    put_text(s, "f", "content", &a);
    write_real("f", "CONTENT"); /* in place, same size */
    CLEANUP_FREE char *path = real("f");
    struct timespec times[2] = {a.atime, a.mtime};
    CHECK(utimensat(AT_FDCWD, path, times, 0) == 0); /* and the old time, as rsync -t does */
    FAILS((int)read_at(s, "f", a.version, 0, buf, 16), ESTALE);
    struct precond match = {.if_match = a.version};
    FAILS(put_bytes(s, "f", "mine", 4, NULL, &match, NULL), ESTALE);
    OK(stat_key(s, "f", &b));
    CHECK_INT(read_at(s, "f", b.version, 0, buf, 16), 7);

    CHECK(chmod(path, 0640) == 0); /* not ours: the safe side */
    FAILS((int)read_at(s, "f", b.version, 0, buf, 16), ESTALE);
    OK(stat_key(s, "f", &c));
    CHECK_INT(c.mode, 0640);

    CLEANUP_FREE char *other = real("g");
    CHECK(link(path, other) == 0); /* two names of one file: rename(2) would leave both */
    OK(store_rename(s->store, &s->op, "f", "g", false));
    check_gone(s, "f");
    check_text(s, "g", "CONTENT");
    suite_done(s);
}

static void check_no_temp(struct suite *s)
{
    CLEANUP_FREE char *path = real("");
    DIR *d = opendir(path);
    CHECK(d != NULL);
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        CHECK(strncmp(e->d_name, ".quay-tmp", 9) != 0);
    closedir(d);
    CLEANUP_FREE char *list = list_text(s, "", false, 0);
    CHECK_STR(list, "f");
}

static void broken_disk(void)
{
    static const struct {
        const char *fault;
        int code;
    } cases[] = {{"pwrite:28@1", ENOSPC},   {"pwrite:122@2", ENOSPC}, {"fsync:5@1", EIO},
                 {"renameat:28@1", ENOSPC}, {"openat:30@1", EROFS},   {"openat:24@1", EIO}};
    struct suite suite = begin_plain(""), *s = &suite;
    CLEANUP_FREE char *data = xcalloc(1, 3000000);
    put_text(s, "f", "as before", NULL);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        CHECK(sys_set_faults(cases[i].fault, NULL));
        int r = put_bytes(s, "f", data, 3000000, NULL, NULL, NULL);
        CHECK(sys_set_faults(NULL, NULL));
        FAILS(r, cases[i].code);
        check_text(s, "f", "as before");
        check_no_temp(s);
    }
    /* The name is in place, but the directory cannot be made durable: nobody knows. */
    CHECK(sys_set_faults("fsync:5@2", NULL));
    int r = put_bytes(s, "f", "new", 3, NULL, NULL, NULL);
    CHECK(sys_set_faults(NULL, NULL));
    FAILS(r, EIO);
    CHECK_INT(s->op.err.retry, ERR_RETRY_UNKNOWN);
    check_no_temp(s);
    suite_done(s);
}

/* The kernel refuses O_NOATIME for files of others: they are read without it. */
static void files_of_others(void)
{
    struct suite suite = begin_plain(""), *s = &suite;
    CLEANUP_ATTR struct attr copy = ATTR_INIT;
    put_text(s, "f", "theirs", NULL);
    CHECK(sys_set_faults("openat:1@2", NULL));
    check_text(s, "f", "theirs");
    CHECK(sys_set_faults("openat:1@2", NULL));
    CLEANUP_FREE char *list = list_text(s, "", false, 0);
    CHECK_STR(list, "f");
    CHECK(sys_set_faults("openat:1@3", NULL));
    OK(store_copy(s->store, &s->op, "f", NULL, "g", NULL, &copy));
    CHECK(sys_set_faults(NULL, NULL));
    check_text(s, "g", "theirs");
    suite_done(s);
}

static void check_open_error(const char *text, const char *want)
{
    struct err err = ERR_INIT;
    struct conf *c = NULL;
    struct store *store = NULL;
    CHECK_INT(conf_parse("t.conf", text, &err, &c), 0);
    CHECK(registry_open(c, conf_find(c, "store", "t"), NULL, &err, &store) < 0);
    CHECK(!store);
    if (!strstr(err_text(&err), want))
        CHECK_STR(err_text(&err), want);
    conf_free(c);
}

static void opening(void)
{
    CLEANUP_FREE char *no = xasprintf(
        "[store t]\nbackend = local\nbase_path = %s/absent\ncreate_if_missing = no\n", dir);
    check_open_error(no, "t.conf:3: the directory ");
    check_open_error(no, "absent does not exist");
    CLEANUP_FREE char *readonly =
        xasprintf("[store t]\nbackend = local\nbase_path = %s/absent\nread_only = yes\n", dir);
    check_open_error(readonly, "does not exist");
    CLEANUP_FREE char *file = xasprintf("[store t]\nbackend = local\nbase_path = /dev/null/x\n");
    check_open_error(file, "/dev/null/x");

    CLEANUP_FREE char *target = xasprintf("%s/target", dir), *link = xasprintf("%s/link", dir);
    CHECK(mkdir(target, 0700) == 0 && symlink(target, link) == 0);
    CLEANUP_FREE char *linked = xasprintf("[store t]\nuri = file://%s/link/\n", dir);
    struct suite suite = {.store = open_store(linked, NULL), .label = "linked"}, *s = &suite;
    op_init(&s->op, "suite", 0);
    put_text(s, "f", "x", NULL); /* a base_path that is a link is the user's choice */
    CLEANUP_FREE char *uri = xasprintf("file://%s", link);
    CHECK_STR(s->store->base_uri, uri);
    suite_done(s);
    CLEANUP_FREE char *deep = xasprintf("[store t]\nbackend = file\npath = %s/a/b/c\n", dir);
    store_close(open_store(deep, NULL)); /* made */
    CLEANUP_FREE char *made = xasprintf("%s/a/b/c", dir);
    CHECK(access(made, F_OK) == 0);
}

static void deep_directories(void)
{
    struct suite suite = begin_plain(""), *s = &suite;
    char key[4096] = "";
    for (unsigned i = 0; i < 300; i++) {
        size_t n = strlen(key);
        snprintf(key + n, sizeof(key) - n, "%sd%u", n ? "/" : "", i);
        OK(store_make_dir(s->store, &s->op, key, NULL));
    }
    struct list_page all = LIST_PAGE_INIT;
    list_all(s, "", true, 7, &all);
    CHECK_INT(all.count, 300);
    list_page_done(&all);
    memset(key, 'k', sizeof(key) - 1);
    FAILS(store_make_dir(s->store, &s->op, key, NULL), ENAMETOOLONG);
    suite_done(s);
}

static void run(void (*test)(void))
{
    dir = temp_dir();
    test();
    temp_dir_remove(dir);
    free(dir);
    t_passed++;
}

int main(void)
{
    run(whole_suite);
    run(links);
    run(special_files);
    run(temporary_files);
    run(other_programs);
    run(broken_disk);
    run(files_of_others);
    run(opening);
    run(deep_directories);
    return t_done();
}
