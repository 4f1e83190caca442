/* SPDX-License-Identifier: MIT
 * handle.c: see handle.h. */
#include "fs/handle.h"

#include "base/buf.h"
#include "fs/fs.h"
#include "fs/passthrough.h"

struct handle *handle_new(struct inode_table *t, struct inode *i, struct vfile *file,
                          struct volume_dir *dir)
{
    struct handle *h = xcalloc(1, sizeof(*h));
    h->refs = 1;
    h->key = i->key && fs_key_enter(i->key) ? i->key : NULL; /* the request that opens it is in, too */
    h->file = file;
    h->dir = dir;
    lock_init(&h->dir_lock, LOCK_RANK_LEAF, "directory handle");
    cond_init(&h->dir_cond);
    inode_add_handle(t, i, h);
    return h;
}

void handle_count_pages(struct handle *h, struct inode *i)
{
    h->paged = !h->direct;
    if (h->paged) {
        atomic_fetch_add(&i->page_opens, 1);
        atomic_fetch_add(&i->page_handles, 1);
        atomic_fetch_add(&i->page_writers, h->writes);
        return;
    }
    unsigned opens = atomic_load(&i->page_opens);
    atomic_store(&h->clean, atomic_load(&i->page_handles) ? opens - 1 : opens);
}

/* A page that came between the sending of a write and its end came by a handle that is open now, or that was opened
 * after the last time when there was none. */
bool handle_made_pages_old(struct handle *h, struct inode *i)
{
    unsigned opens = atomic_load(&i->page_opens);
    if (atomic_load(&i->page_handles))
        return true;
    return atomic_exchange(&h->clean, opens) != opens;
}

struct handle *handle_borrow(struct inode_table *t, struct inode *i, bool old_too)
{
    return inode_first_handle(t, i, old_too);
}

void handle_close_all(struct inode_table *t)
{
    struct handle *h;
    while ((h = inode_any_handle(t)) != NULL)
        handle_release(t, h);
}

void handle_release(struct inode_table *t, struct handle *h)
{
    int backing = 0;
    uint64_t ino = h && h->inode ? h->inode->ino : 0;
    if (!h || !inode_drop_handle(t, h, &backing))
        return;
    if (backing)
        passthrough_close(h->through, backing);
    if (h->io == INODE_IO_CACHED && h->passable)
        passthrough_left(h->through, ino, h->file);
    if (h->file)
        vfile_release(h->file);
    if (h->dir)
        volume_closedir(h->dir);
    if (h->key)
        fs_key_leave(h->key);
    buf_done(&h->text);
    cond_done(&h->dir_cond);
    lock_done(&h->dir_lock);
    free(h);
}
