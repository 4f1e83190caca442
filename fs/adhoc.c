/* SPDX-License-Identifier: MIT
 * adhoc.c: see adhoc.h. */
#include "fs/adhoc.h"

#include "base/cleanup.h"
#include "base/crypto.h"
#include "base/sys.h"

#include <ctype.h>
#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- --env-file ---- */

static bool is_name(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isalnum((unsigned char)s[i]) && s[i] != '_')
            return false;
    return n > 0 && !isdigit((unsigned char)s[0]);
}

/* 'x' or "x" -> x, in place. */
static char *unquoted(char *s)
{
    size_t n = strlen(s);
    if (n >= 2 && (s[0] == '"' || s[0] == '\'') && s[n - 1] == s[0]) {
        s[n - 1] = '\0';
        s++;
    }
    return s;
}

static int take_line(const char *file, unsigned line, char *s, struct err *err)
{
    size_t n = strlen(s);
    while (n && isspace((unsigned char)s[n - 1]))
        s[--n] = '\0';
    s += strspn(s, " \t");
    if (strncmp(s, "export ", 7) == 0)
        s += 7 + strspn(s + 7, " \t");
    if (!*s || *s == '#')
        return 0;
    char *eq = strchr(s, '=');
    if (!eq || !is_name(s, (size_t)(eq - s)))
        return err_set(err, EINVAL, "%s:%u: not NAME=VALUE", file, line); /* no text of it: it may be a secret */
    *eq = '\0';
    return setenv(s, unquoted(eq + 1), 0) == 0 ? 0 : err_set(err, errno, "%s:%u: %s", file, line, strerror(errno));
}

int adhoc_read_env(const char *file, struct err *err)
{
    CLEANUP_FILE FILE *f = fopen(file, "re");
    CLEANUP_FREE char *s = NULL;
    size_t cap = 0;
    int r = 0;
    if (!f)
        return err_set(err, errno, "--env-file %s: %s", file, strerror(errno));
    for (unsigned line = 1; r == 0 && getline(&s, &cap, f) >= 0; line++)
        r = take_line(file, line, s, err);
    if (r == 0 && ferror(f))
        r = err_set(err, EIO, "--env-file %s: cannot be read", file);
    return r;
}

/* ---- one key ---- */

/* The last part of a path or URI that has a name: "s3://b/p/" -> "p", "s3://b" -> "b". */
static char *key_name(const char *where)
{
    const char *begin = strstr(where, "://");
    begin = begin ? begin + 3 : where;
    size_t n = strcspn(begin, "?#");
    while (n && begin[n - 1] == '/')
        n--;
    size_t at = n;
    while (at && begin[at - 1] != '/')
        at--;
    char *name = xstrndup(begin + at, n - at);
    for (char *c = name; *c; c++)
        if (*c == ':' || *c == '@' || (unsigned char)*c < ' ')
            *c = '_';
    if (*name && *name != '.')
        return name;
    free(name);
    return xstrdup("data");
}

struct conf *adhoc_conf(const struct options *o)
{
    const char *where = o->local_dir ? o->local_dir : o->uri;
    CLEANUP_FREE char *name = key_name(where);
    struct conf *c = conf_new(where);
    struct conf_section *s = conf_add_section(c, "store", name);
    if (o->local_dir) {
        conf_set(s, "backend", "local");
        conf_set(s, "base_path", where);
    } else {
        conf_set(s, "uri", where);
    }
    return c;
}

static void own_dir(struct fs *fs, const struct options *o)
{
    struct cache_settings *c = &fs->settings.cache;
    CLEANUP_FREE char *what = xasprintf("%s:%s", o->local_dir ? o->local_dir : o->uri,
                                        o->mountpoint ? o->mountpoint : "");
    char hex[65];
    free(fs->settings.loader.spool);
    fs->settings.loader.spool = NULL; /* no configuration, no databases: no .load */
    if (conf_has(conf_find(fs->conf, "cache", ""), "dir"))
        return;
    sha256_hex(what, strlen(what), hex);
    char *dir = xasprintf("%s/mounts/%.16s", c->dir, hex);
    free(c->dir);
    c->dir = dir;
    free(fs->settings.control);
    fs->settings.control = xasprintf("%s/control.sock", dir);
}

/* ---- --ephemeral ---- */

int adhoc_own_dirs(struct fs *fs, const struct options *o, struct err *err)
{
    struct cache_settings *c = &fs->settings.cache;
    if (o->local_dir || o->uri)
        own_dir(fs, o);
    if (!o->ephemeral || o->check)
        return 0;
    int r = sys_mkdirs(c->dir, 0700);
    CLEANUP_FREE char *dir = xasprintf("%s/ephemeral-XXXXXX", c->dir);
    if (r == 0 && !mkdtemp(dir))
        r = -errno;
    if (r < 0)
        return err_set(err, -r, "--ephemeral: a directory in %s: %s", c->dir, strerror(-r));
    free(c->dir);
    c->dir = take_ptr(&dir);
    return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st;
    (void)type;
    (void)at;
    return remove(path) == 0 || errno == ENOENT ? 0 : -1;
}

void adhoc_remove_cache(struct fs *fs, const struct options *o, bool left)
{
    const char *dir = fs->settings.cache.dir;
    if (!o->ephemeral || !dir || !strstr(dir, "/ephemeral-"))
        return;
    if (left)
        log_warn("quayfs", "files that are not stored yet are in %s: mount with -o cache.dir=%s to store them",
                 dir, dir);
    else if (nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT) != 0)
        log_warn("quayfs", "--ephemeral: removing %s: %s", dir, strerror(errno));
}
