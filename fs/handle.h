/* SPDX-License-Identifier: MIT
 * handle.h: what fi->fh points to: an open file, directory or view.
 *
 * Made by open/create/opendir, freed by release. A file handle is also listed at its inode, so that a
 * getattr or setattr that comes without a handle reaches a file that has no path any more; such a
 * borrower takes a reference (handle_borrow) for as long as it uses the file.
 * Threads: `file` is used concurrently; `dir` under its lock, one reader at a time. */
#ifndef QUAY_FS_HANDLE_H
#define QUAY_FS_HANDLE_H

#include "base/buf.h"
#include "cache/volume.h"
#include "fs/inode.h"

#include <stdatomic.h>

struct fs;
struct passthrough;

struct handle {
    struct inode *inode;    /* referenced */
    struct handle *next;    /* at the inode */
    struct fs_key *key;     /* entered: its volume stays open for this handle; NULL: of no key */
    struct vfile *file;     /* an open object */
    struct volume_dir *dir; /* an open directory of a key */
    struct buf text;        /* an open view file: its content, frozen at open */
    enum inode_io io;       /* what was claimed for it; 0: nothing (directories, views) */
    bool direct;            /* opened for direct I/O */
    bool writes;            /* a file: opened to be written */
    bool paged;             /* counted in inode.page_handles */
    atomic_uint clean;      /* direct: inode.page_opens when last nobody had pages that our writes made old */
    bool passable;          /* the next open like it may be passed through */
    struct passthrough *through; /* of the mount */
    unsigned refs;          /* 1 for the open itself + borrowers; under the inode table's lock */
    bool dir_read;          /* dir: somebody has begun to read it; under dir_lock's busy */
    bool busy;              /* dir: a readdir is running; under dir_lock */
    struct lock dir_lock;
    struct cond dir_cond;
};

/* An open of inode i (which it references). */
struct handle *handle_new(struct inode_table *t, struct inode *i, struct vfile *file,
                          struct volume_dir *dir);
/* A file that is opened, before the kernel is told: what it has of pages and what a direct one must know of others'. */
void handle_count_pages(struct handle *h, struct inode *i);
/* After a write past the kernel's pages: may the kernel have pages that are older? They are to be dropped then. */
bool handle_made_pages_old(struct handle *h, struct inode *i);
/* Any open file of the inode, referenced; NULL when there is none. One that has lost its name to another
 * version (vfile_is_stale) only with old_too, or when there is no name to ask by. */
struct handle *handle_borrow(struct inode_table *t, struct inode *i, bool old_too);
/* Closes what the kernel has not released (the mount is gone, no request runs any more). */
void handle_close_all(struct inode_table *t);
/* Gives back a reference; the last one closes (may wait for running reads, so: on a worker). */
void handle_release(struct inode_table *t, struct handle *h);

#endif
