/* SPDX-License-Identifier: MIT
 * rename_dir.c: renaming a directory.
 *
 * Natively where the store can. Else object by object: list all, copy all (a few at a time), and only when
 * every copy is there remove the sources. It is not atomic: another client sees both trees for a while.
 *   copying fails    the copies made are removed (none was there before: the target was empty, and copies
 *                    are conditional where the store can); the source is as it was. When that fails, too, the
 *                    log says that they stay: later nobody could tell them from what the user has copied there. It says so,
 *                    too, of copies that may be there or not (no answer)
 *   removing fails   the target is whole; what is left of the source stays, and the error says so
 *   we are killed, or the mount ends   the journal (rename_log.h) has it: rename_resume.c goes on at the next start
 * Files below that are staged are stored first; open ones go on under their new names. */
#include "cache/given_up.h"
#include "cache/rename_int.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "cache/parallel.h"

#define COPY_THREADS 8
#define COPY_THREADS_MAX 32
#define TOLD_MAX 100 /* names in the log */

/* ---- its life ---- */

void moving_init(struct moving *m, struct volume *v, struct op *op, const char *from, const char *to)
{
    *m = (struct moving){.v = v, .op = op, .from = from, .to = to};
    m->info = (struct volume_rename_info){.from = xstrdup(from), .to = xstrdup(to),
                                          .since = clock_wall()};
    lock_init(&m->lock, LOCK_RANK_LEAF, "rename");
}

void moving_phase(struct moving *m, enum rename_phase phase)
{
    static const char *const names[] = {
        [RENAME_COPY] = "copying", [RENAME_REMOVE] = "removing", [RENAME_UNDO] = "undoing"};
    LOCK_SCOPE(&m->v->s.lock);
    if (!m->info.phase) {
        m->next = m->v->s.renames;
        m->v->s.renames = m;
    }
    m->info.phase = names[phase];
    m->info.total = m->n;
    m->info.done = 0;
}

static void count(struct moving *m, size_t n)
{
    LOCK_SCOPE(&m->v->s.lock);
    m->info.done += n;
}

static void moving_free_entries(struct moving *m)
{
    for (size_t i = 0; i < m->n; i++) {
        free(m->entries[i].from);
        free(m->entries[i].to);
        attr_done(&m->entries[i].attr);
    }
    free(m->entries);
}

void moving_done(struct moving *m)
{
    lock_acquire(&m->v->s.lock);
    for (struct moving **at = &m->v->s.renames; *at; at = &(*at)->next) {
        if (*at != m)
            continue;
        *at = m->next;
        break;
    }
    lock_release(&m->v->s.lock);
    moving_free_entries(m);
    free(m->info.from);
    free(m->info.to);
    lock_done(&m->lock);
}

/* ---- open files below ---- */

static bool pick(const struct vnode *n, const void *arg)
{
    const struct moving *m = arg;
    return path_below(n->path, m->from) || path_below(n->path, m->to);
}

void moving_release(struct moving *m, size_t held)
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

