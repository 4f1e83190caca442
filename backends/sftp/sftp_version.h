/* SPDX-License-Identifier: MIT
 * sftp_version.h: versions of remote files, made of what the server tells: by SFTP mtime in
 * seconds and size; by commands mtime in nanoseconds, size and inode.
 *
 * The former is little: two contents of one second and one size look alike. What this process
 * writes itself is kept apart: a content whose (mtime, size) has been that of another content of
 * the key gets a mark, and its version is "MTIME-SIZE-MARK" (with an inode: "MTIME.INODE-SIZE-MARK")
 * for as long as the process remembers; after that it is "MTIME-SIZE", which matches nothing cached
 * under the mark: the safe side.
 *
 * A mark tells which process has made it. One of an earlier process comes with what that has left to be
 * done (staged changes and the version that they are to replace). It was the last one there was, so it
 * is taken for that of what is there now, if no other content like it is known here; then it is remembered.
 *
 * Changes of ours that leave the content (utimes, chmod) are remembered as "A became B", so that an
 * open file is not stale after them.
 *
 * A change is bracketed: versions_change(v, key); ... the server's rename or writes ...;
 * versions_changed(v, key, &before, &after) or versions_unchanged(v, key). A reader who asks
 * versions_stable() before and after its reads, with the same answer, has not met one of them.
 * Threads: any. */
#ifndef QUAY_BACKENDS_SFTP_SFTP_VERSION_H
#define QUAY_BACKENDS_SFTP_SFTP_VERSION_H

#include "backends/attr.h"
#include "base/lock.h"

struct version_id {
    uint64_t mtime; /* seconds; or nanoseconds, where there is an inode */
    uint64_t inode; /* 0: nobody tells it */
    uint64_t size;  /* UINT64_MAX: nothing is there, or nobody knows */
    uint32_t mark;  /* 0: none; else the process in the upper half, a number in the lower one, never 0 */
};

#define VERSION_SETS 1024
#define VERSION_WAYS 4

struct versions {
    struct lock lock;
    uint32_t process, marks; /* random; given so far */
    struct {
        struct {
            uint64_t key; /* its hash; 0: free */
            struct version_id id;
        } known[VERSION_WAYS];
        struct {
            uint64_t key;
            struct version_id from, to;
        } same[VERSION_WAYS];
        unsigned next_known, next_same;
        unsigned active;    /* changes under way */
        uint64_t completed; /* changes made */
    } * sets;
};

void versions_init(struct versions *v);
void versions_done(struct versions *v);
/* The marks of what is given are not looked at: they are known here. */
void versions_text(struct versions *v, const char *key, const struct version_id *id,
                   char out[ATTR_VERSION_MAX]);
/* Is `version` ("" or NULL: any) that of the content with these, which are what is there now? */
bool versions_match(struct versions *v, const char *key, const char *version,
                    const struct version_id *id);
/* But for the mark. */
bool versions_alike(const struct version_id *a, const struct version_id *b);
void versions_change(struct versions *v, const char *key);
/* `before`: what the key held. */
void versions_changed(struct versions *v, const char *key, const struct version_id *before,
                      const struct version_id *after);
void versions_unchanged(struct versions *v, const char *key);
/* The content stayed, its mtime went from..to. */
void versions_same(struct versions *v, const char *key, const struct version_id *from,
                   const struct version_id *to);
/* The content of `from` is now that of `to`. */
void versions_moved(struct versions *v, const char *from, const char *to,
                    const struct version_id *replaced, const struct version_id *moved);
/* false while a change is under way; *ret tells changes apart. */
bool versions_stable(struct versions *v, const char *key, uint64_t *ret);

#endif
