/* SPDX-License-Identifier: MIT
 * volume_int.h: what the files behind volume.h share. See the head of file.c for the states of a vnode.
 *
 * Three kinds of exclusion, always taken in this order:
 *  1. name lock (struct name_lock): this operation changes what `path` names (or, NAME_TREE, what is
 *     named below it). Held across network I/O. NAME_SHARED keeps a path still while it is opened.
 *  2. token of a vnode (vnode_begin): who changes content, path or version of this vnode. Held across
 *     I/O. A commit holds it, so writers wait for a commit and never touch a file being uploaded.
 *  3. struct locks, for memory only: volume.s.lock, then vnode.lock.
 * Several tokens are taken only under a name lock that covers all: nobody else who takes several wants one of them.
 * (conflict.c makes a vnode with its token, beside the one it has: that is no waiting.)
 * Token and name lock are waited for by running threads only, never by queued jobs. */
#ifndef QUAY_CACHE_VOLUME_INT_H
#define QUAY_CACHE_VOLUME_INT_H

#include "base/lock.h"
#include "base/name.h"
#include "base/strmap.h"
#include "cache/ranges.h"
#include "cache/lookahead.h"
#include "cache/meta.h"
#include "cache/sent_patch.h"
#include "cache/volume.h"

#include <stdatomic.h>

struct keeper;
struct stage;
struct stage_file;
struct undo;
struct commit_job;
struct stream;
struct moving;
struct rename_log;
struct given_up;
struct left_upload;

enum name_mode { NAME_SHARED = 1, NAME_EXCL, NAME_TREE };

struct name_lock { /* on the caller's stack */
    const char *path[2]; /* [1] may be NULL */
    enum name_mode mode;
    struct name_lock *next;
};

struct volume {
    char *key;
    struct store *store;
    struct volume_policy policy;
    struct cache *cache;
    struct stats *stats;
    struct pool *pool;      /* what fs and the retrier run; may wait for `fetch` */
    struct pool *fetch;     /* fetches of readers: wait for nobody */
    struct meta *meta;
    struct walk *walk;      /* asks ahead */
    struct lookahead *ahead;
    struct stage *stage;
    struct rename_log *renames;
    struct keeper *keeper;  /* of what is pinned */
    struct upload_watch upload_watch; /* left_upload.c */
    struct timespec opened; /* mtime of directories that have none */
    bool keep_blocks;
    atomic_size_t copies;   /* vnodes with copy_of */
    atomic_size_t given_ups; /* in s.given_up */
    uint64_t halted_ns, answered; /* of the thread that ends the mount: since when, store_answered() then */
    bool silent;            /* volume_drain: the store is silent */
    atomic_bool list_serially; /* the store's order is not what parts of a listing need */
    struct stat_counter *pending_bytes, *pending_files, *conflicts;
    struct {
        struct lock lock;
        struct cond cond;          /* retrier; closing; what is given up */
        struct cond names_free;    /* a name lock is: apart, or every lookup would wake the retrier */
        struct strmap nodes;       /* path -> struct vnode, attached ones */
        struct name_lock *names;   /* held */
        struct strmap seen;        /* path -> malloc'd version that the kernel last opened */
        struct strmap parents;     /* directory -> struct parent (names.c) */
        struct vnode *due;         /* scheduled for a commit in the background */
        struct commit_job *running; /* background.c */
        size_t dirty;              /* vnodes with staged content */
        struct given_up *given_up; /* given_up.h */
        struct op *looking;        /* of the job that looks for those, or NULL */
        struct {                   /* left_upload.c */
            struct left_upload *first;
            size_t n;
            uint64_t due_ns;       /* when they are to be aborted again */
            unsigned tries;        /* since the store was known to answer */
            struct op *op;         /* of the job that does so, or NULL */
        } left;
        struct moving *renames;    /* of directories, object by object */
        unsigned jobs;             /* background commits running or queued */
        uint64_t settle_ns;        /* when forgotten journal rows are to go (stage.h); 0: there are none */
        bool stopping;
        bool retired;              /* nothing new is staged */
    } s;
    pthread_t retrier;
    bool retrier_runs;
    pthread_t resumer;      /* rename_resume.c */
    bool resumer_runs;
    struct op *resuming;    /* s.lock: of the rename being resumed, to be cancelled */
};

/* A version of an object that is being read: counted, closed by a job of volume.pool as a reader
 * closes only when its calls are done. */
struct base {
    struct pool_job job;
    atomic_uint refs;
    struct volume *v;
    struct cache_object *object;
    struct reader *reader;
    uint64_t size;
    char version[ATTR_VERSION_MAX];
};

