/* SPDX-License-Identifier: MIT
 * rename_log.h: the journal of renames that are more than one step: of directories, object by object, and of files.
 *
 *     rename_log_begin(log, from, to, &err, &id);     before the first change at the store
 *     rename_log_copied(log, id, copies, n, &err);    as copies are made, some at a time
 *     rename_log_phase(log, id, RENAME_REMOVE, &err); every copy is there
 *     rename_log_end(log, id, &err);                  nothing is left to do
 * A row that is there at start belongs to a process that was killed: rename_resume.c finishes it. What
 * each phase says of the two trees:
 *   COPY    the source is whole, the target is not
 *   REMOVE  the target is whole: a source may go when its copy is the one in the journal
 *   UNDO    the source is whole; the journal's copies are to be removed
 *   FILE    of a file, begun by rename_log_begin_file(): the source goes when its copy is there
 * A copy is written down after it was made, so the last ones may be missing: then bytes are compared, and
 * what is not the same is left alone.
 * CACHE_DIR/journal.db, tables rename and rename_copy; durable when the functions return 0.
 * Threads: any. No struct lock is held by the caller. Errors: sqldb.h's. */
#ifndef QUAY_CACHE_RENAME_LOG_H
#define QUAY_CACHE_RENAME_LOG_H

#include "base/err.h"
#include "base/strmap.h"

#include <stddef.h>
#include <stdint.h>

enum rename_phase { RENAME_COPY = 1, RENAME_REMOVE, RENAME_UNDO, RENAME_FILE };

struct rename_row {
    int64_t id;
    char *from, *to;
    enum rename_phase phase;
    struct rename_row *next;
};

struct rename_copy {
    const char *from;         /* object key of the source */
    const char *from_version; /* that was copied */
    const char *to_version;   /* of the copy */
};

struct rename_log;

int rename_log_open(const char *cache_dir, const char *key, struct err *err, struct rename_log **ret);
void rename_log_close(struct rename_log *log); /* NULL ok */
int rename_log_begin(struct rename_log *log, const char *from, const char *to, struct err *err,
                     int64_t *ret_id);
/* Of the source's `version`. */
int rename_log_begin_file(struct rename_log *log, const char *from, const char *version, const char *to,
                          struct err *err, int64_t *ret_id);
int rename_log_phase(struct rename_log *log, int64_t id, enum rename_phase phase, struct err *err);
int rename_log_copied(struct rename_log *log, int64_t id, const struct rename_copy *copies, size_t n,
                      struct err *err);
int rename_log_end(struct rename_log *log, int64_t id, struct err *err);
/* All rows of the key, oldest first (rename_rows_free). */
int rename_log_rows(struct rename_log *log, struct err *err, struct rename_row **ret);
void rename_rows_free(struct rename_row *rows);
/* Fills `ret`: source key -> malloc'd struct rename_made. The caller frees the values. */
struct rename_made {
    char *from_version, *to_version;
};
void rename_made_free(void *made);
int rename_log_copies(struct rename_log *log, int64_t id, struct err *err, struct strmap *ret);

#endif
