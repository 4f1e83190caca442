/* SPDX-License-Identifier: MIT
 * volume.h: one key as a file system sees it: a store with its metadata cache, block cache, open
 * files and staged writes. This is all that fs/ and ctl/ know of what lies below.
 *
 * Paths are object keys as in store.h ("" is the key's root directory). File names are translated by
 * fs/ (base/name.h). All calls but vfile_read and volume_peek block (network): call them from
 * workers. They return 0 or -errno; op->err has the text for the one log line.
 *
 * Coherence (close-to-open): an open asks the store for the current version (a stat of the same path
 * within ticket_ms serves one open; revalidate = ttl trusts what is younger than the ttl). Attributes and
 * listings of others' changes are as old as ttl_ms at most. Within one mount all handles of a path share
 * one state: a write is seen by every reader at once, sizes and times included, and stat and listings show
 * local state over that of the store.
 * An open that creates and truncates (without O_EXCL, O_DIRECT) a name known within the ttl not to be there
 * asks nobody: the condition of the commit does (file.c). A file that another client made within the 2 s
 * before such an open, or after it, is kept, and ours beside it.
 *
 * Lost updates: what was opened is overwritten only if it is still there. When another client was first,
 * flush gives -ESTALE (O_EXCL: -EEXIST), theirs keeps the name, ours is kept beside it as
 * PATH.conflict-HOST-TIME, and the handles are stale. That is a file of its own at once, stored or not: who opens it by its
 * name reads and changes it as any other.
 * Failed uploads: flush gives the error; the bytes stay in CACHE_DIR/stage with a journal row, are tried
 * again in the background and by the next process, and are listed by volume_staged.
 *
 * Attributes given out are complete: kind, size, mode, uid, gid, times have defaults filled in from the
 * policy (umask, uid, gid) where the store keeps none. */
#ifndef QUAY_CACHE_VOLUME_H
#define QUAY_CACHE_VOLUME_H

#include "backends/registry.h"
#include "base/pool.h"
#include "cache/cache.h"
#include "cache/reader.h"

struct volume;
struct vfile;

enum volume_write { VOLUME_THROUGH = 1, VOLUME_BACK };

struct volume_policy {
    bool cache_blocks;      /* keep blocks on disk */
    uint64_t ttl_ms;        /* UINT64_MAX = never expires, 0 = always ask */
    enum volume_write write;
    bool offline_serve;
    mode_t file_mode, dir_mode; /* defaults for objects without a stored mode (after umask) */
    uid_t uid;
    gid_t gid;
    unsigned timeout_ms;
    char identity[65];      /* a digest of the section without its secrets: another one is another store */
    uint64_t stage_memory;  /* content up to this size is staged in memory and journaled with its row; STAGE_MEMORY_MAX */
    /* open(2) asks the store for the current version, unless: */
    bool trust_ttl;         /* revalidate = ttl: what is younger than ttl_ms is trusted */
    unsigned ticket_ms;     /* a stat of the same path (the kernel's lookup) got the answer just before;
                               serves one open only */
};
/* From the section, [cache] and [quayfs]; -EINVAL with FILE:LINE. */
int volume_policy_load(const struct conf_section *s, const struct settings *set, struct err *err,
                       struct volume_policy *ret);

/* Takes the store (closed by volume_close). `cache` is shared by all volumes. Uploads left by an earlier
 * process (stage journal) for this key are taken up again in the background. */
int volume_open(const char *key, struct store *store, const struct volume_policy *policy,
                struct cache *cache, struct stats *stats, struct err *err, struct volume **ret);
/* Flushes what is staged (until op's deadline; what is left stays in the journal), then closes. Returns
 * the number of files that are still staged. */
int volume_close(struct volume *v, struct op *op);
/* Before another volume of the same key is opened: uploads what is staged, then lets nobody open a file for
 * writing any more (-ESTALE: the name is to be looked up again); who reads goes on. -EBUSY with what is in the
 * way: files that are open for writing, a rename of a directory; or why something could not be stored. */
