/* SPDX-License-Identifier: MIT
 * memory_upload.c: multipart uploads of a memory store: parts are held until finish or abort.
 * A part's etag is the CRC32C of its bytes. */
#include "backends/memory/memory_int.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/crypto.h"

static void upload_free(struct upload *u)
{
    for (size_t i = 0; i < u->n_parts; i++)
        data_unref(u->parts[i]);
    free(u->parts);
    free(u->id);
    free(u->key);
    attr_done(&u->attr);
    free(u);
}

void memory_uploads_done(struct memory *m)
{
    for (struct upload *u = m->sync.uploads, *next; u; u = next) {
        next = u->next;
        upload_free(u);
    }
    m->sync.uploads = NULL;
}

/* The link that leads to the upload; NULL and op->err when there is none. */
static struct upload **find_locked(struct memory *m, struct op *op, const char *key, const char *id)
{
    lock_assert_held(&m->sync.lock);
    for (struct upload **u = &m->sync.uploads; *u; u = &(*u)->next)
        if (strcmp((*u)->id, id) == 0 && strcmp((*u)->key, key) == 0)
            return u;
    err_set(&op->err, ENOENT, "%s: there is no upload '%s'", key, id);
    return NULL;
}

int memory_upload_begin(struct store *s, struct op *op, const struct upload_req *req, char **ret_id)
{
    (void)op;
    struct memory *m = memory_of(s);
    struct upload *u = xcalloc(1, sizeof(*u));
    u->key = xstrdup(req->key);
    attr_copy(&u->attr, req->attr);
    u->attr.kind = req->attr->kind == ATTR_SYMLINK ? ATTR_SYMLINK : ATTR_FILE;
    LOCK_SCOPE(&m->sync.lock);
    u->id = xasprintf("u%llu", (unsigned long long)++m->sync.last_upload);
    u->next = m->sync.uploads;
    m->sync.uploads = u;
    *ret_id = xstrdup(u->id);
    return 0;
}

static void part_etag(const struct mem_data *d, char *out, size_t size)
{
    snprintf(out, size, "%08x-%zx", crc32c(0, d->bytes, d->size), d->size);
}

/* Keeps the data (taken) as part `number`; a repeated number replaces. */
static int keep_part(struct memory *m, struct op *op, const char *key, const char *id,
                     unsigned number, struct mem_data *d)
{
    struct mem_data *old = d;
    int r = -ENOENT;
    {
        LOCK_SCOPE(&m->sync.lock);
        struct upload **u = find_locked(m, op, key, id);
        if (u && number > (*u)->n_parts) {
            (*u)->parts = xrealloc((*u)->parts, number * sizeof((*u)->parts[0]));
            memset((*u)->parts + (*u)->n_parts, 0,
                   (number - (*u)->n_parts) * sizeof((*u)->parts[0]));
            (*u)->n_parts = number;
        }
        struct mem_data **place = u ? &(*u)->parts[number - 1] : NULL;
        size_t drop = place && *place ? (*place)->size : 0;
        if (place)
            r = memory_room_locked(m, op, d->size, drop);
        if (r == 0) {
            m->sync.bytes += d->size - drop;
            old = *place;
            *place = d;
        }
    }
    data_unref(old);
    return r;
}

int memory_upload_part(struct store *s, struct op *op, const char *key, const char *id,
                       const struct source *src, struct store_part *part)
{
    struct mem_data *d = NULL;
    int r = data_from_source(op, src, &d);
    if (r < 0)
        return r;
    char etag[ATTR_VERSION_MAX];
    part_etag(d, etag, sizeof(etag));
    r = keep_part(memory_of(s), op, key, id, part->number, d);
    if (r == 0)
        memcpy(part->etag, etag, sizeof(etag));
    return r;
}

static int copy_range(struct memory *m, struct op *op, const char *from, const char *version,
                      uint64_t offset, uint64_t size, struct mem_data **ret)
{
    struct mem_object *o = NULL;
    struct mem_data *d = NULL;
    int r = memory_snapshot(m, op, from, version, &o);
    if (r < 0)
        return r;
    if (offset > o->data->size || size > o->data->size - offset)
        r = err_set(&op->err, EINVAL, "%s: the range to copy is outside of the object", from);
    else if (!(d = data_new((size_t)size)))
        r = err_set(&op->err, ENOSPC, "no memory for %llu bytes", (unsigned long long)size);
    else
        memcpy(d->bytes, o->data->bytes + offset, (size_t)size);
    object_unref(o);
    *ret = d;
    return r;
}

