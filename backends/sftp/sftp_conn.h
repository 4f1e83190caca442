/* SPDX-License-Identifier: MIT
 * sftp_conn.h: one SSH connection, and the requests and replies of SFTP version 3 on it. (What
 * commands send and receive on one: sftp_shell.h. What both can be asked for: sftp_far.h.)
 *
 * libssh2 does the SSH part (keys, encryption, authentication, one channel); the SFTP packets are
 * made and read here, which keeps any number of requests on their way and reaches the server's
 * extensions.
 *
 *     uint32_t a = conn_path_req(c, SSH_FXP_LSTAT, path);     // queued
 *     uint32_t b = conn_open_req(c, path, SSH_FXF_READ, NULL);
 *     struct reply rep;
 *     r = conn_wait(c, op, a, &rep);                          // sent by now; rep is valid until
 * the next call
 *
 * Replies may be waited for in any order. What is still on its way when a user of the connection is
 * done is dropped when it comes (conn_rest). Requests of one user are answered in the order sent by
 * every server known; nothing here relies on it but where it is said.
 *
 * Time: conn_wait ends with -EINTR within 100 ms of op_cancel(), with -ETIMEDOUT at op's deadline,
 * or when no byte moved for stall_ms. A connection that failed (c->broken) is good for conn_free
 * only. Errors of the connection: -EIO, ERR_RETRY_SAFE, or ERR_RETRY_UNKNOWN while c->changing is
 * set (a request that changes something visible has been queued and not been answered). Threads:
 * one user at a time. Nothing here is called with a lock held. Facts: draft-ietf-secsh-filexfer-02
 * (version 3), OpenSSH's PROTOCOL file (extensions, the order of SYMLINK's arguments), libssh2's
 * manual (a call that gave EAGAIN while sending must be repeated first). */
#ifndef QUAY_BACKENDS_SFTP_SFTP_CONN_H
#define QUAY_BACKENDS_SFTP_SFTP_CONN_H

#include "backends/attr.h"
#include "base/buf.h"
#include "base/op.h"

#include <libssh2.h>

enum {
    SSH_FXP_INIT = 1,
    SSH_FXP_VERSION = 2,
    SSH_FXP_OPEN = 3,
    SSH_FXP_CLOSE = 4,
    SSH_FXP_READ = 5,
    SSH_FXP_WRITE = 6,
    SSH_FXP_LSTAT = 7,
    SSH_FXP_FSTAT = 8,
    SSH_FXP_SETSTAT = 9,
    SSH_FXP_FSETSTAT = 10,
    SSH_FXP_OPENDIR = 11,
    SSH_FXP_READDIR = 12,
    SSH_FXP_REMOVE = 13,
    SSH_FXP_MKDIR = 14,
    SSH_FXP_RMDIR = 15,
    SSH_FXP_REALPATH = 16,
    SSH_FXP_STAT = 17,
    SSH_FXP_RENAME = 18,
    SSH_FXP_READLINK = 19,
    SSH_FXP_SYMLINK = 20,
    SSH_FXP_STATUS = 101,
    SSH_FXP_HANDLE = 102,
    SSH_FXP_DATA = 103,
    SSH_FXP_NAME = 104,
    SSH_FXP_ATTRS = 105,
    SSH_FXP_EXTENDED = 200,
    SSH_FXP_EXTENDED_REPLY = 201
};

enum {
    SSH_FX_OK = 0,
    SSH_FX_EOF = 1,
    SSH_FX_NO_SUCH_FILE = 2,
    SSH_FX_PERMISSION_DENIED = 3,
    SSH_FX_FAILURE = 4,
    SSH_FX_BAD_MESSAGE = 5,
    SSH_FX_NO_CONNECTION = 6,
    SSH_FX_CONNECTION_LOST = 7,
    SSH_FX_OP_UNSUPPORTED = 8
};

enum {
    SSH_FXF_READ = 1,
    SSH_FXF_WRITE = 2,
    SSH_FXF_CREAT = 8,
    SSH_FXF_TRUNC = 16,
    SSH_FXF_EXCL = 32
};

