/* SPDX-License-Identifier: MIT
 * inode.h: what the kernel knows by number: a tree of names under keys and views.
 *
 * An inode is found by number (every request) or by parent and name (lookup). Its object path is built
 * from its ancestors, so a directory rename moves everything below it. Numbers are derived from key and
 * path, so they are the same after a remount (but for a successor, see fs/passthrough.h), and never shared by
 * two live inodes.
 *
 * Lifetime: nlookup (the kernel's count) + refs (children, open handles, running requests). Freed when
 * both are 0. An unlinked inode keeps its number but has no path; a superseded one likewise, while its name
 * belongs to its successor.
 * Threads: one lock (LOCK_RANK_INODE) inside; no I/O under it. Ownership: inode_ref/unref. */
#ifndef QUAY_FS_INODE_H
#define QUAY_FS_INODE_H

#include "base/lock.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct fs_key;
struct handle;

enum inode_kind {
    INODE_ROOT = 1,
    INODE_VIEW_DIR,  /* .quay */
    INODE_VIEW_FILE, /* a file in it: `view` says which */
    INODE_KEY,       /* the directory of a key */
    INODE_OBJECT     /* anything below */
};

/* How the open handles of an inode read and write (fs/passthrough.h). */
enum inode_io {
    INODE_IO_CACHED = 1, /* the kernel asks us, perhaps for its page cache */
    INODE_IO_PASSED,     /* the kernel uses a file of the cache by itself */
    INODE_IO_FREE,       /* a claim: neither yet, make a number for the file */
    INODE_IO_AGAIN       /* a claim: not with the handles that are open: superseded */
};

#define INODE_TOLD_NONE 0  /* none since it was made to forget them */
#define INODE_TOLD_MANY 1  /* different ones, or it has changed them itself */

struct inode {
    uint64_t ino;
    enum inode_kind kind;
    struct fs_key *key;      /* INODE_KEY, INODE_OBJECT */
    int view;
    struct inode *parent;    /* referenced; NULL for the root */
    char *name;              /* as shown */
    char *segment;           /* as in the object key; `name` itself when that is the same */
    bool shadow;             /* a directory beside an object of the same name */
    bool unlinked;
    uint64_t nlookup;
    unsigned refs;
    _Atomic uint64_t told;   /* stamp of the attributes that the kernel was told; or: */
    struct handle *handles;  /* open files, for requests that come without one */
    atomic_uint page_handles, page_opens; /* that may bring pages of it into the kernel: open now, ever opened */
    atomic_uint page_writers; /* of page_handles: that may change them */
    struct {
        unsigned cached, passed; /* open handles: one of the two is 0 */
        int backing;             /* passed > 0: the kernel's number of the file */
        const void *file;        /* and which file that is */
        uint64_t wary_until_ns;  /* a successor: not passed before whoever needs it so has opened it */
    } io;
    struct inode *successor; /* has the name now; referenced */
    struct inode *next_ino, *next_name; /* hash chains */
};

struct inode_table;

struct inode_table *inode_table_new(void);
void inode_table_free(struct inode_table *t);

struct inode *inode_root(struct inode_table *t);                   /* borrowed */
struct inode *inode_by_number(struct inode_table *t, uint64_t ino); /* referenced; NULL if unknown */
void inode_ref(struct inode_table *t, struct inode *i);
void inode_unref(struct inode_table *t, struct inode *i);          /* NULL ok */

struct inode_spec {
    enum inode_kind kind;
    struct fs_key *key;
    int view;
    const char *name, *segment;
    bool shadow;
};
/* The inode of that name below parent, made if needed, with nlookup and refs each raised by one. */
struct inode *inode_enter(struct inode_table *t, struct inode *parent, const struct inode_spec *spec);
void inode_forget(struct inode_table *t, uint64_t ino, uint64_t nlookup);

