/* SPDX-License-Identifier: MIT
 * sftp_far.h: what a connection can be asked to do on the far side, whichever way it speaks.
 *
 * Two ways: far_sftp (packets of SFTP version 3: far_sftp.c, far_sftp_io.c) and far_exec (commands
 * of a shell: far_exec.c, far_exec_io.c). Which one a connection has is settled when it is made
 * (sftp_ssh.c) and told by conn.far; everything above calls conn->far->slot(conn, ...).
 *
 * Paths are absolute, or relative to the home directory; they name what is there itself (a symbolic
 * link is not followed as the last part) but where it is said. `key` is for texts.
 *
 * Errors: 0 or -errno with op->err, as in sftp_conn.h:
 *   -ENOENT, -EACCES, -ENOTSUP, -ENAMETOOLONG when the far side says so. A path through a file is
 *            -ENOENT, as SFTP has it.
 *   -EIO     with status_is_failure(op): refused without a reason; the caller looks why.
 *   -EEXIST, -ENOTEMPTY, -EISDIR, -EINVAL, -ENOSPC, -EXDEV: from a side that tells them (commands).
 * When c->broken is set the connection is lost; what was asked for may have happened. Callers
 * bracket what changes something by conn_changing().
 * Threads: one user of a connection at a time. */
#ifndef QUAY_BACKENDS_SFTP_SFTP_FAR_H
#define QUAY_BACKENDS_SFTP_SFTP_FAR_H

#include "backends/sftp/sftp_conn.h"
#include "backends/store.h"

/* May it go on? `w` is what is there (flags 0: nothing). 0, or -errno with op->err. */
typedef int far_judge_fn(void *arg, struct op *op, const struct wire_attr *w);

struct far_read { /* a range of a file, or the target of a symbolic link */
    const char *path;
    const struct read_req *req;
    far_judge_fn *judge; /* before the first byte; files, and links, but nothing else, are read */
    void *arg;
    struct wire_attr before, after; /* out: equal: the bytes are of one state. Links: before only */
    size_t got, wanted;             /* out: bytes in req->iov, and how many `before` promises */
    struct buf target;              /* out: of a link */
};

struct far_make {     /* a new file under a temporary name, complete and durable where it can be */
    const char *path; /* what it is going to replace: looked at first */
    const char *temp;
    const char *key;
    const struct source *src;
    const struct attr *attr; /* mtime is known. An owner that may not be set is no error */
    far_judge_fn *judge;     /* gets what is at `path`, before bytes are sent */
    void *arg;
    const char *dir;        /* is going to be made durable by far_move: may be opened; NULL: not */
    bool ahead;             /* temp is what conn.ahead has, in dir: taken */
    struct handle held;     /* out: of dir, on this connection; empty: none. The caller's to close */
    bool made;              /* out: the temporary may be there */
    struct wire_attr attrs; /* out: of the new file */
};

struct far_move {
    const char *from, *to, *key;
    bool no_replace;     /* fails when something is there; else replaces (EXT_POSIX_RENAME) */
    const char *dir;     /* that of `to`: made durable afterwards (EXT_FSYNC); NULL: not */
    struct handle *held; /* of dir, taken; NULL, or empty: none */
    const char *next;    /* NULL, or a temporary in dir that may be asked for with it: conn.ahead then, of a connection
                          * that has none */
    bool hidden;         /* of which mode */
    bool moved;          /* out: it has its new name; an error is about the durability */
};

struct far_patch { /* changes within a file */
    const char *path;
    const struct patch_req *req;
    const struct attr *attr; /* mtime is known */
    far_judge_fn *judge;     /* gets `before`, before the first change */
    void *arg;
    bool hidden;     /* a temporary file: who is to see it does not see the change, or half of one */
    bool bytes_only; /* and only its ranges are written, and made durable where they can be: nobody
                      * looks or judges, size and attributes stay. `before` is in: with WIRE_EXACT the
                      * inode must be that one (-ESTALE, -ENOENT) */
    bool begun; /* out: the file may have been changed; unless hidden conn_changing is on from then */
    struct wire_attr before, after; /* out. After a failure `after` is what the server made of all that was sent;
                                     * flags 0: not known */
};

/* One name of a directory. flags without WIRE_MODE: only the name is known. */
typedef void far_name_fn(void *arg, const char *name, size_t len, const struct wire_attr *w);

struct far {
    const char *how; /* "SFTP", "commands" */
    /* The first words on the channel. */
    int (*start)(struct conn *c, struct op *op);
    /* Nobody waits for anything: false when it must be closed. Before it is used again, without
     * waiting: is all well? */
    bool (*rest)(struct conn *c);
    bool (*is_alive)(struct conn *c);
    int (*look)(struct conn *c, struct op *op, const char *path, const char *key, bool follow,
                struct wire_attr *ret);
    /* In no order; the server's names, whatever they are. */
    int (*names)(struct conn *c, struct op *op, const char *path, const char *key,
                 far_name_fn *take, void *arg);
    int (*read)(struct conn *c, struct op *op, struct far_read *r);
    int (*make)(struct conn *c, struct op *op, struct far_make *m);
    int (*patch)(struct conn *c, struct op *op, struct far_patch *p);
    /* Fails when something is there. */
    int (*symlink)(struct conn *c, struct op *op, const char *target, const char *path,
                   const char *key);
    /* The attributes named by a->flags; of a link itself (is_link, EXT_LSETSTAT). */
    int (*set)(struct conn *c, struct op *op, const char *path, const char *key, bool is_link,
               const struct wire_attr *a, const char *what);
    int (*rename)(struct conn *c, struct op *op, struct far_move *m);
    /* FAR_REMOVES_MAX files at most, each with its result; op->err is about the last that was not
     * removed. -errno: nothing is known. Paths that are NULL are left out. */
    int (*remove)(struct conn *c, struct op *op, const char *const *paths, const char *const *keys,
                  size_t n, struct remove_result *results);
    int (*make_dir)(struct conn *c, struct op *op, const char *path, uint32_t mode,
                    const char *key);
    int (*remove_dir)(struct conn *c, struct op *op, const char *path, const char *key);
    /* Makes the names in a directory durable (EXT_FSYNC). */
    int (*sync_dir)(struct conn *c, struct op *op, const char *path, const char *key);
    int (*space)(struct conn *c, struct op *op, const char *path, struct store_space *ret);
};

#define FAR_REMOVES_MAX 64

extern const struct far far_sftp, far_exec;

/* For the classes. What looking at a path gave (r; -ENOENT: nothing) and whether to go on. */
int far_judge(struct op *op, int r, struct wire_attr *w, far_judge_fn *judge, void *arg);
/* The same for a file that is going to be changed, which begins here. */
int far_begin_patch(struct conn *c, struct op *op, int r, struct far_patch *p);
/* How many of the bytes asked for `w` has. */
size_t far_there(const struct wire_attr *w, const struct read_req *req);
/* One file. */
int far_remove(struct conn *c, struct op *op, const char *path, const char *key);
/* What is at `path`; -ENOENT. */
static inline int far_lstat(struct conn *c, struct op *op, const char *path, const char *key,
                            struct wire_attr *ret)
{
    return c->far->look(c, op, path, key, false, ret);
}

#endif
