/* SPDX-License-Identifier: MIT
 * memory_tree.c: the ordered map of a memory store (a skip list), and its counted objects.
 * The tree is used under the store's lock; reference counts are atomic, the rest of an object never
 * changes after it was made. */
#include "backends/memory/memory_int.h"

#include "base/cleanup.h"
#include "base/strmap.h"

/* Level of a new node: 1 + the number of trailing zero bits of a random number, that is its key's
 * seeded hash: remote names cannot choose it. */
static unsigned level_of(const char *key)
{
    uint64_t h = hash_bytes(key, strlen(key)) | (1ULL << (TREE_LEVELS - 1));
    return 1 + (unsigned)__builtin_ctzll(h);
}

/* The links that lead to the first node >= key, one for each level. */
static void find_links(struct tree *t, const char *key, struct node **links[TREE_LEVELS])
{
    struct node **row = t->head;
    for (unsigned l = TREE_LEVELS; l-- > 0;) {
        while (row[l] && strcmp(row[l]->key, key) < 0)
            row = row[l]->next;
        links[l] = &row[l];
    }
}

struct node *tree_from(const struct tree *t, const char *key)
{
    struct node *const *row = t->head;
    for (unsigned l = TREE_LEVELS; l-- > 0;)
        while (row[l] && strcmp(row[l]->key, key) < 0)
            row = row[l]->next;
    return row[0];
}

struct node *tree_find(const struct tree *t, const char *key)
{
    struct node *n = tree_from(t, key);
    return n && strcmp(n->key, key) == 0 ? n : NULL;
}

/* Gives the object that was there, or NULL. */
struct mem_object *tree_set(struct tree *t, const char *key, struct mem_object *o)
{
    struct node **links[TREE_LEVELS];
    find_links(t, key, links);
    struct node *n = *links[0];
    if (n && strcmp(n->key, key) == 0) {
        struct mem_object *old = n->object;
        n->object = o;
        return old;
    }
    unsigned levels = level_of(key);
    n = xcalloc(1, sizeof(*n) + levels * sizeof(n->next[0]));
    n->key = xstrdup(key);
    n->object = o;
    n->levels = levels;
    for (unsigned l = 0; l < levels; l++) {
        n->next[l] = *links[l];
        *links[l] = n;
    }
    t->count++;
    return NULL;
}

struct mem_object *tree_remove(struct tree *t, const char *key)
{
    struct node **links[TREE_LEVELS];
    find_links(t, key, links);
    struct node *n = *links[0];
    if (!n || strcmp(n->key, key) != 0)
        return NULL;
    for (unsigned l = 0; l < n->levels; l++)
        *links[l] = n->next[l];
    struct mem_object *o = n->object;
    free(n->key);
    free(n);
    t->count--;
    return o;
}

void tree_done(struct tree *t)
{
    for (struct node *n = t->head[0], *next; n; n = next) {
        next = n->next[0];
        object_unref(n->object);
        free(n->key);
        free(n);
    }
    *t = (struct tree){0};
}

struct mem_data *data_new(size_t size)
{
    struct mem_data *d = malloc(sizeof(*d) + size);
    if (!d)
        return NULL;
    atomic_init(&d->refs, 1);
    d->size = size;
    return d;
}

struct mem_data *data_ref(struct mem_data *d)
{
    atomic_fetch_add(&d->refs, 1);
    return d;
}

void data_unref(struct mem_data *d)
{
    if (d && atomic_fetch_sub(&d->refs, 1) == 1)
        free(d);
}

#define STEP (1024UL * 1024)

int data_from_source(struct op *op, const struct source *src, struct mem_data **ret)
{
    struct mem_data *d = src->size > SIZE_MAX / 2 ? NULL : data_new((size_t)src->size);
    if (!d)
        return err_set(&op->err, ENOSPC, "no memory for %llu bytes", (unsigned long long)src->size);
    for (size_t off = 0; off < d->size;) {
        size_t n = d->size - off < STEP ? d->size - off : STEP;
        int r = op_check(op);
        if (r == 0) {
            r = src->read_at(src, off, d->bytes + off, n);
            if (r < 0)
                err_set(&op->err, -r, "reading the data to store: %s", strerror(-r));
        }
        if (r < 0) {
            data_unref(d);
            return r;
        }
        off += n;
    }
    *ret = d;
    return 0;
}

struct mem_object *mem_object_new(const struct attr *attr, struct mem_data *data)
{
    struct mem_object *o = xcalloc(1, sizeof(*o));
    atomic_init(&o->refs, 1);
    attr_copy(&o->attr, attr);
    o->attr.known |= ATTR_META;
    o->attr.size = data ? data->size : 0;
    o->data = data;
    return o;
}

struct mem_object *object_ref(struct mem_object *o)
{
    atomic_fetch_add(&o->refs, 1);
    return o;
}

void object_unref(struct mem_object *o)
{
    if (!o || atomic_fetch_sub(&o->refs, 1) != 1)
        return;
    data_unref(o->data);
    attr_done(&o->attr);
    free(o);
}
