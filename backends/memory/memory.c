/* SPDX-License-Identifier: MIT
 * memory.c: a store in this process: opening, reading, listing. See README.md and memory_int.h. */
#include "backends/memory/memory_save.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/name.h"

#define PAGE_SIZE_DEFAULT 1000
#define MIB (1024ULL * 1024)
#define SAVED_MAX (896 * MIB) /* SQLite's values have 10^9 bytes at most */

static const struct conf_option memory_options[] = {
    {.name = "max_size",
     .type = CONF_SIZE,
     .def = "0",
     .help = "Bytes of objects it holds at most; 0 = what the machine has"},
    {.name = "persist",
     .type = CONF_PATH,
     .help = "An SQLite database: each change is saved there before it is told to be done, and loaded at the next start"},
};

static void next_version_locked(struct memory *m, struct attr *a)
{
    lock_assert_held(&m->sync.lock);
    snprintf(a->version, sizeof(a->version), "%s-%llx", m->instance,
             (unsigned long long)++m->sync.last_version);
}

struct node *memory_object_locked(struct memory *m, const char *key)
{
    return path_is_unnamed(key) ? NULL : tree_find(&m->sync.tree, key);
}

/* The first node whose key begins with the directory's prefix, its own entry among them. */
static struct node *below_locked(struct memory *m, const char *key)
{
    CLEANUP_FREE char *dir = path_dir_prefix(key);
    struct node *n = tree_from(&m->sync.tree, dir);
    return n && strncmp(n->key, dir, strlen(dir)) == 0 ? n : NULL;
}

bool memory_dir_exists_locked(struct memory *m, const char *key)
{
    return key[0] == '\0' || below_locked(m, key) != NULL;
}

int memory_find_locked(struct memory *m, struct op *op, const char *key, struct mem_object **ret)
{
    lock_assert_held(&m->sync.lock);
    struct node *n = memory_object_locked(m, key);
    if (n) {
        *ret = n->object;
        return 0;
    }
    if (memory_dir_exists_locked(m, key))
        return err_set(&op->err, EISDIR, "'%s' is a directory", key);
    return err_set(&op->err, ENOENT, "'%s' is not there", key);
}

int memory_precond_locked(struct memory *m, struct op *op, const char *key,
                          const struct precond *pre)
{
    lock_assert_held(&m->sync.lock);
    struct node *n = tree_find(&m->sync.tree, key);
    if (pre->if_absent && n)
        return err_set(&op->err, EEXIST, "'%s' exists already", key);
    if (pre->if_match && (!n || strcmp(n->object->attr.version, pre->if_match) != 0))
        return err_set(&op->err, ESTALE, "'%s' %s", key,
                       n ? "has changed" : "is not there any more");
    return 0;
}

int memory_room_locked(struct memory *m, struct op *op, uint64_t add, uint64_t drop)
{
    lock_assert_held(&m->sync.lock);
    uint64_t left = m->sync.bytes > drop ? m->sync.bytes - drop : 0;
    if (m->max_size && (add > m->max_size || left > m->max_size - add))
        return err_set(&op->err, ENOSPC, "store '%s' is full: max_size = %llu bytes",
                       m->store.key ? m->store.key : "memory", (unsigned long long)m->max_size);
    return 0;
}

/* ---- changing ---- */

static int load(struct memory *m, struct op *op)
{
    struct tree tree = {0};
    uint64_t bytes = 0;
    int r = mem_save_begin(m->persist, op, &m->save);
    if (r < 0)
        return r;
    r = mem_save_load(m->save, op, &tree, &bytes);
    if (r < 0) {
        tree_done(&tree);
        mem_save_end(m->save);
        m->save = NULL;
        return r;
    }
    LOCK_SCOPE(&m->sync.lock);
    m->sync.tree = tree;
    m->sync.bytes += bytes;
    atomic_store(&m->ready, true);
    return 0;
}

int memory_begin(struct memory *m, struct op *op)
{
    int r = claims_take(&m->turn, op, "");
    if (r < 0)
        return r;
    r = atomic_load(&m->ready) ? 0 : load(m, op);
    if (r < 0)
        claims_release(&m->turn, "");
    return r;
}

