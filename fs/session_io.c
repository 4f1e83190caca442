/* SPDX-License-Identifier: MIT
 * session_io.c: what libfuse before 3.17 forgets to tell the kernel.
 *
 * It takes FUSE_CAP_PARALLEL_DIROPS from us but never puts FUSE_PARALLEL_DIROPS into its answer to INIT
 * (libfuse pull request 861), and then the kernel lets one lookup or readdir into a directory at a time, and
 * the others wait where no signal reaches them. So the answer to INIT, which is the first of a session, is
 * completed on its way out (linux/fuse.h has its layout). All else passes through unchanged. */
#include "fs/fs.h"

#include <errno.h>
#include <linux/fuse.h>
#include <string.h>
#include <sys/uio.h>

#define FIXED_IN_LIBFUSE 317
#define INIT_OUT_LEAST offsetof(struct fuse_init_out, max_write)

static bool is_good_init(const struct iovec *iov, int count)
{
    struct fuse_out_header head;
    if (count != 2 || iov[0].iov_len != sizeof(head) || iov[1].iov_len < INIT_OUT_LEAST)
        return false;
    memcpy(&head, iov[0].iov_base, sizeof(head));
    return head.error == 0;
}

void fs_session_complete(struct fs *fs, const struct iovec *iov, int count)
{
    if (atomic_load_explicit(&fs->init_sent, memory_order_relaxed))
        return;
    atomic_store(&fs->init_sent, true); /* no other reply comes before it */
    if (!fs->parallel_dirops || !is_good_init(iov, count))
        return;
    char *at = (char *)iov[1].iov_base + offsetof(struct fuse_init_out, flags);
    uint32_t flags;
    memcpy(&flags, at, sizeof(flags));
    flags |= FUSE_PARALLEL_DIROPS;
    memcpy(at, &flags, sizeof(flags));
}

static ssize_t send_reply(int fd, struct iovec *iov, int count, void *userdata)
{
    fs_session_complete(userdata, iov, count);
    return writev(fd, iov, count);
}

static ssize_t receive(int fd, void *buf, size_t len, void *userdata)
{
    (void)userdata;
    return read(fd, buf, len);
}

static ssize_t move(int in, off_t *off_in, int out, off_t *off_out, size_t len, unsigned flags,
                    void *userdata)
{
    (void)userdata;
    return splice(in, off_in, out, off_out, len, flags);
}

static const struct fuse_custom_io io = {
    .writev = send_reply, .read = receive, .splice_receive = move, .splice_send = move};

void fs_session_own_io(struct fs *fs)
{
    if (fuse_version() >= FIXED_IN_LIBFUSE || fs->wire) /* that completes it, too */
        return;
    int r = fuse_session_custom_io(fs->session, &io, fuse_session_fd(fs->session));
    if (r < 0)
        log_warn("fs", "lookups within one directory go one by one: %s", strerror(-r));
}
