/* SPDX-License-Identifier: MIT
 * version.h: one inode, one version.
 *
 * The kernel has one size and one set of pages for all handles of an inode, and a handle stays with the version that
 * it has opened. So when this mount learns that a name means another version now, while handles of the older one
 * are open, the name goes to another inode (inode_supersede): by an open in inode_claim_io, by whatever else names
 * it here. The handles keep size and pages of theirs; what the kernel has not read yet is ESTALE when the new version
 * was opened, or the cache does not have it.
 * Not while somebody here has the file open to write it: his handle and those of the name share one state.
 * Threads: any; no call waits. */
#ifndef QUAY_FS_VERSION_H
#define QUAY_FS_VERSION_H

#include "fs/fs.h"

/* As inode_enter, for a reply that tells what the name means now. */
struct inode *version_enter(struct fs *fs, struct inode *parent, const struct inode_spec *spec);
/* Before attributes of i are told without a name: true when they must be those of its handles. */
bool version_is_left(struct fs *fs, struct inode *i);
/* The kernel's entry for a name, which it would believe, and what is below, until the ttl has passed: forgotten a moment later,
 * as the kernel may have the directory locked until the request is answered that says this. */
void version_forget_entry(struct fs *fs, uint64_t parent, const char *name);

#endif
