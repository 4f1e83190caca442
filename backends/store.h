/* SPDX-License-Identifier: MIT
 * store.h: the one interface to everything that holds objects.
 *
 * A *class* is constant code for one protocol (name, options, slots). A *store* is an opened instance
 * for one configured key. A *wrapper* (retry, metrics, fault) is a store around a store. Callers use the
 * store_*() functions only (the gate, store.c): they check arguments and capabilities, and are the only
 * place that calls a slot.
 *
 * Contract
 *  1. Keys are byte strings without NUL; "" is the root directory. They are object keys, not file names:
 *     "a//b", "/a" and ".." may occur, and a class that maps keys to real paths refuses what
 *     path_is_inside() refuses with -EACCES. A directory is named by its listing prefix without one
 *     trailing slash, but one of slashes only as it is (path_dir_prefix in base/name.h): of "/a" it is "/",
 *     of "d//a" it is "d/". An object "d/" that is not empty is no directory's marker but a file in "d" with
 *     an empty name (CAP_UNNAMED, path_is_unnamed; in a directory of slashes only its key has one '/' more
 *     than the object's name): it is listed, read, copied and removed, but not put (-EISDIR).
 *  2. Return: 0 or -errno; never -1. On failure `ret` is untouched and op->err holds the text, the remote
 *     status and code, and the retry class. -ENOENT only for a definite "not there". Others used:
 *     -EACCES refused by the store, -ETIMEDOUT deadline, -EHOSTUNREACH no endpoint answers,
 *     -EIO the store failed, -EBUSY throttled (429, SlowDown; the retry wrapper ends it as EIO),
 *     -ESTALE the version is not the expected one, -EEXIST if_absent and present, -ENOTSUP missing
 *     operation, -EROFS read-only, -ENOSPC, -ENOTDIR, -EISDIR, -ENOTEMPTY, -ENAMETOOLONG, -EINTR.
 *     Removing what is not there: 0 or -ENOENT (S3 does not tell). if_match and nothing there: -ESTALE
 *     (-ENOENT where the server says so).
 *  3. Ownership: arguments are borrowed until return; a store keeps nothing that it was passed. `ret`
 *     objects are empty on entry and given to the caller: attr_done(), list_page_done(), buf_done().
 *     Data is read into the caller's memory; no slot allocates payload.
 *  4. Short reads happen only at the end of the object. read_req.version makes a changed object
 *     -ESTALE, never mixed bytes.
 *  5. put and upload_finish: the object appears whole or not at all. Preconditions are honoured or
 *     refused with -ENOTSUP, never ignored (caps CAP_IF_MATCH). When the outcome is unknown, the error's
 *     class is ERR_RETRY_UNKNOWN and the caller stats before it repeats.
 *     Success means durable: the server acknowledged it, a local file was fsynced.
 *  6. list is paged, in byte order of the full key (a directory sorts as its prefix), resumable by
 *     cursor. An object "a" and a prefix "a/" are two entries. A page may be empty and have a cursor. A
 *     recursive listing has the explicit directories (real ones, markers) too, as ATTR_DIR. A prefix
 *     below which nothing is gives an empty page, not -ENOENT.
 *  7. Threads: slots of one store run concurrently; close runs alone. They block, and check op_check()
 *     before and while waiting: -EINTR when cancelled.
 *  8. A class does not retry, log above debug, cache, or take policy from anywhere but its options. Those
 *     are wrappers or callers.
 *  9. Metadata: attr.known names what is stored. kind ATTR_SYMLINK is an object whose content is its
 *     target. A store without native metadata keeps it in the keys documented in backends/s3/README.md.
 * 10. Tags (CAP_TAGS): names and values that can be changed without a new version. In a struct attr they are xattrs
 *     named user.tag.NAME. An object that is copied, changed in its metadata or replaced (put, upload: attr.version
 *     says which version is) keeps them; with ATTR_HAS_TAGS it has those of the attr instead. Elsewhere user.tag.*
 *     are xattrs as all others.
 * 11. Kept versions (CAP_VERSIONS): what was replaced or removed is still there, under an id of the store's. Its
 *     attr.version is kept_version_make(id, ETag): read (of at least a byte), copy and upload_copy_part take that
 *     as the version of their source, whether it is the current one or not. Callers see them as files
 *     (backends/versions.h).
 * 12. A class that begins uploads by itself (a copy with a condition) tells of each: store_upload_begun before it has
 *     parts, store_upload_ended whatever becomes of it. What is left of one nobody else can know of. */
