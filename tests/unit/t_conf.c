/* SPDX-License-Identifier: MIT
 * t_conf.c: INI text to sections, option tables, overlays, secrets: each error says FILE:LINE. */
#include "base/conf.h"

#include "base/buf.h"
#include "base/log.h"
#include "tests/unit/t.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

static struct err err;

static struct conf *parse(const char *text)
{
    struct conf *c = NULL;
    err = ERR_INIT;
    int r = conf_parse("quayfs.conf", text, &err, &c);
    if (r < 0)
        fprintf(stderr, "%s\n", err.text);
    CHECK_INT(r, 0);
    return c;
}

static void refused(const char *text, const char *want)
{
    struct conf *c = NULL;
    err = ERR_INIT;
    CHECK_INT(conf_parse("quayfs.conf", text, &err, &c), -EINVAL);
    CHECK(c == NULL);
    CHECK_STR(err.text, want);
}

static void test_forms(void)
{
    struct conf *c = parse("\xEF\xBB\xBF# comment\n"
                           "; another\n"
                           "[quayfs]\n"
                           "default_key=lake\r\n"
                           "\n"
                           "[store lake]   ; the lake\n"
                           "bucket =  my bucket \t\n"
                           "url: s3://a#b ; cut here\n"
                           "empty =\n"
                           "many = one\n"
                           "   two ; kept\n"
                           "\n"
                           "# between\n"
                           "\tthree\n"
                           "  [store.gpu]\n"
                           "x = [y]\n"
                           "[storage.old one]\n"
                           "[db.dw]\n"
                           "[database \"other\"]\n"
                           "[cache]\n");
    struct conf_section *s = conf_find(c, "store", "lake");
    CHECK(s != NULL);
    CHECK_INT(s->line, 6);
    CHECK_STR(conf_str(s, "bucket", NULL), "my bucket");
    CHECK_STR(conf_str(s, "url", NULL), "s3://a#b");
    CHECK_STR(conf_str(s, "empty", NULL), "");
    CHECK_STR(conf_str(s, "many", NULL), "one\ntwo ; kept\nthree");
    CHECK_INT(conf_line(s, "many"), 10);
    CHECK_INT(conf_line(s, "absent"), 6);
    CHECK(conf_has(s, "empty") && !conf_has(s, "absent"));
    CHECK_STR(conf_str(conf_find(c, "quayfs", ""), "default_key", ""), "lake");
    CHECK_STR(conf_str(conf_find(c, "store", "gpu"), "x", ""), "[y]");
    CHECK(conf_find(c, "store", "old one") && conf_find(c, "database", "dw"));
    CHECK(conf_find(c, "database", "other") && conf_find(c, "cache", ""));
    CHECK_INT(conf_find(c, "cache", "")->n_pairs, 0);
    size_t n = 0;
    CONF_EACH(c, each)
    n++;
    CHECK_INT(n, 7);
    conf_free(c);
    conf_free(NULL);
}

static void test_syntax_errors(void)
{
    refused("[store a]\nx = 1\n[store a]\n",
            "quayfs.conf:3: Backend key 'a' is already registered. (first on line 1)");
    refused("[cache]\n\n[cache]\n", "quayfs.conf:3: section [cache] is already on line 1");
    refused("[cache]\na = 1\nb = 2\na = 3\n", "quayfs.conf:4: 'a' is already set on line 2");
    refused("a = 1\n", "quayfs.conf:1: 'a' stands before the first [section]");
    refused("[cache]\nnonsense\n[x]\n", "quayfs.conf:2: expected [section] or name = value");
    refused("[cache]\n= 4\n", "quayfs.conf:2: a name is missing before '='");
    refused("[cache\n", "quayfs.conf:1: a section is written [kind] or [kind name]");
    refused("[cache] x\n", "quayfs.conf:1: a section is written [kind] or [kind name]");
    refused("[]\n", "quayfs.conf:1: malformed section name []");
    refused("[store \"a]\n", "quayfs.conf:1: malformed section name [store \"a]");
    refused("[store a@]\n", "quayfs.conf:1: malformed section name [store a@]");
    refused("[store]\n", "quayfs.conf:1: Backend key must be a non-empty string.");
    refused("[store \"\"]\n", "quayfs.conf:1: Backend key must be a non-empty string.");
    refused("[store a/b]\n", "quayfs.conf:1: 'a/b' cannot be a backend key: it has a '/'");
    refused("[store ..]\n", "quayfs.conf:1: '..' cannot be a backend key: names that begin with "
                            "'.' are reserved");
    refused("\n[store .load]\n", "quayfs.conf:2: '.load' cannot be a backend key: names that begin "
                                 "with '.' are reserved");
}

