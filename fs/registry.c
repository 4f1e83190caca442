/* SPDX-License-Identifier: MIT
 * registry.c: the table of keys while the mount runs; see fs.h.
 *
 * users: who may touch k->volume, plus two bits. RETIRED: out of the table; CLOSED: the volume is (being)
 * closed. CLOSED is set once, by whoever finds RETIRED and no users. */
#include "base/clock.h"
#include "fs/fs.h"

#include <string.h>

#define RETIRED (1u << 30)
#define CLOSED (1u << 31)

bool fs_key_enter(struct fs_key *k)
{
    if (!(atomic_fetch_add(&k->users, 1) & CLOSED))
        return true;
    atomic_fetch_sub(&k->users, 1);
    return false;
}

int fs_key_close(struct fs_key *k)
{
    struct op op;
    op_init(&op, "unmount", (unsigned)k->fs->settings.unmount_wait_ms);
    op.durable = true;
    int left = k->volume ? volume_close(k->volume, &op) : 0;
    k->volume = NULL;
    store_close(k->store);
    k->store = NULL;
    if (left > 0)
        log_warn("fs", "%s: %d files are not stored yet; they stay in %s/stage and are uploaded at the next "
                       "start", k->name, left, k->fs->settings.cache.dir);
    return left;
}

static void reap(struct pool_job *job)
{
    struct fs_key *k = (struct fs_key *)(void *)((char *)job - offsetof(struct fs_key, reaper));
    (void)fs_key_close(k);
    log_info("fs", "%s: the last handle of the removed key is closed, and its store", k->name);
}

static void close_unused(struct fs_key *k)
{
    unsigned idle = RETIRED;
    if (!atomic_compare_exchange_strong(&k->users, &idle, RETIRED | CLOSED))
        return;
    k->reaper.run = reap;
    pool_submit(k->fs->reaper, &k->reaper, 1);
}

void fs_key_leave(struct fs_key *k)
{
    if (atomic_fetch_sub(&k->users, 1) == (RETIRED | 1))
        close_unused(k);
}

static struct fs_key *find_locked(struct fs *fs, const char *name)
{
    for (size_t n = 0; n < fs->n_keys; n++)
        if (strcmp(fs->keys[n]->name, name) == 0)
            return fs->keys[n];
    return NULL;
}

struct fs_key *fs_key_get(struct fs *fs, const char *name)
{
    LOCK_SCOPE(&fs->registry);
    struct fs_key *k = find_locked(fs, name);
    return k && fs_key_enter(k) ? k : NULL;
}

struct fs_keys fs_keys_get(struct fs *fs)
{
    LOCK_SCOPE(&fs->registry);
    struct fs_keys all = {.v = xcalloc(fs->n_keys + 1, sizeof(*all.v))};
    for (size_t n = 0; n < fs->n_keys; n++)
        if (fs_key_enter(fs->keys[n]))
            all.v[all.n++] = fs->keys[n];
    return all;
}

void fs_keys_put(struct fs_keys *keys)
{
    for (size_t n = 0; n < keys->n; n++)
        fs_key_leave(keys->v[n]);
    free(keys->v);
    *keys = (struct fs_keys){0};
}

struct inode *fs_key_inode(struct fs *fs, const char *name)
{
    LOCK_SCOPE(&fs->registry);
    struct inode_spec spec = {.kind = INODE_KEY, .key = find_locked(fs, name), .name = name,
                              .segment = ""};
    return spec.key ? inode_enter(fs->inodes, inode_root(fs->inodes), &spec) : NULL;
}

void fs_key_add(struct fs *fs, struct fs_key *k)
{
    LOCK_SCOPE(&fs->registry);
    fs->keys = xrealloc(fs->keys, (fs->n_keys + 1) * sizeof(*fs->keys));
    fs->keys[fs->n_keys++] = k;
}

/* Its place: the new key's, or nobody's. */
static void replace_locked(struct fs *fs, const struct fs_key *old, struct fs_key *k)
{
    for (size_t n = 0; n < fs->n_keys; n++) {
        if (fs->keys[n] != old)
            continue;
        if (k)
            fs->keys[n] = k;
        else
            memmove(&fs->keys[n], &fs->keys[n + 1], (--fs->n_keys - n) * sizeof(*fs->keys));
        return;
    }
}

void fs_key_retire(struct fs *fs, struct fs_key *old, struct fs_key *k)
{
    lock_acquire(&fs->registry);
    replace_locked(fs, old, k);
    fs->old = xrealloc(fs->old, (fs->n_old + 1) * sizeof(*fs->old));
    fs->old[fs->n_old++] = old;
    inode_unlinked(fs->inodes, inode_root(fs->inodes), old->name);
    lock_release(&fs->registry);
    atomic_fetch_or(&old->users, RETIRED);
    close_unused(old);
    if (fs->session && !fuse_session_exited(fs->session))
        (void)fuse_lowlevel_notify_inval_entry(fs->session, FUSE_ROOT_ID, old->name,
                                               strlen(old->name));
}