enum vnode_pre { PRE_NONE = 0, PRE_MATCH, PRE_ABSENT };

struct read_state;

/* One path with local state; shared by its handles. */
struct vnode {
    struct volume *v;
    /* under volume.s.lock */
    char *path;           /* changed only with the token: who has it may read without the lock */
    unsigned refs;
    unsigned handles, writers; /* open vfiles; those for writing */
    bool attached;        /* found in volume.s.nodes */
    bool left;            /* the name is known to mean another version: the next open makes a new vnode */
    bool scheduled;       /* in volume.s.due */
    bool queued;          /* a background commit is queued or runs */
    struct vnode *next_due;
    uint64_t due_ns;

    struct lock lock;
    struct cond cond;
    bool busy;            /* the token */
    bool committing;      /* the token's holder uploads or changes the version at the store */
    bool adopting;        /* its stage file is becoming a file of the cache: new reads are parked */
    unsigned reads;       /* reader calls in flight or parked */
    struct read_state *parked; /* reads to be begun again when `committing` ends */
    struct op *background; /* of the job that has the token, if it is a job; to be cancelled */
    unsigned cancels;     /* in a row */
    struct op *upload;    /* of the attempt to store it that is under way, or NULL */
    struct given_up *flying; /* its name was removed during that */

    /* written with token and lock; read with either */
    bool dirty;           /* staged content that is not in the store */
    bool unlinked;        /* no name any more: never uploaded */
    bool conflict;        /* a conflict copy that waits; stale: what it had is one now, under `path` */
    bool unflushed;       /* written since it was stored, or promised by the journal */
    bool journaled;       /* has a row in the journal */
    bool incomplete;      /* base bytes were lost: conflict copies only */
    bool stamped;         /* somebody has set its mtime since it was written */
    struct attr attr;     /* complete (volume_complete); attr.size is the current size; known = what is
                             to be stored with the object; version = of the base */
    struct base *base;    /* NULL: nothing of an older version is needed */
    uint64_t base_gen;    /* counts changes of base */
    uint64_t as_of_ns;    /* when the base was known to be what is at the store */
    uint64_t base_len;    /* of the base, what is still content */
    char *copy_of;        /* the base is a version of this path instead (file_copy.c), or NULL */
    enum vnode_pre pre;   /* condition of the next commit */
    char pre_version[ATTR_VERSION_MAX];
    struct sent_patches sent; /* by this process or an earlier one, which may have left a half */
    bool excl;            /* made by O_EXCL: losing is -EEXIST, else -ESTALE */
    uint64_t assumed_ns;  /* made, and truncated, without asking the store, then; 0: it was asked */
    struct ranges staged;
    struct stage_file *file; /* NULL: none yet, or closed while it waits (file_name is set) */
    char *file_name;      /* of it, or of its journal row */
    char *old_name;       /* row and file of what was promised before the file was cut; NULL: none, and always
                             when `journaled` */
    bool in_row;          /* the row of that name has the content: there is no such file */
    bool name_synced;     /* the name of `file` is on disk: else its first row waits for that */
    bool saved;           /* in_row: just the content that `file` has, or had when it was closed */
    bool promised;        /* the row promises bytes of `file` (it is its file), by the number `promise` */
    uint64_t promise;
    struct undo *undo;    /* of the row that is in the journal (of old_name, if set): what was changed since; or NULL */
    struct stream *stream; /* the upload that runs while it is written (stream.h), or NULL */
    bool maybe_stored;    /* an attempt to store it has ended, here or in an earlier process, and nobody knows how: who
                             removes the name has to look */
    bool restamp;         /* its metadata was changed after what is, or may come to be, at the store had been sent */
    uint64_t reserved;    /* of cache_reserve_dirty */
    struct timespec since;
    unsigned attempts;
    struct err last;      /* why the last commit failed */

    unsigned passes;      /* handles that are passed through (file_pass.c) */
    struct cache_object *pass; /* to this file; NULL: passes == 0 */
    bool taken;           /* `file` is that file, or was of a handle that is closed now */

    atomic_bool stale;    /* the name means another version: all handles get -ESTALE */
    bool kernel;          /* volume.s.lock: opened before: the kernel's pages are of this vnode */
};

struct vfile {
    struct volume *v;
    struct vnode *n;
    unsigned flags;
    bool wrote;           /* vnode.lock */
    bool passed;          /* vnode.lock */
    bool unflushed;       /* vnode.lock: this handle has changed the file since its last flush */
    struct base *direct;  /* vnode.lock: VFILE_DIRECT's own reader of the base number direct_gen */
    uint64_t direct_gen;
};