#ifndef QUAY_BACKENDS_STORE_H
#define QUAY_BACKENDS_STORE_H

#include "backends/attr.h"
#include "base/buf.h"
#include "base/conf.h"
#include "base/op.h"
#include "base/stats.h"

#include <sys/uio.h>

#define STORE_ABI 1

enum store_caps {
    CAP_WRITE = 1 << 0,         /* not a read-only store */
    CAP_IF_MATCH = 1 << 1,      /* put/upload_finish honour if_match and if_absent */
    CAP_RENAME_FILE = 1 << 2,   /* rename of a file is one atomic step */
    CAP_RENAME_DIR = 1 << 3,    /* rename of a directory is one atomic step */
    CAP_COPY = 1 << 4,          /* server-side copy of a whole object */
    CAP_PATCH = 1 << 5,         /* ranges of an object are written in place */
    CAP_UPLOAD = 1 << 6,        /* multipart upload */
    CAP_COPY_PART = 1 << 7,     /* upload_copy_part */
    CAP_REAL_DIRS = 1 << 8,     /* directories exist by themselves; parents must exist */
    CAP_SET_META = 1 << 9,      /* mode, owner, times, xattrs are stored */
    CAP_LIST_META = 1 << 10,    /* list entries have ATTR_META */
    CAP_SIGN = 1 << 11,
    CAP_SYMLINK = 1 << 12,
    CAP_PRIVATE = 1 << 13,      /* lives in this process (memory): no other process sees it */
    CAP_LOCAL_FD = 1 << 14,     /* reads cost no more than the cache: do not cache blocks */
    CAP_UNNAMED = 1 << 15,      /* files whose key ends in '/' (contract 1) */
    CAP_READ_META = 1 << 16,    /* read_res.attr is complete: all that stat would have told */
    CAP_AGE = 1 << 17,          /* stat tells attr.age_ms */
    CAP_LIST_AFTER = 1 << 18,   /* list finds its way to `after` by itself: parts can be listed at once */
    CAP_TAGS = 1 << 19,         /* objects have tags beside their metadata (contract 10) */
    CAP_HIDES = 1 << 20,        /* names may be there that list does not tell: only stat knows who is absent */
    CAP_NO_XATTRS = 1 << 21,    /* CAP_SET_META, but extended attributes are refused (-ENOTSUP) */
    CAP_WHOLE_SECONDS = 1 << 22, /* times are stored in whole seconds */
    CAP_VERSIONS = 1 << 23,     /* may keep older versions (contract 11) */
    CAP_VERSION_DIRS = 1 << 24, /* shows them in directories that no listing tells of (backends/versions.h) */
    CAP_EXCHANGE = 1 << 25,     /* exchange of two files is one step; with CAP_RENAME_DIR of any two things */
    CAP_WEAK_VERSIONS = 1 << 26 /* a new process may not tell two contents of one second and size apart */
};

struct store_limits {
    uint64_t put_max;          /* largest single put; 0 = no limit */
    uint64_t upload_threshold; /* larger than this (strictly): multipart; 0 = never */
    uint64_t part_size;        /* wanted part size */
    uint64_t part_min;         /* smallest part but the last */
    uint64_t part_max;
    uint32_t parts_max;        /* 10,000 */
    unsigned concurrency;      /* parts or ranges of one object at once */
    size_t key_max;            /* bytes in a key; 0 = no limit */
    unsigned delete_max;       /* keys in one remove_many; 0 = one at a time */
    unsigned tags_max, tag_name_max, tag_value_max; /* of one object; characters */
};