/* All tokens, also of the target's: another client may have removed what is open there. *ret_held: how many are held. */
int moving_hold(struct moving *m, size_t *ret_held)
{
    m->n_nodes = vnode_collect(m->v, pick, m, &m->nodes);
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

static bool is_based_on(struct vnode *n, const struct attr *a)
{
    LOCK_SCOPE(&n->lock); /* without the token: it may be stored just now */
    return n->base && (!a || strcmp(n->base->version, a->version) == 0);
}

/* What the target had open is gone: the rename would not have begun else. What was opened there since a restart is the copy
 * `a` (NULL: not known), and stays open. */
static void retire_other(struct moving *m, const char *path, const struct attr *a)
{
    struct vnode *n = vnode_find(m->v, path);
    if (n && !(m->resumed && is_based_on(n, a)))
        vnode_retire(n);
    vnode_put(n);
}

/* Its object is elsewhere now; or it was removed by another client before. False: the store does not answer. */
static bool move_node(struct moving *m, struct vnode *n, bool answers)
{
    if (!n->attached || !n->base || !path_below(n->path, m->from))
        return answers;
    CLEANUP_FREE char *path = path_child(m->to, path_rest(n->path, m->from));
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    struct op op; /* the caller's may be cancelled: it has happened all the same */
    op_init(&op, "rename", m->v->policy.timeout_ms);
    int r = answers ? store_stat(m->v->store, &op, path, &a) : -ETIMEDOUT;
    retire_other(m, path, r == 0 ? &a : NULL);
    if (r == 0 && m->resumed)
        vnode_lost_name(n, path, a.version, a.size);
    else if (r == 0)
        vnode_moved(n, path, &a);
    else if (r == -ENOENT || m->resumed)
        vnode_retire(n);
    else
        (void)vnode_move(n, path); /* its readers will find out */
    return r != -ETIMEDOUT;
}

void moving_nodes(struct moving *m)
{
    bool answers = true;
    struct strmap staying = STRMAP_INIT;
    for (size_t i = 0; i < m->n; i++)
        if (m->entries[i].keep)
            (void)strmap_put(&staying, m->entries[i].from, &m->entries[i]);
    for (size_t i = 0; i < m->n_nodes && m->whole; i++)
        if (!strmap_get(&staying, m->nodes[i]->path))
            answers = move_node(m, m->nodes[i], answers);
    strmap_done(&staying);
}

/* ---- the copies ---- */

static void add_entry(struct moving *m, struct list_entry *e)
{
    if (m->n == m->cap) {
        m->cap = m->cap ? m->cap * 2 : 64;
        m->entries = xrealloc(m->entries, m->cap * sizeof(*m->entries));
    }
    struct moving_entry *x = &m->entries[m->n++];
    *x = (struct moving_entry){.from = take_ptr(&e->key)};
    x->to = path_child(m->to, path_rest(x->from, m->from));
    attr_move(&x->attr, &e->attr);
}

/* But for what was removed here, and has come to be there late. */
static int add_page(struct moving *m, struct list_page *page)
{
    for (size_t i = 0; i < page->count; i++) {
        struct list_entry *e = &page->entries[i];
        bool below = path_below(e->key, m->from);
        int swept = below ? given_up_sweep(m->v, m->op, e->key) : 0;
        if (swept < 0)
            return swept;
        if (below && !swept)
            add_entry(m, e);
    }
    return 0;
}

int moving_list(struct moving *m)
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
        r = add_page(m, &page);
        free(cursor);
        cursor = take_ptr(&page.cursor);
        list_page_done(&page);
        if (r < 0)
            return r;
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
    if (r != -EEXIST)
        return r;
    r = store_remove_dir(m->v->store, op, to); /* it is empty: ours takes its place, attributes and all */
    return r == 0 || r == -ENOENT ? store_make_dir(m->v->store, op, to, &a) : r;
}

/* Writes down the copies that `batch` names; they were made. */
static int write_copies(struct moving *m, const size_t *batch, size_t n, struct err *err)
{
    struct rename_copy copies[MOVING_UNWRITTEN];
    for (size_t i = 0; i < n; i++) {
        const struct moving_entry *e = &m->entries[batch[i]];
        copies[i] = (struct rename_copy){
            .from = e->from, .from_version = e->attr.version, .to_version = e->version};
    }
    return n ? rename_log_copied(m->v->renames, m->id, copies, n, err) : 0;
}

static int note_copy(struct moving *m, size_t i, struct op *op)
{
    size_t batch[MOVING_UNWRITTEN];
    size_t n = 0;
    count(m, 1);
    lock_acquire(&m->lock);
    m->entries[i].done = true;
    m->unwritten[m->n_unwritten++] = i;
    if (m->n_unwritten == MOVING_UNWRITTEN || m->entries[i].attr.size >= RENAME_LARGE) {
        n = m->n_unwritten;
        memcpy(batch, m->unwritten, n * sizeof(*batch));
        m->n_unwritten = 0;
    }
    lock_release(&m->lock);
    return write_copies(m, batch, n, &op->err);
}

static int copy_entry(void *arg, size_t i, struct op *op)
{
    struct moving *m = arg;
    struct moving_entry *e = &m->entries[i];
    if (e->done || e->keep)
        return 0;
    if (e->attr.kind == ATTR_DIR) {
        int r = copy_marker(m, op, e->from, e->to);
        e->done = r == 0;
        count(m, r == 0);
        return r;
    }
    CLEANUP_ATTR struct attr copy = ATTR_INIT;
    int r = volume_copy_object(m->v, op, e->from, &e->attr, e->to, true, &copy);
    if (r < 0) {
        e->unknown = err_is_unknown(&op->err, r);
        return r;
    }
    memcpy(e->version, copy.version, sizeof(e->version));
    return note_copy(m, i, op);
}