/* ---- policy.c ---- */
/* Fills what the store does not know from the policy: attributes for people. */
void volume_complete(const struct volume *v, struct attr *a);
/* A time as the store can keep it (CAP_WHOLE_SECONDS), so that nobody sees it change when it is stored. */
struct timespec volume_time(const struct volume *v, struct timespec t);
struct attr volume_times(const struct volume *v, const struct attr *change); /* borrows its xattrs */

/* ---- vnode.c ---- */
int name_lock(struct volume *v, struct op *op, struct name_lock *l, enum name_mode mode,
              const char *a, const char *b);
bool name_try_lock(struct volume *v, struct name_lock *l, enum name_mode mode, const char *a);
void name_unlock(struct volume *v, struct name_lock *l);

struct base *base_new(struct volume *v, const char *path, const char *version, uint64_t size,
                      bool keep);
struct base *base_ref(struct base *b);
void base_put(struct base *b); /* NULL ok; never waits */

struct vnode *vnode_new(struct volume *v, const char *path); /* one reference, not attached */
struct vnode *vnode_find(struct volume *v, const char *path); /* a reference, or NULL */
struct vnode *vnode_ref(struct vnode *n);
void vnode_put(struct vnode *n); /* NULL ok */
/* Adds n under its path; false: another is there. */
bool vnode_attach(struct vnode *n);
void vnode_attach_locked(struct vnode *n);
void vnode_detach_locked(struct vnode *n);
/* With the token: its name means another version, or nothing. Its handles get -ESTALE. */
void vnode_retire(struct vnode *n);
/* Under the token: the path changes, in the table too. False: another is attached there, and nothing has changed. */
bool vnode_move(struct vnode *n, const char *path);
int vnode_begin(struct vnode *n, struct op *op); /* -EINTR, -ETIMEDOUT */
/* The same for somebody who changes the content: does not wait for an upload in the background (there may
 * be none while the store is away), but cancels it; a few times, so that it succeeds one day. */
int vnode_begin_change(struct vnode *n, struct op *op);
/* The token of a file that waits for its upload, closed: 0; 1 without it: the holder has opened the file, or it is another
 * vnode's now (conflict.c). */
int vnode_begin_closed(struct vnode *n, struct op *op);
bool vnode_try_begin(struct vnode *n);
/* Finds it and takes its token: *ret is NULL when nothing of the path is here. `change`: as
 * vnode_begin_change. */
int vnode_begin_at(struct volume *v, struct op *op, const char *path, bool change,
                   struct vnode **ret);
/* The same to remove the name. 1: an upload has the token, and *ret may fly (given_up.h). */
int vnode_begin_removal(struct volume *v, struct op *op, const char *path, struct vnode **ret);
void vnode_set_background(struct vnode *n, struct op *op); /* with the token; NULL at the end */
void vnode_end_put(struct vnode *n); /* NULL ok */
void vnode_end(struct vnode *n);
bool vnode_is_dirty(struct vnode *n);
/* A copy of the attributes now. */
void vnode_attr(struct vnode *n, struct attr *ret);
/* The store says that n's version has these attributes (metadata may change without a new version): taken when n is
 * clean, and nothing was changed here since `seq` (meta_seq). `ours`: the caller has the token. */
void vnode_learn(struct vnode *n, const struct attr *a, uint64_t seq, bool ours);
/* With the token. Takes b (NULL ok) as the base of the first base_len bytes. */
void vnode_set_base(struct vnode *n, struct base *b, uint64_t base_len);
void vnode_mark_dirty(struct vnode *n);
/* With the token: the staged content is stored or not wanted: gives up file, row and space. */
void vnode_clean(struct vnode *n);
/* With the token: a file that waits for its upload and that nobody has open needs no descriptor. */
void vnode_close_idle(struct vnode *n);
/* All vnodes for which pick() is true, with references; free the array, put the vnodes. */
size_t vnode_collect(struct volume *v, bool (*pick)(const struct vnode *n, const void *arg),
                     const void *arg, struct vnode ***ret);
bool vnode_pick_dirty_locked(const struct vnode *n, const void *arg);
/* True when a file with staged content is below the directory (it exists here only, perhaps). */
bool vnode_any_dirty_below(struct volume *v, const char *dir);

void seen_set(struct volume *v, const char *path, const char *version); /* NULL: forget */
/* A change of ours: the kernel's pages, if it has any of this vnode, are of `version` now. */
void vnode_seen(struct vnode *n, const char *version);
void seen_forget_below(struct volume *v, const char *dir);
bool seen_is(struct volume *v, const char *path, const char *version);

