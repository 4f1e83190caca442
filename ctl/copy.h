/* SPDX-License-Identifier: MIT
 * copy.h: quayctl cp, mv and sync: files between keys of the mount and local directories.
 *
 * Everything is read and written through the mount, as any program does: what is cached is used, what others
 * changed is seen, and close() returns when the store has the bytes. Within one key, and between two that one
 * service holds, the store copies (the daemon's command "copy"); a move within one key or disk is rename(2).
 *
 * A file appears whole or not at all: it is written beside its place as .quaypart-ID and renamed. (Only a
 * small one that replaces nothing is written in its place: its content is in memory before.) ID is made of the
 * name, and size and time of the source: a copy that was interrupted goes on where it stopped, and never
 * with bytes of another version. A source that changes meanwhile is a failure. A move removes a source only
 * after its copy was read back from the store and found equal. Two names of one file or directory are refused (same.h).
 *
 * Two files are taken for the same when size and modification time are (which a copy preserves, with mode
 * and user.* attributes), or size and, within one key, the etag; with `checksum`: when their bytes are.
 *
 *     struct copy_options o = {...};  struct copier *c = copier_new(ctl, &o);
 *     copier_add(c, &from, &to);      // a file, or a tree: walks it, while workers copy
 *     status = copier_end(c);         // waits; deletes; prints the summary
 * Threads: main walks, prints and counts; workers copy one file each and print nothing. */
#ifndef QUAY_CTL_COPY_H
#define QUAY_CTL_COPY_H

#include "base/pool.h"
#include "ctl/filter.h"
#include "ctl/place.h"

#include <sys/stat.h>

enum copy_mode { COPY_CP = 1, COPY_MV, COPY_SYNC };

struct copy_options {
    enum copy_mode mode;
    const char *name;      /* of the command */
    bool recursive, dry, remove_extra, checksum, force, quiet, verbose, json;
    unsigned parallel;
    struct filter filter;
};

enum { COPY_INTERRUPTED = 130 }; /* exit status */

struct copier;

struct copier *copier_new(struct ctl *ctl, const struct copy_options *o);
/* `to` is the target itself, not the directory that it goes into. */
void copier_add(struct copier *c, const struct place *from, const struct place *to);
int copier_end(struct copier *c); /* frees; the exit status */

/* ---- copy_file.c: one file ---- */
enum copy_outcome { COPY_FAILED = 1, COPY_SAME, COPY_COPIED, COPY_BY_STORE, COPY_RENAMED, COPY_WOULD };

struct copy_task {
    struct pool_job job;
    struct copier *c;
    const struct copy_options *o;
    const char *control;      /* the daemon's socket */
    const char *from_key, *to_key; /* NULL: not in the mount */
    size_t from_root, to_root;     /* bytes of from and to that lead to the key's directory, with a slash */
    char *from, *to;          /* paths of the local file system */
    bool unsure;              /* from and to may be one file: same.h */
    struct stat st;           /* of the source */
    atomic_bool *stop;
    _Atomic uint64_t *bytes;  /* moved so far, of all */
    /* the answer */
    enum copy_outcome outcome;
    uint64_t resumed;         /* bytes that were there of an interrupted copy */
    struct err err;
    struct copy_task *next;
};

void copy_file(struct copy_task *t);
/* "a%2F/b", as a key's directory shows it -> "a/b" of the key; NULL: a name that only a listing can translate. */
char *copy_object_of(const char *shown);
/* Names of copies that are not complete: left out of every walk. */
bool copy_is_partial(const char *name);

#endif
