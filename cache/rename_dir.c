/* SPDX-License-Identifier: MIT
 * rename_dir.c: renaming a directory.
 *
 * Natively where the store can. Else object by object: list all, copy all (a few at a time), and only when
 * every copy is there remove the sources. It is not atomic: another client sees both trees for a while.
 *   copying fails    the copies made are removed (none was there before: the target was empty, and copies
 *                    are conditional where the store can); the source is as it was
 *   removing fails   the target is whole; what is left of the source stays, and the error says so
 * Files below that are staged are stored first; open ones go on under their new names. */
#include "cache/volume_int.h"

#include "base/cleanup.h"
#include "cache/parallel.h"

#define COPY_THREADS 8
#define REMOVE_BATCH 1000

struct entry {
    char *from, *to;
    struct attr attr; /* then that of the copy */
    bool done;        /* the copy is there */
};

struct moving {
    struct volume *v;
    struct op *op;
    const char *from, *to;
    struct entry *entries;
    size_t n, cap;
    bool marker;           /* the source has an object of its own */
    bool made;             /* the target's marker is ours */
    struct vnode **nodes;  /* below, with their tokens */
    size_t n_nodes;
};

/* ---- open files below ---- */

static int by_path(const void *a, const void *b)
{
    struct vnode *const *x = a, *const *y = b;
    return strcmp((*x)->path, (*y)->path);
}

static void release_nodes(struct moving *m, size_t held)
{
    for (size_t i = 0; i < m->n_nodes; i++) {
        if (i < held) {
            vnode_set_committing(m->nodes[i], false);
            vnode_end(m->nodes[i]);
        }
        vnode_put(m->nodes[i]);
    }
    free(m->nodes);
}

/* Takes all tokens, in order, and stores what is staged. *ret_held: how many are held. */
static int hold_nodes(struct moving *m, size_t *ret_held)
{
    m->n_nodes = vnode_collect(m->v, vnode_pick_below_locked, m->from, &m->nodes);
    if (m->n_nodes)
        qsort(m->nodes, m->n_nodes, sizeof(*m->nodes), by_path);
    for (size_t i = 0; i < m->n_nodes; i++) {
        int r = vnode_begin(m->nodes[i], m->op);
        if (r < 0)
            return r;
        *ret_held = i + 1;
        r = vnode_commit(m->nodes[i], m->op);
        if (r < 0)
            return r;
    }
    for (size_t i = 0; i < m->n_nodes; i++)
        vnode_set_committing(m->nodes[i], true);
    return 0;
}

/* Their objects are elsewhere now. */
static int move_node(struct moving *m, struct vnode *n)
{
    CLEANUP_FREE char *path = path_child(m->to, path_rest(n->path, m->from));
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    if (!n->attached || !n->base)
        return 0;
    int r = store_stat(m->v->store, m->op, path, &a);
    if (r == 0)
        vnode_moved(n, path, &a);
    else
        vnode_move(n, path); /* its readers will find out */
    return r;
}

/* ---- the copies ---- */

static void add_entry(struct moving *m, struct list_entry *e)
{
    if (m->n == m->cap) {
        m->cap = m->cap ? m->cap * 2 : 64;
        m->entries = xrealloc(m->entries, m->cap * sizeof(*m->entries));
    }
    struct entry *x = &m->entries[m->n++];
    *x = (struct entry){.from = take_ptr(&e->key)};
    x->to = path_child(m->to, path_rest(x->from, m->from));
    attr_move(&x->attr, &e->attr);
}

static int list_all(struct moving *m)
{
    CLEANUP_FREE char *prefix = path_dir_prefix(m->from);
    CLEANUP_FREE char *cursor = NULL;
    do {
        struct list_query q = {.prefix = prefix, .recursive = true, .cursor = cursor};
        struct list_page page = LIST_PAGE_INIT;
        int r = store_list(m->v->store, m->op, &q, &page);
        if (r < 0)
            return r;
        m->marker = m->marker || page.dir_exists;
        for (size_t i = 0; i < page.count; i++)
            if (path_below(page.entries[i].key, m->from))
                add_entry(m, &page.entries[i]);
        free(cursor);
        cursor = take_ptr(&page.cursor);
        list_page_done(&page);
    } while (cursor);
    return 0;
}

/* A listing has no metadata everywhere; a marker's is worth a request. */
static int copy_marker(struct moving *m, struct op *op, const char *from, const char *to)
{
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    int r = store_stat(m->v->store, op, from, &a);
    if (r < 0 || a.kind != ATTR_DIR) {
        attr_done(&a);
        a = (struct attr){.kind = ATTR_DIR};
    }
    r = store_make_dir(m->v->store, op, to, &a);
    return r == -EEXIST ? 0 : r;
}

static int copy_entry(void *arg, size_t i, struct op *op)
{
    struct moving *m = arg;
    struct entry *e = &m->entries[i];
    if (e->attr.kind == ATTR_DIR) {
        int r = copy_marker(m, op, e->from, e->to);
        e->done = r == 0;
        return r;
    }
    struct attr copy = ATTR_INIT;
    int r = volume_copy_object(m->v, op, e->from, &e->attr, e->to, true, &copy);
    if (r < 0)
        return r;
    attr_done(&e->attr);
    attr_move(&e->attr, &copy);
    e->attr.kind = ATTR_FILE;
    e->done = true;
    return 0;
}

