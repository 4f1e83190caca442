/* SPDX-License-Identifier: MIT
 * settings.c: [quayfs], [cache] and [loader] typed, and the list of sections that may exist.
 * Invariants: (1) the option tables hold every accepted name; the code below reads canonical names
 * only; (2) settings_done works on what settings_load left half-built; (3) getenv is for defaults.
 */
#include "base/settings.h"

#include "base/buf.h"
#include "base/cleanup.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define KIB 1024ULL
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)
#define DAY_MS (24ULL * 3600 * 1000)

static const struct {
    const char *kind;
    bool named;
} kinds[] = {{"quayfs", false}, {"cache", false},   {"loader", false}, {"store", true},
             {"scheme", true},  {"database", true}, {"pipe", true}};

static const struct conf_option quayfs_options[] = {
    {"default_key", CONF_STRING, NULL, NULL, NULL, "store used where a path names none", 0, 0},
    {"default_storage_key", CONF_STRING, NULL, NULL, "default_key", NULL, 0, 0},
    {"auto_register", CONF_BOOL, "yes", NULL, NULL, "no: keys appear only after `quayctl add`", 0,
     0},
    {"environment", CONF_STRING, NULL, NULL, NULL,
     "overlay sections [store KEY@NAME] that count, without --env and $QUAYFS_ENV", 0, 0},
    {"log_level", CONF_ENUM, "info", "error|warn|warning|info|debug", NULL, "how much to log", 0,
     0},
    {"log_file", CONF_PATH, NULL, NULL, NULL, "log here instead of stderr or syslog", 0, 0},
    {"memory_limit", CONF_SIZE, "128M", NULL, NULL, "memory for reading ahead and writing", 0, 0},
    {"umask", CONF_STRING, "022", NULL, NULL, "octal, for objects without a stored mode", 0, 0},
    {"uid", CONF_STRING, NULL, NULL, NULL, "owner of all files: a number or a user name", 0, 0},
    {"gid", CONF_STRING, NULL, NULL, NULL, "group of all files: a number or a group name", 0, 0},
    {"control", CONF_PATH, NULL, NULL, NULL, "control socket; default CACHE_DIR/control.sock", 0,
     0},
    {"passthrough", CONF_ENUM, "auto", "auto|no", NULL,
     "auto: the kernel reads whole cached files by itself where it can", 0, 0},
    {"strict", CONF_BOOL, "no", NULL, NULL, "yes: a failing store stops the mount", 0, 0},
    {"unmount_wait", CONF_DURATION, "1m", NULL, NULL,
     "how long an unmount waits for a silent store, and stores what is staged; the rest stays staged; 0 = for ever", 0, 0},
    {"metrics_listen", CONF_STRING, NULL, NULL, NULL, "refused in this version: read .quay/metrics", 0,
     0},
};

static const struct conf_option cache_options[] = {
    {"dir", CONF_PATH, NULL, NULL, NULL, "where blocks and staged writes are kept", 0, 0},
    {"cache_dir", CONF_PATH, NULL, NULL, "dir", NULL, 0, 0},
    {"max_size", CONF_SIZE, "0", NULL, NULL, "limit of the cache; 0 = only min_free", 0, 0},
    {"max_cache_size", CONF_SIZE, NULL, NULL, "max_size", NULL, 0, 0},
    {"max_cache_size_mb", CONF_MEGABYTES, NULL, NULL, "max_size", NULL, 0, 0},
    {"min_free", CONF_SIZE, "1G", NULL, NULL, "keep this much of the disk free", 0, 0},
    {"block_size", CONF_SIZE, "1M", NULL, NULL, "power of two, 64K to 16M", 0, 0},
    {"ttl", CONF_DURATION, "5s", NULL, NULL, "life of attributes and listings; 0 = for ever", 0, 0},
    {"ttl_seconds", CONF_DURATION, NULL, NULL, "ttl", NULL, 0, 0},
    {"pin_check", CONF_DURATION, "1m", NULL, NULL,
     "how often pinned paths are compared with the store; 0 = when they are opened", 0, 0},
    {"cache_expiry_hours", CONF_HOURS, NULL, NULL, "ttl", NULL, 0, 0},
    {"enabled", CONF_BOOL, "yes", NULL, NULL, "no: only staged writes are kept on disk", 0, 0},
    {"cache_enabled", CONF_BOOL, NULL, NULL, "enabled", NULL, 0, 0},
    {"verify", CONF_BOOL, "yes", NULL, NULL, "check blocks read first after a start", 0, 0},
};

