/* SPDX-License-Identifier: MIT
 * sftp_list.c: listings in byte order of the keys, a directory sorting as its name plus '/'.
 *
 * The far side gives the names of a directory in no order, with their attributes. A page reads each
 * directory it touches completely; of a listing of one level the names that are left are kept for
 * the next page (a rest, for a few listings and REST_NS each, and until this store changes
 * something): what others create and remove meanwhile is not seen. The cursor is the last entry, as
 * it sorts. Names are the server's: what is no name (empty, with '/' or NUL, "." and "..") is left
 * out. */
#include "backends/sftp/sftp_int.h"

#include "base/log.h"

#include <sys/stat.h>

#define PAGE_MAX 10000

struct walk {
    struct sftp *s;
    struct conn *c;
    struct op *op;
    struct dirs_position from;
    size_t max;
    struct list_page *page;
    char *last;       /* the last entry, as it sorts */
    struct rest rest; /* one level: in, what is left of it; out, what is left now */
};

static void items_done(struct dir_items *a)
{
    for (size_t i = 0; i < a->n; i++)
        free(a->v[i].name);
    free(a->v);
    *a = (struct dir_items){0};
}

void sftp_items_free(void *items)
{
    items_done(items);
    free(items);
}

static int compare_items(const void *a, const void *b)
{
    return strcmp(((const struct dir_item *)a)->name, ((const struct dir_item *)b)->name);
}

static void items_add(struct dir_items *a, const char *name, const struct wire_attr *w)
{
    if (a->n == a->cap) {
        a->cap = a->cap ? 2 * a->cap : 64;
        a->v = xrealloc(a->v, a->cap * sizeof(*a->v));
    }
    a->v[a->n++] = (struct dir_item){
        .name = sftp_is_dir(w) ? xasprintf("%s/", name) : xstrdup(name), .attr = *w};
}

bool sftp_is_left(const char *name, const struct wire_attr *w)
{
    time_t mtime = w->flags & WIRE_TIMES ? (time_t)w->mtime : clock_wall().tv_sec;
    return !sftp_is_dir(w) && temp_name_is_left(name, mtime, (w->flags & WIRE_SIZE) && w->size == 0);
}

static void sweep(const struct walk *w, const char *path, const char *name,
                  const struct wire_attr *a)
{
    if (w->s->read_only || !sftp_is_left(name, a))
        return;
    CLEANUP_FREE char *temp = xasprintf("%s/%s", path, name);
    sftp_orphan(w->s, temp);
}

static bool is_name(const char *name, size_t len)
{
    return len > 0 && !memchr(name, '/', len) && !memchr(name, '\0', len) &&
           !(name[0] == '.' && (len == 1 || (len == 2 && name[1] == '.')));
}

struct scan { /* one directory being read */
    struct walk *w;
    const char *path, *dir, *filter;
    struct dir_items *ret;
    struct dir_items bare; /* names that came without a type: asked for by themselves */
};

static void take_name(void *arg, const char *bytes, size_t len, const struct wire_attr *a)
{
    struct scan *sc = arg;
    mode_t type = a->mode & S_IFMT;
    if (!is_name(bytes, len))
        return;
    CLEANUP_FREE char *name = xstrndup(bytes, len);
    if (temp_name_is(name)) {
        sweep(sc->w, sc->path, name, a);
        return;
    }
    if (strncmp(name, sc->filter, strlen(sc->filter)) != 0)
        return;
    if (!(a->flags & WIRE_MODE) || type == 0)
        items_add(&sc->bare, name, &(struct wire_attr){.flags = 0});
    else if (type != S_IFDIR && type != S_IFREG && type != S_IFLNK)
        log_debug("sftp", "%s%s is a special file and not shown", sc->dir, name);
    else if (dirs_is_wanted(&sc->w->from, sc->dir, name, type == S_IFDIR))
        items_add(sc->ret, name, a);
}

/* Servers that give names without attributes. */
static int look_at_bare(struct scan *sc)
{
    int r = 0;
    for (size_t i = 0; i < sc->bare.n && r == 0; i++) {
        const char *name = sc->bare.v[i].name;
        CLEANUP_FREE char *path = xasprintf("%s/%s", sc->path, name);
        struct wire_attr a;
        r = far_lstat(sc->w->c, sc->w->op, path, name, &a);
        if (r == 0 && sftp_check_kind(sc->w->op, &a, name) == 0 &&
            dirs_is_wanted(&sc->w->from, sc->dir, name, sftp_is_dir(&a)))
            items_add(sc->ret, name, &a);
        if (r == -ENOENT)
            r = 0;
    }
    items_done(&sc->bare);
    return r;
}

