/* SPDX-License-Identifier: MIT
 * op_file.c: open, create, read, release.
 *
 * A read never holds a thread while it waits: vfile_read() calls read_done() when the bytes are there,
 * from whichever thread brought them. Bytes that are in a cache file are spliced, not copied. */
#include "fs/interrupt.h"
#include "fs/ops.h"
#include "fs/passthrough.h"
#include "fs/request.h"
#include "fs/view.h"

#include <sched.h>
#include <string.h>

static unsigned wanted_flags(int flags)
{
    unsigned f = 0;
    int access = flags & O_ACCMODE;
    if (access == O_RDONLY || access == O_RDWR)
        f |= VFILE_READ;
    if (access == O_WRONLY || access == O_RDWR)
        f |= VFILE_WRITE;
    if (flags & O_TRUNC)
        f |= VFILE_TRUNC;
    if (flags & O_EXCL)
        f |= VFILE_EXCL;
    if (flags & O_DIRECT)
        f |= VFILE_DIRECT;
    return f;
}

/* Who only writes can neither map nor read back what he writes: pages of it in the kernel are a copy that he waits for,
 * and before the first of them the kernel asks for security.capability. Set-id bits are the kernel's to clear. Where
 * others change pages of i (by a mapping), writes go into the same pages; op_write.c looks after those who read. */
static bool writes_past_pages(const struct request *r, struct inode *i, const struct attr *a)
{
    return r->fs->direct_writes && (r->fi.flags & O_ACCMODE) == O_WRONLY && !(a->mode & (S_ISUID | S_ISGID)) &&
           !atomic_load(&i->page_writers);
}

static void set_open_flags(struct request *r, struct inode *i, const struct attr *a, bool keep)
{
    if (r->inode->key->control || r->fi.flags & O_DIRECT || writes_past_pages(r, i, a))
        r->fi.direct_io = 1;
    r->fi.keep_cache = keep && !r->fi.direct_io;
    /* A handle that has changed nothing has nothing to flush at close. Opening may be a change. */
    r->fi.noflush = (r->fi.flags & (O_ACCMODE | O_CREAT | O_TRUNC)) == O_RDONLY;
}

/* An open that was counted at i (fs/passthrough.h). */
static void attach(struct request *r, struct inode *i, struct vfile *file)
{
    r->handle = handle_new(r->fs->inodes, i, file, NULL);
    r->handle->io = r->backing ? INODE_IO_PASSED : INODE_IO_CACHED;
    r->handle->through = r->fs->passthrough;
    r->handle->direct = r->fi.direct_io;
    r->handle->passable = passthrough_is_wanted(r);
    r->handle->writes = (r->fi.flags & O_ACCMODE) != O_RDONLY;
    handle_count_pages(r->handle, i);
    r->fi.fh = (uint64_t)(uintptr_t)r->handle;
}

/* The kernel changes size and times by itself while a handle can write. */
static void note_writer(const struct request *r, struct inode *i)
{
    if ((r->fi.flags & O_ACCMODE) != O_RDONLY)
        atomic_store(&i->told, INODE_TOLD_MANY);
}

/* What the kernel knows of size and times may be old: of another version, or as somebody else has changed the metadata
 * of this one (attributes only: no page lock is taken, so this is safe inside the open). */
static void refresh_attr(struct request *r, const struct attr *a)
{
    if (fs_was_told(r->inode, a) || !r->fs->session)
        return;
    atomic_store(&r->inode->told, INODE_TOLD_NONE); /* before: replies that come behind it count */
    (void)fuse_lowlevel_notify_inval_inode(r->fs->session, r->inode->ino, -1, 0);
}

/* Another client has removed the file, or made something else of its name: -ESTALE has the kernel look the name up again,
 * whatever it has cached, and go on with what is there; an open that creates creates then. It asks once more only. */
static bool is_another(int rc)
{
    return rc == -ENOENT || rc == -EISDIR || rc == -ENOTDIR || rc == -ELOOP;
}

static void do_open(struct request *r)
{
    CLEANUP_FREE char *path = inode_path(r->fs->inodes, r->inode);
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    struct vfile_open how = {.flags = wanted_flags(r->fi.flags) & ~(unsigned)VFILE_EXCL};
    how.flags |= how.flags & VFILE_TRUNC ? VFILE_TRUNC_LATER : 0;
    struct vfile *file = NULL;
    bool keep = false;
    int rc = -ENOENT;
    if (path)
        rc = volume_open_file(request_volume(r), &r->op, path, &how, &file, &a, &keep);
    bool again = path && is_another(rc);
    if (rc == 0 && passthrough_open(r, file) < 0) {
        vfile_release(file);
        again = true;
    }
    if (again) {
        fuse_reply_err(request_take_reply(r), ESTALE);
        request_free(r);
        return;
    }
    if (rc < 0) {
        request_reply_err(r, rc);
        return;
    }
    set_open_flags(r, r->inode, &a, keep && !r->backing); /* passed: the kernel's own pages are to go */
    attach(r, r->inode, file);
    if ((how.flags & VFILE_TRUNC) && (rc = vfile_truncate_opened(file, &r->op, &a)) < 0) {
        handle_release(r->fs->inodes, take_ptr(&r->handle));
        request_reply_err(r, rc);
        return;
    }
    refresh_attr(r, &a);
    note_writer(r, r->inode);
    request_reply_open(r);
}