static const struct conf_option loader_options[] = {
    {"spool", CONF_PATH, NULL, NULL, NULL, "directory of jobs and their results", 0, 0},
    {"workers", CONF_INT, "2", NULL, NULL, "jobs at once", 1, 64},
    {"memory", CONF_SIZE, NULL, NULL, NULL, "refused in this version", 0, 0},
    {"allow", CONF_STRING, NULL, NULL, NULL, "databases, tables, paths and modes of jobs", 0, 0},
    {"retain", CONF_DURATION, "30d", NULL, NULL, "keep finished runs; 0 = for ever", 0, 0},
    {"mount", CONF_PATH, NULL, NULL, NULL, "mount through which memory keys are read", 0, 0},
    {"queue", CONF_STRING, "local", NULL, NULL, "only local in this version", 0, 0},
};

const struct conf_option settings_database_options[] = {
    {"driver", CONF_ENUM, NULL, "sqlite|sqlite3|postgres|postgresql|pg", NULL,
     "what speaks to it; default by the dsn", 0, 0},
    {"dsn", CONF_SECRET, NULL, NULL, NULL, "file, connection string or URI, as the driver has it",
     0, 0},
    {"path", CONF_PATH, NULL, NULL, NULL, "the database's file (sqlite, duckdb)", 0, 0},
    {"host", CONF_STRING, NULL, NULL, NULL, "server or socket directory", 0, 0},
    {"port", CONF_INT, NULL, NULL, NULL, "server's port", 1, 65535},
    {"dbname", CONF_STRING, NULL, NULL, NULL, "database on the server", 0, 0},
    {"user", CONF_STRING, NULL, NULL, NULL, "account", 0, 0},
    {"username", CONF_STRING, NULL, NULL, "user", NULL, 0, 0},
    {"password", CONF_SECRET, NULL, NULL, NULL, "its password; or password_file", 0, 0},
    {"schema", CONF_STRING, NULL, NULL, NULL, "schema of tables named without one", 0, 0},
    {"init", CONF_STRING, NULL, NULL, NULL, "SQL run after connecting", 0, 0},
    {"connect_timeout", CONF_DURATION, "10s", NULL, NULL, "give up connecting after", 0, 0},
    {"statement_timeout", CONF_DURATION, "0", NULL, NULL, "give up a statement after", 0, 0},
};
const size_t settings_n_database_options = ARRAY_LEN(settings_database_options);

/* What a [store] section may say to the cache and the mount; read by cache/policy.c. */
const struct conf_option settings_store_options[] = {
    {"cache.enabled", CONF_BOOL, NULL, NULL, NULL, "no: no blocks of this store on disk", 0, 0},
    {"cache_enabled", CONF_BOOL, NULL, NULL, "cache.enabled", NULL, 0, 0},
    {"cache.ttl", CONF_DURATION, NULL, NULL, NULL,
     "life of its attributes and listings; 0 = for ever", 0, 0},
    {"ttl_seconds", CONF_DURATION, NULL, NULL, "cache.ttl", NULL, 0, 0},
    {"cache_expiry_hours", CONF_HOURS, NULL, NULL, "cache.ttl", NULL, 0, 0},
    {"revalidate", CONF_ENUM, NULL, "open|ttl", NULL,
     "open: ask for the version at every open; ttl: trust what is younger than the ttl", 0, 0},
    {"write", CONF_ENUM, "through", "through|back", NULL,
     "through: close() returns when the store has the bytes; back: when they are safe on disk", 0,
     0},
    {"offline", CONF_ENUM, "fail", "fail|serve", NULL,
     "serve: names and attributes last known, while the store is away", 0, 0},
    {"file_mode", CONF_STRING, NULL, NULL, NULL, "octal, of objects without a stored mode", 0, 0},
    {"dir_mode", CONF_STRING, NULL, NULL, NULL, "octal, of directories without a stored mode", 0,
     0},
    {"umask", CONF_STRING, NULL, NULL, NULL, "octal, taken from both", 0, 0},
    {"uid", CONF_STRING, NULL, NULL, NULL, "owner of objects without one: number or name", 0, 0},
    {"gid", CONF_STRING, NULL, NULL, NULL, "group of objects without one: number or name", 0, 0},
};
const size_t settings_n_store_options = ARRAY_LEN(settings_store_options);

