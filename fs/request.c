/* SPDX-License-Identifier: MIT
 * request.c: see request.h. Exactly one reply per request; the interrupt hook is taken off before it. */
#include "fs/request.h"

#include "base/clock.h"
#include "base/name.h"
#include "fs/interrupt.h"
#include "fs/passthrough.h"
#include "base/strmap.h"

#include <assert.h>
#include <string.h>

struct fs *fs_of(fuse_req_t req)
{
    return fuse_req_userdata(req);
}

static struct request *of_job(struct pool_job *job)
{
    return (struct request *)(void *)((char *)job - offsetof(struct request, job));
}

static void reply_interrupted(struct pool_job *job)
{
    struct request *r = of_job(job);
    err_set(&r->op.err, EINTR, "interrupted");
    request_reply_err(r, -EINTR);
}

/* libfuse holds the request's lock meanwhile: it is answered by another thread. */
static void on_interrupt(fuse_req_t req, void *data)
{
    struct request *r = data;
    if (!interrupt_is_meant(fuse_req_ctx(req)->pid))
        return;
    op_cancel(&r->op);
    if (!pool_take_back(volume_pool(r->inode->key->volume), &r->job))
        return;
    r->job.run = reply_interrupted;
    pool_submit(r->fs->aside, &r->job, 0);
}

struct request *request_new(fuse_req_t req, const char *name, fuse_ino_t ino,
                            void (*run)(struct request *))
{
    struct fs *fs = fs_of(req);
    struct inode *i = inode_by_number(fs->inodes, ino);
    if (!i) {
        fuse_reply_err(req, ESTALE);
        return NULL;
    }
    if (i->key && !fs_key_enter(i->key)) { /* it is gone, and nothing is open there */
        inode_unref(fs->inodes, i);
        fuse_reply_err(req, ESTALE);
        return NULL;
    }
    struct request *r = xcalloc(1, sizeof(*r));
    r->req = req;
    r->fs = fs;
    r->inode = i;
    r->run = run;
    op_init(&r->op, name, 0);
    return r;
}

static void run_job(struct pool_job *job)
{
    struct request *r = of_job(job);
    r->run(r);
}

struct volume *request_volume(struct request *r)
{
    struct fs_key *k = r->inode->key;
    if (k && k->volume)
        return k->volume;
    if (k)
        err_set(&r->op.err, EIO, "key '%s' is not available: %s", k->name, k->error);
    else
        err_set(&r->op.err, EPERM, "the mount's root holds keys only: add a [store NAME] section");
    return NULL;
}

/* False: answered. */
static bool has_volume(struct request *r)
{
    struct fs_key *k = r->inode->key;
    if (k && k->volume)
        return true;
    request_volume(r);
    request_reply_err(r, k ? -EIO : -EPERM);
    return false;
}

void request_submit_always(struct request *r, unsigned priority)
{
    if (!has_volume(r))
        return;
    r->job.run = run_job;
    pool_submit(volume_pool(r->inode->key->volume), &r->job, priority);
}

void request_submit(struct request *r, unsigned priority)
{
    if (!has_volume(r))
        return;
    r->job.run = run_job;
    fuse_req_interrupt_func(r->req, on_interrupt, r); /* at once, if it came before */
    if (!pool_submit_unless(volume_pool(r->inode->key->volume), &r->job, priority,
                            &r->op.cancelled))
        reply_interrupted(&r->job);
}

void request_free(struct request *r)
{
    if (r->inode->key)
        fs_key_leave(r->inode->key);
    inode_unref(r->fs->inodes, r->inode);
    inode_unref(r->fs->inodes, r->inode2);
    free(r->name);
    free(r->name2);
    free(r->data);
    attr_done(&r->change);
    free(r);
}

/* Waits for a running interrupt callback and prevents a later one: `r` may be freed after this. */
fuse_req_t request_take_reply(struct request *r)
{
    fuse_req_interrupt_func(r->req, NULL, NULL);
    return r->req;
}

int fs_errno(int error)
{
    switch (-error) {
    case ENOTSUP:
        return EOPNOTSUPP;
    case EUCLEAN:
    case EAGAIN:
    case EPROTO:
        return EIO;
    default:
        return -error;
    }
}

/* Failures that are ordinary answers to a question. */
static bool is_ordinary(int e)
{
    return e == ENOENT || e == EEXIST || e == ENOTEMPTY || e == ENODATA || e == EINTR ||
           e == EOPNOTSUPP || e == ENOTDIR || e == EISDIR || e == EXDEV || e == ERANGE ||
           e == EINVAL || e == EPERM || e == ENAMETOOLONG;
}

