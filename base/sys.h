/* SPDX-License-Identifier: MIT
 * sys.h: the system calls whose failure matters, through a table that tests replace.
 *
 * Purpose: disk full, I/O error and power loss can be made to happen anywhere (fault injection).
 * All return the call's result, or -errno: never -1. EINTR is retried, short transfers are completed
 * (sys_pread stops at end of file). They assert that the thread holds no struct lock.
 * Injection without a rebuild: QUAY_FAULT_SYS="pwrite:28@3+,fsync:5@1" (call:errno@nth, + = and all
 * after), read once by sys_init_faults() in programs and tests; only files below
 * QUAY_FAULT_DIR are hit where that is set. */
#ifndef QUAY_BASE_SYS_H
#define QUAY_BASE_SYS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

int sys_openat(int dirfd, const char *path, int flags, mode_t mode); /* O_CLOEXEC is added */
ssize_t sys_pread(int fd, void *buf, size_t n, uint64_t off);
ssize_t sys_pwrite(int fd, const void *buf, size_t n, uint64_t off);
int sys_fsync(int fd);
int sys_fdatasync(int fd);
int sys_ftruncate(int fd, uint64_t size);
int sys_fallocate(int fd, int mode, uint64_t off, uint64_t len);
int sys_renameat(int olddir, const char *oldp, int newdir, const char *newp, unsigned flags);
int sys_unlinkat(int dirfd, const char *path, int flags);
int sys_mkdirat(int dirfd, const char *path, mode_t mode);
int sys_fsync_dir(const char *path);
/* Copies a range between files: reflink or copy_file_range where possible, else read and write. */
int sys_copy_range(int from, uint64_t off_in, int to, uint64_t off_out, uint64_t len);
/* mkdir -p with mode for those it makes; 0 when it exists already. */
int sys_mkdirs(const char *path, mode_t mode);
/* As many descriptors as the administrator allows (RLIMIT_NOFILE's hard limit): each open file of a mount is one, and 1024
 * of them, which is what shells give, are soon used up. For programs, at their start. */
void sys_raise_descriptors(void);

void sys_init_faults(void);
/* The same from a test program: sets the faults anew (spec NULL = none), counted from here, for files
 * below `dir` (NULL = all). Not while other threads are in these calls. false = spec malformed.
 * Calls: openat pread pwrite fsync fdatasync ftruncate fallocate renameat unlinkat mkdirat fsync_dir
 * copy_range. A rename is matched by its new name. */
bool sys_set_faults(const char *spec, const char *dir);

#endif
