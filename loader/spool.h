/* SPDX-License-Identifier: MIT
 * spool.h: the directory of jobs (.load/ in the mount), its lock, and what happens in it.
 *
 *   new/FILE           submitted: cp, mv or echo into it    check/NAME.job -> check/NAME.out: explained
 *   run/NAME/          being run        done/NAME.RUNID/  failed/NAME.RUNID/   results (one rename)
 *   README  ctl  stats  history.tsv  conn/NAME              for people, see loader/readme.c
 *   lock  quayload.sock                                     one loader owns a spool
 *
 *     r = spool_open(dir, &err, &sp);        // makes it, locks it: -EBUSY with the other's pid
 *     poll(spool_fd(sp)); what = spool_events(sp);     // hints only: scan now and then anyway
 *     r = spool_scan(sp, SPOOL_NEW, &list);  // files that are complete, oldest first
 *     r = spool_take(sp, file, name, &err);  // new/file -> run/name/job; -EEXIST: that name is running
 *     r = spool_finish(sp, name, run_id, failed, &err);
 *     spool_close(sp);
 *
 * A file in new/ or check/ is complete when nobody has it open for writing (a read lease can be had)
 * and it has not changed for 100 ms; an empty one is given 5 s. Names starting with '.' or ending in ~ .tmp .swp
 * .part are somebody's unfinished work and never touched.
 * Threads: any, except open/close/events. Errors: -errno with text. All I/O is by path under dir. */
#ifndef QUAY_LOADER_SPOOL_H
#define QUAY_LOADER_SPOOL_H

#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <sys/types.h>
#include <time.h>

#define SPOOL_NAME_MAX 200
#define SPOOL_RUN_ID_MAX 24 /* "20260102T030405Z-0a1b2c" and a NUL */

struct spool;

enum spool_place { SPOOL_NEW = 1, SPOOL_CHECK = 2, SPOOL_CTL = 4 /* events only */ };

struct spool_entry {
    char *file;            /* "orders.job" */
    char name[SPOOL_NAME_MAX + 1]; /* "orders" */
    struct timespec mtime;
};

struct spool_list {
    struct spool_entry *v;
    size_t n;
    size_t unready;        /* files that were seen and are not complete yet */
};

int spool_open(const char *dir, struct err *err, struct spool **ret);
void spool_close(struct spool *sp); /* NULL ok */
int spool_write_pid(struct spool *sp, struct err *err); /* again after a fork */
/* False when the spool was removed or replaced below us: our lock guards nothing any more. */
bool spool_is_ours(const struct spool *sp);
const char *spool_dir(const struct spool *sp);
char *spool_path(const struct spool *sp, const char *sub, const char *name); /* malloc'd; name may be NULL */

int spool_watch(struct spool *sp, struct err *err); /* inotify; failing is not fatal: scan more often */
int spool_fd(const struct spool *sp);               /* -1 without inotify */
unsigned spool_events(struct spool *sp);            /* drains; enum spool_place or'ed */

int spool_scan(struct spool *sp, enum spool_place place, struct spool_list *ret);
int spool_scan_running(struct spool *sp, struct spool_list *ret); /* names in run/ */
void spool_list_done(struct spool_list *l);
int spool_take(struct spool *sp, const char *file, const char *name, struct err *err);
int spool_finish(struct spool *sp, const char *name, const char *run_id, bool failed,
                 struct err *err);
int spool_history(struct spool *sp, const char *line);
/* Removes results older than max_age_ms (0: keeps all); how many in *ret_removed (may be NULL). */
int spool_prune(struct spool *sp, uint64_t max_age_ms, unsigned *ret_removed);

/* ---- without owning the spool (quayctl) ---- */
/* 0 and the pid when a loader holds the lock, -ESRCH when none does. */
int spool_owner(const char *dir, pid_t *ret_pid);
/* Puts a job into new/: -EEXIST when one of that name waits there. */
int spool_submit(const char *dir, const char *name, const char *text, size_t len, struct err *err);
/* Submits the job of the newest failed run of NAME (or of NAME.RUNID) again. */
int spool_retry(const char *dir, const char *wanted, struct err *err);
bool spool_ignores(const char *file);
/* NAME of a file: without .job, control bytes and '/' replaced by '_', cut to SPOOL_NAME_MAX. */
void spool_name(const char *file, char out[SPOOL_NAME_MAX + 1]);
void spool_run_id(char out[SPOOL_RUN_ID_MAX]);
/* Splits "orders.20260102T030405Z-0a1b2c"; false when it is not of that form. */
bool spool_split(const char *entry, char name[SPOOL_NAME_MAX + 1], char run_id[SPOOL_RUN_ID_MAX]);

/* ---- files ---- */
/* Whole and at once (temporary name, rename); synced to disk when `durable`. */
int spool_file_write(const char *path, const void *data, size_t len, bool durable);
/* Reads a regular file of at most `max` bytes: -EFBIG, -ELOOP for a symlink, -EINVAL when not a file. */
int spool_file_read(const char *path, size_t max, struct buf *ret);
int spool_file_append(const char *path, const void *data, size_t len);
int spool_tree_remove(const char *path); /* rm -r, never follows links */

#endif
