/* SPDX-License-Identifier: MIT
 * stage.h: the files that hold what is written but not stored yet, and the journal that makes them
 * survive this process.
 *
 * CACHE_DIR/stage/KEYHASH-RANDOM  one sparse file per vnode with staged content, bytes at their offsets
 * stage/KEYHASH-RANDOM.undo       what its row has promised of it and what was changed since (undo.h)
 * nameless                        the same for small content (up to STAGE_MEMORY_MAX): in memory,
 *                                 STAGE_MEMORY_FILES of them per key, else an unlinked file in stage/.
 *                                 It promises nothing: the row does, which then has a copy of the bytes
 * CACHE_DIR/journal.db            (SQLDB_WAL_FULL, but for rule 6) staged: one row per file that must be uploaded;
 *                                 uploads: multipart uploads begun and not yet finished or aborted;
 *                                 given_up: uploads of removed files which may be stored yet (given_up.h)
 * Rules
 *  1. A row without content is written only after its file was fdatasync'ed; a file is removed only after
 *     its row. A row with content is all there is to it: one fsync makes it durable.
 *  2. A file without a row is of a process that ended before it promised anything: swept at start. So is
 *     one whose row has content: it has grown, and nothing was promised about that yet.
 *     A file whose row is there changes only where undo.h has kept what was promised.
 *  3. Who uses a file has it flock'ed. What is locked is neither swept nor recovered by a second opener.
 *     (Rows with content have nothing to lock: one process has the cache directory, and opens a key once.)
 *  4. When the journal is not a sound database it is moved aside, and the files go to stage/lost/ : they
 *     are data that somebody must look at (one error line). A journal of a newer program is refused, and nothing
 *     is touched (-ENOTSUP, sqldb_claim_form).
 *  5. A row that is done with may go with the next change (stage_row_forget). Until it is gone, the next start
 *     would store the same once more where nothing was changed since: so whoever is about to change what the
 *     row was about sees to it first (stage_settle).
 *  6. Of uploads it is enough that a kill leaves their rows: after a power cut one whose row is lost stays at the
 *     store, one whose row came back is aborted, and gone already. So where they are many and short (the copies of a
 *     rename), their rows are on disk only with the next change that is to be.
 * Threads: any; the journal's one connection passes from thread to thread, and changes that come while one
 * is being committed share the next commit, so that many closes cost few fsyncs. No struct lock is held while
 * these functions work. */
#ifndef QUAY_CACHE_STAGE_H
#define QUAY_CACHE_STAGE_H

#include "backends/attr.h"
#include "base/err.h"
#include "cache/ranges.h"

#include <stdatomic.h>

struct stage;

#define STAGE_MEMORY_MAX (256u << 10)
#define STAGE_MEMORY_FILES 32 /* 8 MiB */

struct stage_file { /* open, counted: reads in flight outlive the vnode's use of it */
    atomic_uint refs;
    int fd;
    char *path;         /* nameless: a word for messages */
    bool nameless;
    atomic_uint *count; /* in memory: of the stage; else NULL */
};

/* What the journal says about one file. */
struct stage_row {
    char *path;            /* object key */
    char *file;            /* name in the stage directory; of a row with content: its name only */
    uint64_t promise;      /* a random number, other for each row; stage_row_put sets it */
    bool in_row;           /* it has content */
    const void *content;   /* attr.size bytes, borrowed; for stage_row_put */
    const char *replaces;  /* NULL, or the name of the row that goes in the same step; borrowed, likewise */
    struct attr attr;      /* size = of the new content; known = what is stored with it */
    char base_version[ATTR_VERSION_MAX]; /* "" = no base */
    uint64_t base_size, base_len;
    int pre;               /* enum vnode_pre */
    char pre_version[ATTR_VERSION_MAX];
    bool excl, conflict, incomplete, stamped, restamp;
    char *sent;            /* NULL; sent_patch.h: the object has perhaps been changed in part */
    struct ranges staged;
    char *upload;          /* NULL; stream.h: bytes of `staged` that are in an unfinished upload only */
    struct timespec since;
    unsigned attempts;
    char error[256];
};