struct precond {
    const char *if_match; /* version that must still be there, or NULL */
    bool if_absent;       /* nothing may be there */
};

/* Where the bytes of a put come from; must be able to give any range again (for retries). */
struct source {
    /* Reads exactly len bytes at off into buf; 0 or -errno. */
    int (*read_at)(const struct source *s, uint64_t off, void *buf, size_t len);
    uint64_t size;
};

struct read_req {
    const char *key;
    const char *version; /* "" or NULL: whatever is there now */
    uint64_t offset;
    struct iovec iov;    /* where to; iov_len = how many */
    /* Optional: called in order as bytes arrive (`so_far` of them are in iov), from the calling thread;
     * return non-zero to stop the transfer (read then gives -EINTR). */
    int (*on_data)(void *arg, size_t so_far);
    void *on_data_arg;
};

struct read_res {
    size_t length;       /* bytes read; less than asked only at the end */
    struct attr attr;    /* what the reply told: size, version, often metadata (ATTR_META) */
};

struct list_query {
    const char *prefix;  /* raw key prefix; a directory ends with '/', the root is "" */
    bool recursive;      /* flat: all keys below the prefix; else one level, deeper ones as directories */
    const char *cursor;  /* from the page before, or NULL */
    const char *after;   /* or start behind this full key; NULL; not with cursor */
    unsigned max;        /* entries wanted at most; 0 = the store's page size */
};

struct list_entry {
    char *key;           /* full key; of a directory path_of_prefix() of its prefix */
    struct attr attr;
};

struct list_page {
    struct list_entry *entries;
    size_t count;
    char *cursor;        /* NULL on the last page */
    bool dir_exists;     /* first page: the prefix itself is known to be there (marker, real directory) */
    struct attr dir_attr;  /* with dir_exists: what the listing told of it; kind UNSET: nothing */
    bool unordered;      /* the server did not list in byte order, or from `after` on (contract 6 is broken) */
};

#define LIST_PAGE_INIT ((struct list_page){0})
#define READ_RES_INIT ((struct read_res){0})

struct kept_version {
    char *id;            /* the store's */
    bool deleted;        /* no content: from then on nothing was there */
    struct attr attr;    /* as a listing has it; `version` as contract 11 says; deleted: mtime only */
};

struct version_page {
    struct kept_version *v;
    size_t count;
    char *cursor;        /* NULL on the last page */
};

#define VERSION_PAGE_INIT ((struct version_page){0})

struct put_req {
    const char *key;
    const struct source *src;
    const struct attr *attr; /* kind FILE or SYMLINK, and the metadata to store by attr.known */
    struct precond precond;
};

struct patch_range {
    uint64_t offset, length; /* bytes of src at the same offset go there */
};

struct patch_req {
    const char *key;
    const char *if_match;    /* version that must be there */
    const struct source *src;
    const struct patch_range *ranges;
    size_t n_ranges;
    uint64_t new_size;       /* truncated or extended (zeros) to this */
    const struct attr *attr; /* metadata changes by attr.known, or NULL */
};

struct store_part {
    unsigned number;         /* from 1 */
    uint64_t offset;         /* where it begins in the object: where the parts before it end */
    uint64_t size;
    char etag[ATTR_VERSION_MAX];
};

struct upload_req {
    const char *key;
    const struct attr *attr; /* as in put_req */
};

struct sign_req {
    const char *key;
    bool write;              /* PUT instead of GET */
    unsigned expires_s;
};

struct store_space {
    uint64_t total, free, avail; /* bytes */
    uint64_t files, files_free;
};

struct remove_result {
    int code; /* 0 or errno of each key */
};

/* Who is told of uploads that a store begins by itself, by the thread that runs the call, without locks. The ids are for
 * store_upload_abort. */
struct upload_watch {
    void (*begun)(void *arg, const char *key, const char *id, uint64_t size); /* before it has parts; it is to have `size` */
    void (*ended)(void *arg, const char *key, const char *id, bool finished); /* not finished, or perhaps: to be aborted */
    void *arg;
};

struct store;