int volume_retire(struct volume *v, struct op *op);
void volume_unretire(struct volume *v);
const char *volume_key(const struct volume *v);
struct store *volume_store(struct volume *v);
struct pool *volume_pool(struct volume *v); /* workers for this key */
/* Who only reads is refused with -EINTR from now on, and does not wait any more; what is being stored goes on. Twice is
 * once. volume_resume: until then. */
void volume_halt(struct volume *v);
/* Waits until nothing runs for this key, and no read waits; as long as the store takes what it is given. When it has answered
 * nothing for silence_ms (0: as long as it takes) since volume_halt: false, all that waits for it has ended with -EINTR,
 * and it is asked nothing any more, by volume_close either. */
bool volume_drain(struct volume *v, uint64_t silence_ms);
/* While others wait for it than volume_drain: gives a silent store up as that does. It is not silent while it is asked nothing. */
void volume_give_up_silent(struct volume *v, uint64_t silence_ms);
void volume_resume(struct volume *v); /* not what volume_drain has given up */
const struct volume_policy *volume_get_policy(const struct volume *v);

/* ---- names and attributes ---- */
enum { VOLUME_STAT_DIR = 1, /* only a directory of that name (a shadowed one) */
       VOLUME_STAT_FRESH = 2 /* ask the store even if the cached answer is young */ };
int volume_stat(struct volume *v, struct op *op, const char *path, unsigned flags, struct attr *ret);
/* The cached answer, without waiting: 0, -ENOENT (known absent), or -EAGAIN (ask volume_stat). */
int volume_peek(struct volume *v, const char *path, unsigned flags, struct attr *ret);
/* How long the answer may be kept by the kernel, in ms, from now. */
uint64_t volume_valid_ms(struct volume *v, const char *path);

struct volume_entry {
    char *name;          /* raw last segment (may be empty, "..": translate with name_encode) */
    bool shadow;         /* directory beside an object of the same name */
    struct attr attr;    /* complete; attr.known lacks ATTR_META when mode etc. are defaults not yet
                            confirmed (then readdirplus must not hand out its attributes) */
};
struct volume_dir;
/* Opens a listing: local state merged over pages from the cache or the store. Entries in key order. */
int volume_opendir(struct volume *v, struct op *op, const char *path, struct volume_dir **ret);
/* The entry at position `index` (0-based), fetching further pages as needed: 1 and a borrowed entry
 * (valid until the next call), 0 at the end, -errno. One thread at a time per volume_dir. Entries far behind
 * the newest index asked for are forgotten: going back there lists again. */
int volume_readdir(struct volume_dir *d, struct op *op, uint64_t index,
                   const struct volume_entry **ret);
/* True when entry `index` can be given without waiting. */
bool volume_readdir_ready(struct volume_dir *d, uint64_t index);
/* How long the attributes of the newest entries may be kept by the kernel, in ms, from now. */
uint64_t volume_dir_valid_ms(const struct volume_dir *d);
void volume_closedir(struct volume_dir *d);

int volume_mkdir(struct volume *v, struct op *op, const char *path, mode_t mode, uid_t uid, gid_t gid,
                 struct attr *ret);
int volume_rmdir(struct volume *v, struct op *op, const char *path);
/* Open handles keep reading and writing what they have; nothing of it is uploaded any more. */
int volume_unlink(struct volume *v, struct op *op, const char *path);
/* Files and directories, atomic where the store can, else copy then delete (directories: object by
 * object; the source is deleted only after all copies succeeded). Open files move along. *ret_begun (NULL ok) is set, also
 * where it fails, when what is at both names, and below, may be something else than before. */
enum { VOLUME_RENAME_NO_REPLACE = 1,
       VOLUME_RENAME_DIR = 2 /* the directory of that name (a shadowed one) */ };
int volume_rename(struct volume *v, struct op *op, const char *from, const char *to, unsigned flags, bool *ret_begun);
/* Both names, files or directories, change places in one step; open files go along. Both must be there (-ENOENT);
 * -EINVAL: one is in the other, or the store cannot do it (CAP_EXCHANGE). */
int volume_exchange(struct volume *v, struct op *op, const char *a, const char *b);
/* A file, under another name of this key, with its metadata: by the store where it can. `to` is replaced
 * (unless VOLUME_RENAME_NO_REPLACE), in one step; -EBUSY: it is being written here. `ret` is what the store
 * says of the copy afterwards. */