void fs_log_failure(struct fs *fs, const char *op, const char *key, const char *path, int error,
                    const struct err *err)
{
    if (is_ordinary(-error)) {
        log_debug("fs", "%s %s/%s: %s", op, key, path, err_text(err));
        return;
    }
    char line[512];
    char reason[32];
    snprintf(reason, sizeof(reason), "errno %d", -error);
    snprintf(line, sizeof(line), "%s/%s: %s", key, path, err->code ? err_text(err) : reason);
    unsigned repeated = 0;
    {
        LOCK_SCOPE(&fs->log.lock);
        uint64_t now = clock_now_ns();
        if (strcmp(line, fs->log.last) == 0 && now - fs->log.last_ns < 5 * NS_PER_S) {
            fs->log.repeated++;
            return;
        }
        repeated = fs->log.repeated;
        fs->log.repeated = 0;
        fs->log.last_ns = now;
        memcpy(fs->log.last, line, sizeof(line));
    }
    if (repeated)
        log_warn("fs", "the failure before this line came %u more times", repeated);
    log_error("fs", "%s %s", op, line);
}

static void log_failure(struct request *r, int error)
{
    CLEANUP_FREE char *path = inode_path(r->fs->inodes, r->inode);
    const char *key = r->inode->key ? r->inode->key->name : "";
    const char *dir = path ? path : "(deleted)";
    CLEANUP_FREE char *full = r->name ? path_child(dir, r->name) : xstrdup(dir);
    fs_log_failure(r->fs, r->op.name, key, full, error, &r->op.err);
}

void request_reply_err(struct request *r, int error)
{
    fuse_req_t req = request_take_reply(r);
    if (error == -ENOENT && inode_is_superseded(r->fs->inodes, r->inode)) /* the name is there: to be looked up again */
        error = -ESTALE;
    else if (error)
        log_failure(r, error);
    fuse_reply_err(req, fs_errno(error));
    request_free(r);
}

double fs_kept_s(const struct fs_key *key, uint64_t ms)
{
    if (key->control)
        return 0;
    return ms > 86400000 ? 86400.0 : (double)ms / 1000.0;
}

double fs_valid_s(struct fs_key *key, const char *path)
{
    if (!key || !key->volume || key->control || !path)
        return 0;
    return fs_kept_s(key, volume_valid_ms(key->volume, path));
}

static const struct {
    enum attr_kind kind;
    mode_t type;
} kind_modes[] = {{ATTR_DIR, S_IFDIR}, {ATTR_SYMLINK, S_IFLNK}, {ATTR_FILE, S_IFREG}};

static void make_stat(uint64_t ino, const struct attr *a, struct stat *st)
{
    memset(st, 0, sizeof(*st));
    st->st_ino = ino;
    st->st_mode = S_IFREG;
    for (size_t k = 0; k < ARRAY_LEN(kind_modes); k++) {
        if (kind_modes[k].kind == a->kind)
            st->st_mode = kind_modes[k].type;
    }
    st->st_mode |= a->mode & 07777;
    st->st_nlink = a->kind == ATTR_DIR ? 2 : 1;
    st->st_uid = a->uid;
    st->st_gid = a->gid;
    st->st_size = (off_t)a->size;
    st->st_blocks = (blkcnt_t)((a->size + 511) / 512);
    st->st_blksize = 1 << 17;
    st->st_mtim = a->mtime;
    st->st_ctim = a->mtime;
    st->st_atim = a->atime.tv_sec ? a->atime : a->mtime;
}

uint64_t fs_generation(const struct attr *a)
{
    return a->kind == ATTR_SYMLINK ? (uint32_t)hash_bytes(a->version, strlen(a->version)) | 1 : 1;
}

static uint64_t stamp_of(const struct stat *st)
{
    uint64_t v[] = {(uint64_t)st->st_size,        st->st_mode, st->st_uid, st->st_gid,
                    (uint64_t)st->st_mtim.tv_sec, (uint64_t)st->st_mtim.tv_nsec,
                    (uint64_t)st->st_atim.tv_sec, (uint64_t)st->st_atim.tv_nsec};
    uint64_t stamp = hash_bytes(v, sizeof(v));
    return stamp > INODE_TOLD_MANY ? stamp : stamp + INODE_TOLD_MANY + 1;
}

void fs_fill_stat(struct inode *i, const struct attr *a, struct stat *st)
{
    make_stat(i->ino, a, st);
    uint64_t stamp = stamp_of(st), before = INODE_TOLD_NONE;
    if (!atomic_compare_exchange_strong(&i->told, &before, stamp) && before != stamp)
        atomic_store(&i->told, INODE_TOLD_MANY);
}

bool fs_was_told(const struct inode *i, const struct attr *a)
{
    struct stat st;
    make_stat(i->ino, a, &st);
    return atomic_load(&i->told) == stamp_of(&st);
}

/* The root and the directories of keys are made up here and stay as they are: not asked for again with
 * every path that goes through them. */
static double kept_s(struct inode *i, const char *path)
{
    if (i->kind == INODE_OBJECT)
        return fs_valid_s(i->key, path);
    return i->key && i->key->control ? 0 : FS_VIRTUAL_VALID_S;
}

