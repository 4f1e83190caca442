/* SPDX-License-Identifier: MIT
 * attr.h: what is known about an object: kind, size, times, version, owner, extended attributes.
 *
 * Ownership: struct attr owns its xattrs and content_type. `struct attr a = ATTR_INIT;` is empty and
 * needs no attr_done(); every function that fills one expects an empty one and gives ownership.
 * Threads: one owner; copy with attr_copy().
 *
 * Which fields are real: `known` says so. A listing knows size, mtime and version but often not mode,
 * owner, xattrs, nor that an object is a symlink; ATTR_META tells whether those are the truth
 * (present or truly absent) or were not asked for. */
#ifndef QUAY_BACKENDS_ATTR_H
#define QUAY_BACKENDS_ATTR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

enum attr_kind { ATTR_UNSET = 0, ATTR_FILE, ATTR_DIR, ATTR_SYMLINK };

enum attr_known {
    ATTR_HAS_MODE = 1 << 0,  /* permission bits stored with the object */
    ATTR_HAS_UID = 1 << 1,
    ATTR_HAS_GID = 1 << 2,
    ATTR_HAS_MTIME = 1 << 3, /* else mtime is the time of upload or 0 */
    ATTR_HAS_ATIME = 1 << 4,
    ATTR_HAS_XATTRS = 1 << 5, /* in set_meta: replace the xattrs by those given */
    ATTR_XATTR_EDITS = 1 << 7, /* in set_meta, instead: set those given (remove: those so marked), leave the others */
    ATTR_HAS_TAGS = 1 << 6,  /* the xattrs named user.tag.* are all the tags that the object is to have */
    ATTR_META = 1 << 8       /* the metadata was read: what is not set above is truly not stored */
};

/* Has the object tags (CAP_TAGS)? They are no part of its attributes, and asked for by themselves. */
enum attr_tags { ATTR_TAGS_UNKNOWN = 0, ATTR_TAGS_NONE, ATTR_TAGS_SOME };

#define ATTR_TAG "user.tag."
#define ATTR_VERSION_MAX 128

struct xattr {
    char *name; /* with its namespace: "user.comment" */
    void *value;
    size_t size;
    bool remove; /* with ATTR_XATTR_EDITS */
};

struct attr {
    enum attr_kind kind;
    unsigned known;         /* enum attr_known */
    uint32_t mode;          /* permission bits 07777 only */
    uid_t uid;
    gid_t gid;
    uint64_t size;          /* bytes; for a symlink the length of its target */
    struct timespec mtime, atime;
    enum attr_tags tags;    /* not kept in JSON */
    uint64_t age_ms;        /* by the store's own clock: for how long this version was there when the store
                               told (CAP_AGE; whole seconds, rounded down); 0 = not told. Not kept. */
    time_t changed_s;       /* the store's own time of the object and its metadata, as a listing of it has it, when
                               the store told; 0 = not told. Not kept. */
    char version[ATTR_VERSION_MAX]; /* what identifies the content: ETag without quotes, or made by the
                                       backend from mtime, size and inode; "" for directories */
    char *content_type;     /* or NULL */
    struct xattr *xattrs;
    size_t n_xattrs;
};

#define ATTR_INIT ((struct attr){0})

void attr_done(struct attr *a);
void attr_copy(struct attr *to /* empty */, const struct attr *from);
void attr_move(struct attr *to /* empty */, struct attr *from /* becomes empty */);

const struct xattr *attr_xattr(const struct attr *a, const char *name);
void attr_xattr_set(struct attr *a, const char *name, const void *value, size_t size);
bool attr_xattr_remove(struct attr *a, const char *name); /* false: was not there */
/* A change: this xattr becomes `value`, or goes if that is NULL; whatever others the object has then stay. */
void attr_xattr_edit(struct attr *change, const char *name, const void *value, size_t size);
/* user.tag.NAME? */
bool attr_is_tag(const char *name);
/* The store has the tags that came with ATTR_HAS_TAGS: they are no part of the attributes any more. */
void attr_tags_stored(struct attr *a);
/* Overlays the fields that `change->known` names onto `a` (for set_meta). */
void attr_apply(struct attr *a, const struct attr *change);
/* The JSON form kept in SQLite: known, mode, uid, gid, times, kind, type, xattrs (base64). */
char *attr_to_json(const struct attr *a);
bool attr_from_json(const char *text, struct attr *ret /* empty */);

#define CLEANUP_ATTR __attribute__((cleanup(attr_done)))

#endif
