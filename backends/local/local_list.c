/* SPDX-License-Identifier: MIT
 * local_list.c: listings in byte order of the keys, a directory sorting as its name plus '/'.
 *
 * A page reads each directory it touches completely, keeps the names behind the cursor, sorts them
 * and looks at (lstat) only those it returns. The cursor is the last entry, as it sorts, so a
 * listing goes on correctly whatever was created or removed meanwhile. Of a listing of one level the names
 * that are left are kept for the next page (a rest, for a few listings and REST_NS each): it does not read the
 * directory again, and does not show what was created meanwhile. */
#include "backends/local/local_int.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/sys.h"

#include <dirent.h>
#include <stdio.h>

#define PAGE_MAX 10000
#define LEVEL_PAGE_MAX 2000 /* of one level: costs no more than a long one, and is there sooner */

struct walk {
    struct local *l;
    struct op *op;
    struct dirs_position from;
    size_t max;
    struct list_page *page;
    char *last; /* the last entry, as it sorts */
    struct rest rest; /* one level: in, what is left of it; out, what is left now */
};

static void names_done(struct local_names *a)
{
    for (size_t i = 0; i < a->n; i++)
        free(a->v[i]);
    free(a->v);
    *a = (struct local_names){0};
}

void local_names_free(void *names)
{
    names_done(names);
    free(names);
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void names_add(struct local_names *a, const char *name, bool is_dir)
{
    if (a->n == a->cap) {
        a->cap = a->cap ? 2 * a->cap : 64;
        a->v = xrealloc(a->v, a->cap * sizeof(*a->v));
    }
    a->v[a->n++] = is_dir ? xasprintf("%s/", name) : xstrdup(name);
}

/* Directory, by the entry's type where the file system tells; special files are left out. */
static bool classify(int fd, const struct dirent *e, bool *is_dir)
{
    mode_t type = DTTOIF(e->d_type);
    struct stat st;
    if (e->d_type == DT_UNKNOWN) {
        if (fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            return false;
        type = st.st_mode & S_IFMT;
    }
    *is_dir = type == S_IFDIR;
    if (type == S_IFDIR || type == S_IFREG || type == S_IFLNK)
        return true;
    log_debug("local", "%s is a special file and not shown", e->d_name);
    return false;
}

/* The wanted names of a directory that begin with `filter`, sorted. Takes fd. */
static int scan(const struct walk *w, int fd, const char *dir, const char *filter,
                struct local_names *ret)
{
    DIR *d = fdopendir(fd);
    if (!d) {
        cleanup_fd_(&fd);
        return local_fail(w->op, -errno, "list", dir);
    }
    size_t filter_len = strlen(filter), seen = 0;
    int r = 0;
    for (;;) {
        errno = 0;
        struct dirent *e = readdir(d);
        if (!e && errno)
            r = local_fail(w->op, -errno, "list", dir);
        if (e && seen++ % 256 == 0)
            r = op_check(w->op);
        if (!e || r < 0)
            break;
        bool is_dir;
        if (temp_name_is(e->d_name) && !w->l->read_only)
            temp_sweep(dirfd(d), e->d_name);
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 || temp_name_is(e->d_name))
            continue;
        if (strncmp(e->d_name, filter, filter_len) == 0 && classify(dirfd(d), e, &is_dir) &&
            dirs_is_wanted(&w->from, dir, e->d_name, is_dir))
            names_add(ret, e->d_name, is_dir);
    }
    closedir(d);
    if (ret->n > 1)
        qsort(ret->v, ret->n, sizeof(*ret->v), compare_names);
    return r;
}

/* Adds the entry `full` (as it sorts); `name` is its name without '/'. One that has gone, or has
 * become something else, is left out. */
static void emit(struct walk *w, int fd, const char *name, const char *full, bool is_dir)
{
    struct stat st;
    struct local_at at = {.fd = fd, .base = name};
    if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || S_ISDIR(st.st_mode) != is_dir ||
        (!is_dir && !S_ISREG(st.st_mode) && !S_ISLNK(st.st_mode)))
        return;
    CLEANUP_FREE char *key = xstrndup(full, strlen(full) - is_dir);
    struct list_entry *e = list_page_add(w->page, key);
    local_attr_read(&at, &st, &e->attr);
}