static void open_view(struct request *r)
{
    if ((r->fi.flags & O_ACCMODE) != O_RDONLY) {
        request_reply_err(r, -EACCES);
        return;
    }
    r->handle = handle_new(r->fs->inodes, r->inode, NULL, NULL);
    view_render(r->fs, r->inode->view, &r->handle->text);
    r->fi.fh = (uint64_t)(uintptr_t)r->handle;
    r->fi.direct_io = 1; /* its size is known only now */
    request_reply_open(r);
}

void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct request *r = request_new(req, "open", ino, do_open);
    if (!r)
        return;
    r->fi = *fi;
    passthrough_running(r->fs->passthrough);
    if (r->inode->kind == INODE_VIEW_FILE)
        open_view(r);
    else
        request_submit(r, 0);
}

static struct vfile_open how_to_create(const struct request *r)
{
    const struct fuse_ctx *ctx = fuse_req_ctx(r->req);
    return (struct vfile_open){.flags = wanted_flags(r->fi.flags) | VFILE_CREATE,
                               .mode = (mode_t)r->number & 07777,
                               .uid = ctx->uid,
                               .gid = ctx->gid};
}

static void created(struct request *r, const char *segment, struct vfile *file, const struct attr *a)
{
    struct inode_spec spec = {
        .kind = INODE_OBJECT, .key = r->inode->key, .name = r->name, .segment = segment};
    struct inode *i = inode_enter(r->fs->inodes, r->inode, &spec);
    passthrough_create(r, &spec, &i);
    set_open_flags(r, i, a, false);
    attach(r, i, file);
    note_writer(r, i);
    request_reply_create(r, i, a);
}

static void do_create(struct request *r)
{
    CLEANUP_FREE char *path = NULL;
    CLEANUP_FREE char *segment = NULL;
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    struct vfile_open how = how_to_create(r);
    struct vfile *file = NULL;
    bool keep = false;
    bool shadow = false;
    int rc = request_child(r, r->inode, r->name, &path, &segment, &shadow);
    if (rc == 0 && shadow)
        rc = -EISDIR;
    if (rc == 0)
        rc = volume_open_file(request_volume(r), &r->op, path, &how, &file, &a, &keep);
    if (rc < 0)
        request_reply_err(r, rc);
    else
        created(r, segment, file, &a);
}

/* A name that is known to be free needs nobody: done sooner than handed over. */
static bool create_at_once(struct request *r)
{
    struct volume *v = r->inode->key ? r->inode->key->volume : NULL;
    char segment[NAME_MAX_BYTES + 1];
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    struct vfile *file = NULL;
    CLEANUP_FREE char *path = v ? request_plain_child(r, r->inode, r->name, segment) : NULL;
    struct vfile_open how = how_to_create(r);
    if (!path || volume_try_create(v, path, &how, &file, &a) < 0)
        return false;
    created(r, segment, file, &a);
    return true;
}

void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
               struct fuse_file_info *fi)
{
    struct request *r = request_new(req, "create", parent, do_create);
    if (!r)
        return;
    r->fi = *fi;
    r->name = xstrdup(name);
    r->number = mode & ~fuse_req_ctx(req)->umask;
    if (!create_at_once(r))
        request_submit(r, 0);
}

/* A read that is answered at once never has an interrupt hook: a second thread sees to it that one that
 * waits gets it, and that it is taken off before the reply. */
enum hook { HOOK_NONE = 0, HOOK_SETTING, HOOK_SET, HOOK_NEVER };

struct read_request {
    struct read_call call;
    fuse_req_t req;
    struct fs *fs;
    struct inode *inode;
    struct handle *handle;  /* open until the reply */
    struct pool_job cancel;
    atomic_uint refs;       /* op_read, the call, the cancelling job */
    atomic_int hook;
    atomic_bool cancelled;
};

static void read_unref(struct read_request *rr)
{
    if (atomic_fetch_sub(&rr->refs, 1) == 1)
        free(rr);
}

static void cancel_read(struct pool_job *job)
{
    struct read_request *rr =
        (struct read_request *)(void *)((char *)job - offsetof(struct read_request, cancel));
    struct inode_table *t = rr->fs->inodes;
    struct handle *h = rr->handle;
    vfile_read_cancel(h->file, &rr->call);
    read_unref(rr);
    handle_release(t, h);
}

/* libfuse holds the request's lock, which the reply needs: another thread does it. */
static void on_read_interrupt(fuse_req_t req, void *data)
{
    struct read_request *rr = data;
    if (!interrupt_is_meant(fuse_req_ctx(req)->pid) || atomic_exchange(&rr->cancelled, true))
        return;
    atomic_fetch_add(&rr->refs, 1);
    inode_ref_handle(rr->fs->inodes, rr->handle);
    rr->cancel.run = cancel_read;
    pool_submit(rr->fs->aside, &rr->cancel, 0);
}