/* Copies that were made go; the source is whole. A copy that somebody has changed or removed meanwhile is theirs. */
static void undo_one(struct moving *m, struct op *op, const struct moving_entry *e, struct err *first)
{
    bool match = m->v->store->caps & CAP_IF_MATCH;
    int r = e->attr.kind == ATTR_DIR ? store_remove_dir(m->v->store, op, e->to)
                                     : store_remove(m->v->store, op, e->to, match ? e->version : NULL);
    bool failed = r < 0 && r != -ENOENT && r != -ESTALE && r != -ENOTEMPTY;
    if (failed && (r == -EINTR || !first->code)) /* the mount ends: what was tried before is tried again, too */
        *first = op->err;
}

int moving_undo(struct moving *m, struct op *op)
{
    struct err first = ERR_INIT;
    const struct moving_entry top = {.to = m->info.to, .attr = {.kind = ATTR_DIR}};
    for (size_t i = 0; i < m->n; i++)
        if (m->entries[i].done && m->entries[i].attr.kind != ATTR_DIR)
            undo_one(m, op, &m->entries[i], &first);
    for (size_t i = m->n; i-- > 0;)
        if (m->entries[i].done && m->entries[i].attr.kind == ATTR_DIR)
            undo_one(m, op, &m->entries[i], &first);
    if (m->made)
        undo_one(m, op, &top, &first);
    if (first.code)
        op->err = first;
    return -first.code;
}

int moving_copy(struct moving *m)
{
    struct volume *v = m->v;
    unsigned threads = v->store->limits.concurrency > COPY_THREADS ? v->store->limits.concurrency
                                                                   : COPY_THREADS;
    int r = 0;
    if (m->marker || m->n == 0) {
        r = copy_marker(m, m->op, m->from, m->to);
        m->made = r == 0;
    }
    if (r == 0)
        r = parallel_each(m->n, threads > COPY_THREADS_MAX ? COPY_THREADS_MAX : threads, copy_entry,
                          m, m->op);
    struct err err = ERR_INIT;
    int written = write_copies(m, m->unwritten, m->n_unwritten, &err);
    m->n_unwritten = 0;
    if (r == 0 && written < 0) {
        m->op->err = err;
        r = written;
    }
    if (r == 0 && (m->marker || m->n == 0))
        volume_parent_has_marker(v, m->to);
    return r;
}

/* ---- the sources ---- */

/* One pass over what is listed at the source now. A page is looked at and goes before the next one is asked for: what
 * another client writes between is in no copy, and must not have time to get lost. */
struct sweep {
    struct moving *m;
    struct strmap entries;       /* of m, by raw_name() */
    struct moving_entry **going; /* of this page */
    size_t n, cap;
    char *changed;               /* the first that is new, or not what was copied; m->changed counts them */
    bool kept;                   /* something stays */
};

/* As the store sorts it: "d" and "d/" are two. */
static char *raw_name(const char *key, const struct attr *a)
{
    return a->kind == ATTR_DIR ? path_dir_prefix(key) : xstrdup(key);
}

/* `e`: what was copied of it, or NULL. */
static void note_changed(struct sweep *s, const char *key, const struct moving_entry *e)
{
    struct moving *m = s->m;
    s->kept = true;
    m->changed++;
    if (!s->changed)
        s->changed = xstrdup(key);
    if (m->changed > TOLD_MAX)
        return;
    if (e)
        log_warn("rename", "%s: %s was written to while it was being renamed: the new content stays there, %s has the old one",
                 m->v->key, key, e->to);
    else
        log_warn("rename", "%s: %s was written while its directory was being renamed: it stays there", m->v->key, key);
}

static int sift(struct sweep *s, const struct list_entry *now)
{
    CLEANUP_FREE char *name = raw_name(now->key, &now->attr);
    struct moving_entry *e = strmap_get(&s->entries, name);
    if (e && e->done && e->attr.kind == ATTR_DIR)
        return 0; /* remove_dirs() */
    if (e && e->done && strcmp(now->attr.version, e->attr.version) == 0) {
        if (s->n == s->cap) {
            s->cap = s->cap ? s->cap * 2 : 64;
            s->going = xrealloc(s->going, s->cap * sizeof(struct moving_entry *));
        }
        s->going[s->n++] = e;
        return 0;
    }
    int swept = e ? 0 : given_up_sweep(s->m->v, s->m->op, now->key);
    if (swept)
        return swept < 0 ? swept : 0;
    s->kept = true;
    if (!e || e->done)
        note_changed(s, now->key, e);
    return 0;
}

