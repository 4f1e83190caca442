/* SPDX-License-Identifier: MIT
 * tree.c: directories yet to be listed are a stack of paths: memory is that of the paths and of one
 * listing. */
#include "cache/tree.h"

#include "base/cleanup.h"
#include "base/name.h"

#include <errno.h>
#include <string.h>

struct walking {
    struct volume *v;
    struct op *op;
    const struct tree *w;
    const char *pattern; /* NULL: all that is found */
    tree_fn *fn;
    void *arg;
    char **dirs; /* the stack */
    size_t n, cap;
    bool found;
};

bool tree_is_pattern(const char *path)
{
    return strpbrk(path, "*?[") != NULL;
}

/* The pattern matches the path or a directory above it. */
static bool matches(const char *pattern, const char *path)
{
    if (path_glob(pattern, path))
        return true;
    CLEANUP_FREE char *up = xstrdup(path);
    for (char *slash; (slash = strrchr(up, '/'));) {
        *slash = '\0';
        if (*up && path_glob(pattern, up))
            return true;
    }
    return false;
}

bool tree_covers(const struct tree *w, const char *path)
{
    if ((!w->dir && strcmp(w->path, path) == 0) || path_below(path, w->path))
        return true;
    return tree_is_pattern(w->path) && matches(w->path, path);
}

/* Can there be a match below the directory? Its segments are compared with as many of the pattern. */
static bool may_be_below(const char *pattern, const char *dir)
{
    const char *p = pattern;
    for (const char *d = dir; d && *d; d = strchr(d, '/') ? strchr(d, '/') + 1 : NULL) {
        if (strncmp(p, "**", 2) == 0 && (p[2] == '/' || !p[2]))
            return true;
        p = strchr(p, '/');
        if (!p)
            return matches(pattern, dir);
        p++;
    }
    if (p == pattern)
        return true;
    CLEANUP_FREE char *head = xstrndup(pattern, (size_t)(p - pattern) - 1);
    return path_glob(head, dir);
}

static void push(struct walking *k, char *dir /* taken */)
{
    if (k->n == k->cap) {
        k->cap = k->cap ? k->cap * 2 : 16;
        k->dirs = xrealloc(k->dirs, k->cap * sizeof(char *));
    }
    k->dirs[k->n++] = dir;
}

static int entry(struct walking *k, const char *dir, const struct volume_entry *e)
{
    CLEANUP_FREE char *path = path_child(dir, e->name);
    if (e->attr.kind == ATTR_DIR) {
        if (!k->pattern || may_be_below(k->pattern, path) || matches(k->pattern, path))
            push(k, take_ptr(&path));
        return 0;
    }
    if (e->attr.kind != ATTR_FILE || (k->pattern && !matches(k->pattern, path)))
        return 0;
    k->found = true;
    return k->fn(k->arg, path, &e->attr);
}

static int list_one(struct walking *k, const char *dir)
{
    struct volume_dir *d = NULL;
    const struct volume_entry *e = NULL;
    size_t first = k->n;
    int r = op_check(k->op);
    if (r == 0)
        r = volume_opendir(k->v, k->op, dir, &d);
    if (r < 0)
        return r;
    for (uint64_t i = 0; (r = volume_readdir(d, k->op, i, &e)) == 1;)
        if ((r = entry(k, dir, e)) < 0 || ++i == UINT64_MAX)
            break;
    volume_closedir(d);
    for (size_t i = first, last = k->n; i + 1 < last; i++) { /* so that the first is taken first */
        char *x = k->dirs[i];
        k->dirs[i] = k->dirs[--last];
        k->dirs[last] = x;
    }
    return r;
}

static int walk_dirs(struct walking *k, const char *top)
{
    int r = 0;
    push(k, xstrdup(top));
    while (r == 0 && k->n) {
        CLEANUP_FREE char *dir = k->dirs[--k->n];
        r = list_one(k, dir);
    }
    while (k->n)
        free(k->dirs[--k->n]);
    free(k->dirs);
    return r;
}

static int walk_pattern(struct walking *k)
{
    k->pattern = k->w->path;
    size_t fixed = path_glob_fixed(k->pattern);
    CLEANUP_FREE char *top = xstrndup(k->pattern, fixed ? fixed - 1 : 0);
    int r = walk_dirs(k, top);
    if (r == 0 && !k->found)
        r = err_set(&k->op->err, ENOENT, "%s: %s: nothing matches", volume_key(k->v), k->pattern);
    return r;
}

int tree_walk(struct volume *v, struct op *op, const struct tree *w, tree_fn *fn, void *arg)
{
    struct walking k = {.v = v, .op = op, .w = w, .fn = fn, .arg = arg};
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    if (w->path[0] == '\0')
        return walk_dirs(&k, "");
    int r = volume_stat(v, op, w->path, w->dir ? VOLUME_STAT_DIR : 0, &a);
    if (r == -ENOENT && tree_is_pattern(w->path))
        return walk_pattern(&k);
    if (r < 0)
        return r;
    if (a.kind == ATTR_DIR)
        return walk_dirs(&k, w->path);
    if (a.kind == ATTR_FILE)
        return fn(arg, w->path, &a);
    return err_set(&op->err, EINVAL, "%s: %s: is a symbolic link", v ? volume_key(v) : "", w->path);
}
