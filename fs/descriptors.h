/* SPDX-License-Identifier: MIT
 * descriptors.h: has a process another descriptor by which it may write a file that it has just closed one of?
 *
 * FUSE tells of every close(2), and not which is the last: a shell that redirects opens the file, makes that descriptor 1
 * and closes the first, before a byte is written. /proc/TID/fdinfo (proc(5): flags, mnt_id, ino) tells of the others; the
 * one that is being closed is not among them any more. Of two that are closed at the same time the later does not see the
 * first. False also where that cannot be known: another user's process, another mount namespace, an exiting process (its
 * table is gone), more than a few descriptors.
 * Threads: any; reads /proc, nothing else. */
#ifndef QUAY_FS_DESCRIPTORS_H
#define QUAY_FS_DESCRIPTORS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

bool descriptors_write_too(pid_t tid, int mount_id, uint64_t ino);

#endif