static int list_level(struct walk *w, int fd, const char *dir, const char *filter);

/* One name of a directory: the entry, and in a recursive listing what is below it. 1 = page full.
 */
static int list_name(struct walk *w, int fd, const char *dir, char *name)
{
    size_t len = strlen(name);
    bool is_dir = name[len - 1] == '/';
    CLEANUP_FREE char *full = xasprintf("%s%s", dir, name);
    bool new_entry = !w->from.behind || strcmp(full, w->from.behind) > 0;
    if (new_entry && w->page->count == w->max)
        return 1;
    name[len - is_dir] = '\0';
    if (new_entry) {
        emit(w, fd, name, full, is_dir);
        free(w->last);
        w->last = xstrdup(full);
    }
    if (!is_dir || !w->from.recursive)
        return 0;
    int below = local_open_to_read(fd, name, O_DIRECTORY | O_NOFOLLOW);
    if (below == -ENOENT || below == -ENOTDIR || below == -ELOOP)
        return 0; /* gone meanwhile */
    return below < 0 ? local_fail(w->op, below, "list", full) : list_level(w, below, full, "");
}

/* Lists the directory `fd` (taken), whose full key with '/' is `dir`. 1 = page full. */
static int list_level(struct walk *w, int fd, const char *dir, const char *filter)
{
    struct local_names *names = w->rest.left ? w->rest.left : xcalloc(1, sizeof(*names));
    size_t i = w->rest.at;
    bool known = w->rest.left;
    CLEANUP_FD int at = sys_openat(fd, ".", O_PATH | O_DIRECTORY, 0);
    w->rest.left = NULL;
    int r = 0;
    if (known)
        cleanup_fd_(&fd);
    else
        r = scan(w, fd, dir, filter, names); /* closes fd */
    if (r == 0 && at < 0)
        r = local_fail(w->op, at, "list", dir);
    while (r == 0 && i < names->n) {
        r = op_check(w->op);
        if (r == 0)
            r = list_name(w, at, dir, names->v[i]);
        i += r == 0;
    }
    if (r == 1 && !w->from.recursive) {
        w->rest.left = names;
        w->rest.at = i;
    } else {
        local_names_free(names);
    }
    return r;
}

int local_list(struct store *s, struct op *op, const struct list_query *q, struct list_page *ret)
{
    const char *slash = strrchr(q->prefix, '/');
    size_t dir_len = slash ? (size_t)(slash - q->prefix) : 0;
    CLEANUP_FREE char *path = xstrndup(q->prefix, dir_len);
    CLEANUP_FREE char *dir = slash ? xstrndup(q->prefix, dir_len + 1) : xstrdup("");
    struct walk w = {
        .l = local_of(s),
        .op = op,
        .from = {.behind = q->cursor ? q->cursor : q->after, .recursive = q->recursive},
        .max = q->recursive ? PAGE_MAX : LEVEL_PAGE_MAX,
        .page = ret,
    };
    w.max = q->max && q->max < w.max ? q->max : w.max;
    CLEANUP_FD int path_fd = -1;
    int r = local_open_dir(w.l, op, path, &path_fd);
    if (r == -ENOENT || r == -ENOTDIR) {
        err_clear(&op->err);
        return 0; /* nothing is there, as in any store of objects */
    }
    if (r < 0)
        return r;
    int fd = local_open_to_read(path_fd, ".", O_DIRECTORY);
    if (fd < 0)
        return local_fail(op, fd, "list", dir);
    w.rest = rests_take(&w.l->rests, q, 0);
    bool dir_exists = !w.from.behind && q->prefix[dir_len + (slash != NULL)] == '\0';
    r = list_level(&w, fd, dir, q->prefix + strlen(dir));
    if (r < 0) {
        list_page_done(ret);
    } else {
        ret->dir_exists = dir_exists;
        ret->cursor = r == 1 ? take_ptr(&w.last) : NULL;
        if (ret->cursor && w.rest.left)
            rests_keep(&w.l->rests, q, ret->cursor, &w.rest);
    }
    rests_drop(&w.l->rests, &w.rest);
    free(w.last);
    return r < 0 ? r : 0;
}