static void test_long_lines(void)
{
    char *big = xmalloc(70001);
    memset(big, 'v', 70000);
    big[70000] = '\0';
    char *text = xasprintf("[a]\nok = %.3000s\n", big);
    struct conf *c = parse(text);
    CHECK_INT(strlen(conf_str(conf_find(c, "a", ""), "ok", "")), 3000);
    conf_free(c);
    free(text);
    text = xasprintf("[a]\nok = 1\nbad = %s\nmore = 1\n", big);
    struct conf *none = NULL;
    CHECK_INT(conf_parse("f", text, &err, &none), -EINVAL);
    CHECK(strncmp(err.text, "f:3: line is longer than ", 25) == 0);
    free(text);
    text = xasprintf("[store %.200s]\nx=1\n", big); /* inih alone would cut it to 49 */
    c = parse(text);
    CHECK_INT(strlen(c->sections->name), 200);
    conf_free(c);
    free(text);
    text = xasprintf("[store %.256s]\nx=1\n", big);
    CHECK_INT(conf_parse("f", text, &err, &none), -EINVAL);
    CHECK_STR(err.text, "f:1: a backend key is longer than 255 bytes");
    free(text);
    free(big);
}

static const struct conf_option options[] = {
    {"bucket", CONF_STRING, NULL, NULL, NULL, "", 0, 0},
    {"bucket_name", CONF_STRING, NULL, NULL, "bucket", "", 0, 0},
    {"max_size", CONF_SIZE, NULL, NULL, NULL, "", 0, 0},
    {"max_cache_size_mb", CONF_MEGABYTES, NULL, NULL, "max_size", "", 0, 0},
    {"ttl", CONF_DURATION, NULL, NULL, NULL, "", 0, 0},
    {"cache_expiry_hours", CONF_HOURS, NULL, NULL, "ttl", "", 0, 0},
    {"write", CONF_ENUM, NULL, "through|back", NULL, "", 0, 0},
    {"workers", CONF_INT, NULL, NULL, NULL, "", 1, 64},
    {"verify", CONF_BOOL, NULL, NULL, NULL, "", 0, 0},
};
static const struct conf_option more_options[] = {
    {"path", CONF_PATH, NULL, NULL, NULL, "", 0, 0},
    {"secret", CONF_SECRET, NULL, NULL, NULL, "", 0, 0},
    {"aws_secret", CONF_SECRET, NULL, NULL, "secret", "", 0, 0},
};

static int check(struct conf *c)
{
    static const struct conf_option *const tables[] = {options, more_options};
    static const size_t counts[] = {9, 3};
    return conf_check(c->sections, tables, counts, 2, &err);
}

static void check_refused(const char *body, const char *want)
{
    char *text = xasprintf("[store lake]\n%s", body);
    struct conf *c = parse(text);
    CHECK_INT(check(c), -EINVAL);
    CHECK_STR(err.text, want);
    conf_free(c);
    free(text);
}

static void test_check_errors(void)
{
    check_refused("bukcet = x\n",
                  "quayfs.conf:2: unknown key 'bukcet' in [store lake]: did you mean 'bucket'?");
    check_refused("bucket = x\nzzzz = 1\n", "quayfs.conf:3: unknown key 'zzzz' in [store lake]");
    check_refused("max_size = 20GiBB\n", "quayfs.conf:2: 'max_size = 20GiBB' in [store lake]: not "
                                         "a size (examples: 512K, 64MiB, 20GiB)");
    check_refused("max_cache_size_mb = 1G\n",
                  "quayfs.conf:2: 'max_cache_size_mb = 1G' in [store lake]: not a number of MiB");
    check_refused("ttl = soon\n", "quayfs.conf:2: 'ttl = soon' in [store lake]: not a duration "
                                  "(examples: 250ms, 30s, 5m, 12h, 7d, 0 = never)");
    check_refused(
        "cache_expiry_hours = 5m\n",
        "quayfs.conf:2: 'cache_expiry_hours = 5m' in [store lake]: not a number of hours");
    check_refused("write = bakc\n", "quayfs.conf:2: 'write = bakc' in [store lake]: not one of "
                                    "through, back: did you mean 'back'?");
    check_refused("workers = 65\n", "quayfs.conf:2: 'workers = 65' in [store lake]: not a number "
                                    "from 1 to 64");
    check_refused("workers = x\n",
                  "quayfs.conf:2: 'workers = x' in [store lake]: not a whole number");
    check_refused("verify = maybe\n",
                  "quayfs.conf:2: 'verify = maybe' in [store lake]: not yes or no");
    check_refused("path =\n", "quayfs.conf:2: 'path = ' in [store lake]: a path is missing");
    check_refused("bucket = a\nverify = yes\nbucket_name = b\n",
                  "quayfs.conf:4: 'bucket_name' in [store lake]: 'bucket' on line 2 says the same, "
                  "give one of them");
    check_refused("secret = a\naws_secret_file = b\n",
                  "quayfs.conf:3: 'aws_secret_file' in [store lake]: 'secret' on line 2 says the "
                  "same, give one of them");
    check_refused("workers_file = 5\n",
                  "quayfs.conf:2: unknown key 'workers_file' in [store lake]");
    check_refused("bucket = x\n  max_size = 5\n",
                  "quayfs.conf:2: 'max_size' is indented below 'bucket', which makes it a part of "
                  "that value: start the line with it");
    check_refused("workers = 5\n  what\n", "quayfs.conf:2: 'workers' has several lines (an "
                                           "indented line continues the one above)");
    check_refused(
        "secret = TOP ;SECRET\n",
        "quayfs.conf:2: 'secret' in [store lake]: has ' ;', which begins a comment: write "
        "it on an indented line below, or into a file named by secret_file");
}

