/* SPDX-License-Identifier: MIT
 * t_settings.c: [quayfs], [cache], [loader], the list of sections, the file's place. */
#include "base/settings.h"

#include "base/buf.h"
#include "tests/unit/t.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

static struct err err;

static int load(const char *text, struct settings *s)
{
    struct conf *c = NULL;
    err = ERR_INIT;
    CHECK_INT(conf_parse("quayfs.conf", text, &err, &c), 0);
    int r = settings_load(c, &err, s);
    conf_free(c);
    return r;
}

static void refused(const char *text, const char *want)
{
    struct settings s = {0};
    CHECK_INT(load(text, &s), -EINVAL);
    CHECK_STR(err.text, want);
}

static void test_defaults(void)
{
    struct settings s;
    CHECK_INT(load("", &s), 0);
    CHECK(s.default_key == NULL && s.auto_register && !s.strict && s.log_file == NULL);
    CHECK_INT(s.log_level, LOG_LEVEL_INFO);
    CHECK_INT(s.memory_limit, 128 << 20);
    CHECK_INT(s.unmount_wait_ms, 60000);
    CHECK_INT(s.umask, 022);
    CHECK_INT(s.uid, geteuid());
    CHECK_INT(s.cache.max_size, 0);
    CHECK_INT(s.cache.min_free, 1 << 30);
    CHECK_INT(s.cache.block_size, 1 << 20);
    CHECK_INT(s.cache.ttl_ms, 5000);
    CHECK(s.cache.enabled && s.cache.verify);
    CHECK_INT(s.loader.workers, 2);
    CHECK(s.loader.retain_ms == 30ULL * 24 * 3600 * 1000);
    CHECK(s.cache.dir[0] == '/' && s.loader.spool[0] == '/');
    char *want = xasprintf("%s/control.sock", s.cache.dir);
    CHECK_STR(s.control, want);
    free(want);
    settings_done(&s);
    settings_done(&s); /* harmless */
}

static void test_values(void)
{
    struct settings s;
    CHECK_INT(load("[storage]\n"
                   "default_storage_key = lake\n"
                   "auto_register = yes\n"
                   "log_level = debug\n"
                   "umask = 077\n"
                   "uid = 1234\n"
                   "gid = root\n"
                   "memory_limit = 64M\n"
                   "unmount_wait = 2m\n"
                   "[store lake]\n"
                   "anything = is checked elsewhere\n"
                   "[cache]\n"
                   "cache_dir = /c\n"
                   "max_cache_size_mb = 100\n"
                   "ttl_seconds = 0\n"
                   "cache_enabled = false\n"
                   "block_size = 64K\n"
                   "[loader]\n"
                   "spool = /s\nworkers = 4\nretain = 1d\n"
                   "[database dw]\n[scheme minio]\n",
                   &s),
              0);
    CHECK_STR(s.default_key, "lake");
    CHECK(s.auto_register && !s.cache.enabled);
    CHECK_INT(s.log_level, LOG_LEVEL_DEBUG);
    CHECK_INT(s.umask, 077);
    CHECK_INT(s.uid, 1234);
    CHECK_INT(s.gid, 0);
    CHECK_INT(s.cache.max_size, 100 << 20);
    CHECK_INT(s.cache.ttl_ms, 0);
    CHECK_INT(s.cache.block_size, 65536);
    CHECK_STR(s.control, "/c/control.sock");
    CHECK_STR(s.loader.spool, "/s");
    CHECK_INT(s.loader.workers, 4);
    CHECK_INT(s.loader.retain_ms, 86400000);
    settings_done(&s);
    CHECK_INT(load("[cache]\ncache_expiry_hours = 12\n", &s), 0);
    CHECK_INT(s.cache.ttl_ms, 12 * 3600 * 1000);
    settings_done(&s);
}