int volume_copy(struct volume *v, struct op *op, const char *from, const char *to, unsigned flags,
                struct attr *ret);
/* The same, `from` being a file of another key. -EXDEV: no server has both; it is to be read and written. */
int volume_copy_from(struct volume *v, struct op *op, struct volume *source, const char *from, const char *to,
                     unsigned flags, struct attr *ret);
int volume_symlink(struct volume *v, struct op *op, const char *target, const char *path, uid_t uid,
                   gid_t gid, struct attr *ret);
int volume_readlink(struct volume *v, struct op *op, const char *path, struct buf *ret);
/* change->known names mode, uid, gid, mtime, atime; for a file open for writing it is staged with it. */
int volume_set_attr(struct volume *v, struct op *op, const char *path, const struct attr *change,
                    struct attr *ret);
/* truncate(2) without a handle. */
int volume_truncate(struct volume *v, struct op *op, const char *path, uint64_t size,
                    struct attr *ret);
int volume_get_xattr(struct volume *v, struct op *op, const char *path, const char *name,
                     struct buf *ret);  /* -ENODATA */
enum { VOLUME_XATTR_CREATE = 1, VOLUME_XATTR_REPLACE = 2 };
int volume_set_xattr(struct volume *v, struct op *op, const char *path, const char *name,
                     const void *value, size_t size, unsigned flags);
int volume_remove_xattr(struct volume *v, struct op *op, const char *path, const char *name);
int volume_list_xattr(struct volume *v, struct op *op, const char *path, struct buf *ret /* NULs */);
int volume_space(struct volume *v, struct op *op, struct store_space *ret);

/* ---- open files ---- */
enum vfile_flags {
    VFILE_READ = 1,
    VFILE_WRITE = 2,
    VFILE_CREATE = 4,    /* make it if it is not there */
    VFILE_EXCL = 8,      /* with CREATE: -EEXIST when it is there; at the store: if_absent */
    VFILE_TRUNC = 16,
    VFILE_TRUNC_LATER = 32, /* with TRUNC: not before vfile_truncate_opened(), for an open that may yet be given up */
    VFILE_DIRECT = 64    /* O_DIRECT: bypass the cache (ignore_cache) */
};
struct vfile_open {
    unsigned flags;
    mode_t mode;         /* for CREATE */
    uid_t uid;
    gid_t gid;
};
/* Opens with close-to-open semantics (see Coherence). *ret_keep: the content is what the kernel's page cache holds from
 * the open before (same version, no foreign change): FOPEN_KEEP_CACHE is safe. When the version has
 * changed, handles of the older version answer -ESTALE from now on. */
int volume_open_file(struct volume *v, struct op *op, const char *path, const struct vfile_open *how,
                     struct vfile **ret, struct attr *ret_attr, bool *ret_keep);
/* After an open with VFILE_TRUNC_LATER: what VFILE_TRUNC does. */
int vfile_truncate_opened(struct vfile *f, struct op *op, struct attr *ret_attr);
/* The same for a new file, without waiting for anything: -EAGAIN when that cannot be. */
int volume_try_create(struct volume *v, const char *path, const struct vfile_open *how, struct vfile **ret,
                      struct attr *ret_attr);
/* As reader_read, over staged bytes: see reader.h for call and done. */
void vfile_read(struct vfile *f, struct read_call *call);
/* Ends a read that waits with -EINTR, if it still waits; done runs here or in another thread. `call` must
 * not be given back to the system meanwhile, and f not be released. */
void vfile_read_cancel(struct vfile *f, struct read_call *call);
/* Writes to the staging file: no network but for base bytes that must be fetched first. Offset VFILE_END
 * (O_APPEND): at the end as it is then. */
#define VFILE_END UINT64_MAX
ssize_t vfile_write(struct vfile *f, struct op *op, uint64_t off, const void *buf, size_t len);
/* The same without waiting for anything but the local disk: -EAGAIN when that cannot be, or on any failure
 * (nothing was written then: vfile_write tells why). */