static void test_values(void)
{
    struct conf *c = parse("[store lake]\n"
                           "bucket_name = b\n"
                           "max_cache_size_mb = 3\n"
                           "cache_expiry_hours = 1.5\n"
                           "write = back\n"
                           "workers = 7\n"
                           "verify = off\n"
                           "path = sub/dir\n"
                           "secret =\n"
                           "   pass ;word\n");
    struct conf_section *s = c->sections;
    CHECK_INT(check(c), 0);
    CHECK_INT(check(c), 0); /* again changes nothing */
    CHECK_STR(conf_str(s, "bucket", ""), "b");
    CHECK_INT(conf_size(s, "max_size", 0), 3 << 20);
    CHECK_INT(conf_ms(s, "ttl", 0), 5400000);
    CHECK_STR(conf_str(s, "write", ""), "back");
    CHECK_INT(conf_int(s, "workers", 0), 7);
    CHECK(!conf_bool(s, "verify", true));
    CHECK(conf_bool(s, "absent", true) && conf_size(s, "absent", 5) == 5);
    CHECK_INT(conf_ms(s, "absent", 6), 6);
    CHECK_INT(conf_int(s, "absent", -1), -1);
    char *cwd = getcwd(NULL, 0);
    char *want = xasprintf("%s/sub/dir", cwd);
    CHECK_STR(conf_str(s, "path", ""), want);
    free(want);
    free(cwd);
    char *secret = NULL;
    CHECK_INT(conf_secret(s, "secret", &err, &secret), 0);
    CHECK_STR(secret, "pass ;word");
    secret_free(secret);
    secret_free(NULL);
    CHECK_INT(conf_secret(s, "absent", &err, &secret), -ENOENT);
    CHECK_INT(conf_error(s, "workers", &err, ERANGE, "too %s", "many"), -ERANGE);
    CHECK_STR(err.text, "quayfs.conf:6: too many");
    CHECK_INT(conf_error(s, NULL, &err, EINVAL, "bad"), -EINVAL);
    CHECK_STR(err.text, "quayfs.conf:1: bad");
    conf_free(c);
}

static void test_home(void)
{
    setenv("HOME", "/home/me", 1);
    struct conf *c = parse("[a]\npath = ~/x\n");
    CHECK_INT(check(c), 0);
    CHECK_STR(conf_str(c->sections, "path", ""), "/home/me/x");
    conf_free(c);
    c = parse("[a]\npath = ~\n");
    CHECK_INT(check(c), 0);
    CHECK_STR(conf_str(c->sections, "path", ""), "/home/me");
    conf_free(c);
}

static const char overlays[] = "[store lake]\n"
                               "bucket_name = prod\n"
                               "max_size = 1G\n"
                               "[store lake@dev]\n"
                               "bucket = dev\n"
                               "ttl = 1s\n"
                               "[store lake@test]\n"
                               "bucket = test\n"
                               "[cache@dev]\n"
                               "verify = no\n"
                               "[env.dev.storage.extra]\n"
                               "bucket = e\n";