void stage_row_done(struct stage_row *row);

/* `cache_dir`/stage is made with mode 0700. */
int stage_open(const char *cache_dir, const char *key, struct err *err, struct stage **ret);
void stage_close(struct stage *s); /* NULL ok */
const char *stage_dir(const struct stage *s);

/* A name that nobody has, for a file that is about to be moved here; gives its path. */
char *stage_file_path(struct stage *s, char **ret_name);
int stage_file_new(struct stage *s, struct err *err, struct stage_file **ret, char **ret_name);
/* The same under the name of a row with content, which stays what is promised until it is put again. */
int stage_file_make(struct stage *s, const char *name, struct err *err, struct stage_file **ret);
char *stage_row_name(struct stage *s); /* for a row with content; malloc'd */
int stage_file_nameless(struct stage *s, struct err *err, struct stage_file **ret);
static inline bool stage_file_in_memory(const struct stage_file *f)
{
    return f->count != NULL;
}
/* Nameless, with what the row of that name has. */
int stage_file_load(struct stage *s, const char *name, struct err *err, struct stage_file **ret);
/* What waits should not stay in memory: others need the room. */
bool stage_memory_is_scarce(struct stage *s);
int stage_file_open(struct stage *s, const char *name, struct err *err, struct stage_file **ret);
struct stage_file *stage_file_ref(struct stage_file *f);
void stage_file_put(struct stage_file *f); /* NULL ok */
void stage_file_remove(struct stage *s, const char *name);
/* The file of undo.h for the stage file of that name. Making it empties one that was left. */
int stage_undo_make(struct stage *s, const char *name, struct err *err, struct stage_file **ret);
int stage_undo_open(struct stage *s, const char *name, struct err *err, struct stage_file **ret); /* -ENOENT */
void stage_undo_remove(struct stage *s, const char *name);

/* Durable when they return 0. A row replaces the one of the same file. */
int stage_row_put(struct stage *s, struct stage_row *row, struct err *err);
int stage_row_remove(struct stage *s, const char *file, struct err *err);
/* The object of that row is about to be changed in place: its new `sent`. */
int stage_row_sent(struct stage *s, const char *file, const char *sent, struct err *err);
/* Rule 5, for a row with content of a file that is stored as `path`, or one of a removed file that cannot be removed now. The
 * caller has stage_settle(s, NULL, ...) called some time later. */
void stage_row_forget(struct stage *s, const char *file, const char *path);
/* 0: no forgotten row of `path` (NULL: of any) is in the journal. */
int stage_settle(struct stage *s, const char *path, struct err *err);
int stage_upload_put(struct stage *s, const char *path, const char *id, struct err *err);
int stage_upload_remove(struct stage *s, const char *id, struct err *err);
/* For uploads of which there may be thousands (rule 6): without a wait for the disk. */
int stage_upload_put_relaxed(struct stage *s, const char *path, const char *id, struct err *err);
void stage_upload_forget(struct stage *s, const char *id); /* as stage_row_forget */
/* `what`: which of the uploads to that path. */
int stage_given_up_put(struct stage *s, const char *path, const char *what, struct err *err);
int stage_given_up_remove(struct stage *s, const char *path, const char *what, struct err *err);

/* At start: every row of this key whose file nobody uses is given with its opened file, which is what was
 * promised again (both taken by `row`; with content: NULL); rows without a file are reported and removed; files
 * without a row are removed. */
typedef void stage_row_fn(void *arg, struct stage_row *row, struct stage_file *f);
int stage_recover(struct stage *s, stage_row_fn *row, void *arg, struct err *err);
/* At start: multipart uploads left by an earlier process. */
typedef void stage_upload_fn(void *arg, const char *path, const char *id);
int stage_uploads(struct stage *s, stage_upload_fn *each, void *arg, struct err *err);
typedef void stage_given_up_fn(void *arg, const char *path, const char *what);
int stage_given_ups(struct stage *s, stage_given_up_fn *each, void *arg, struct err *err);

#endif
