/* SPDX-License-Identifier: MIT
 * undo.c: see undo.h. */
#include "cache/undo.h"

#include "base/cleanup.h"
#include "base/crypto.h"
#include "base/sys.h"
#include "cache/stage.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>

#define MAGIC 0x4f444e5551ULL
#define PIECE ((size_t)1 << 20)
#define WINDOW_MIN (64u << 10)
#define WINDOW_MAX (32u << 20)

struct head { /* as it is in the file */
    uint64_t magic, promise, off, len;
    uint32_t hole; /* the bytes are zeros and do not follow */
    uint32_t crc;  /* of what is before it, and of the bytes */
};
_Static_assert(sizeof(struct head) == 40, "the head has no padding");

struct undo {
    struct stage *stage;
    char *name; /* of the stage file */
    uint64_t promise;
    struct ranges kept; /* promised, and not copied yet */
    struct stage_file *file; /* NULL: nothing was copied yet */
    uint64_t end, bytes;
};

struct undo *undo_new(struct stage *s, const char *file, uint64_t promise, uint64_t size, const struct ranges *staged)
{
    struct undo *u = xcalloc(1, sizeof(*u));
    u->stage = s;
    u->name = xstrdup(file);
    u->promise = promise;
    ranges_copy(&u->kept, staged);
    ranges_remove(&u->kept, size, UINT64_MAX);
    return u;
}

uint64_t undo_bytes(const struct undo *u)
{
    return u->bytes;
}

void undo_leave(struct undo *u)
{
    if (!u)
        return;
    stage_file_put(u->file);
    ranges_done(&u->kept);
    free(u->name);
    free(u);
}

void undo_drop(struct undo *u)
{
    if (u && u->file)
        stage_undo_remove(u->stage, u->name);
    undo_leave(u);
}

uint64_t undo_need(const struct undo *u, struct range r)
{
    return ranges_overlap(&u->kept, r.off, r.end);
}

bool undo_next(const struct undo *u, uint64_t off, uint64_t end, struct range *ret)
{
    uint64_t next = off, more = u->bytes / 4;
    while (off < end && !ranges_run(&u->kept, off, end, &next))
        off = next;
    if (off >= end)
        return false;
    more = more < WINDOW_MIN ? WINDOW_MIN : more > WINDOW_MAX ? WINDOW_MAX : more;
    if (end - off > more)
        more = end - off < WINDOW_MAX ? end - off : WINDOW_MAX;
    *ret = (struct range){off, more < UINT64_MAX - off ? off + more : UINT64_MAX};
    return true;
}

/* ---- copying away ---- */

static uint32_t head_crc(const struct head *h, const void *bytes)
{
    uint32_t crc = crc32c(0, h, offsetof(struct head, crc));
    return h->hole ? crc : crc32c(crc, bytes, (size_t)h->len);
}

static int put_record(struct undo *u, struct head *h, void *record)
{
    size_t len = sizeof(*h) + (h->hole ? 0 : (size_t)h->len);
    h->magic = MAGIC;
    h->promise = u->promise;
    h->crc = head_crc(h, (char *)record + sizeof(*h));
    memcpy(record, h, sizeof(*h));
    ssize_t put = sys_pwrite(u->file->fd, record, len, u->end);
    if (put != (ssize_t)len)
        return put < 0 ? (int)put : -EIO;
    u->end += len;
    return 0;
}

/* Where data begins, at or behind pos. */
static uint64_t skip_hole(int fd, uint64_t pos, uint64_t end)
{
    off_t at = lseek(fd, (off_t)pos, SEEK_DATA);
    if (at < 0)
        return errno == ENXIO ? end : pos;
    return (uint64_t)at < end ? (uint64_t)at : end;
}

/* [pos, end) is promised. */
static int copy_run(struct undo *u, int fd, uint64_t pos, uint64_t end, char *record)
{
    int r = 0;
    while (pos < end && r == 0) {
        uint64_t data = skip_hole(fd, pos, end);
        struct head h = {.off = pos, .len = data - pos, .hole = data > pos};
        if (!h.hole) {
            h.len = end - pos < PIECE ? end - pos : PIECE;
            ssize_t got = sys_pread(fd, record + sizeof(h), (size_t)h.len, pos);
            if (got != (ssize_t)h.len)
                return got < 0 ? (int)got : -EIO;
        }
        r = put_record(u, &h, record);
        pos += h.len;
    }
    return r;
}

static int copy_window(struct undo *u, int fd, struct range r)
{
    CLEANUP_FREE char *record = malloc(sizeof(struct head) + PIECE);
    int e = record ? 0 : -ENOMEM;
    for (size_t i = 0; i < u->kept.n && e == 0; i++) {
        struct range k = u->kept.v[i];
        uint64_t pos = k.off > r.off ? k.off : r.off;
        uint64_t next = k.end < r.end ? k.end : r.end;
        if (pos < next)
            e = copy_run(u, fd, pos, next, record);
    }
    return e == 0 ? sys_fdatasync(u->file->fd) : e;
}

