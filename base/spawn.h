/* SPDX-License-Identifier: MIT
 * spawn.h: another program: run without a shell, its output captured.
 *
 *     char **argv = spawn_words(line, &err);
 *     r = spawn_capture(argv, 60000, &op, &result);
 *
 * spawn_words splits a command line into words as a POSIX shell does with quotes ('...', "...", backslash), and
 * does nothing else that a shell does: no variables, no ~, no globs, ; | & > are letters as others.
 * The program is found by PATH, has our environment, /dev/null as its input, no other descriptor of ours, no signal
 * blocked, and is a process group of its own, which is killed when the time is over, the op is cancelled, or it
 * writes more than SPAWN_OUTPUT_MAX. Output may be secret: it is wiped by spawn_result_done.
 *
 * Blocks. Threads: any. Errors: -EINVAL, -ENOENT (no such program), -ETIMEDOUT, -EINTR, -EMSGSIZE, with text. That
 * the program fails is no error here: `status`. */
#ifndef QUAY_BASE_SPAWN_H
#define QUAY_BASE_SPAWN_H

#include "base/buf.h"
#include "base/op.h"

#define SPAWN_OUTPUT_MAX (64u << 10)

struct spawn_result {
    int status;             /* as of waitpid(2) */
    struct buf out, errors; /* stdout; the beginning of stderr */
};
#define SPAWN_RESULT_INIT ((struct spawn_result){.out = BUF_INIT, .errors = BUF_INIT})

/* Malloc'd, ended by NULL; NULL with err (EINVAL): a quote that is not closed, or no word. */
char **spawn_words(const char *line, struct err *err);
void spawn_words_free(char **words); /* NULL ok */
int spawn_capture(char *const *argv, unsigned timeout_ms, struct op *op, struct spawn_result *ret /* empty */);
void spawn_result_done(struct spawn_result *r);

#endif