/* ---- first_read.c ---- */
/* The content of a small object that came with its attributes: an open for reading asks for both at once,
 * as the read that follows would be a second round trip. */
struct first_read {
    void *buf; /* of cache_buffer_get(size); NULL: nothing came */
    size_t size, len;
};
#define FIRST_READ_INIT ((struct first_read){0})
/* Is it worth it? Known to be small, not on disk, not yet in the kernel's page cache. */
bool first_read_wanted(struct volume *v, const char *path);
/* 0 and complete attributes of what is there now; 1: ask with store_stat (also where the reading alone
 * has failed: that open may succeed); -errno. */
int first_read_ask(struct volume *v, struct op *op, const char *path, struct attr *ret,
                   struct first_read *body);
/* To the reader of the version that first_read_ask has told. */
void first_read_give(struct volume *v, struct first_read *body, const struct attr *a,
                     struct reader *reader);
void first_read_drop(struct volume *v, struct first_read *body);

/* ---- volume.c ---- */
/* As volume_stat, for walk.c: asked for by nobody yet, so it is no ticket for an open. */
int volume_stat_ahead(struct volume *v, struct op *op, const char *path, struct attr *ret);
/* What the store says now (or said within policy.ticket_ms, once): fresh answers into meta. `body` (NULL
 * ok): the caller opens it to read it; filled when the store had to be asked and it is small. */
int volume_stat_fresh(struct volume *v, struct op *op, const char *path, bool allow_ticket,
                      struct first_read *body, struct attr *ret);
/* -EROFS: nothing of that name can be made or changed. */
int volume_check_write(struct volume *v, struct op *op, const char *path);
/* Before one: on a store where a version may come again for another content, none is kept but `version`, which is there now
 * (or "": none). */
void volume_will_change(struct volume *v, const char *path, const char *version);
/* After a change of ours: the version under `path` is this (NULL: gone). */
void volume_changed(struct volume *v, const char *path, const struct attr *a);
/* What was known of `dir` and all below it is out of date. */
void volume_forget_tree(struct volume *v, const char *dir);

/* Counts entries of the directory until there are `want` or all are seen: a page may have none although
 * more follow. *ret_marker: the directory has an object of its own. */
int volume_count_entries(struct volume *v, struct op *op, const char *dir, size_t want,
                         size_t *ret_count, bool *ret_marker);

/* ---- names.c ---- */
/* Before `path` is removed or moved: sees to it that its directory stays when it was the last in it. */
int volume_keep_parent(struct volume *v, struct op *op, const char *path);
void volume_parent_has_marker(struct volume *v, const char *dir);
void volume_parents_free(struct volume *v);
void volume_parents_forget(struct volume *v, const char *dir); /* and all below */
/* An open file loses its name: keeps the content readable, then detaches. With the token. */
int vnode_keep_content(struct vnode *n, struct op *op);
/* As store_remove. A file with the empty segment leaves its object as its directory's marker. */
int volume_remove_object(struct volume *v, struct op *op, const char *path, const char *if_match);
/* The same, if it is still that version (NULL: any) and the store can tell. */
int volume_remove_version(struct volume *v, struct op *op, const char *path, const char *version);
/* Unlinks it, if it is still that version; with the name lock and the token of n (NULL: nothing of it is here). */
int volume_unlink_version(struct volume *v, struct op *op, const char *path, const char *version, struct vnode *n);
void vnode_set_unlinked(struct vnode *n);

/* ---- file.c, file_write.c ---- */
int vnode_truncate(struct vnode *n, struct op *op, uint64_t size); /* with the token */
/* With the token: n->file, for bytes below `end` and what there is; nameless (stage.h) as long as it is small. */
int vnode_stage_open(struct vnode *n, struct op *op, uint64_t end);
int vnode_set_meta(struct vnode *n, struct op *op, const struct attr *change); /* with the token */
/* Before it is sent: metadata of others may leave no room for the time of a write. Then it is not stored; the object has
 * that of its upload. */
void vnode_fit_time(struct vnode *n);
/* With the token: parts of an upload that was begun are given up, with the bytes that were freed. */
void vnode_drop_stream(struct vnode *n);
/* Reads that waited for a commit go on. After committing was set to false. */
void vnode_unpark(struct vnode *n);

/* ---- file_copy.c ---- */
/* With the token: what is a copy of another file's version is fetched, and depends on it no longer. */
int vnode_unshare(struct vnode *n, struct op *op);
/* Without a token: the same for all copies of `path`, and of what is below, before it changes at the store. */
void volume_settle_copies(struct volume *v, struct op *op, const char *path);
void vnode_settle_copies(struct vnode *n, struct op *op); /* before n is committed */