ssize_t vfile_try_write(struct vfile *f, uint64_t off, const void *buf, size_t len);
/* copy_file_range: makes [off, off + len) of `from` content of `to` at off_to without transferring it; how much,
 * 0 at the end of `from`. -EOPNOTSUPP: not this way, read and write. -EINVAL: of one file, and the ranges overlap or
 * end behind it. */
ssize_t vfile_copy(struct vfile *to, struct op *op, uint64_t off_to, struct vfile *from, uint64_t off,
                   uint64_t len);
int vfile_truncate(struct vfile *f, struct op *op, uint64_t size);
/* fallocate: mode 0, KEEP_SIZE, PUNCH_HOLE|KEEP_SIZE, ZERO_RANGE; others -EOPNOTSUPP. */
int vfile_fallocate(struct vfile *f, struct op *op, int mode, uint64_t off, uint64_t len);
int vfile_get_attr(struct vfile *f, struct op *op, struct attr *ret);
int vfile_set_attr(struct vfile *f, struct op *op, const struct attr *change);
/* Its open has made or emptied it, nothing was written or stored since, and nobody else has it open for writing. */
bool vfile_is_only_begun(const struct vfile *f);
/* close(2) of a descriptor and fsync: write = through: returns when the store has the bytes; back:
 * when bytes and journal entry are fsynced locally (flush), fsync likewise. An error leaves the bytes
 * staged, journaled and retried; it is reported again by the next flush or fsync until it is stored. */
int vfile_flush(struct vfile *f, struct op *op);
/* There is nothing for it to do, which is told without waiting for anybody. */
bool vfile_is_flushed(struct vfile *f);
int vfile_fsync(struct vfile *f, struct op *op);
void vfile_release(struct vfile *f); /* never waits for the network; ends its pass */
bool vfile_release_is_quick(const struct vfile *f); /* nor for the disk */
/* From here to vfile_pass_end the kernel may read the file behind vfile_pass_fd() instead of asking us: it
 * shows what the handle's version holds, whole and verified, and every local change of it. Such a handle
 * never gets -ESTALE: when another version comes, it goes on with the one it has.
 * -EAGAIN: not for this handle (writes, O_DIRECT) or not now (not wholly cached, staged bytes, ...). */
int vfile_pass_begin(struct vfile *f, struct op *op);
void vfile_pass_end(struct vfile *f); /* not begun: ok */
int vfile_pass_fd(struct vfile *f);   /* borrowed */
/* Says which file that is: the same for two passed handles that show the same. */
const void *vfile_pass_file(const struct vfile *f);
/* The version that is all there is to the file's content, referenced; NULL: staged bytes belong to it. */
struct cache_object *vfile_version(struct vfile *f);
bool vfile_is_stale(const struct vfile *f);
/* Is it stale, or has this mount heard since (be the ttl over or not) of another version by that name, while nobody here
 * writes the file? Then no later open shares the state of this one (it is not stale by that: it may be read on). */
bool vfile_is_outdated(struct vfile *f);

struct volume_load {
    size_t open_files;   /* handles */
    size_t queued;       /* jobs that wait for a worker */
};
void volume_get_load(struct volume *v, struct volume_load *ret);

/* ---- staged data ---- */
struct staged_info {
    char *key, *path;
    uint64_t bytes;
    unsigned attempts;
    char *last_error;       /* "" when not tried yet */
    struct timespec since;
};
/* Gives an array (staged_list_free) of everything not yet in its store. */
int volume_staged(struct volume *v, struct staged_info **ret, size_t *ret_n);
void staged_list_free(struct staged_info *list, size_t n);
/* Directory renames that are going on object by object (also those of before a restart). */
struct volume_rename_info {
    char *from, *to;
    const char *phase;      /* "copying", "removing", "undoing" */
    size_t done, total;     /* objects, of this phase */
    struct timespec since;
};
size_t volume_renames(struct volume *v, struct volume_rename_info **ret);
void volume_renames_free(struct volume_rename_info *list, size_t n);
/* Uploads now what is staged; waits. */
int volume_sync(struct volume *v, struct op *op);
/* Drops cached attributes and listings (and, with blocks, cached bytes) of a path or all (NULL). */
void volume_forget(struct volume *v, const char *path, bool blocks);

#endif