static void hook_read(struct read_request *rr)
{
    int none = HOOK_NONE;
    if (!atomic_compare_exchange_strong(&rr->hook, &none, HOOK_SETTING))
        return; /* answered */
    fuse_req_interrupt_func(rr->req, on_read_interrupt, rr);
    atomic_store(&rr->hook, HOOK_SET);
}

static void unhook_read(struct read_request *rr)
{
    int none = HOOK_NONE;
    if (atomic_compare_exchange_strong(&rr->hook, &none, HOOK_NEVER))
        return;
    while (atomic_load(&rr->hook) != HOOK_SET) /* microseconds */
        sched_yield();
    fuse_req_interrupt_func(rr->req, NULL, NULL);
}

static void log_read_failure(struct read_request *rr)
{
    CLEANUP_FREE char *path = inode_path(rr->fs->inodes, rr->inode);
    fs_log_failure(rr->fs, "read", rr->inode->key->name, path ? path : "(deleted)", rr->call.error,
                   &rr->call.err);
}

/* Up to here a copy costs less than the calls that fill and empty a pipe. */
#define COPY_MAX (64u << 10)

static void reply_pieces(struct read_request *rr)
{
    size_t n = rr->call.n_pieces;
    bool spliceable = atomic_load(&rr->fs->splice) && rr->call.total > COPY_MAX;
    CLEANUP_FREE struct fuse_bufvec *bv = xcalloc(1, sizeof(*bv) + n * sizeof(struct fuse_buf));
    bv->count = n;
    for (size_t k = 0; k < n; k++) {
        const struct read_piece *p = &rr->call.pieces[k];
        struct fuse_buf *b = &bv->buf[k];
        b->size = p->length;
        if (p->mem) {
            b->mem = (void *)(uintptr_t)p->mem;
            continue;
        }
        b->flags = FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK;
        b->fd = p->fd;
        b->pos = (off_t)p->fd_offset;
    }
    fuse_reply_data(rr->req, bv, spliceable ? FUSE_BUF_SPLICE_MOVE : FUSE_BUF_NO_SPLICE);
}

static void read_done(struct read_call *call)
{
    struct read_request *rr = (struct read_request *)(void *)call;
    unhook_read(rr);
    stat_add(rr->inode->key->read_bytes, (int64_t)call->total);
    if (call->error) {
        log_read_failure(rr);
        fuse_reply_err(rr->req, fs_errno(call->error));
    } else if (call->n_pieces == 1 && call->pieces[0].mem) {
        fuse_reply_buf(rr->req, call->pieces[0].mem, call->pieces[0].length);
    } else if (call->n_pieces == 0) {
        fuse_reply_buf(rr->req, NULL, 0);
    } else {
        reply_pieces(rr);
    }
    inode_unref(rr->fs->inodes, rr->inode);
    read_unref(rr);
}

/* The handle is held until the reply has left: its release may overtake us. */
static void read_text(fuse_req_t req, struct handle *h, size_t size, off_t off)
{
    struct inode_table *t = fs_of(req)->inodes;
    inode_ref_handle(t, h);
    size_t at = (uint64_t)off < h->text.len ? (size_t)off : h->text.len;
    size_t n = h->text.len - at < size ? h->text.len - at : size;
    fuse_reply_buf(req, buf_str(&h->text) + at, n);
    handle_release(t, h);
}

void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
    (void)ino;
    struct handle *h = (struct handle *)(uintptr_t)fi->fh;
    if (!h->file) {
        read_text(req, h, size, off);
        return;
    }
    struct fs *fs = fs_of(req);
    struct read_request *rr = xcalloc(1, sizeof(*rr));
    rr->call.offset = (uint64_t)off;
    rr->call.length = size;
    rr->call.done = read_done;
    rr->req = req;
    rr->fs = fs;
    rr->inode = h->inode;
    rr->handle = h;
    atomic_init(&rr->refs, 2);
    inode_ref(fs->inodes, h->inode);
    vfile_read(h->file, &rr->call);
    hook_read(rr);
    read_unref(rr);
}

static void do_release(struct request *r)
{
    struct handle *h = r->handle;
    note_writer(r, r->inode);
    fuse_req_t req = request_take_reply(r);
    fuse_reply_err(req, 0);
    handle_release(r->fs->inodes, h);
    request_free(r);
}

void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    struct request *r = request_new(req, "release", ino, do_release);
    if (!r)
        return;
    r->handle = (struct handle *)(uintptr_t)fi->fh;
    r->fi = *fi;
    bool writes = r->inode->key && (fi->flags & O_ACCMODE) != O_RDONLY;
    if (writes && !vfile_release_is_quick(r->handle->file))
        request_submit_always(r, 1);
    else
        do_release(r); /* done sooner than handed over */
}