struct store_class {
    uint32_t abi;      /* STORE_ABI */
    const char *name;  /* "s3"; the value of backend = */
    const char *summary;
    const struct conf_option *options;
    size_t n_options;

    /* Validates options and prepares; must not wait for a network. `section` has passed conf_check.
     * Gives a store whose `cls`, `caps`, `limits` and `base_uri` are set. */
    int (*open)(const struct conf_section *section, struct stats *stats, struct err *err,
                struct store **ret);
    void (*close)(struct store *s); /* frees; also closes `next` in wrappers */

    /* Required. */
    int (*stat)(struct store *s, struct op *op, const char *key, struct attr *ret);
    int (*list)(struct store *s, struct op *op, const struct list_query *q, struct list_page *ret);
    int (*read)(struct store *s, struct op *op, const struct read_req *req, struct read_res *ret);

    /* Optional: NULL = the gate answers -ENOTSUP, or does what is said there. */
    int (*probe)(struct store *s, struct op *op, struct buf *ret_text); /* default: list one entry */
    int (*put)(struct store *s, struct op *op, const struct put_req *req, struct attr *ret);
    /* Where it writes in place, one that fails in the middle says in ret (version and size) what is there then, if
     * it can: the ranges are old, new or mixed, all else is as before, and it can be patched again from there.
     * With an empty version nothing was changed, or it is not known what was. */
    int (*patch)(struct store *s, struct op *op, const struct patch_req *req, struct attr *ret);
    int (*upload_begin)(struct store *s, struct op *op, const struct upload_req *req, char **ret_id);
    int (*upload_part)(struct store *s, struct op *op, const char *key, const char *id,
                       const struct source *src, struct store_part *part /* in: all but etag */);
    int (*upload_copy_part)(struct store *s, struct op *op, const char *key, const char *id,
                            const char *from, const char *from_version, uint64_t offset,
                            struct store_part *part);
    /* -ESTALE also when this upload cannot be finished (any more) although the version is the expected one. */
    int (*upload_finish)(struct store *s, struct op *op, const char *key, const char *id,
                         const struct store_part *parts, size_t n, const struct precond *pre,
                         struct attr *ret);
    int (*upload_abort)(struct store *s, struct op *op, const char *key, const char *id);
    int (*remove)(struct store *s, struct op *op, const char *key, const char *if_match);
    int (*remove_many)(struct store *s, struct op *op, const char *const *keys, size_t n,
                       struct remove_result *results); /* default: remove, one by one. 0: each key has
                                                          its result; -errno: nothing is known */
    /* With the source's metadata. (s3, gcs, azure: and with its time, where the source has none stored.) */
    int (*copy)(struct store *s, struct op *op, const char *from, const char *from_version,
                const char *to, const struct precond *pre, struct attr *ret);
    /* Does one server hold both stores (of this class), so that it can copy from the one to the other? No network. */
    bool (*same_service)(const struct store *s, const struct store *other);
    /* Where it is, for same.h: the service, and the path there (no slash at its end): what two stores that show one
     * object agree on. NULL: the base_uri tells. No network. */
    void (*place)(const struct store *s, struct buf *ret_service, struct buf *ret_path);
    /* As copy, from an object of `source`, of which same_service is true; by the rights of `s`, which may not do. */
    int (*copy_from)(struct store *s, struct op *op, struct store *source, const char *from, const char *from_version,
                     const char *to, const struct precond *pre, struct attr *ret);
    /* File: replaces `to` unless no_replace (-EEXIST). Directory: only with CAP_RENAME_DIR; `to` must be
     * absent or an empty directory. */
    int (*rename)(struct store *s, struct op *op, const char *from, const char *to, bool no_replace);
    /* Each of two different names means what the other did, versions and all. -ENOENT: one is not there; -EINVAL:
     * one is below the other; -ENOTSUP: not these two, or not here. */
    int (*exchange)(struct store *s, struct op *op, const char *a, const char *b);
    /* Changes the stored metadata named by change->known; content stays, and the time that was shown. `if_match` may be
     * NULL. Also for directories where the store has something to keep it in. What the change does not name is as the
     * store has it then, not as the caller knows it. */
    int (*set_meta)(struct store *s, struct op *op, const char *key, const char *if_match,
                    const struct attr *change, struct attr *ret);
    /* Can an object have these attributes? -E2BIG, -EINVAL: a put with them would be refused. No network. Default: yes. */
    int (*check_meta)(const struct store *s, const struct attr *a, struct err *err);
    /* The object's tags, added to `ret`'s xattrs. -ENOTSUP also when the server turns out to have none. */
    int (*get_tags)(struct store *s, struct op *op, const char *key, struct attr *ret);
    /* From now on it has the user.tag.* of `tags`, and no other. -EINVAL: not text. */
    int (*set_tags)(struct store *s, struct op *op, const char *key, const struct attr *tags);
    int (*make_dir)(struct store *s, struct op *op, const char *key, const struct attr *attr);
    int (*remove_dir)(struct store *s, struct op *op, const char *key); /* -ENOTEMPTY */
    int (*space)(struct store *s, struct op *op, struct store_space *ret);
    int (*sign)(struct store *s, struct op *op, const struct sign_req *req, struct buf *ret_url);
    /* A page of the versions of just this object, the newest first; none: an empty page. `max`: no more are wanted
     * now (0: all); a store may give more. -ENOTSUP also when the server turns out to keep none. */
    int (*list_versions)(struct store *s, struct op *op, const char *key, const char *cursor,
                         unsigned max, struct version_page *ret);
    /* Attributes of one of them, complete. -ENOENT: there is none of that id (or it is a deletion). */
    int (*stat_version)(struct store *s, struct op *op, const char *key, const char *id, struct attr *ret);
    /* Wrappers: may what has this name be made, changed, removed? -EROFS. See store_check_change. */
    int (*check_change)(struct store *s, struct op *op, const char *key);
};