static char *first_readable(char **candidates, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (candidates[i] && access(candidates[i], F_OK) == 0)
            return xstrdup(candidates[i]);
    return NULL;
}

int settings_find_file(const char *arg, struct err *err, char **ret_path)
{
    const char *given = arg && *arg ? arg : getenv("QUAYFS_CONFIG");
    if (given && *given) {
        *ret_path = xstrdup(given);
        return 0;
    }
    CLEANUP_FREE char *home = conf_home();
    CLEANUP_FREE char *from_xdg = NULL;
    const char *xdg = getenv("XDG_CONFIG_HOME");
    if (xdg && xdg[0] == '/')
        from_xdg = xasprintf("%s/quayfs/quayfs.conf", xdg);
    CLEANUP_FREE char *from_home = xasprintf("%s/.config/quayfs/quayfs.conf", home);
    char etc[] = "/etc/quayfs/quayfs.conf";
    char *candidates[] = {from_xdg, from_home, etc};
    char *found = first_readable(candidates, ARRAY_LEN(candidates));
    if (!found)
        return err_set(err, ENOENT, "no configuration: none of %s%s%s and %s exists (see -c)",
                       from_xdg ? from_xdg : "", from_xdg ? ", " : "", from_home, etc);
    *ret_path = found;
    return 0;
}

const char *settings_environment(const struct conf *c, const char *arg)
{
    const struct conf_section *s = conf_find(c, "quayfs", "");
    const char *env = arg && *arg ? arg : getenv("QUAYFS_ENV");
    return env && *env ? env : s ? conf_str(s, "environment", NULL) : NULL;
}

static int unknown_section(const struct conf_section *s, struct err *err)
{
    const char *names[ARRAY_LEN(kinds)];
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        names[i] = kinds[i].kind;
    const char *near = nearest_name(s->kind, names, ARRAY_LEN(names));
    const char *gap = *s->name ? " " : "";
    if (near)
        return conf_error(s, NULL, err, EINVAL, "unknown section [%s%s%s]: did you mean [%s%s%s]?",
                          s->kind, gap, s->name, near, gap, s->name);
    return conf_error(s, NULL, err, EINVAL,
                      "unknown section [%s%s%s] (there are quayfs, cache, loader, store, scheme, "
                      "database, pipe)",
                      s->kind, gap, s->name);
}

static int check_kind(const struct conf_section *s, struct err *err)
{
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        if (strcmp(s->kind, kinds[i].kind) != 0)
            continue;
        if (kinds[i].named && !*s->name)
            return conf_error(s, NULL, err, EINVAL, "[%s] needs a name: [%s NAME]", s->kind,
                              s->kind);
        if (!kinds[i].named && *s->name)
            return conf_error(s, NULL, err, EINVAL, "[%s %s]: there is only one, [%s]", s->kind,
                              s->name, s->kind);
        return 0;
    }
    return unknown_section(s, err);
}

/* Checks the section of `kind`, or gives an empty one that stands for it. */
static int get_section(struct conf *c, const char *kind, const struct conf_option *options,
                       size_t n, struct err *err, struct conf_section **ret)
{
    struct conf_section *s = conf_find(c, kind, "");
    if (!s)
        s = conf_add_section(c, kind, "");
    *ret = s;
    return conf_check(s, &options, &n, 1, err);
}

static char *copy_str(const struct conf_section *s, const char *name)
{
    const char *v = conf_str(s, name, NULL);
    return v ? xstrdup(v) : NULL;
}

