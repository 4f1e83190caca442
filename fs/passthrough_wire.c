/* SPDX-License-Identifier: MIT
 * passthrough_wire.c: libfuse < 3.17 (Debian 12) cannot say what passthrough needs: one bit and one number
 * in the answer to INIT, one bit and one number in the answer to OPEN. Its custom I/O
 * (fuse_session_custom_io) shows us each message before it is written, in the thread that made it: so a
 * thread notes what its next message is, replies, and the message is completed on its way.
 * Protocol facts: linux/fuse.h of Linux 6.9 (fuse_out_header, fuse_init_out, fuse_open_out). */
#include "fs/passthrough.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define INIT_FLAGS 12       /* offsets in fuse_init_out */
#define INIT_FLAGS2 32
#define INIT_STACK_DEPTH 36
#define INIT_SIZE 64
#define INIT_EXT (1u << 30) /* flags2 counts */
#define INIT2_PASSTHROUGH (1u << 5)
#define OPEN_FLAGS 8        /* offsets in fuse_open_out */
#define OPEN_BACKING 12
#define OPEN_SIZE 16
#define FOPEN_PASSTHROUGH_BIT (1u << 7)
#define HEADER_SIZE 16
#define HEADER_ERROR 4

struct note {
    unsigned depth; /* the next message answers INIT */
    int backing;    /* or OPEN */
};

struct passthrough_wire {
    pthread_key_t note; /* of a thread that is about to reply: struct note */
};

static void set_bits(unsigned char *at, uint32_t bits)
{
    uint32_t v;
    memcpy(&v, at, sizeof(v));
    v |= bits;
    memcpy(at, &v, sizeof(v));
}

static void set_number(unsigned char *at, uint32_t v)
{
    memcpy(at, &v, sizeof(v));
}

/* A message is its header and its body, each in one piece. */
static void complete(const struct note *n, const struct iovec *iov, int count)
{
    int32_t error;
    if (count != 2 || iov[0].iov_len != HEADER_SIZE)
        return;
    memcpy(&error, (unsigned char *)iov[0].iov_base + HEADER_ERROR, sizeof(error));
    unsigned char *body = iov[1].iov_base;
    if (error)
        return;
    if (n->backing && iov[1].iov_len == OPEN_SIZE) {
        set_bits(body + OPEN_FLAGS, FOPEN_PASSTHROUGH_BIT);
        set_number(body + OPEN_BACKING, (uint32_t)n->backing);
    } else if (n->depth && iov[1].iov_len == INIT_SIZE) {
        set_bits(body + INIT_FLAGS, INIT_EXT);
        set_bits(body + INIT_FLAGS2, INIT2_PASSTHROUGH);
        set_number(body + INIT_STACK_DEPTH, n->depth);
    }
}

static ssize_t wire_writev(int fd, struct iovec *iov, int count, void *userdata)
{
    struct fs *fs = userdata;
    pthread_key_t key = fs->wire->note;
    struct note *n = pthread_getspecific(key);
    fs_session_complete(fs, iov, count);
    if (n) {
        complete(n, iov, count);
        free(n);
        (void)pthread_setspecific(key, NULL);
    }
    return writev(fd, iov, count);
}

static ssize_t wire_read(int fd, void *buf, size_t size, void *userdata)
{
    (void)userdata;
    return read(fd, buf, size);
}

static ssize_t wire_splice_receive(int from, off_t *from_off, int to, off_t *to_off, size_t len,
                                   unsigned flags, void *userdata)
{
    (void)userdata;
    return splice(from, from_off, to, to_off, len, flags);
}

static ssize_t wire_splice_send(int from, off_t *from_off, int to, off_t *to_off, size_t len,
                                unsigned flags, void *userdata)
{
    (void)userdata;
    return splice(from, from_off, to, to_off, len, flags);
}

int passthrough_wire_attach(struct fs *fs, struct passthrough_wire **ret)
{
    static const struct fuse_custom_io io = {.writev = wire_writev,
                                             .read = wire_read,
                                             .splice_receive = wire_splice_receive,
                                             .splice_send = wire_splice_send};
    struct passthrough_wire *w = xcalloc(1, sizeof(*w));
    int r = pthread_key_create(&w->note, free);
    if (r != 0) {
        free(w);
        return -r;
    }
    fs->wire = *ret = w;
    return fuse_session_custom_io(fs->session, &io, fuse_session_fd(fs->session));
}

void passthrough_wire_free(struct passthrough_wire *w)
{
    if (w)
        (void)pthread_key_delete(w->note);
    free(w);
}

static void set_note(struct passthrough_wire *w, struct note note)
{
    struct note *n = xmalloc(sizeof(*n));
    *n = note;
    (void)pthread_setspecific(w->note, n);
}

bool passthrough_wire_init(struct passthrough_wire *w, struct fuse_conn_info *conn, unsigned depth)
{
    (void)conn; /* a kernel without it ignores the bit, and then refuses the first file */
    set_note(w, (struct note){.depth = depth});
    return true;
}

int passthrough_wire_open(struct passthrough_wire *w, fuse_req_t req, struct fuse_file_info *fi,
                          int backing)
{
    set_note(w, (struct note){.backing = backing});
    return fuse_reply_open(req, fi);
}
