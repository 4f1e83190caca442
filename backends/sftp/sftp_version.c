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
    v->process = random_below(0x10000);
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

bool versions_alike(const struct version_id *a, const struct version_id *b)
{
    return a->mtime == b->mtime && a->size == b->size && a->inode == b->inode;
}

/* A new file may get the inode of one that was there a few contents before, in the same second. */
static bool near(const struct version_id *a, const struct version_id *b)
{
    return a->mtime == b->mtime && a->size == b->size;
}

static bool equal(const struct version_id *a, const struct version_id *b)
{
    return versions_alike(a, b) && a->mark == b->mark;
}

/* Gives `id` the newest mark of a content like it; false when none is known. */
static bool find_mark_locked(struct versions *v, uint64_t key, struct version_id *id)
{
    __auto_type set = &v->sets[key % VERSION_SETS];
    for (unsigned i = 1; i <= VERSION_WAYS; i++) {
        __auto_type k = &set->known[(set->next_known - i) % VERSION_WAYS];
        if (k->key == key && versions_alike(&k->id, id)) {
            id->mark = k->id.mark;
            return true;
        }
    }
    return false;
}

/* Has a content of the key been called this, as long as it had another time? */
static bool was_near_locked(struct versions *v, uint64_t key, const struct version_id *id)
{
    __auto_type set = &v->sets[key % VERSION_SETS];
    for (unsigned i = 0; i < VERSION_WAYS; i++)
        if (set->same[i].key == key && near(&set->same[i].from, id))
            return true;
    return false;
}

static bool knows_near_locked(struct versions *v, uint64_t key, const struct version_id *id)
{
    __auto_type set = &v->sets[key % VERSION_SETS];
    for (unsigned i = 0; i < VERSION_WAYS; i++)
        if (set->known[i].key == key && near(&set->known[i].id, id))
            return true;
    return was_near_locked(v, key, id);
}

static void remember_locked(struct versions *v, uint64_t key, const struct version_id *id)
{
    __auto_type set = &v->sets[key % VERSION_SETS];
    __auto_type k = &set->known[set->next_known++ % VERSION_WAYS];
    k->key = key;
    k->id = *id;
}

void versions_text(struct versions *v, const char *key, const struct version_id *id,
                   char out[ATTR_VERSION_MAX])
{
    struct version_id at = *id;
    char inode[20] = "", mark[12] = "";
    at.mark = 0;
    lock_acquire(&v->lock);
    (void)find_mark_locked(v, hash_of(key), &at);
    lock_release(&v->lock);
    if (at.inode)
        snprintf(inode, sizeof(inode), ".%llx", (unsigned long long)at.inode);
    if (at.mark)
        snprintf(mark, sizeof(mark), "-%x", at.mark);
    snprintf(out, ATTR_VERSION_MAX, "%llx%s-%llx%s", (unsigned long long)at.mtime, inode,
             (unsigned long long)at.size, mark);
}

/* Hexadecimal digits, 1 to 16 of them; *at goes behind them. */
static bool parse_hex(const char **at, uint64_t *ret)
{
    size_t n = strspn(*at, "0123456789abcdef");
    if (n == 0 || n > 16)
        return false;
    *ret = strtoull(*at, NULL, 16);
    *at += n;
    return true;
}

static bool parse(const char *s, struct version_id *ret)
{
    struct version_id id = {.mark = 0};
    uint64_t mark = 0;
    if (!parse_hex(&s, &id.mtime) || (*s == '.' && (s++, !parse_hex(&s, &id.inode))) ||
        *s++ != '-' || !parse_hex(&s, &id.size) || (*s == '-' && (s++, !parse_hex(&s, &mark))))
        return false;
    if (*s || mark > UINT32_MAX)
        return false;
    id.mark = (uint32_t)mark;
    *ret = id;
    return true;
}

/* A mark of an earlier process. Nothing like it is known here: it is that of what was there at the start. */
static void adopt_locked(struct versions *v, uint64_t key, struct version_id *given, const struct version_id *now)
{
    struct version_id known = *given;
    if (!given->mark || given->mark >> 16 == v->process || find_mark_locked(v, key, &known))
        return;
    if (versions_alike(given, now))
        remember_locked(v, key, given);
    else
        given->mark = 0; /* as it was called when its metadata was changed */
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

bool versions_match(struct versions *v, const char *key, const char *version,
                    const struct version_id *id)
{
    struct version_id now = *id, given;
    uint64_t h = hash_of(key);
    if (!version || !version[0])
        return true;
    if (!parse(version, &given) || given.size != id->size)
        return false;
    now.mark = 0;
    LOCK_SCOPE(&v->lock);
    adopt_locked(v, h, &given, &now);
    (void)find_mark_locked(v, h, &now);
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

static uint32_t new_mark_locked(struct versions *v)
{
    return v->process << 16 | (1 + v->marks++ % 0xffff);
}

/* It gets a mark when a content of the key with this mtime and size is known, or was just there. */
static void note_content_locked(struct versions *v, uint64_t key, const struct version_id *before,
                                const struct version_id *after)
{
    struct version_id id = *after;
    id.mark = knows_near_locked(v, key, &id) || near(before, &id) ? new_mark_locked(v) : 0;
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

void versions_same(struct versions *v, const char *key, const struct version_id *from,
                   const struct version_id *to)
{
    uint64_t h = hash_of(key);
    struct version_id a = *from, b = *to;
    a.mark = b.mark = 0;
    if (versions_alike(from, to))
        return;
    LOCK_SCOPE(&v->lock);
    (void)find_mark_locked(v, h, &a);
    if (find_mark_locked(v, h, &b) || was_near_locked(v, h, &b))
        b.mark = new_mark_locked(v); /* another content had that time */
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
    id.mark = 0;
    LOCK_SCOPE(&v->lock);
    if (find_mark_locked(v, h, &id) && id.mark)
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