struct store {                    /* first member of every class's own struct */
    const struct store_class *cls;
    char *key;                    /* configured name; set by the registry. store_close() frees key and
                                     base_uri; cls->close sees NULL */
    char *base_uri;               /* "s3://bucket/prefix", "file:///dir"; never with credentials */
    uint32_t caps;
    struct store_limits limits;
    struct store *next;           /* the wrapped store, NULL for a class */
    atomic_uint halted;           /* enum store_halt */
    atomic_uint_fast64_t answered;
    atomic_uint asked;            /* calls from outside that run */
    const struct upload_watch *watch;
};

/* The largest object that it takes; UINT64_MAX: no limit is known. */
uint64_t store_size_max(const struct store *s);
/* Before attributes are staged: as check_meta. */
int store_check_meta(const struct store *s, const struct attr *a, struct err *err);

/* ---- the gate ---- */
void store_close(struct store *s); /* NULL ok */
int store_stat(struct store *s, struct op *op, const char *key, struct attr *ret);
int store_list(struct store *s, struct op *op, const struct list_query *q, struct list_page *ret);
int store_read(struct store *s, struct op *op, const struct read_req *req, struct read_res *ret);
int store_probe(struct store *s, struct op *op, struct buf *ret_text);
int store_put(struct store *s, struct op *op, const struct put_req *req, struct attr *ret);
int store_patch(struct store *s, struct op *op, const struct patch_req *req, struct attr *ret);
int store_upload_begin(struct store *s, struct op *op, const struct upload_req *req, char **ret_id);
int store_upload_part(struct store *s, struct op *op, const char *key, const char *id,
                      const struct source *src, struct store_part *part);
int store_upload_copy_part(struct store *s, struct op *op, const char *key, const char *id,
                           const char *from, const char *from_version, uint64_t offset,
                           struct store_part *part);
int store_upload_finish(struct store *s, struct op *op, const char *key, const char *id,
                        const struct store_part *parts, size_t n, const struct precond *pre,
                        struct attr *ret);
