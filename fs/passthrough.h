/* SPDX-License-Identifier: MIT
 * passthrough.h: opens whose reads and mappings the kernel takes from the cache's own file.
 *
 * Linux >= 6.9 with CONFIG_FUSE_PASSTHROUGH lets a reply to OPEN name a backing file, registered before by
 * an ioctl on the FUSE device (CAP_SYS_ADMIN); reads of that handle then never reach this process, and run
 * as fast as the file system below the cache. Used for handles that only read a wholly cached, verified
 * object (vfile_pass_begin in cache/volume.h), and silently not used otherwise: .quay/health.json says
 * whether it is on, and why not. `passthrough = no` in [quayfs] switches it off.
 *
 * The kernel's rules (fs/fuse/iomode.c, passthrough.c): all handles that an inode has open at one time are
 * passed through to one file, or none is; a wrong reply is EIO for the opener. O_DIRECT does not matter
 * to a passed handle. Not with the writeback cache.
 * Ours: who cannot share that file gets another inode. The inode with the passed handles is superseded:
 * it loses its name, an open of it is answered ESTALE, upon which the kernel looks the name up again
 * (unseen by the program; LOOKUP_REVAL in fs/namei.c) and finds the successor, which is not passed
 * through for 10 s, so that this open does not meet the same again. Cases, of two opens of one path:
 *
 *   open already          opened now                          what happens
 *   --------------------  ----------------------------------  -------------------------------------------
 *   nothing               reads, wholly cached                passed
 *   nothing               reads, not wholly cached            cached (by the kernel, asking us)
 *   cached                anything                            cached
 *   passed                reads, same content                 passed, to the same file
 *   passed                reads, another version at the store new inode (version.h), cached; the older handle goes
 *                                                             on with the whole of its version: never a mix
 *   passed                O_DIRECT                            new inode
 *   passed                writes (or O_TRUNC)                 new inode; what is written here is seen by
 *                                                             the passed handle at once: it goes into the
 *                                                             file that it reads (cache/file_pass.c)
 *   passed                truncate(2) by path                 seen by the passed handle at once
 *   passed                grows by a writer                   as above; copy_file_range(2) from the passed handle alone
 *                                                             takes the size that the kernel has heard last: fstat tells it
 *                                                             (EINVAL within the file, where as much would overlap)
 *   passed                fchmod, futimens by it              the name's inode is told: the kernel asks for its attributes
 *   passed, mapped        anything                            as above; the mapping shows the same file
 *   passed                unlink, rename, cache clear         the older handle goes on
 *   cached, closed, but   reads, wholly cached                cached: a mapping keeps its handle open
 *   still mapped
 *
 * The kernel keeps no pages of an inode that is passed: it drops them in the open (0.3 us each, FOPEN_KEEP_CACHE is
 * refused). So when the last handle of a file of 1 MiB or more is closed that read it through our replies, and
 * the next such open will be passed, the pages are given up at once, in the background.
 * Threads: any. */
#ifndef QUAY_FS_PASSTHROUGH_H
#define QUAY_FS_PASSTHROUGH_H

#include "fs/request.h"

struct passthrough;

/* Before the session is made. Never NULL; off when the settings say so. */
struct passthrough *passthrough_new(struct fs *fs);
void passthrough_free(struct passthrough *p); /* NULL ok */
/* The kernel has opened something: from now on it can be asked. */
void passthrough_running(struct passthrough *p);
/* Is it used? *ret_reason: why not ("" when it is). May ask the kernel the first time. */
bool passthrough_is_on(struct passthrough *p, const char **ret_reason);

/* Decides how the kernel does I/O on `file`, which r has opened, and notes that at r->inode: 0 (the number of
 * the backing file is in r->backing, 0 = none), or -ESTALE: the kernel must look the name up again. */
int passthrough_open(struct request *r, struct vfile *file);
/* The same for a handle that is never passed through, of an inode that may have been superseded just now:
 * gives *i's successor then. */
void passthrough_create(struct request *r, const struct inode_spec *spec, struct inode **i);
/* Whether r asks for an open that may be passed through. */
bool passthrough_is_wanted(const struct request *r);
/* A handle of inode `ino` that was not passed, but wanted, is about to release `file`. When it was the last
 * one and the next open will be passed, the kernel is to give up the pages that it kept: soon, in fs->behind,
 * so that this open does not find them (it waits until they are gone). Those of the cache file stay. */
void passthrough_left(struct passthrough *p, uint64_t ino, struct vfile *file);
/* The session's loop has ended: what passthrough_left has begun ends soon. */
void passthrough_stop(struct passthrough *p);
/* The last handle that was passed to this number has been closed. */
void passthrough_close(struct passthrough *p, int backing);

/* ---- passthrough_native.c (libfuse >= 3.17) or passthrough_wire.c (before) ---- */
struct passthrough_wire;
/* When the session exists, before it is used. 0 or -errno. */
int passthrough_wire_attach(struct fs *fs, struct passthrough_wire **ret);
void passthrough_wire_free(struct passthrough_wire *w); /* NULL ok */
/* In the init callback: asks the kernel for it. `depth`: how many stacked file systems are below the
 * cache, plus one. false: it is known not to be there. */
bool passthrough_wire_init(struct passthrough_wire *w, struct fuse_conn_info *conn, unsigned depth);
/* As fuse_reply_open, naming a backing file. */
int passthrough_wire_open(struct passthrough_wire *w, fuse_req_t req, struct fuse_file_info *fi,
                          int backing);

/* ---- for mount.c and request.c ---- */
int passthrough_attach(struct passthrough *p);
void passthrough_init(struct passthrough *p, struct fuse_conn_info *conn);
int passthrough_reply_open(struct passthrough *p, fuse_req_t req, struct fuse_file_info *fi,
                           int backing);

#endif