/* The number inode_enter would give, for readdir without lookup. */
uint64_t inode_guess(struct inode_table *t, struct inode *parent, const char *name);

/* Object path of i (malloc'd, "" for the key's root), or NULL when it (or an ancestor) is unlinked. */
char *inode_path(struct inode_table *t, struct inode *i);
/* Path of a child segment of directory i. */
char *inode_child_path(struct inode_table *t, struct inode *i, const char *segment);

void inode_unlinked(struct inode_table *t, struct inode *parent, const char *name);
void inode_renamed(struct inode_table *t, struct inode *from, const char *name, struct inode *to,
                   const char *new_name, const char *new_segment, bool shadow);

struct inode_place {
    struct inode *parent;
    const char *name, *segment;
};
/* What is known of each place is at the other now. */
void inode_exchanged(struct inode_table *t, const struct inode_place *a, const struct inode_place *b);

/* The name goes to a new inode; i keeps its handles, its size and its pages. */
void inode_supersede(struct inode_table *t, struct inode *i);
/* The name that it had last (malloc'd), and the number of the directory that it was in. */
char *inode_old_name(struct inode_table *t, const struct inode *i, uint64_t *ret_parent);
/* Does another inode have its name now? Then a request by path is to be answered ESTALE. */
/* Who has the name of a superseded inode now: referenced. NULL: nobody. */
struct inode *inode_successor(struct inode_table *t, struct inode *i);
bool inode_is_superseded(struct inode_table *t, struct inode *i);
/* A new handle of i is about to be answered. claim->file: what it can be passed through to, NULL = nothing;
 * claim->backing: the kernel's number of that, 0 = none yet.
 * PASSED: counted; claim->backing is the number to answer with. CACHED: counted. FREE: nothing is open;
 * claim again with a number. AGAIN: handles are passed to another file, or have an older version: i has lost its
 * name to a successor now, unless it had before. Whoever comes again with that successor is never told AGAIN because
 * of a version: the kernel comes twice only. Given back with the handle, whose `io` is what was claimed. */
struct inode_io_claim {
    const void *file;
    int backing;
    pid_t opener; /* the thread that opens; 0: not in our namespace, INODE_NOBODY: it will not come again */
    bool again;   /* out: this thread was told AGAIN just before */
};
#define INODE_NOBODY ((pid_t)-1)
enum inode_io inode_claim_io(struct inode_table *t, struct inode *i, struct inode_io_claim *claim);
/* Would a claim of i with a file be FREE now? */
bool inode_is_free(struct inode_table *t, const struct inode *i);

/* Open handles of an inode (for getattr and setattr without a handle). */
void inode_add_handle(struct inode_table *t, struct inode *i, struct handle *h);
/* An open file, referenced: see handle_borrow. */
struct handle *inode_first_handle(struct inode_table *t, struct inode *i, bool old_too);
void inode_ref_handle(struct inode_table *t, struct handle *h);
/* Any open handle at all, referenced by its open; NULL when none is left (shutdown). */
struct handle *inode_any_handle(struct inode_table *t);
/* Drops a reference of a handle; true when it was the last (it is then off the inode). *ret_backing: the
 * number that no handle is passed to any more, or 0. */
bool inode_drop_handle(struct inode_table *t, struct handle *h, int *ret_backing);
size_t inode_count(struct inode_table *t);

/* What the kernel may know of a path from the root, as ls shows it ("lake/d/x"): the numbers of its directory
 * and of itself; 0: not known. */
struct inode_numbers {
    uint64_t dir, self;
};
struct inode_numbers inode_numbers_of(struct inode_table *t, const char *shown);

/* The numbers of all inodes of a key whose object path matches (match runs under the table's lock). */
struct inode_query {
    const struct fs_key *key;
    bool (*match)(void *arg, const char *path);
    void *arg;
    uint64_t *numbers; /* the caller frees */
    size_t n;
};
void inode_find_all(struct inode_table *t, struct inode_query *q);

#endif