/* root's own place, or $XDG/quayfs, or ~/REST/quayfs */
static char *default_dir(const char *root, const char *variable, const char *rest, const char *tail)
{
    if (geteuid() == 0)
        return xasprintf("%s%s", root, tail);
    const char *xdg = getenv(variable);
    if (xdg && xdg[0] == '/')
        return xasprintf("%s/quayfs%s", xdg, tail);
    CLEANUP_FREE char *home = conf_home();
    return xasprintf("%s/%s/quayfs%s", home, rest, tail);
}

static int get_umask(const struct conf_section *s, struct err *err, mode_t *ret)
{
    const char *text = conf_str(s, "umask", "022");
    char *end;
    unsigned long v = strtoul(text, &end, 8);
    if (!*text || *end || v > 0777 || strspn(text, "01234567") != strlen(text))
        return conf_error(s, "umask", err, EINVAL,
                          "'umask = %s' in [quayfs]: not an octal number up to 777", text);
    *ret = (mode_t)v;
    return 0;
}

static int get_uid(const struct conf_section *s, struct err *err, uid_t *ret)
{
    const char *text = conf_str(s, "uid", NULL);
    int64_t v;
    *ret = geteuid();
    if (!text)
        return 0;
    if (parse_int(text, &v) && v >= 0 && v < UINT32_MAX) {
        *ret = (uid_t)v;
        return 0;
    }
    struct passwd entry, *found = NULL;
    CLEANUP_FREE char *space = xmalloc(16384);
    if (getpwnam_r(text, &entry, space, 16384, &found) != 0 || !found)
        return conf_error(s, "uid", err, EINVAL, "'uid = %s' in [quayfs]: no such user", text);
    *ret = found->pw_uid;
    return 0;
}

static int get_gid(const struct conf_section *s, struct err *err, gid_t *ret)
{
    const char *text = conf_str(s, "gid", NULL);
    int64_t v;
    *ret = getegid();
    if (!text)
        return 0;
    if (parse_int(text, &v) && v >= 0 && v < UINT32_MAX) {
        *ret = (gid_t)v;
        return 0;
    }
    struct group entry, *found = NULL;
    CLEANUP_FREE char *space = xmalloc(65536);
    if (getgrnam_r(text, &entry, space, 65536, &found) != 0 || !found)
        return conf_error(s, "gid", err, EINVAL, "'gid = %s' in [quayfs]: no such group", text);
    *ret = found->gr_gid;
    return 0;
}

static int load_cache(struct conf *c, struct err *err, struct cache_settings *ret)
{
    struct conf_section *s;
    int r = get_section(c, "cache", cache_options, ARRAY_LEN(cache_options), err, &s);
    if (r < 0)
        return r;
    ret->dir = copy_str(s, "dir");
    if (!ret->dir)
        ret->dir = default_dir("/var/cache/quayfs", "XDG_CACHE_HOME", ".cache", "");
    ret->max_size = conf_size(s, "max_size", 0);
    ret->min_free = conf_size(s, "min_free", GIB);
    ret->block_size = conf_size(s, "block_size", MIB);
    ret->ttl_ms = conf_ms(s, "ttl", 5000);
    ret->pin_check_ms = conf_ms(s, "pin_check", 60000);
    ret->enabled = conf_bool(s, "enabled", true);
    ret->verify = conf_bool(s, "verify", true);
    uint64_t b = ret->block_size;
    if (b < 64 * KIB || b > 16 * MIB || (b & (b - 1)) != 0)
        return conf_error(s, "block_size", err, EINVAL,
                          "'block_size = %llu' in [cache]: not a power of two from 64K to 16M",
                          (unsigned long long)b);
    return 0;
}