int memory_upload_copy_part(struct store *s, struct op *op, const char *key, const char *id,
                            const char *from, const char *from_version, uint64_t offset,
                            struct store_part *part)
{
    struct memory *m = memory_of(s);
    struct mem_data *d = NULL;
    int r = copy_range(m, op, from, from_version, offset, part->size, &d);
    if (r < 0)
        return r;
    char etag[ATTR_VERSION_MAX];
    part_etag(d, etag, sizeof(etag));
    r = keep_part(m, op, key, id, part->number, d);
    if (r == 0)
        memcpy(part->etag, etag, sizeof(etag));
    return r;
}

/* All named parts are there, with these etags, and none but the last is too small. */
static int check_parts(struct memory *m, struct op *op, const struct upload *u,
                       const struct store_part *parts, size_t n, uint64_t *ret_size)
{
    *ret_size = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned number = parts[i].number;
        const struct mem_data *d = number && number <= u->n_parts ? u->parts[number - 1] : NULL;
        char etag[ATTR_VERSION_MAX] = "";
        if (d)
            part_etag(d, etag, sizeof(etag));
        if (!d || strcmp(etag, parts[i].etag) != 0)
            return err_set(&op->err, EINVAL, "%s: part %u is not the one that was uploaded", u->key,
                           number);
        if (i + 1 < n && d->size < m->store.limits.part_min)
            return err_set(&op->err, EINVAL, "%s: part %u has less than %llu bytes", u->key, number,
                           (unsigned long long)m->store.limits.part_min);
        *ret_size += d->size;
    }
    return 0;
}

static struct mem_data *join(const struct upload *u, const struct store_part *parts, size_t n,
                             uint64_t size)
{
    struct mem_data *d = data_new((size_t)size);
    size_t at = 0;
    for (size_t i = 0; d && i < n; i++) {
        const struct mem_data *p = u->parts[parts[i].number - 1];
        memcpy(d->bytes + at, p->bytes, p->size);
        at += p->size;
    }
    return d;
}

static uint64_t held_bytes(const struct upload *u)
{
    uint64_t n = 0;
    for (size_t i = 0; i < u->n_parts; i++)
        n += u->parts[i] ? u->parts[i]->size : 0;
    return n;
}

static int drop_upload(struct memory *m, struct op *op, const char *key, const char *id)
{
    struct upload *u;
    {
        LOCK_SCOPE(&m->sync.lock);
        struct upload **link = find_locked(m, op, key, id);
        if (!link)
            return -ENOENT;
        u = *link;
        *link = u->next;
        m->sync.bytes -= held_bytes(u);
    }
    upload_free(u);
    return 0;
}

/* In the turn: the object that the parts make; *ret_held: their bytes. */
static int join_parts(struct memory *m, struct op *op, const char *key, const char *id, const struct store_part *parts,
                      size_t n, const struct precond *pre, uint64_t *ret_held, struct mem_object **ret)
{
    uint64_t size;
    LOCK_SCOPE(&m->sync.lock);
    struct upload **link = find_locked(m, op, key, id);
    if (!link)
        return -ENOENT;
    struct upload *u = *link;
    int r = check_parts(m, op, u, parts, n, &size);
    if (r == 0)
        r = memory_precond_locked(m, op, u->key, pre);
    if (r < 0)
        return r;
    struct mem_data *d = join(u, parts, n, size);
    if (!d)
        return err_set(&op->err, ENOSPC, "no memory for %llu bytes", (unsigned long long)size);
    if (!(u->attr.known & ATTR_HAS_MTIME))
        u->attr.mtime = clock_wall();
    *ret_held = held_bytes(u); /* the object takes the place of its parts */
    *ret = mem_object_new(&u->attr, d);
    return 0;
}

int memory_upload_finish(struct store *s, struct op *op, const char *key, const char *id,
                         const struct store_part *parts, size_t n, const struct precond *pre,
                         struct attr *ret)
{
    struct memory *m = memory_of(s);
    struct mem_object *o = NULL;
    uint64_t held = 0;
    int r = memory_begin(m, op);
    if (r < 0)
        return r;
    r = join_parts(m, op, key, id, parts, n, pre, &held, &o);
    if (r == 0)
        r = memory_set(m, op, key, o, true, held, ret);
    if (r == 0)
        (void)drop_upload(m, op, key, id);
    memory_end(m);
    return r;
}

int memory_upload_abort(struct store *s, struct op *op, const char *key, const char *id)
{
    return drop_upload(memory_of(s), op, key, id);
}