/* In one request: the servers that take such have no condition in it. */
static int remove_batch(struct sweep *s)
{
    struct moving *m = s->m;
    CLEANUP_FREE const char **keys = xcalloc(s->n, sizeof(*keys));
    CLEANUP_FREE struct remove_result *results = xcalloc(s->n, sizeof(*results));
    for (size_t i = 0; i < s->n; i++)
        keys[i] = s->going[i]->from;
    int r = store_remove_many(m->v->store, m->op, keys, s->n, results);
    for (size_t i = 0; i < s->n && r == 0; i++)
        if (results[i].code && results[i].code != ENOENT)
            r = err_set(&m->op->err, results[i].code, "%s: %s", keys[i], strerror(results[i].code));
    return r;
}

static int remove_unchanged(void *arg, size_t i, struct op *op)
{
    const struct sweep *s = arg;
    struct store *store = s->m->v->store;
    struct moving_entry *e = s->going[i];
    int r = store_remove(store, op, e->from, store->caps & CAP_IF_MATCH ? e->attr.version : NULL);
    if (r == -ESTALE) { /* or gone */
        CLEANUP_ATTR struct attr now = ATTR_INIT;
        r = store_stat(store, op, e->from, &now);
        e->done = r != 0;
    }
    return r == -ENOENT ? 0 : r;
}

static int remove_page(struct sweep *s)
{
    struct moving *m = s->m;
    int r = 0;
    if (s->n && m->v->store->limits.delete_max)
        r = remove_batch(s);
    else if (s->n)
        r = parallel_each(s->n, COPY_THREADS, remove_unchanged, s, m->op);
    for (size_t i = 0; i < s->n; i++)
        if (!s->going[i]->done)
            note_changed(s, s->going[i]->from, s->going[i]);
    count(m, s->n);
    s->n = 0;
    return r;
}

/* Behind the last name where the server can: there are some (MinIO) whose cursor goes on in what they had listed when
 * the first page was asked for. */
static void next_page(const struct store *store, struct list_page *page, struct list_query *q, char **at)
{
    bool by_name = page->cursor && page->count && !page->unordered && (store->caps & CAP_LIST_AFTER);
    const struct list_entry *last = by_name ? &page->entries[page->count - 1] : NULL;
    free(*at);
    *at = last ? raw_name(last->key, &last->attr) : take_ptr(&page->cursor);
    q->after = last ? *at : NULL;
    q->cursor = last ? NULL : *at;
}

static int sweep_pages(struct sweep *s)
{
    struct moving *m = s->m;
    CLEANUP_FREE char *prefix = path_dir_prefix(m->from);
    CLEANUP_FREE char *at = NULL;
    struct list_query q = {.prefix = prefix, .recursive = true};
    int r = 0;
    do {
        struct list_page page = LIST_PAGE_INIT;
        r = store_list(m->v->store, m->op, &q, &page);
        if (r < 0)
            return r;
        for (size_t i = 0; i < page.count && r == 0; i++)
            if (path_below(page.entries[i].key, m->from))
                r = sift(s, &page.entries[i]);
        r = r == 0 ? remove_page(s) : r;
        next_page(m->v->store, &page, &q, &at);
        list_page_done(&page);
    } while (r == 0 && at);
    return r;
}

/* Directories, deepest first: when something stays, they stay as well. */
static int remove_dirs(struct moving *m)
{
    int r = 0;
    for (size_t i = m->n; i-- > 0 && r == 0;) {
        if (m->entries[i].attr.kind != ATTR_DIR)
            continue;
        r = store_remove_dir(m->v->store, m->op, m->entries[i].from);
        r = r == -ENOENT ? 0 : r;
    }
    if (r == 0 && m->marker)
        r = store_remove_dir(m->v->store, m->op, m->from);
    return r == -ENOENT ? 0 : r;
}

static int changed_error(struct moving *m, const char *first)
{
    if (m->changed == 1)
        return err_set(&m->op->err, EBUSY, "another client has written %s meanwhile", first);
    return err_set(&m->op->err, EBUSY, "another client has written %s and %zu more meanwhile", first, m->changed - 1);
}