static void test_errors(void)
{
    refused("\n\n[stor lake]\n",
            "quayfs.conf:3: unknown section [stor lake]: did you mean [store lake]?");
    refused("[cahce]\n", "quayfs.conf:1: unknown section [cahce]: did you mean [cache]?");
    refused("[zzz]\n", "quayfs.conf:1: unknown section [zzz] (there are quayfs, cache, loader, "
                       "store, scheme, database, pipe)");
    refused("[database]\n", "quayfs.conf:1: [database] needs a name: [database NAME]");
    refused("[cache x]\n", "quayfs.conf:1: [cache x]: there is only one, [cache]");
    refused("[cache]\nttl = 5\nttl_seconds = 5\n",
            "quayfs.conf:3: 'ttl_seconds' in [cache]: 'ttl' on line 2 says the same, give one of "
            "them");
    refused("[cache]\nttl_seconds = 5\n\ncache_expiry_hours = 1\n",
            "quayfs.conf:4: 'cache_expiry_hours' in [cache]: 'ttl' on line 2 says the same, give "
            "one of them");
    refused("[cache]\nmax_size = 20GiBB\n", "quayfs.conf:2: 'max_size = 20GiBB' in [cache]: not a "
                                            "size (examples: 512K, 64MiB, 20GiB)");
    refused("[cache]\nblock_size = 100000\n",
            "quayfs.conf:2: 'block_size = 100000' in [cache]: not a power of two from 64K to 16M");
    refused("[quayfs]\numask = 9\n",
            "quayfs.conf:2: 'umask = 9' in [quayfs]: not an octal number up to 777");
    refused("[quayfs]\nuid = no-such-user\n",
            "quayfs.conf:2: 'uid = no-such-user' in [quayfs]: no such user");
    refused("[quayfs]\ngid = no-such-group\n",
            "quayfs.conf:2: 'gid = no-such-group' in [quayfs]: no such group");
    refused("[quayfs]\ndefault_key = x\n",
            "quayfs.conf:2: No storage backend registered for key: 'x' (default_key)");
    refused("[loader]\nworkers = 0\n",
            "quayfs.conf:2: 'workers = 0' in [loader]: not a number from 1 to 64");
}

static void test_database_options(void)
{
    struct conf *c = NULL;
    CHECK_INT(
        conf_parse("f", "[database dw]\ndriver = sqlite\ndsn = /x.db\npassword = p\n", &err, &c),
        0);
    const struct conf_option *table = settings_database_options;
    CHECK_INT(conf_check(c->sections, &table, &settings_n_database_options, 1, &err), 0);
    conf_free(c);
}

static void test_find_file(void)
{
    char dir[] = "/tmp/t_settings.XXXXXX", *path = NULL;
    CHECK(mkdtemp(dir) != NULL);
    CHECK_INT(settings_find_file("given", &err, &path), 0);
    CHECK_STR(path, "given");
    free(path);
    setenv("QUAYFS_CONFIG", "/from/env", 1);
    CHECK_INT(settings_find_file(NULL, &err, &path), 0);
    CHECK_STR(path, "/from/env");
    free(path);
    unsetenv("QUAYFS_CONFIG");
    setenv("HOME", dir, 1);
    setenv("XDG_CONFIG_HOME", dir, 1);
    if (access("/etc/quayfs/quayfs.conf", F_OK) != 0) {
        CHECK_INT(settings_find_file(NULL, &err, &path), -ENOENT);
        CHECK(strstr(err.text, "/quayfs/quayfs.conf, ") && strstr(err.text, "/etc/quayfs"));
    }
    char *sub = xasprintf("%s/quayfs", dir), *file = xasprintf("%s/quayfs.conf", sub);
    CHECK_INT(mkdir(sub, 0700), 0);
    FILE *f = fopen(file, "w");
    CHECK(f && fclose(f) == 0);
    CHECK_INT(settings_find_file("", &err, &path), 0);
    CHECK_STR(path, file);
    CHECK_INT(unlink(file) | rmdir(sub) | rmdir(dir), 0);
    free(path);
    free(sub);
    free(file);
}

int main(void)
{
    RUN(test_defaults);
    RUN(test_values);
    RUN(test_errors);
    RUN(test_database_options);
    RUN(test_find_file);
    return t_done();
}