/* ---- file_pass.c ---- */
/* With the token, without a stage file: a new one, or the file that handles are passed through to. */
int vnode_take_file(struct vnode *n, struct op *op, struct stage_file **ret, char **ret_name);

/* ---- commit.c ---- */
/* With the token. Uploads what is staged: 0 = the store has it. An error leaves it staged, journaled
 * and scheduled. -ESTALE, -EEXIST: stored as a conflict copy (or staged under that name). */
int vnode_commit(struct vnode *n, struct op *op);
/* With the token: bytes of the base in [off, end) that are not staged are read into the stage file. */
int vnode_fill(struct vnode *n, struct op *op, uint64_t off, uint64_t end);

/* ---- background.c ---- */
/* With the token: bytes and journal row are on disk. */
int vnode_journal(struct vnode *n, struct op *op);
/* With the token: nothing of what was promised before it was cut is wanted any more. `row`: it is there. */
void vnode_drop_old(struct vnode *n, bool row);
/* With the token, when the row that had promised bytes of `file` is replaced or gone: those may change. `leave`:
 * it is there, and the next process needs what was kept. */
void vnode_drop_undo(struct vnode *n, bool leave);
/* With the token: it is stored and its journal row is not needed any more. */
void vnode_forget_row(struct vnode *n);
/* With the token: the file is removed, and what the journal has of it is to go. */
void vnode_remove_row(struct vnode *n);
/* What is at the store as `path` (NULL: anything) is about to change: no journal row of what was stored before
 * may do so again after a crash. */
void volume_settle(struct volume *v, const char *path);
void volume_settle_soon_locked(struct volume *v); /* what is forgotten goes in a moment */
void volume_schedule(struct vnode *n, uint64_t delay_ms);
/* The store answers again: what waits for it is due now. */
void volume_recovered(void *volume);
int volume_retrier_start(struct volume *v, struct err *err);
void volume_retrier_stop(struct volume *v);
/* Takes up what the journal has for this key; to be called once, before the retrier starts. */
int volume_recover(struct volume *v, struct err *err);
uint64_t retry_delay_ms(unsigned attempts);

/* ---- left_upload.c ---- */
/* Nothing of a failed upload stays at the store: what cannot be removed now is later, by this process or the next. */
void volume_abort_upload(struct volume *v, const char *path, const char *id);
/* For the retrier, under volume.s.lock: are there any to be aborted now? Else *ret_next is not behind the time of that. */
bool left_uploads_due_locked(struct volume *v, uint64_t now, uint64_t *ret_next);
void left_uploads_sweep_locked(struct volume *v); /* submits a job, counted in s.jobs */
void left_uploads_now_locked(struct volume *v);   /* the store answers again */
/* At start, before the retrier: what the journal has, but for uploads that files which were taken up go on with. */
int left_uploads_recover(struct volume *v, struct err *err);
void left_uploads_free(struct volume *v);
void left_uploads_watch(struct volume *v); /* before the store is asked for anything */

/* ---- rename_dir.c ---- */
/* With a name lock of both trees. Sets *ret_begun as volume_rename() does. */
int volume_rename_dir(struct volume *v, struct op *op, const char *from, const char *to, bool no_replace, bool *ret_begun);

/* ---- rename_resume.c ---- */
/* Finishes, in a thread of its own, what the journal has. To be called once; stopped before the volume goes. */
int volume_resume_renames(struct volume *v, struct err *err);
void volume_resume_stop(struct volume *v);

/* ---- rename.c ---- */
/* A copy within the store, by the store or through here. */
int volume_copy_object(struct volume *v, struct op *op, const char *from, const struct attr *a,
                       const char *to, bool if_absent, struct attr *ret);
/* With the token: the vnode's version is now under `path` as `a`; its handles go on there. */
void vnode_moved(struct vnode *n, const char *path, const struct attr *a);
/* With the token, of a clean vnode that was opened since a restart by a name that a rename of the process before takes away,
 * while the kernel thinks that it stays: what is made there next must not meet it. Its bytes are that version of `path` now:
 * its readers go on, its writers get -ESTALE. */
void vnode_lost_name(struct vnode *n, const char *path, const char *version, uint64_t size);
/* With the token: base reads that fail wait until `on` is false again. */
void vnode_set_committing(struct vnode *n, bool on);

/* ---- xattr.c ---- */
/* With the name lock of path. */
int volume_change_meta(struct volume *v, struct op *op, const char *path, const struct attr *change,
                       struct attr *ret);

#endif