void memory_end(struct memory *m)
{
    claims_release(&m->turn, "");
}

int memory_ready(struct memory *m, struct op *op)
{
    if (atomic_load(&m->ready))
        return 0;
    int r = memory_begin(m, op);
    if (r == 0)
        memory_end(m);
    return r;
}

/* What the change puts there has the bytes that are there. */
static void compare_data_locked(struct memory *m, struct mem_change *c)
{
    const struct node *n = tree_find(&m->sync.tree, c->key);
    c->same_data = n && c->o && n->object->data == c->o->data;
}

static struct mem_object *apply_locked(struct memory *m, const struct mem_change *c)
{
    struct mem_object *old = c->o ? tree_set(&m->sync.tree, c->key, c->o) : tree_remove(&m->sync.tree, c->key);
    m->sync.bytes += c->o ? c->o->attr.size : 0;
    m->sync.bytes -= old ? old->attr.size : 0;
    return old;
}

int memory_apply(struct memory *m, struct op *op, struct mem_change *changes, size_t n)
{
    int r = 0;
    if (m->save) {
        lock_acquire(&m->sync.lock);
        for (size_t i = 0; i < n; i++)
            compare_data_locked(m, &changes[i]);
        lock_release(&m->sync.lock);
        r = mem_save_write(m->save, op, changes, n);
    }
    if (r == 0) {
        LOCK_SCOPE(&m->sync.lock);
        for (size_t i = 0; i < n; i++)
            changes[i].o = apply_locked(m, &changes[i]);
    }
    for (size_t i = 0; i < n; i++)
        object_unref(changes[i].o); /* what was there, or what does not come */
    return r;
}

static int admit(struct memory *m, struct op *op, const char *key, struct mem_object *o, bool renew, uint64_t held)
{
    LOCK_SCOPE(&m->sync.lock);
    const struct node *n = tree_find(&m->sync.tree, key);
    int r = memory_room_locked(m, op, o->attr.size, held + (n ? n->object->attr.size : 0));
    if (r == 0 && renew)
        next_version_locked(m, &o->attr); /* nobody else has a reference yet */
    return r;
}

int memory_set(struct memory *m, struct op *op, const char *key, struct mem_object *o, bool renew, uint64_t held,
               struct attr *ret)
{
    int r = admit(m, op, key, o, renew, held);
    if (r == 0) {
        struct mem_change change = {.key = key, .o = object_ref(o)};
        r = memory_apply(m, op, &change, 1);
    }
    if (r == 0 && ret)
        attr_copy(ret, &o->attr);
    object_unref(o);
    return r;
}

/* ---- looking ---- */

static int memory_stat(struct store *s, struct op *op, const char *key, struct attr *ret)
{
    struct memory *m = memory_of(s);
    int r = memory_ready(m, op);
    if (r < 0)
        return r;
    LOCK_SCOPE(&m->sync.lock);
    struct node *n = memory_object_locked(m, key);
    if (n) {
        attr_copy(ret, &n->object->attr);
        return 0;
    }
    if (!memory_dir_exists_locked(m, key))
        return err_set(&op->err, ENOENT, "'%s' is not there", key);
    CLEANUP_FREE char *dir = path_dir_prefix(key);
    n = tree_find(&m->sync.tree, dir);
    if (n)
        attr_copy(ret, &n->object->attr);
    else
        *ret = (struct attr){.kind = ATTR_DIR, .known = ATTR_META};
    return 0;
}

int memory_snapshot(struct memory *m, struct op *op, const char *key, const char *version,
                    struct mem_object **ret)
{
    struct mem_object *o = NULL;
    int r = memory_ready(m, op);
    if (r < 0)
        return r;
    LOCK_SCOPE(&m->sync.lock);
    r = memory_find_locked(m, op, key, &o);
    if (r < 0)
        return r;
    if (version && version[0] && strcmp(version, o->attr.version) != 0)
        return err_set(&op->err, ESTALE, "'%s' has changed", key);
    *ret = object_ref(o);
    return 0;
}

