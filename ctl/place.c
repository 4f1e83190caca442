/* SPDX-License-Identifier: MIT
 * place.c: see place.h. */
#include "ctl/place.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/name.h"
#include "ctl/daemon.h"

#include <limits.h>
#include <string.h>

static bool is_key(const json_t *status, const char *name, size_t len)
{
    size_t n;
    const json_t *k;
    json_array_foreach(json_object_get(status, "keys"), n, k) {
        const char *s = json_string_value(json_object_get(k, "name"));
        if (s && strlen(s) == len && strncmp(s, name, len) == 0)
            return true;
    }
    return false;
}

/* Where the mount shows it. */
static void set_file(struct place *p, const char *mount)
{
    CLEANUP_BUF struct buf b = BUF_INIT;
    buf_addf(&b, "%s/%s", mount, p->key);
    for (const char *s = p->path; *p->path;) {
        char name[NAME_MAX_BYTES + 1];
        size_t n = strcspn(s, "/");
        name_encode(s, n, false, name);
        buf_addf(&b, "/%s", name);
        if (!s[n])
            break;
        s += n + 1;
    }
    p->root_len = strlen(mount) + 1;
    p->file = buf_take(&b);
}

/* The object path of what follows the key; a final slash is taken off. */
static void set_object(struct place *p, const char *mount, const char *key, size_t key_len,
                       const char *path)
{
    size_t n = strlen(path);
    p->dir = n > 0 && path[n - 1] == '/' && !path_is_slashes(path);
    p->key = xstrndup(key, key_len);
    p->path = xstrndup(path, p->dir ? n - 1 : n);
    set_file(p, mount);
}

/* "a//b/./../c" -> "/a/c": by its text alone, as nothing below the mount is to be touched. */
static char *absolute(const char *arg)
{
    char cwd[PATH_MAX] = "";
    CLEANUP_FREE char *all = NULL;
    CLEANUP_BUF struct buf b = BUF_INIT;
    if (arg[0] != '/' && !getcwd(cwd, sizeof(cwd)))
        return NULL;
    all = xasprintf("%s/%s", cwd, arg);
    for (const char *s = all; *s;) {
        size_t n = strcspn(s, "/");
        if (n == 2 && s[0] == '.' && s[1] == '.') {
            while (b.len && b.data[b.len - 1] != '/')
                buf_truncate(&b, b.len - 1);
            if (b.len)
                buf_truncate(&b, b.len - 1);
        } else if (n && !(n == 1 && s[0] == '.')) {
            buf_addc(&b, '/');
            buf_add(&b, s, n);
        }
        s += n + (s[n] == '/');
    }
    return xstrdup(b.len ? buf_str(&b) : "/");
}

/* What follows the mountpoint ("" for itself), or NULL. */
static const char *below_mount(const char *path, const char *mount)
{
    size_t n = strlen(mount);
    if (n == 0 || strncmp(path, mount, n) != 0 || (path[n] && path[n] != '/'))
        return NULL;
    return path[n] ? path + n + 1 : path + n;
}

/* KEY/names as ls shows them. */
static int set_shown(struct place *p, const json_t *status, const char *arg, const char *rest)
{
    size_t key_len = strcspn(rest, "/");
    if (!is_key(status, rest, key_len))
        return ctl_message(CTL_FAILED, *rest ? "%s: not a key of the mount (quayctl keys)"
                                             : "%s: is the mount itself: give one of its keys", arg);
    p->key = xstrndup(rest, key_len);
    p->path = xstrdup("");
    for (const char *s = rest + key_len; *s;) {
        char segment[NAME_MAX_BYTES + 1];
        s++;
        size_t n = strcspn(s, "/");
        CLEANUP_FREE char *name = xstrndup(s, n);
        enum name_form form = name_decode(name, segment);
        if (form == NAME_LONG)
            return ctl_message(CTL_FAILED, "%s: '%s' stands for a longer name: give KEY:path", arg,
                               name);
        char *deeper = path_child(p->path, segment);
        free(p->path);
        p->path = deeper;
        p->dir = form == NAME_SHADOW;
        s += n;
    }
    p->dir = p->dir || arg[strlen(arg) - 1] == '/';
    return CTL_OK;
}

