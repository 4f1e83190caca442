/* SPDX-License-Identifier: MIT
 * interrupt.h: was a request interrupted by somebody who wants it to end?
 *
 * The kernel tells of every signal that a waiting thread gets (FUSE_INTERRUPT), also of SIGALRM for a progress
 * bar, SIGCHLD, or the SIGURG of Go's scheduler: ending mkdir(2) with EINTR for those breaks programs that
 * expect a file system not to. The signal is still pending while the thread waits, so /proc tells which it
 * is. Meant: one that would end the process, or SIGINT, SIGTERM, SIGHUP, SIGQUIT also when it is handled. Not one that
 * stops it (Ctrl-Z), which takes effect when the call is over: who goes on later would find that it has failed.
 * No signal is pending when the kernel only wants the thread's attention: io_uring has a completion for it, a debugger or
 * the freezer stops it. That is no interrupt, but for io_uring's own workers (iou-wrk-PID), whose requests are cancelled
 * so; and a signal that another thread of the process has taken was not for this one.
 * Where /proc does not show the thread (another PID namespace), every signal is meant.
 * Threads: any; reads /proc, nothing else. */
#ifndef QUAY_FS_INTERRUPT_H
#define QUAY_FS_INTERRUPT_H

#include <stdbool.h>
#include <sys/types.h>

bool interrupt_is_meant(pid_t tid);

#endif
