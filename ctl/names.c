/* SPDX-License-Identifier: MIT
 * names.c: see names.h. */
#include "ctl/names.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/name.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>

struct walk {
    const struct names_options *o;
    const char *key;
    names_fn *fn;
    void *arg;
    int worst; /* of what was told on stderr */
};

static int walk_dir(struct walk *w, const char *file, const char *path, const char *prefix);

static void complain(struct walk *w, const char *path, const char *what)
{
    w->worst = ctl_message(CTL_FAILED, "%s/%s: %s: %s", w->key, path, what, strerror(errno));
}

static bool begins(const char *s, const char *with)
{
    return strncmp(s, with, strlen(with)) == 0;
}

static bool is_dir(struct walk *w, const char *file, const char *path, unsigned char type,
                   struct stat *st, bool *gone)
{
    if (w->o->stat || type == DT_UNKNOWN) {
        *gone = lstat(file, st) != 0;
        if (*gone && errno != ENOENT) /* removed since the listing: as if it had been before */
            complain(w, path, "looking at it");
        return !*gone && S_ISDIR(st->st_mode);
    }
    return type == DT_DIR;
}

/* `prefix`: what is left of options.prefix in this directory, "" for all. */
static int walk_entry(struct walk *w, const char *dir, const char *in, const char *prefix,
                      const struct dirent *e)
{
    char segment[NAME_MAX_BYTES + 1];
    bool gone = false;
    const char *name = name_decode(e->d_name, segment) == NAME_LONG ? e->d_name : segment;
    CLEANUP_FREE char *file = xasprintf("%s/%s", dir, e->d_name), *path = path_child(in, name);
    struct name_entry n = {.path = path, .file = file};
    CLEANUP_FREE char *slashed = xasprintf("%s/", name);
    if (!begins(slashed, prefix) && !begins(prefix, slashed))
        return CTL_OK;
    n.dir = is_dir(w, file, path, e->d_type, &n.st, &gone);
    if (gone)
        return CTL_OK;
    if (n.dir && (w->o->recursive || w->o->prefix))
        return walk_dir(w, file, path, begins(prefix, slashed) ? prefix + strlen(slashed) : "");
    if (!begins(n.dir ? slashed : name, prefix))
        return CTL_OK;
    CLEANUP_FREE char *shown = n.dir ? xasprintf("%s/", path) : xstrdup(path);
    n.path = shown;
    return w->fn(w->arg, &n);
}

static int walk_dir(struct walk *w, const char *file, const char *path, const char *prefix)
{
    DIR *d = opendir(file);
    int status = CTL_OK;
    if (!d) {
        complain(w, path, "listing");
        return CTL_OK;
    }
    while (status == CTL_OK) {
        errno = 0;
        const struct dirent *e = readdir(d);
        if (!e && errno)
            complain(w, path, "listing");
        if (!e)
            break;
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            status = walk_entry(w, file, path, prefix, e);
    }
    (void)closedir(d);
    return status;
}

int names_walk(const struct place *top, const struct names_options *o, names_fn *fn, void *arg)
{
    struct walk w = {.o = o, .key = top->key, .fn = fn, .arg = arg};
    struct name_entry n = {.path = top->path, .file = top->file};
    if (lstat(top->file, &n.st) != 0)
        return ctl_message(CTL_FAILED, "%s/%s: %s", top->key, top->path, strerror(errno));
    if (!S_ISDIR(n.st.st_mode))
        return fn(arg, &n);
    int status = walk_dir(&w, top->file, top->path, o->prefix ? o->prefix : "");
    return status != CTL_OK ? status : w.worst;
}