int moving_remove(struct moving *m)
{
    struct sweep s = {.m = m};
    for (size_t i = 0; i < m->n; i++) {
        CLEANUP_FREE char *name = raw_name(m->entries[i].from, &m->entries[i].attr);
        (void)strmap_put(&s.entries, name, &m->entries[i]);
    }
    int r = sweep_pages(&s);
    strmap_done(&s.entries);
    free(s.going);
    CLEANUP_FREE char *first = s.changed;
    if (r == 0 && !s.kept)
        r = remove_dirs(m);
    if (r == 0 && first)
        r = changed_error(m, first);
    if (r == 0)
        return 0;
    return err_prefix(&m->op->err, "%s: %s is whole, but not all of %s could be removed", m->v->key,
                      m->to, m->from);
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

/* These cannot be taken away: nobody can tell them from what another client copies there, by a rename of its own for instance,
 * which removes the sources next. */
static void tell_unknown(const struct moving *m)
{
    for (size_t i = 0; i < m->n; i++)
        if (m->entries[i].unknown)
            log_warn("rename", "%s: nobody can say whether %s was copied: %s may be there, or come to be there yet", m->v->key,
                     m->entries[i].from, m->entries[i].to);
}

/* A copy has failed. -EINTR: the mount ends, and the next one goes on. */
static int go_back(struct moving *m)
{
    struct err err = ERR_INIT;
    struct op op; /* the caller's may be cancelled: that is no reason to leave half a tree */
    op_init(&op, "rename", 0);
    moving_phase(m, RENAME_UNDO);
    (void)rename_log_phase(m->v->renames, m->id, RENAME_UNDO, &err);
    int r = moving_undo(m, &op);
    if (r < 0)
        log_warn("rename", "%s: %s was not renamed to %s, and copies of its files stay there%s: %s", m->v->key, m->from, m->to,
                 r == -EINTR ? " until the next start" : "; remove them before it is tried again", err_text(&op.err));
    if (r != -EINTR)
        tell_unknown(m);
    return r;
}

static int remove_sources(struct moving *m)
{
    moving_phase(m, RENAME_REMOVE);
    m->whole = true;
    m->op->durable = true; /* the end of the mount waits for all of it, also for its questions */
    return moving_remove(m);
}

/* Object by object, with the journal. */
static int move_objects(struct moving *m)
{
    struct volume *v = m->v;
    struct rename_log *log = v->renames;
    int r = rename_log_begin(log, m->from, m->to, &m->op->err, &m->id);
    if (r < 0)
        return r;
    r = moving_list(m);
    moving_phase(m, RENAME_COPY);
    if (r == 0)
        r = moving_copy(m);
    if (r == 0)
        r = volume_keep_parent(v, m->op, m->from);
    if (r == 0)
        r = rename_log_phase(log, m->id, RENAME_REMOVE, &m->op->err);
    struct err keep = m->op->err;
    struct err err = ERR_INIT;
    bool over;
    if (r < 0) {
        over = go_back(m) != -EINTR;
    } else {
        r = remove_sources(m);
        keep = m->op->err;
        over = r != -EINTR || op_is_cancelled(m->op); /* else the mount ends: the next one goes on */
    }
    if (over && rename_log_end(log, m->id, &err) < 0)
        log_warn("rename", "%s: %s: the journal keeps its entry: %s", v->key, m->from, err_text(&err));
    m->op->err = keep;
    return r;
}

static int move_tree(struct moving *m)
{
    volume_settle(m->v, NULL);
    if (!(m->v->store->caps & CAP_RENAME_DIR))
        return move_objects(m);
    int r = volume_keep_parent(m->v, m->op, m->from);
    if (r == 0)
        r = store_rename(m->v->store, m->op, m->from, m->to, false);
    m->whole = r == 0;
    return r;
}

void moving_forget(struct moving *m)
{
    struct volume *v = m->v;
    volume_forget_tree(v, m->from);
    volume_forget_tree(v, m->to);
    volume_parents_forget(v, m->from);
}

int volume_rename_dir(struct volume *v, struct op *op, const char *from, const char *to, bool no_replace, bool *ret_begun)
{
    struct moving m;
    size_t held = 0;
    moving_init(&m, v, op, from, to);
    int r = check_target(&m, no_replace);
    if (r == 0) {
        volume_parents_forget(v, to);
        r = moving_hold(&m, &held);
        if (r == 0) {
            *ret_begun = true;
            r = move_tree(&m);
            moving_forget(&m);
            moving_nodes(&m);
        }
        moving_release(&m, held);
    }
    moving_done(&m);
    return r;
}

/* ---- what is going on ---- */

size_t volume_renames(struct volume *v, struct volume_rename_info **ret)
{
    size_t n = 0;
    LOCK_SCOPE(&v->s.lock);
    for (struct moving *m = v->s.renames; m; m = m->next)
        n++;
    *ret = xcalloc(n + 1, sizeof(**ret));
    n = 0;
    for (struct moving *m = v->s.renames; m; m = m->next) {
        struct volume_rename_info *info = &(*ret)[n++];
        *info = m->info;
        info->from = xstrdup(m->info.from);
        info->to = xstrdup(m->info.to);
    }
    return n;
}

void volume_renames_free(struct volume_rename_info *list, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free(list[i].from);
        free(list[i].to);
    }
    free(list);
}
