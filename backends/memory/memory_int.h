/* SPDX-License-Identifier: MIT
 * memory_int.h: what the files of this folder share.
 *
 * Objects are immutable snapshots with a reference count; a change makes a new object and swaps the
 * pointer in the tree. So a reader that holds a reference sees the old or the new object, and
 * copies its bytes without the lock.
 *
 * Keys in the tree are those of an object store: an object is stored under its key, an explicit
 * directory under its listing prefix. Directories above objects need no entry.
 *
 * A change is made in its turn (memory_begin ... memory_end): what it needs is looked at under the lock, then it is
 * saved, without the lock, where there is a file (persist), then it is made in memory: memory_apply(). So conditions
 * are exact, readers never wait for the disk, and what cannot be saved has not happened. */
#ifndef QUAY_BACKENDS_MEMORY_MEMORY_INT_H
#define QUAY_BACKENDS_MEMORY_MEMORY_INT_H

#include "backends/claims.h"
#include "backends/memory/memory.h"
#include "base/lock.h"

#include <stdatomic.h>

#define TREE_LEVELS 20

struct mem_data { /* bytes, shared by the objects that have the same content */
    atomic_uint refs;
    size_t size;
    unsigned char bytes[];
};

struct mem_object {
    atomic_uint refs;
    struct attr attr;      /* immutable */
    struct mem_data *data; /* NULL for a directory */
};

struct node { /* of a skip list in byte order of the keys */
    char *key;
    struct mem_object *object; /* the tree's reference */
    unsigned levels;
    struct node *next[];
};

struct tree {
    struct node *head[TREE_LEVELS];
    size_t count;
};

struct mem_change { /* of one key of the tree */
    const char *key;
    struct mem_object *o; /* what is there from now on; NULL: nothing */
    bool same_data;       /* set by memory_apply: only the attributes are new */
};

struct mem_save;

struct upload {
    char *id, *key;
    struct attr attr;
    struct mem_data **parts; /* by number - 1; NULL: not uploaded */
    size_t n_parts;
    struct upload *next;
};

struct memory {
    struct store store;
    uint64_t max_size; /* 0 = no limit */
    char instance[9];  /* random, in every version: a new process must not repeat the old ones */
    struct claims turn;
    char *persist;         /* FILE, or NULL */
    struct mem_save *save; /* with the turn; NULL: not needed, or not opened yet */
    atomic_bool ready;     /* what was saved is in the tree */
    struct {
        struct lock lock;
        struct tree tree;
        struct upload *uploads;
        uint64_t bytes; /* of objects and parts */
        uint64_t last_version, last_upload;
    } sync;
};

static inline struct memory *memory_of(struct store *s)
{
    return (struct memory *)s;
}

/* ---- memory_tree.c ---- */
struct node *tree_find(const struct tree *t, const char *key); /* exactly, or NULL */
struct node *tree_from(const struct tree *t, const char *key); /* the first >= key */
/* Takes o; gives the object that was there, or NULL. */
struct mem_object *tree_set(struct tree *t, const char *key, struct mem_object *o);
struct mem_object *tree_remove(struct tree *t, const char *key); /* gives; NULL: not there */
void tree_done(struct tree *t);

struct mem_data *data_new(size_t size); /* NULL: no memory */
struct mem_data *data_ref(struct mem_data *d);
void data_unref(struct mem_data *d); /* NULL ok */
/* Reads a whole source. -ENOSPC without memory, or what the source says. */
int data_from_source(struct op *op, const struct source *src, struct mem_data **ret);

/* Takes data, copies attr. */
struct mem_object *mem_object_new(const struct attr *attr, struct mem_data *data);
struct mem_object *object_ref(struct mem_object *o);
void object_unref(struct mem_object *o); /* NULL ok */

/* ---- memory.c: changing; without the lock ---- */
/* What was saved is loaded, by the first who comes. 0, or why that failed: the next tries again. */
int memory_ready(struct memory *m, struct op *op);
int memory_begin(struct memory *m, struct op *op); /* the turn; and memory_ready() */
void memory_end(struct memory *m);
/* A reference to the object as it is now, if it has that version (NULL, "": any). */
int memory_snapshot(struct memory *m, struct op *op, const char *key, const char *version,
                    struct mem_object **ret);
/* In the turn: saves the changes and makes them, all or none. Takes the objects; also when it fails. */
int memory_apply(struct memory *m, struct op *op, struct mem_change *changes, size_t n);
/* In the turn: `o` (taken) becomes what is at key, unless max_size forbids it; with `renew` under a new version. `held`
 * bytes become free. The attributes go to ret (NULL ok). */
int memory_set(struct memory *m, struct op *op, const char *key, struct mem_object *o, bool renew, uint64_t held,
               struct attr *ret);

/* ---- memory.c: all with the lock held ---- */
/* The object's node; never that of a directory. */
struct node *memory_object_locked(struct memory *m, const char *key);
/* The object under key, borrowed; -ENOENT, -EISDIR with text. */
int memory_find_locked(struct memory *m, struct op *op, const char *key, struct mem_object **ret);
bool memory_dir_exists_locked(struct memory *m, const char *key); /* explicit or by what is below */
int memory_precond_locked(struct memory *m, struct op *op, const char *key,
                          const struct precond *pre);
/* -ENOSPC when `add` bytes more and `drop` bytes less would pass max_size. Counts nothing. */
int memory_room_locked(struct memory *m, struct op *op, uint64_t add, uint64_t drop);

/* ---- memory_write.c ---- */
int memory_put(struct store *s, struct op *op, const struct put_req *req, struct attr *ret);
int memory_patch(struct store *s, struct op *op, const struct patch_req *req, struct attr *ret);
int memory_remove(struct store *s, struct op *op, const char *key, const char *if_match);
int memory_copy(struct store *s, struct op *op, const char *from, const char *from_version,
                const char *to, const struct precond *pre, struct attr *ret);
int memory_rename(struct store *s, struct op *op, const char *from, const char *to,
                  bool no_replace);
int memory_exchange(struct store *s, struct op *op, const char *a, const char *b);
int memory_set_meta(struct store *s, struct op *op, const char *key, const char *if_match,
                    const struct attr *change, struct attr *ret);
int memory_make_dir(struct store *s, struct op *op, const char *key, const struct attr *attr);
int memory_remove_dir(struct store *s, struct op *op, const char *key);

/* ---- memory_upload.c ---- */
int memory_upload_begin(struct store *s, struct op *op, const struct upload_req *req,
                        char **ret_id);
int memory_upload_part(struct store *s, struct op *op, const char *key, const char *id,
                       const struct source *src, struct store_part *part);
int memory_upload_copy_part(struct store *s, struct op *op, const char *key, const char *id,
                            const char *from, const char *from_version, uint64_t offset,
                            struct store_part *part);
int memory_upload_finish(struct store *s, struct op *op, const char *key, const char *id,
                         const struct store_part *parts, size_t n, const struct precond *pre,
                         struct attr *ret);
int memory_upload_abort(struct store *s, struct op *op, const char *key, const char *id);
void memory_uploads_done(struct memory *m);

#endif