static int memory_read(struct store *s, struct op *op, const struct read_req *req,
                       struct read_res *ret)
{
    struct mem_object *o = NULL;
    int r = memory_snapshot(memory_of(s), op, req->key, req->version, &o);
    if (r < 0)
        return r;
    size_t len = 0;
    if (req->offset < o->data->size) {
        len = o->data->size - (size_t)req->offset;
        if (len > req->iov.iov_len)
            len = req->iov.iov_len;
        memcpy(req->iov.iov_base, o->data->bytes + req->offset, len);
    }
    if (req->on_data && len > 0 && req->on_data(req->on_data_arg, len) != 0)
        r = err_set(&op->err, EINTR, "read %s: stopped by the reader", req->key);
    if (r == 0) {
        attr_copy(&ret->attr, &o->attr);
        ret->length = len;
    }
    object_unref(o);
    return r;
}

/* ---- listing ---- */

static void add_entry(struct list_page *page, const char *key, const struct attr *attr)
{
    struct list_entry *e = list_page_add(page, key);
    if (attr)
        attr_copy(&e->attr, attr);
    else
        e->attr = (struct attr){.kind = ATTR_DIR, .known = ATTR_META};
}

/* Adds the directory whose key with '/' is the first `len` bytes of n's. `own` is its own node or
 * NULL. */
static void add_dir(struct list_page *page, const struct node *n, size_t len,
                    const struct node *own)
{
    CLEANUP_FREE char *prefix = xstrndup(n->key, len);
    CLEANUP_FREE char *dir = path_of_prefix(prefix);
    add_entry(page, dir, own ? &own->object->attr : NULL);
}

/* One entry, and the node where the next begins. *ret_len: how much of n's key the entry is, as it
 * sorts. */
static struct node *add_next_locked(struct memory *m, const struct list_query *q,
                                    struct list_page *page, struct node *n, size_t *ret_len)
{
    size_t len = strlen(n->key);
    const char *slash = strchr(n->key + strlen(q->prefix), '/');
    if (q->recursive || !slash) {
        if (path_is_unnamed(n->key))
            add_dir(page, n, len, n);
        else
            add_entry(page, n->key, &n->object->attr);
        *ret_len = len;
        return n->next[0];
    }
    len = (size_t)(slash + 1 - n->key);
    CLEANUP_FREE char *dir = xstrndup(n->key, len);
    add_dir(page, n, len, tree_find(&m->sync.tree, dir));
    *ret_len = len;
    dir[len - 1] = '/' + 1; /* sorts behind all that begins with dir + '/' */
    return tree_from(&m->sync.tree, dir);
}

/* Where the listing begins: behind the cursor (an entry as it sorts: directories with '/'), or
 * behind `after`, or at the prefix. */
static struct node *start_locked(struct memory *m, const struct list_query *q)
{
    const char *behind = q->cursor ? q->cursor : q->after;
    if (!behind || strcmp(behind, q->prefix) < 0)
        return tree_from(&m->sync.tree, q->prefix);
    if (!q->recursive && path_is_unnamed(behind)) {
        CLEANUP_FREE char *next = xstrdup(behind);
        next[strlen(next) - 1] = '/' + 1;
        return tree_from(&m->sync.tree, next);
    }
    struct node *n = tree_from(&m->sync.tree, behind);
    return n && strcmp(n->key, behind) == 0 ? n->next[0] : n;
}

static int memory_list(struct store *s, struct op *op, const struct list_query *q,
                       struct list_page *ret)
{
    struct memory *m = memory_of(s);
    size_t prefix_len = strlen(q->prefix), max = q->max ? q->max : PAGE_SIZE_DEFAULT;
    int r = memory_ready(m, op);
    if (r < 0)
        return r;
    LOCK_SCOPE(&m->sync.lock);
    struct node *own = path_is_unnamed(q->prefix) ? tree_find(&m->sync.tree, q->prefix) : NULL;
    if (!q->cursor && !q->after)
        ret->dir_exists = prefix_len == 0 || own;
    if (own && ret->dir_exists)
        attr_copy(&ret->dir_attr, &own->object->attr);