enum wire_attr_flags {
    WIRE_SIZE = 1,
    WIRE_OWNER = 2,
    WIRE_MODE = 4,
    WIRE_TIMES = 8,
    WIRE_ALL = 15,
    WIRE_EXACT = 256 /* mtime_ns and inode; never by SFTP */
};

struct wire_attr {  /* the ATTRS of the protocol */
    uint32_t flags; /* which of the others are there */
    uint64_t size;
    uint32_t uid, gid, mode, atime, mtime;
    uint32_t mtime_ns;
    uint64_t inode;
};

enum conn_ext { /* extensions that the server offers */
                EXT_POSIX_RENAME = 1 << 0,
                EXT_FSYNC = 1 << 1,
                EXT_STATVFS = 1 << 2,
                EXT_LSETSTAT = 1 << 3,
                EXT_LIMITS = 1 << 4,
                EXT_COPY_DATA = 1 << 5
};

#define HANDLE_MAX 256

struct handle {   /* of an open file or directory, as the server gave it */
    uint32_t len; /* 0: none */
    char bytes[HANDLE_MAX];
};

struct reply {
    uint32_t id;
    uint8_t type;
    const uint8_t *at, *end; /* what is left of the body */
};

/* What was asked for ahead of the next user: a temporary file in `dir`, open to be written, and the directory itself. The
 * answers are kept until conn_expect_handle() takes them. */
struct ahead {
    char *dir, *temp; /* NULL: nothing */
    bool hidden;      /* made for the user's eyes only (0600) */
    uint64_t asked_ns;
    uint32_t open, open_dir; /* the requests */
};

struct far;
struct shell;
struct stashed; /* a reply that came before the one waited for */

struct conn {
    LIBSSH2_SESSION *session;
    LIBSSH2_CHANNEL *channel;
    int fd;
    const struct far *far; /* how it speaks; set before its first word */
    struct shell *shell;   /* far_exec's, freed with it */
    char *name;            /* "host:port": for texts */
    const char *root;      /* the store's; borrowed */
    size_t endpoint;       /* index in the store's list */
    uint64_t used_ns;      /* last given back */
    uint64_t busy_ns;      /* last taken for a request */
    uint64_t moved;        /* bytes in both directions */
    unsigned stall_ms;
    uint32_t extensions;          /* enum conn_ext */
    uint32_t read_max, write_max; /* bytes of data in one request */
    uint32_t write_window;        /* of data that the server has not answered for */
    bool broken;
    bool changing;    /* see above; conn_changing() */
    bool touched;     /* this user has changed something */
    bool no_dir_sync; /* the server does not open directories for fsync */
    /* The state of the wire. */
    enum {
        STUCK_NOT = 0,
        STUCK_READ,
        STUCK_WRITE
    } stuck; /* the call that must be repeated first */
    uint32_t next_id;
    uint32_t dropped_below; /* replies with smaller ids are nobody's */
    unsigned opening;       /* requests for a handle on their way: their handle would be lost */
    uint8_t *out, *in;
    size_t out_at, out_len, in_at, in_len;
    struct stashed *stash;
    struct stashed *given; /* the one that the last conn_wait gave */
    struct ahead ahead;
    struct { /* sftp_ahead.c: files written into one directory, one after the other */
        char *dir;
        unsigned n;
        uint64_t last_ns;
    } row;
};

/* Before a request that changes something visible, and after its answer. */
static inline void conn_changing(struct conn *c, bool on)
{
    c->touched |= on;
    if (on || !c->broken)
        c->changing = on;
}

/* ---- sftp_conn.c: bytes and packets ---- */
/* Takes nothing: session, channel and fd are set by the caller as they come to be. */
struct conn *conn_new(const char *name, size_t endpoint, unsigned stall_ms);
void conn_free(struct conn *c); /* NULL ok; says goodbye without waiting */
/* Version and extensions; after the channel is there. */
int conn_init(struct conn *c, struct op *op);
/* Is it still there, as far as can be told without waiting? Replies are dropped. */
bool conn_is_alive(struct conn *c);
/* The user is done: replies that are still to come are dropped, but those of `ahead`. false: it must be closed. */
bool conn_rest(struct conn *c);
/* What was asked for ahead has its user, or is gone. */
void conn_ahead_clear(struct conn *c);
/* Sends and receives what can be now: -1: the connection is gone. */
int conn_pump(struct conn *c);
/* Waits until something was sent or received. */
int conn_move(struct conn *c, struct op *op);
/* Nothing is queued, nothing was received: another channel takes the place of this one. */
void conn_reset(struct conn *c);
int conn_wait(struct conn *c, struct op *op, uint32_t id, struct reply *ret);
/* Waits until a packet of n bytes of data, or a few requests with paths, can be queued. Needed only
 * where requests are queued without waiting for those before. */