/* The wanted names of a directory that begin with `filter`, sorted. */
static int scan(struct walk *w, const char *path, const char *dir, const char *filter,
                struct dir_items *ret)
{
    struct scan sc = {.w = w, .path = path, .dir = dir, .filter = filter, .ret = ret};
    int r = w->c->far->names(w->c, w->op, path, dir, take_name, &sc);
    if (r == 0)
        r = look_at_bare(&sc);
    items_done(&sc.bare);
    if (ret->n > 1)
        qsort(ret->v, ret->n, sizeof(*ret->v), compare_items);
    return r;
}

static int list_level(struct walk *w, const char *path, const char *dir, const char *filter);

/* One name of a directory: the entry, and in a recursive listing what is below it. 1 = page full.
 */
static int list_name(struct walk *w, const char *path, const char *dir, const struct dir_item *item)
{
    size_t len = strlen(item->name);
    bool is_dir = item->name[len - 1] == '/';
    CLEANUP_FREE char *full = xasprintf("%s%s", dir, item->name);
    bool new_entry = !w->from.behind || strcmp(full, w->from.behind) > 0;
    if (new_entry && w->page->count == w->max)
        return 1;
    if (new_entry) {
        CLEANUP_FREE char *key = xstrndup(full, strlen(full) - is_dir);
        struct list_entry *e = list_page_add(w->page, key);
        sftp_attr_of(w->s, key, &item->attr, &e->attr);
        free(w->last);
        w->last = xstrdup(full);
    }
    if (!is_dir || !w->from.recursive)
        return 0;
    CLEANUP_FREE char *below = xasprintf("%s/%.*s", path, (int)(len - 1), item->name);
    int r = list_level(w, below, full, "");
    return r == -ENOENT ? 0 : r; /* gone meanwhile */
}

/* Lists the directory `path`, whose full key with '/' is `dir`. 1 = page full. */
static int list_level(struct walk *w, const char *path, const char *dir, const char *filter)
{
    struct dir_items *items = w->rest.left ? w->rest.left : xcalloc(1, sizeof(*items));
    size_t i = w->rest.at;
    bool known = w->rest.left;
    w->rest.left = NULL;
    w->rest.at = 0;
    int r = known ? 0 : scan(w, path, dir, filter, items);
    while (r == 0 && i < items->n) {
        r = op_check(w->op);
        if (r == 0)
            r = list_name(w, path, dir, &items->v[i]);
        i += r == 0;
    }
    if (r == 1 && !w->from.recursive) {
        w->rest.left = items;
        w->rest.at = i;
    } else {
        sftp_items_free(items);
    }
    return r;
}

/* ---- the slot ---- */

static int list_on(struct walk *w, const struct list_query *q, const char *path, const char *dir)
{
    bool first = !w->from.behind && q->prefix[strlen(dir)] == '\0';
    int r = list_level(w, path, dir, q->prefix + strlen(dir));
    if (r == -ENOENT) {
        err_clear(&w->op->err);
        return 0; /* nothing is there, as in any store of objects */
    }
    if (r < 0) {
        list_page_done(w->page);
        return r;
    }
    w->page->dir_exists = first;
    w->page->cursor = r == 1 ? take_ptr(&w->last) : NULL;
    if (w->page->cursor && w->rest.left)
        rests_keep(&w->s->rests, q, w->page->cursor, &w->rest);
    return 0;
}

/* Is it a file? Then nothing is below it; OPENDIR says FAILURE for it. */
static int not_a_directory(struct walk *w, const char *path)
{
    struct err was = w->op->err;
    struct wire_attr a;
    if (far_lstat(w->c, w->op, path, path, &a) == 0 && !sftp_is_dir(&a)) {
        err_clear(&w->op->err);
        return 0;
    }
    w->op->err = was;
    return -was.code;
}

int sftp_list(struct store *store, struct op *op, const struct list_query *q, struct list_page *ret)
{
    const char *slash = strrchr(q->prefix, '/');
    size_t dir_len = slash ? (size_t)(slash - q->prefix) : 0;
    CLEANUP_FREE char *key = xstrndup(q->prefix, dir_len), *path = NULL;
    CLEANUP_FREE char *dir = slash ? xstrndup(q->prefix, dir_len + 1) : xstrdup("");
    struct walk w = {
        .s = sftp_of(store),
        .op = op,
        .from = {.behind = q->cursor ? q->cursor : q->after, .recursive = q->recursive},
        .max = q->max && q->max < PAGE_MAX ? q->max : PAGE_MAX,
        .page = ret,
    };
    int r = sftp_path(w.s, op, key, &path);
    if (r == 0)
        r = sftp_take(w.s, op, false, &w.c);
    if (r < 0)
        return r;
    w.rest = rests_take(&w.s->rests, q, atomic_load(&w.s->changes));
    r = list_on(&w, q, path, dir);
    if (r < 0 && !w.c->broken && status_is_failure(op))
        r = not_a_directory(&w, path);
    sftp_give(w.s, w.c, false);
    rests_drop(&w.s->rests, &w.rest);
    free(w.last);
    return r;
}