static int load_loader(struct conf *c, struct err *err, struct settings *ret)
{
    struct conf_section *s;
    int r = get_section(c, "loader", loader_options, ARRAY_LEN(loader_options), err, &s);
    if (r < 0)
        return r;
    if (strcmp(conf_str(s, "queue", "local"), "local") != 0)
        return conf_error(s, "queue", err, EINVAL,
                          "queue = %s: only local is supported in this version",
                          conf_str(s, "queue", ""));
    if (conf_has(s, "memory"))
        return conf_error(s, "memory", err, EINVAL,
                          "memory in [loader] is not supported in this version: a job reads its files piece by piece, "
                          "whatever their size; workers = N limits how many run at once");
    ret->loader.spool = copy_str(s, "spool");
    if (!ret->loader.spool)
        ret->loader.spool =
            default_dir("/var/lib/quayfs", "XDG_STATE_HOME", ".local/state", "/load");
    ret->loader.workers = (unsigned)conf_int(s, "workers", 2);
    ret->loader.allow = copy_str(s, "allow");
    ret->loader.retain_ms = conf_ms(s, "retain", 30 * DAY_MS);
    ret->loader.mount = copy_str(s, "mount");
    return 0;
}

static int load_quayfs(struct conf *c, struct err *err, struct settings *ret)
{
    struct conf_section *s;
    int r = get_section(c, "quayfs", quayfs_options, ARRAY_LEN(quayfs_options), err, &s);
    if (r < 0)
        return r;
    ret->default_key = copy_str(s, "default_key");
    ret->auto_register = conf_bool(s, "auto_register", true);
    if (conf_has(s, "metrics_listen"))
        return conf_error(s, "metrics_listen", err, EINVAL,
                          "metrics_listen is not supported in this version: the metrics are in "
                          ".quay/metrics of the mount");
    ret->log_level = LOG_LEVEL_INFO;
    log_level_parse(conf_str(s, "log_level", "info"), &ret->log_level);
    ret->log_file = copy_str(s, "log_file");
    ret->memory_limit = conf_size(s, "memory_limit", 128 * MIB);
    ret->control = copy_str(s, "control");
    ret->passthrough = strcmp(conf_str(s, "passthrough", "auto"), "auto") == 0;
    ret->strict = conf_bool(s, "strict", false);
    ret->unmount_wait_ms = conf_ms(s, "unmount_wait", 60000);
    if (ret->default_key && !conf_find(c, "store", ret->default_key))
        return conf_error(s, "default_key", err, EINVAL,
                          "No storage backend registered for key: '%s' (default_key)",
                          ret->default_key);
    if (ret->memory_limit < MIB)
        return conf_error(s, "memory_limit", err, EINVAL,
                          "'memory_limit' in [quayfs]: at least 1M is needed");
    r = get_umask(s, err, &ret->umask);
    if (r == 0)
        r = get_uid(s, err, &ret->uid);
    if (r == 0)
        r = get_gid(s, err, &ret->gid);
    return r;
}

/* Every program refuses a mistake in any section, also in those that it does not use. */
static int check_databases(struct conf *c, struct err *err)
{
    const struct conf_option *table = settings_database_options;
    int r = 0;
    CONF_EACH(c, s)
    {
        if (strcmp(s->kind, "pipe") == 0)
            return conf_error(s, NULL, err, EINVAL,
                              "[pipe %s]: standing jobs are not supported in this version",
                              s->name);
        if (strcmp(s->kind, "database") == 0)
            r = conf_check(s, &table, &settings_n_database_options, 1, err);
        if (r < 0)
            return r;
    }
    return 0;
}

int settings_load(struct conf *c, struct err *err, struct settings *ret)
{
    struct settings s = {0};
    int r = 0;
    CONF_EACH(c, section)
    {
        r = check_kind(section, err);
        if (r < 0)
            return r;
    }
    r = check_databases(c, err);
    if (r == 0)
        r = load_quayfs(c, err, &s);
    if (r == 0)
        r = load_cache(c, err, &s.cache);
    if (r == 0)
        r = load_loader(c, err, &s);
    if (r < 0) {
        settings_done(&s);
        return r;
    }
    if (!s.control)
        s.control = xasprintf("%s/control.sock", s.cache.dir);
    *ret = s;
    return 0;
}

void settings_done(struct settings *s)
{
    free(s->default_key);
    free(s->log_file);
    free(s->control);
    free(s->cache.dir);
    free(s->loader.spool);
    free(s->loader.allow);
    free(s->loader.mount);
    *s = (struct settings){0};
}