int conn_room(struct conn *c, struct op *op, size_t n);
/* Waits for the socket in the direction that libssh2 wants, at most ms. 1 = ready, 0 = not. */
int conn_poll(struct conn *c, unsigned ms);
/* op->err for a libssh2 failure; marks the connection. */
int conn_broken(struct conn *c, struct op *op, int code, const char *what);
#define CONN_ROOM_MAX (512 * 1024) /* data of one request at most */
#define CONN_OUT_SIZE (2 * CONN_ROOM_MAX)
#define CONN_SMALL                                                                                 \
    (16 * 1024) /* room that is always there behind conn_room, and when all is answered */

/* ---- sftp_packet.c: requests, replies ---- */
uint32_t conn_path_req(struct conn *c, uint8_t type, const char *path);
uint32_t conn_two_paths_req(struct conn *c, uint8_t type, const char *a, const char *b);
uint32_t conn_attr_req(struct conn *c, uint8_t type, const char *path, const struct wire_attr *a);
uint32_t conn_open_req(struct conn *c, const char *path, uint32_t flags, const struct wire_attr *a);
uint32_t conn_opendir_req(struct conn *c, const char *path);
uint32_t conn_handle_req(struct conn *c, uint8_t type, const struct handle *h);
uint32_t conn_fsetstat_req(struct conn *c, const struct handle *h, const struct wire_attr *a);
uint32_t conn_read_req(struct conn *c, const struct handle *h, uint64_t off, uint32_t len);
/* Where the data of a write goes: fill the len bytes before anything else is done with c. */
uint32_t conn_write_req(struct conn *c, const struct handle *h, uint64_t off, uint32_t len,
                        void **ret_data);
uint32_t conn_posix_rename_req(struct conn *c, const char *from, const char *to);
uint32_t conn_fsync_req(struct conn *c, const struct handle *h);
uint32_t conn_statvfs_req(struct conn *c, const char *path);
uint32_t conn_lsetstat_req(struct conn *c, const char *path, const struct wire_attr *a);
uint32_t conn_limits_req(struct conn *c);
/* A handle that is not needed any more; nobody waits for the answer. Empties h. */
void conn_close_handle(struct conn *c, struct handle *h);

bool reply_u8(struct reply *r, uint8_t *ret);
bool reply_u32(struct reply *r, uint32_t *ret);
bool reply_u64(struct reply *r, uint64_t *ret);
bool reply_bytes(struct reply *r, const char **ret, size_t *ret_len);
bool reply_attrs(struct reply *r, struct wire_attr *ret);

/* conn_wait and the judgement of the reply. `what` and `key` make the text: "put KEY: ...". Give 0,
 * or -errno with op->err: ENOENT, EACCES, ENOTSUP, ENAMETOOLONG; -EIO with err.status
 * SSH_FX_FAILURE where the server gives no reason (status_is_failure). */
int conn_expect_ok(struct conn *c, struct op *op, uint32_t id, const char *what, const char *key);
int conn_expect_attrs(struct conn *c, struct op *op, uint32_t id, const char *what, const char *key,
                      struct wire_attr *ret);
int conn_expect_handle(struct conn *c, struct op *op, uint32_t id, const char *what,
                       const char *key, struct handle *ret);
/* 1 at the end of the file or directory. */
int conn_expect(struct conn *c, struct op *op, uint32_t id, uint8_t type, const char *what,
                const char *key, struct reply *ret);
/* The server said FAILURE, which stands for anything: look why. */
bool status_is_failure(const struct op *op);
int conn_bad_reply(struct conn *c, struct op *op, const char *what, const char *key);

#endif