static void fill_entry(struct request *r, struct inode *i, const struct attr *a,
                       struct fuse_entry_param *e)
{
    CLEANUP_FREE char *path = inode_path(r->fs->inodes, i);
    memset(e, 0, sizeof(*e));
    e->ino = i->ino;
    e->generation = fs_generation(a);
    fs_fill_stat(i, a, &e->attr);
    e->attr_timeout = e->entry_timeout = kept_s(i, path);
}

void request_reply_entry(struct request *r, struct inode *i, const struct attr *a)
{
    struct fuse_entry_param e;
    fill_entry(r, i, a, &e);
    fuse_req_t req = request_take_reply(r);
    if (fuse_reply_entry(req, &e) != 0)
        inode_forget(r->fs->inodes, i->ino, 1);
    inode_unref(r->fs->inodes, i);
    request_free(r);
}

void request_reply_create(struct request *r, struct inode *i, const struct attr *a)
{
    struct fuse_entry_param e;
    fill_entry(r, i, a, &e);
    fuse_req_t req = request_take_reply(r);
    if (fuse_reply_create(req, &e, &r->fi) != 0) {
        inode_forget(r->fs->inodes, i->ino, 1);
        handle_release(r->fs->inodes, r->handle);
    }
    inode_unref(r->fs->inodes, i);
    request_free(r);
}

void request_reply_attr(struct request *r, struct inode *i, const struct attr *a)
{
    struct stat st;
    CLEANUP_FREE char *path = inode_path(r->fs->inodes, i);
    fs_fill_stat(i, a, &st);
    fuse_req_t req = request_take_reply(r);
    fuse_reply_attr(req, &st, kept_s(i, path));
    request_free(r);
}

void request_reply_open(struct request *r)
{
    fuse_req_t req = request_take_reply(r);
    if (passthrough_reply_open(r->fs->passthrough, req, &r->fi, r->backing) != 0)
        handle_release(r->fs->inodes, r->handle);
    request_free(r);
}

void request_reply_buf(struct request *r, const void *data, size_t size)
{
    fuse_req_t req = request_take_reply(r);
    fuse_reply_buf(req, data, size);
    request_free(r);
}

void request_reply_write(struct request *r, size_t n)
{
    stat_add(r->inode->key->written_bytes, (int64_t)n); /* first: who has the reply may look */
    fuse_req_t req = request_take_reply(r);
    fuse_reply_write(req, n);
    request_free(r);
}

char *request_plain_child(struct request *r, struct inode *dir, const char *name, char ret_segment[NAME_MAX_BYTES + 1])
{
    bool plain = strlen(name) <= NAME_MAX_BYTES && name_decode(name, ret_segment) == NAME_PLAIN;
    return plain ? inode_child_path(r->fs->inodes, dir, ret_segment) : NULL;
}

/* A shortened name is found again by listing its directory. */
static int find_long(struct request *r, struct inode *dir, const char *name, char **ret)
{
    struct volume *v = request_volume(r);
    CLEANUP_FREE char *path = inode_path(r->fs->inodes, dir);
    struct volume_dir *d;
    if (!v || !path)
        return -ENOENT;
    int rc = volume_opendir(v, &r->op, path, &d);
    if (rc < 0)
        return rc;
    const struct volume_entry *e;
    for (uint64_t n = 0; (rc = volume_readdir(d, &r->op, n, &e)) == 1; n++) {
        char shown[NAME_MAX_BYTES + 1];
        name_encode(e->name, strlen(e->name), e->shadow, shown);
        if (strcmp(shown, name) == 0) {
            *ret = xstrdup(e->name);
            break;
        }
    }
    volume_closedir(d);
    return rc == 1 ? 0 : rc < 0 ? rc : -ENOENT;
}

int request_segment(struct request *r, struct inode *dir, const char *name, char **ret_segment,
                    bool *ret_shadow)
{
    char segment[NAME_MAX_BYTES + 1];
    if (strlen(name) > NAME_MAX_BYTES)
        return err_set(&r->op.err, ENAMETOOLONG, "file name too long");
    enum name_form form = name_decode(name, segment);
    *ret_shadow = form == NAME_SHADOW;
    if (form == NAME_LONG)
        return find_long(r, dir, name, ret_segment);
    *ret_segment = xstrdup(segment);
    return 0;
}

int request_child(struct request *r, struct inode *dir, const char *name, char **ret_path,
                  char **ret_segment, bool *ret_shadow)
{
    CLEANUP_FREE char *segment = NULL;
    int rc = request_segment(r, dir, name, &segment, ret_shadow);
    if (rc < 0)
        return rc;
    char *path = inode_child_path(r->fs->inodes, dir, segment);
    if (!path)
        return -ENOENT;
    *ret_path = path;
    if (ret_segment)
        *ret_segment = take_ptr(&segment);
    return 0;
}