static void test_overlay(void)
{
    struct conf *c = parse(overlays);
    CHECK_INT(conf_apply_env(c, "dev", &err), 0);
    CHECK_INT(check(c), 0); /* bucket of the overlay wins over bucket_name below */
    CHECK_STR(conf_str(c->sections, "bucket", ""), "dev");
    CHECK_INT(conf_line(c->sections, "bucket"), 5);
    CHECK_INT(conf_size(c->sections, "max_size", 0), 1 << 30);
    CHECK_INT(conf_ms(c->sections, "ttl", 0), 1000);
    CHECK(!conf_bool(conf_find(c, "cache", ""), "verify", true));
    CHECK_STR(conf_str(conf_find(c, "store", "extra"), "bucket", ""), "e");
    conf_free(c);
    c = parse(overlays);
    CHECK_INT(conf_apply_env(c, NULL, &err), 0);
    CHECK_INT(check(c), 0);
    CHECK_STR(conf_str(c->sections, "bucket", ""), "prod");
    CHECK(c->sections->next == NULL);
    conf_free(c);
    c = parse(overlays);
    CHECK_INT(conf_apply_env(c, "dve", &err), -EINVAL);
    CHECK_STR(err.text, "quayfs.conf: no section is for the environment 'dve'");
    conf_free(c);
}

static void test_made(void)
{
    struct conf *c = conf_new("command line");
    struct conf_section *s = conf_add_section(c, "store", "data");
    conf_set(s, "bucket", "a");
    conf_set(s, "bucket", "b");
    conf_set(s, "bucket_name", "c");
    CHECK_INT(check(c), -EINVAL); /* said twice, at one level */
    CHECK_STR(err.text, "command line: 'bucket_name' in [store data]: 'bucket' on line 0 says the "
                        "same, give one of them");
    conf_free(c);
    c = parse("[store lake]\nbucket = file\n");
    conf_set(c->sections, "bucket_name", "option");
    CHECK_INT(check(c), 0);
    CHECK_STR(conf_str(c->sections, "bucket", ""), "option");
    CHECK_INT(c->sections->n_pairs, 1);
    conf_free(c);
}

static void write_file(const char *path, const char *text, size_t n, mode_t mode)
{
    FILE *f = fopen(path, "w");
    CHECK(f != NULL && fwrite(text, 1, n, f) == n && fclose(f) == 0 && chmod(path, mode) == 0);
}

static void test_files(void)
{
    char dir[] = "/tmp/t_conf.XXXXXX", file[64], secret[64];
    struct conf *c = NULL;
    char *value = NULL;
    CHECK(mkdtemp(dir) != NULL);
    snprintf(file, sizeof(file), "%s/q.conf", dir);
    snprintf(secret, sizeof(secret), "%s/pw", dir);
    static const char text[] = "[a]\npath = ./x\naws_secret_file = pw\n";
    write_file(file, text, sizeof(text) - 1, 0600);
    write_file(secret, "s3cret\r\n", 8, 0644);
    CHECK_INT(conf_load(file, &err, &c), 0);
    CHECK_INT(check(c), 0);
    char *want = xasprintf("%s/x", dir);
    CHECK_STR(conf_str(c->sections, "path", ""), want);
    free(want);
    CHECK_INT(conf_secret(c->sections, "secret", &err, &value), 0);
    CHECK_STR(value, "s3cret");
    secret_free(value);
    char *log = log_recent();
    CHECK(strstr(log, "can be read by others") && !strstr(log, "s3cret"));
    free(log);
    write_file(secret, "a\0b", 3, 0600);
    CHECK_INT(conf_secret(c->sections, "secret", &err, &value), -EINVAL);
    CHECK_INT(unlink(secret), 0);
    CHECK_INT(conf_secret(c->sections, "secret", &err, &value), -EINVAL);
    want = xasprintf("%s:3: cannot read '%s': No such file or directory", file, secret);
    CHECK_STR(err.text, want);
    free(want);
    conf_free(c);
    write_file(file, "[a]\nx\0y = 1\n", 12, 0600);
    CHECK_INT(conf_load(file, &err, &c), -EINVAL);
    want = xasprintf("%s:2: a NUL byte", file);
    CHECK_STR(err.text, want);
    free(want);
    CHECK_INT(unlink(file), 0);
    CHECK_INT(conf_load(file, &err, &c), -ENOENT);
    want = xasprintf("cannot read %s: No such file or directory", file);
    CHECK_STR(err.text, want);
    free(want);
    CHECK_INT(conf_load(dir, &err, &c), -EISDIR);
    CHECK_INT(rmdir(dir), 0);
}

int main(void)
{
    log_set_level(LOG_LEVEL_WARN);
    RUN(test_forms);
    RUN(test_syntax_errors);
    RUN(test_long_lines);
    RUN(test_check_errors);
    RUN(test_values);
    RUN(test_home);
    RUN(test_overlay);
    RUN(test_made);
    RUN(test_files);
    return t_done();
}
