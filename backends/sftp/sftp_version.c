/* SPDX-License-Identifier: MIT
 * sftp_version.c: see sftp_version.h. A key's set is chosen by its hash; a set forgets the oldest
 * of its ways. Two keys with one 64-bit hash would share marks, which costs a refetch at worst. */
#include "backends/sftp/sftp_version.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/strmap.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void versions_init(struct versions *v)
{
    lock_init(&v->lock, LOCK_RANK_STORE, "sftp versions");
    v->sets = xcalloc(VERSION_SETS, sizeof(*v->sets));
}

void versions_done(struct versions *v)
{
    lock_done(&v->lock);
    free(v->sets);
    v->sets = NULL;
}

static uint64_t hash_of(const char *key)
{
    uint64_t h = hash_bytes(key, strlen(key));
    return h ? h : 1;
}

static bool equal(const struct version_id *a, const struct version_id *b)
{
    return a->mtime == b->mtime && a->size == b->size && a->mark == b->mark;
}

/* The newest mark of a content with these; false when none is known. */
static bool find_mark_locked(struct versions *v, uint64_t key, uint32_t mtime, uint64_t size,
                             uint32_t *ret)
{
    __auto_type set = &v->sets[key % VERSION_SETS];
    for (unsigned i = 1; i <= VERSION_WAYS; i++) {
        __auto_type k = &set->known[(set->next_known - i) % VERSION_WAYS];
        if (k->key == key && k->id.mtime == mtime && k->id.size == size) {
            *ret = k->id.mark;
            return true;
        }
    }
    return false;
}

static void remember_locked(struct versions *v, uint64_t key, const struct version_id *id)
{
    __auto_type set = &v->sets[key % VERSION_SETS];
    __auto_type k = &set->known[set->next_known++ % VERSION_WAYS];
    k->key = key;
    k->id = *id;
}

void versions_text(struct versions *v, const char *key, uint32_t mtime, uint64_t size,
                   char out[ATTR_VERSION_MAX])
{
    uint32_t mark = 0;
    lock_acquire(&v->lock);
    (void)find_mark_locked(v, hash_of(key), mtime, size, &mark);
    lock_release(&v->lock);
    if (mark)
        snprintf(out, ATTR_VERSION_MAX, "%x-%llx-%x", mtime, (unsigned long long)size, mark);
    else
        snprintf(out, ATTR_VERSION_MAX, "%x-%llx", mtime, (unsigned long long)size);
}

static bool parse(const char *s, struct version_id *ret)
{
    unsigned mtime, mark = 0;
    unsigned long long size;
    int end = 0;
    if (sscanf(s, "%8x-%16llx%n", &mtime, &size, &end) != 2 || end == 0)
        return false;
    s += end;
    end = 0;
    if (*s && (sscanf(s, "-%8x%n", &mark, &end) != 1 || s[end]))
        return false;
    *ret = (struct version_id){.mtime = mtime, .mark = mark, .size = size};
    return true;
}

/* One step along the changes that left the content. */
static bool follow_locked(struct versions *v, uint64_t key, struct version_id *id)
{
    __auto_type set = &v->sets[key % VERSION_SETS];
    for (unsigned i = 1; i <= VERSION_WAYS; i++) {
        __auto_type k = &set->same[(set->next_same - i) % VERSION_WAYS];
        if (k->key == key && equal(&k->from, id)) {
            *id = k->to;
            return true;
        }
    }
    return false;
}

bool versions_match(struct versions *v, const char *key, const char *version, uint32_t mtime,
                    uint64_t size)
{
    struct version_id now = {.mtime = mtime, .size = size}, given;
    uint64_t h = hash_of(key);
    if (!version || !version[0])
        return true;
    if (!parse(version, &given) || given.size != size)
        return false;
    LOCK_SCOPE(&v->lock);
    (void)find_mark_locked(v, h, mtime, size, &now.mark);
    for (unsigned steps = 0; steps <= VERSION_WAYS; steps++) {
        if (equal(&given, &now))
            return true;
        if (!follow_locked(v, h, &given))
            break;
    }
    return false;
}

void versions_change(struct versions *v, const char *key)
{
    LOCK_SCOPE(&v->lock);
    v->sets[hash_of(key) % VERSION_SETS].active++;
}

static uint32_t new_mark(void)
{
    return 1 + random_below(UINT32_MAX - 1);
}

/* `id` gets a mark when a content of the key with this mtime and size is known, or was just there.
 */
static void note_content_locked(struct versions *v, uint64_t key, const struct version_id *before,
                                const struct version_id *after)
{
    struct version_id id = *after;
    uint32_t mark = 0;
    bool known = find_mark_locked(v, key, id.mtime, id.size, &mark);
    if (known || (before->size == id.size && before->mtime == id.mtime))
        id.mark = new_mark();
    remember_locked(v, key, &id);
}

void versions_changed(struct versions *v, const char *key, const struct version_id *before,
                      const struct version_id *after)
{
    uint64_t h = hash_of(key);
    LOCK_SCOPE(&v->lock);
    note_content_locked(v, h, before, after);
    v->sets[h % VERSION_SETS].active--;
    v->sets[h % VERSION_SETS].completed++;
}

void versions_unchanged(struct versions *v, const char *key)
{
    LOCK_SCOPE(&v->lock);
    v->sets[hash_of(key) % VERSION_SETS].active--;
    v->sets[hash_of(key) % VERSION_SETS].completed++;
}

void versions_same(struct versions *v, const char *key, uint32_t from, uint32_t to, uint64_t size)
{
    uint64_t h = hash_of(key);
    struct version_id a = {.mtime = from, .size = size}, b = {.mtime = to, .size = size};
    if (from == to)
        return;
    LOCK_SCOPE(&v->lock);
    (void)find_mark_locked(v, h, from, size, &a.mark);
    uint32_t mark = 0;
    if (find_mark_locked(v, h, to, size, &mark))
        b.mark = new_mark(); /* another content had that time */
    remember_locked(v, h, &b);
    __auto_type set = &v->sets[h % VERSION_SETS];
    __auto_type k = &set->same[set->next_same++ % VERSION_WAYS];
    k->key = h;
    k->from = a;
    k->to = b;
}

void versions_moved(struct versions *v, const char *from, const char *to,
                    const struct version_id *replaced, const struct version_id *moved)
{
    uint64_t h = hash_of(from), g = hash_of(to);
    struct version_id id = *moved;
    LOCK_SCOPE(&v->lock);
    if (find_mark_locked(v, h, id.mtime, id.size, &id.mark) && id.mark)
        remember_locked(v, g, &id); /* the same version under the new name */
    else
        note_content_locked(v, g, replaced, &id);
}

bool versions_stable(struct versions *v, const char *key, uint64_t *ret)
{
    LOCK_SCOPE(&v->lock);
    *ret = v->sets[hash_of(key) % VERSION_SETS].completed;
    return v->sets[hash_of(key) % VERSION_SETS].active == 0;
}