int undo_keep(struct undo *u, int fd, struct range r, struct err *err)
{
    uint64_t bytes = undo_need(u, r), before = u->end;
    int e = 0;
    if (bytes == 0)
        return 0;
    bool made = u->file;
    if (!made && (e = stage_undo_make(u->stage, u->name, err, &u->file)) < 0)
        return e;
    e = copy_window(u, fd, r);
    if (e == 0 && !made)
        e = sys_fsync_dir(stage_dir(u->stage));
    if (e < 0) {
        u->end = before;
        if (!made) {
            stage_undo_remove(u->stage, u->name);
            stage_file_put(take_ptr(&u->file));
        }
        return err_set(err, -e, "what was closed before cannot be kept in %s while the file is edited: %s",
                       stage_dir(u->stage), strerror(-e));
    }
    ranges_remove(&u->kept, r.off, r.end);
    u->bytes += bytes;
    return 0;
}

/* ---- copying back ---- */

/* 1: *h and its bytes, 0: no more. */
static int get_record(int fd, uint64_t at, uint64_t promise, struct head *h, char *bytes)
{
    ssize_t got = sys_pread(fd, h, sizeof(*h), at);
    if (got != (ssize_t)sizeof(*h))
        return got < 0 ? (int)got : 0;
    if (h->magic != MAGIC || h->promise != promise || (!h->hole && h->len > PIECE))
        return 0;
    if (!h->hole) {
        got = sys_pread(fd, bytes, (size_t)h->len, at + sizeof(*h));
        if (got != (ssize_t)h->len)
            return got < 0 ? (int)got : 0;
    }
    return h->crc == head_crc(h, bytes);
}

static int write_zeros(int fd, uint64_t pos, uint64_t end)
{
    static const char zeros[64 << 10];
    ssize_t put = 0;
    for (; pos < end && put >= 0; pos += (uint64_t)put)
        put = sys_pwrite(fd, zeros, end - pos < sizeof(zeros) ? (size_t)(end - pos) : sizeof(zeros), pos);
    return put < 0 ? (int)put : 0;
}

/* Where it is not a hole already. */
static int make_hole(int fd, uint64_t pos, uint64_t end)
{
    int r = 0;
    while (r == 0 && (pos = skip_hole(fd, pos, end)) < end) {
        off_t at = lseek(fd, (off_t)pos, SEEK_HOLE);
        uint64_t stop = at > (off_t)pos && (uint64_t)at < end ? (uint64_t)at : end;
        r = sys_fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, pos, stop - pos);
        if (r == -EOPNOTSUPP)
            r = write_zeros(fd, pos, stop);
        pos = stop;
    }
    return r;
}

/* What is zeros because nothing was written there. */
static int make_holes(int fd, const struct stage_row *row)
{
    uint64_t pos = row->base_version[0] ? row->base_len : 0, next;
    int r = 0;
    for (; pos < row->attr.size && r == 0; pos = next)
        if (!ranges_run(&row->staged, pos, row->attr.size, &next))
            r = make_hole(fd, pos, next);
    return r;
}

static int put_back(int fd, const struct head *h, const char *bytes)
{
    if (h->hole)
        return make_hole(fd, h->off, h->off + h->len);
    ssize_t put = sys_pwrite(fd, bytes, (size_t)h->len, h->off);
    return put == (ssize_t)h->len ? 0 : put < 0 ? (int)put : -EIO;
}

static int put_all_back(int from, int to, uint64_t promise)
{
    CLEANUP_FREE char *bytes = malloc(PIECE);
    struct head h;
    int r = bytes ? 1 : -ENOMEM;
    for (uint64_t at = 0; r == 1; at += sizeof(h) + (h.hole ? 0 : h.len)) {
        r = get_record(from, at, promise, &h, bytes);
        if (r != 1)
            break;
        r = put_back(to, &h, bytes);
        r = r == 0 ? 1 : r;
    }
    return r;
}

int undo_apply(struct stage *s, struct stage_file *f, const struct stage_row *row, struct err *err)
{
    struct stage_file *from = NULL;
    struct stat st;
    int r = stage_undo_open(s, row->file, err, &from);
    bool edited = r == 0;
    if (r < 0 && r != -ENOENT)
        return r;
    r = edited ? put_all_back(from->fd, f->fd, row->promise) : 0;
    if (r == 0 && fstat(f->fd, &st) < 0)
        r = -errno;
    if (r == 0 && (uint64_t)st.st_size != row->attr.size) /* what was appended, or cut off, since */
        r = sys_ftruncate(f->fd, row->attr.size);
    if (r == 0)
        r = make_holes(f->fd, row);
    if (r == 0 && edited)
        r = sys_fdatasync(f->fd);
    if (r == 0 && edited)
        stage_undo_remove(s, row->file);
    stage_file_put(from);
    if (r < 0)
        return err_set(err, -r, "%s: cannot be made what was closed before: %s", f->path, strerror(-r));
    err_clear(err);
    return 0;
}