/* A path outside: as it is, but absolute. */
static int set_local(struct place *p, const char *arg)
{
    char cwd[PATH_MAX] = "";
    size_t n = strlen(arg);
    if (arg[0] != '/' && !getcwd(cwd, sizeof(cwd)))
        return ctl_message(CTL_FAILED, "%s: the working directory is gone", arg);
    p->dir = arg[n - 1] == '/';
    while (n > 1 && arg[n - 1] == '/')
        n--;
    p->path = xstrdup("");
    p->file = xasprintf("%s%s%.*s", cwd, arg[0] == '/' ? "" : "/", (int)n, arg);
    return CTL_OK;
}

static int set_default(struct place *p, const struct ctl *ctl, const json_t *status,
                       const char *mount, const char *arg)
{
    const char *key = ctl->settings.default_key;
    if (!key)
        return ctl_message(CTL_FAILED, "%s: names no key, and [quayfs] has no default_key", arg);
    if (!is_key(status, key, strlen(key)))
        return ctl_message(CTL_FAILED, "No storage backend registered for key: '%s' (default_key)", key);
    set_object(p, mount, key, strlen(key), arg + 1 + (arg[1] == '/'));
    return CTL_OK;
}

static int resolve(const struct ctl *ctl, const json_t *status, const char *arg, bool any,
                   struct place *p)
{
    const char *mount = json_string_value(json_object_get(status, "mountpoint"));
    if (!mount)
        mount = "";
    const char *colon = strchr(arg, ':');
    size_t first = strcspn(arg, "/");
    bool by_path = arg[0] == '/' || (arg[0] == '.' && (first <= 1 || (first == 2 && arg[1] == '.')));
    if (colon == arg)
        return set_default(p, ctl, status, mount, arg);
    if (!by_path && colon && (size_t)(colon - arg) < first && is_key(status, arg, (size_t)(colon - arg))) {
        set_object(p, mount, arg, (size_t)(colon - arg), colon + 1 + (colon[1] == '/'));
        return CTL_OK;
    }
    if (!by_path && is_key(status, arg, first)) {
        set_object(p, mount, arg, first, arg[first] ? arg + first + 1 : "");
        return CTL_OK;
    }
    CLEANUP_FREE char *path = absolute(arg);
    const char *rest = path ? below_mount(path, mount) : NULL;
    CLEANUP_FREE char *real = rest ? NULL : realpath(arg, NULL);
    if (!rest && real)
        rest = below_mount(real, mount);
    if (rest) {
        p->file = xasprintf("%s/%s", mount, rest);
        p->root_len = strlen(mount) + 1;
        return set_shown(p, status, arg, rest);
    }
    if (any)
        return set_local(p, arg);
    return ctl_message(CTL_FAILED, "%s: neither a path in the mount %s nor KEY:path (quayctl keys)",
                       arg, *mount ? mount : "?");
}

static int resolve_all(struct ctl *ctl, const char *command, int argc, char **argv, bool any,
                       struct places *ret)
{
    json_t *status = NULL;
    *ret = (struct places){0};
    if (argc == 0)
        return ctl_usage(command, "a PATH, please");
    for (int i = 0; i < argc; i++)
        if (!*argv[i])
            return ctl_usage(command, "an empty PATH");
    int r = daemon_call(ctl, "status", json_object(), NULL, NULL, &status);
    if (r != CTL_OK)
        return r;
    ret->v = xcalloc((size_t)argc, sizeof(*ret->v));
    for (int i = 0; i < argc && r == CTL_OK; i++)
        r = resolve(ctl, status, argv[i], any, &ret->v[ret->n++]);
    json_decref(status);
    if (r != CTL_OK)
        places_done(ret);
    return r;
}

int places_resolve(struct ctl *ctl, const char *command, int argc, char **argv, struct places *ret)
{
    return resolve_all(ctl, command, argc, argv, false, ret);
}

int places_resolve_any(struct ctl *ctl, const char *command, int argc, char **argv,
                       struct places *ret)
{
    return resolve_all(ctl, command, argc, argv, true, ret);
}

int places_each(struct ctl *ctl, const char *command, int argc, char **argv, places_fn *each, void *arg)
{
    struct places p;
    int worst = CTL_OK, status = places_resolve(ctl, command, argc, argv, &p);
    if (status != CTL_OK)
        return status;
    for (size_t i = 0; i < p.n && worst != CTL_UNREACHABLE; i++) {
        status = each(ctl, &p.v[i], arg);
        worst = status > worst ? status : worst;
    }
    places_done(&p);
    return worst;
}

void places_done(struct places *p)
{
    for (size_t i = 0; i < p->n; i++) {
        free(p->v[i].key);
        free(p->v[i].path);
        free(p->v[i].file);
    }
    free(p->v);
    *p = (struct places){0};
}
