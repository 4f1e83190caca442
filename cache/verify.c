/* SPDX-License-Identifier: MIT
 * verify.c: reads all blocks and compares checksums (`quayctl cache verify`).
 * Invariant: every object that is looked at is referenced, every block pinned. */
#include "cache/object_int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct verify {
    struct cache_verify *req;
    struct cache_object **objects;
    size_t n;
    uint64_t done, total;
};

static void collect(struct verify *v, struct cache *c, const char *key)
{
    LOCK_SCOPE(&c->lock);
    v->objects = xcalloc(c->s.count ? c->s.count : 1, sizeof(struct cache_object *));
    for (size_t i = 0; i < c->s.n_buckets; i++)
        for (struct cache_object *o = c->s.by_name[i]; o; o = o->next_name) {
            if (o->n_blocks == 0 || (key && strcmp(key, o->key->name) != 0))
                continue;
            o->refs++;
            v->total += o->bytes;
            v->objects[v->n++] = o;
        }
}

/* Copies and pins the first block at or behind `no`; NULL at the end. */
static struct block *pin_next(struct cache_object *o, uint32_t no, struct extent **ret,
                              uint32_t *ret_n)
{
    LOCK_SCOPE(&o->cache->lock);
    for (uint32_t i = 0; i < o->n_blocks; i++) {
        struct block *b = o->blocks[i];
        if (b->no < no || b->leaving || b->set.n == 0)
            continue;
        b->pins++;
        *ret_n = b->set.n;
        *ret = xcalloc(b->set.n, sizeof(**ret));
        memcpy(*ret, extents_array(&b->set), b->set.n * sizeof(**ret));
        return b;
    }
    return NULL;
}

static void verify_block(struct verify *v, struct block *b, const struct extent *e, uint32_t n)
{
    struct cache_object *o = b->object;
    for (uint32_t i = 0; i < n; i++) {
        v->req->checked++;
        v->done += e[i].len;
        if (blockfile_check(o, b, e[i]) != -EILSEQ)
            continue;
        v->req->n_bad++;
        struct cache_bad bad = {.key = o->key->name,
                                .path = o->path,
                                .version = o->version,
                                .size = o->size,
                                .off = b->no * o->cache->set.block_size + e[i].off,
                                .len = e[i].len};
        if (v->req->bad)
            v->req->bad(v->req->arg, &bad);
    }
}

int cache_verify(struct cache *c, const char *key, struct cache_verify *req)
{
    struct verify v = {.req = req};
    int stop = 0;
    req->checked = req->n_bad = 0;
    behind_flush(c);
    collect(&v, c, key);
    for (size_t i = 0; i < v.n; i++) {
        struct cache_object *o = v.objects[i];
        struct block *b;
        struct extent *e = NULL;
        uint32_t n = 0;
        for (uint32_t no = 0; !stop && (b = pin_next(o, no, &e, &n)); no++) {
            no = b->no;
            verify_block(&v, b, e, n);
            free(e);
            cache_object_unpin(o, no * c->set.block_size, 1);
            stop = req->progress ? req->progress(req->arg, v.done, v.total) : 0;
        }
        cache_object_put(o);
    }
    free(v.objects);
    return stop ? -EINTR : 0;
}