/* Copies that were made go; the source is whole. */
static void remove_copies(struct moving *m)
{
    struct op op; /* the caller's may be cancelled: that is no reason to leave half a tree */
    op_init(&op, "rename", 0);
    for (size_t i = 0; i < m->n; i++)
        if (m->entries[i].done && m->entries[i].attr.kind != ATTR_DIR)
            (void)store_remove(m->v->store, &op, m->entries[i].to, NULL);
    for (size_t i = m->n; i-- > 0;)
        if (m->entries[i].done && m->entries[i].attr.kind == ATTR_DIR)
            (void)store_remove_dir(m->v->store, &op, m->entries[i].to);
    if (m->made)
        (void)store_remove_dir(m->v->store, &op, m->to);
}

/* ---- the sources ---- */

static int remove_batch(struct moving *m, const char **keys, size_t n)
{
    CLEANUP_FREE struct remove_result *results = xcalloc(n + 1, sizeof(*results));
    int r = n ? store_remove_many(m->v->store, m->op, keys, n, results) : 0;
    for (size_t i = 0; i < n && r == 0; i++)
        if (results[i].code && results[i].code != ENOENT)
            r = err_set(&m->op->err, results[i].code, "%s: %s", keys[i], strerror(results[i].code));
    return r;
}

static int remove_sources(struct moving *m)
{
    CLEANUP_FREE const char **keys = xcalloc(REMOVE_BATCH, sizeof(*keys));
    size_t n = 0;
    int r = 0;
    for (size_t i = 0; i < m->n && r == 0; i++) {
        if (m->entries[i].attr.kind == ATTR_DIR)
            continue;
        keys[n++] = m->entries[i].from;
        if (n == REMOVE_BATCH) {
            r = remove_batch(m, keys, n);
            n = 0;
        }
    }
    if (r == 0)
        r = remove_batch(m, keys, n);
    for (size_t i = m->n; i-- > 0 && r == 0;) {
        if (m->entries[i].attr.kind != ATTR_DIR)
            continue;
        r = store_remove_dir(m->v->store, m->op, m->entries[i].from);
        r = r == -ENOENT ? 0 : r;
    }
    if (r == 0 && m->marker)
        r = store_remove_dir(m->v->store, m->op, m->from);
    if (r == 0 || r == -ENOENT)
        return 0;
    return err_prefix(&m->op->err, "%s: %s is whole, but not all of %s could be removed", m->v->key,
                      m->to, m->from);
}

static int copy_tree(struct moving *m)
{
    int r = list_all(m);
    if (r == 0 && (m->marker || m->n == 0)) {
        r = copy_marker(m, m->op, m->from, m->to);
        m->made = r == 0;
    }
    if (r == 0)
        r = parallel_each(m->n, COPY_THREADS, copy_entry, m, m->op);
    if (r < 0) {
        struct err keep = m->op->err;
        remove_copies(m);
        m->op->err = keep;
        return r;
    }
    if (m->marker || m->n == 0)
        volume_parent_has_marker(m->v, m->to);
    return 0;
}

/* ---- the whole ---- */

static int check_target(struct moving *m, bool no_replace)
{
    struct volume *v = m->v;
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    int r = volume_stat(v, m->op, m->to, VOLUME_STAT_FRESH, &a);
    if (r == -ENOENT)
        return 0;
    if (r < 0)
        return r;
    if (no_replace)
        return err_set(&m->op->err, EEXIST, "%s: %s: exists already", v->key, m->to);
    if (a.kind != ATTR_DIR)
        return err_set(&m->op->err, ENOTDIR, "%s: %s: not a directory", v->key, m->to);
    size_t count = 0;
    bool marker = false;
    r = volume_count_entries(v, m->op, m->to, 1, &count, &marker);
    if (r == 0 && (count || vnode_any_dirty_below(v, m->to)))
        r = err_set(&m->op->err, ENOTEMPTY, "%s: %s: not empty", v->key, m->to);
    return r;
}

static int move_tree(struct moving *m)
{
    struct volume *v = m->v;
    if (v->store->caps & CAP_RENAME_DIR)
        return store_rename(v->store, m->op, m->from, m->to, false);
    int r = copy_tree(m);
    if (r == 0)
        r = volume_keep_parent(v, m->op, m->from);
    return r == 0 ? remove_sources(m) : r;
}

static void forget_both(struct moving *m)
{
    struct volume *v = m->v;
    const char *const dirs[] = {m->from, m->to};
    for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
        meta_forget_tree(v->meta, dirs[i]);
        volume_changed(v, dirs[i], NULL);
        seen_forget_below(v, dirs[i]);
    }
    volume_parents_forget(v, m->from);
}

int volume_rename_dir(struct volume *v, struct op *op, const char *from, const char *to,
                      bool no_replace)
{
    struct moving m = {.v = v, .op = op, .from = from, .to = to};
    size_t held = 0;
    int r = check_target(&m, no_replace);
    if (r < 0)
        return r;
    volume_parents_forget(v, to);
    r = hold_nodes(&m, &held);
    if (r == 0) {
        r = move_tree(&m);
        forget_both(&m);
    }
    for (size_t i = 0; i < m.n_nodes && r == 0; i++)
        r = move_node(&m, m.nodes[i]);
    release_nodes(&m, held);
    for (size_t i = 0; i < m.n; i++) {
        free(m.entries[i].from);
        free(m.entries[i].to);
        attr_done(&m.entries[i].attr);
    }
    free(m.entries);
    return r;
}
