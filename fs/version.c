/* SPDX-License-Identifier: MIT
 * version.c: see version.h. */
#include "fs/version.h"

#include "base/buf.h"
#include "fs/handle.h"

#include <string.h>

static bool is_outdated(struct fs *fs, struct inode *i)
{
    struct handle *h = handle_borrow(fs->inodes, i, true);
    bool old = h && vfile_is_outdated(h->file);
    handle_release(fs->inodes, h);
    return old;
}

struct inode *version_enter(struct fs *fs, struct inode *parent, const struct inode_spec *spec)
{
    for (;;) {
        struct inode *i = inode_enter(fs->inodes, parent, spec);
        if (!is_outdated(fs, i))
            return i;
        inode_supersede(fs->inodes, i);
        inode_forget(fs->inodes, i->ino, 1);
        inode_unref(fs->inodes, i);
    }
}

struct entry_job {
    struct pool_job job;
    struct fs *fs;
    uint64_t parent;
    char *name;
};

static void forget_entry(struct pool_job *job)
{
    struct entry_job *j = (struct entry_job *)job;
    if (!fuse_session_exited(j->fs->session))
        (void)fuse_lowlevel_notify_inval_entry(j->fs->session, j->parent, j->name, strlen(j->name));
    free(j->name);
    free(j);
}

void version_forget_entry(struct fs *fs, uint64_t parent, const char *name)
{
    struct entry_job *j = xcalloc(1, sizeof(*j));
    *j = (struct entry_job){.job.run = forget_entry, .fs = fs, .parent = parent, .name = xstrdup(name)};
    pool_submit(fs->behind, &j->job, 1);
}

bool version_is_left(struct fs *fs, struct inode *i)
{
    if (inode_is_superseded(fs->inodes, i))
        return true;
    if (!is_outdated(fs, i))
        return false;
    inode_supersede(fs->inodes, i);
    uint64_t parent = 0;
    CLEANUP_FREE char *name = inode_old_name(fs->inodes, i, &parent);
    version_forget_entry(fs, parent, name);
    return true;
}