int store_upload_abort(struct store *s, struct op *op, const char *key, const char *id);
int store_remove(struct store *s, struct op *op, const char *key, const char *if_match);
int store_remove_many(struct store *s, struct op *op, const char *const *keys, size_t n,
                      struct remove_result *results);
int store_copy(struct store *s, struct op *op, const char *from, const char *from_version,
               const char *to, const struct precond *pre, struct attr *ret);
/* Another store as the source, with its wrappers or without: its own are not asked. -EXDEV: not one service, or such a copy
 * is not known there: read and write instead. -EINVAL with STORE_SAME_FILE in err.remote: both are one object. */
#define STORE_SAME_FILE "SameFile"
bool store_copies_from(const struct store *s, const struct store *source);
int store_copy_from(struct store *s, struct op *op, struct store *source, const char *from,
                    const char *from_version, const char *to, const struct precond *pre, struct attr *ret);
int store_rename(struct store *s, struct op *op, const char *from, const char *to, bool no_replace);
int store_exchange(struct store *s, struct op *op, const char *a, const char *b);
int store_set_meta(struct store *s, struct op *op, const char *key, const char *if_match,
                   const struct attr *change, struct attr *ret);
int store_get_tags(struct store *s, struct op *op, const char *key, struct attr *ret);
int store_set_tags(struct store *s, struct op *op, const char *key, const struct attr *tags);
int store_make_dir(struct store *s, struct op *op, const char *key, const struct attr *attr);
int store_remove_dir(struct store *s, struct op *op, const char *key);
int store_space(struct store *s, struct op *op, struct store_space *ret);
int store_sign(struct store *s, struct op *op, const struct sign_req *req, struct buf *ret_url);
int store_list_versions(struct store *s, struct op *op, const char *key, const char *cursor,
                        unsigned max, struct version_page *ret);
int store_stat_version(struct store *s, struct op *op, const char *key, const char *id, struct attr *ret);
/* -EROFS, before anything is staged: the store is read-only, or shows something by that name that cannot be
 * changed. Asks the store for few names only (version_path_parse). */
int store_check_change(struct store *s, struct op *op, const char *key);

/* Of the outermost store, from any thread; what is under way ends, too, with -EINTR.
 * ASKS_NOTHING: questions (stat, list, read, probe, space, tags, versions), unless op->durable; changes go on. ENDS: all. */
enum store_halt { STORE_RUNS, STORE_ASKS_NOTHING, STORE_ENDS };
void store_halt(struct store *s, enum store_halt level);
/* Stays the same while the store is silent: grows with every call that succeeds, and with what moves within one. */
uint64_t store_answered(const struct store *s);
bool store_is_asked(const struct store *s); /* does a call run? */

/* `w` (borrowed until the store is closed) is told from now on; to be set once, before changes are asked for. */
void store_watch_uploads(struct store *s, const struct upload_watch *w);
/* For classes (contract 12). Where nobody is told, store_upload_ended aborts. */
void store_upload_begun(struct store *s, const char *key, const char *id, uint64_t size);
void store_upload_ended(struct store *s, const char *key, const char *id, bool finished);

/* ---- helpers ---- */
/* "@ID ETAG" (contract 11), the id with %XX; false: too long. */
bool kept_version_make(const char *id, const char *etag, char ret[ATTR_VERSION_MAX]);
/* false: a version as others. */
bool kept_version_split(const char *version, char **ret_id, char ret_etag[ATTR_VERSION_MAX]);
void version_page_done(struct version_page *p);
struct kept_version *version_page_add(struct version_page *p, const char *id); /* attr is empty */
void list_page_done(struct list_page *p);
struct list_entry *list_page_add(struct list_page *p, const char *key); /* attr is empty */
void read_res_done(struct read_res *r);
/* A source over memory (borrowed) or a file descriptor (borrowed, pread). */
struct source_mem {
    struct source base;
    const void *data;
};
struct source_fd {
    struct source base;
    int fd;
    uint64_t offset; /* of the source's byte 0 in the file */
};
struct source_mem source_mem(const void *data, size_t len);
struct source_fd source_fd(int fd, uint64_t offset, uint64_t len);

#endif