    const struct node *last = NULL; /* its first last_len bytes are the last entry, as it sorts */
    size_t last_len = 0;
    for (struct node *n = start_locked(m, q); n;) {
        if (strncmp(n->key, q->prefix, prefix_len) != 0)
            break;
        if (n == own) {
            n = n->next[0]; /* the listed directory itself */
            continue;
        }
        if (ret->count == max) {
            ret->cursor = xstrndup(last->key, last_len);
            break;
        }
        last = n;
        n = add_next_locked(m, q, ret, n, &last_len);
    }
    return 0;
}

static int memory_space(struct store *s, struct op *op, struct store_space *ret)
{
    struct memory *m = memory_of(s);
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    int r = memory_ready(m, op);
    if (r < 0)
        return r;
    LOCK_SCOPE(&m->sync.lock);
    uint64_t total = m->max_size ? m->max_size : (uint64_t)pages * (uint64_t)page;
    uint64_t left = m->sync.bytes < total ? total - m->sync.bytes : 0;
    *ret = (struct store_space){.total = total,
                                .free = left,
                                .avail = left,
                                .files = m->sync.tree.count,
                                .files_free = UINT32_MAX};
    return 0;
}

static int memory_open(const struct conf_section *section, struct stats *stats, struct err *err,
                       struct store **ret)
{
    (void)stats;
    const char *persist = conf_str(section, "persist", NULL);
    const char *refusal = persist ? mem_save_refusal(persist) : NULL;
    if (refusal)
        return conf_error(section, "persist", err, EINVAL, "%s", refusal);
    struct memory *m = xcalloc(1, sizeof(*m));
    m->store = (struct store){
        .cls = &memory_class,
        .base_uri = xasprintf("memory://%s", section->name ? section->name : ""),
        .caps = CAP_WRITE | CAP_IF_MATCH | CAP_RENAME_FILE | CAP_COPY | CAP_PATCH | CAP_UPLOAD |
                CAP_COPY_PART | CAP_SET_META | CAP_LIST_META | CAP_READ_META | CAP_SYMLINK |
                CAP_PRIVATE | CAP_LIST_AFTER | CAP_EXCHANGE,
        .limits = {.upload_threshold = 8 * MIB,
                   .part_size = 4 * MIB,
                   .part_min = 1024,
                   .part_max = 64 * MIB,
                   .parts_max = 10000,
                   .concurrency = 4,
                   .key_max = 4096},
    };
    m->max_size = conf_size(section, "max_size", 0);
    if (persist) {
        m->persist = xstrdup(persist);
        m->store.limits.parts_max = (uint32_t)(SAVED_MAX / m->store.limits.part_max);
        m->store.limits.put_max = SAVED_MAX;
    }
    atomic_init(&m->ready, !persist);
    claims_init(&m->turn, "memory turn");
    random_hex(m->instance, sizeof(m->instance) - 1);
    lock_init(&m->sync.lock, LOCK_RANK_STORE, "memory store");
    *ret = &m->store;
    return 0;
}

static void memory_close(struct store *s)
{
    struct memory *m = memory_of(s);
    mem_save_end(m->save);
    memory_uploads_done(m);
    tree_done(&m->sync.tree);
    lock_done(&m->sync.lock);
    claims_done(&m->turn);
    free(m->persist);
    free(m);
}

const struct store_class memory_class = {
    .abi = STORE_ABI,
    .name = "memory",
    .summary = "objects in the memory of this process, gone at its end or saved in a file",
    .options = memory_options,
    .n_options = ARRAY_LEN(memory_options),
    .open = memory_open,
    .close = memory_close,
    .stat = memory_stat,
    .list = memory_list,
    .read = memory_read,
    .put = memory_put,
    .patch = memory_patch,
    .upload_begin = memory_upload_begin,
    .upload_part = memory_upload_part,
    .upload_copy_part = memory_upload_copy_part,
    .upload_finish = memory_upload_finish,
    .upload_abort = memory_upload_abort,
    .remove = memory_remove,
    .copy = memory_copy,
    .rename = memory_rename,
    .exchange = memory_exchange,
    .set_meta = memory_set_meta,
    .make_dir = memory_make_dir,
    .remove_dir = memory_remove_dir,
    .space = memory_space,
};
