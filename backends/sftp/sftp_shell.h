/* SPDX-License-Identifier: MIT
 * sftp_shell.h: one shell on the far side that runs our commands, one after the other.
 *
 *     struct shell_run run = SHELL_RUN_INIT;
 *     buf_adds(&run.line, "run stat -c \"$H\" -- "); exec_quote_path(&run.line, path, "");
 *     buf_adds(&run.line, "; tell $s");
 *     r = shell_run(c, op, &run, "stat", key);       // run.out: what stat printed
 *     shell_run_done(&run);
 *
 * The shell (`exec sh`, POSIX, whatever the user's own is) is given a program (shell_program in
 * exec_program.c) that reads lines and evaluates those that begin with a secret, 128 random bits of
 * this connection: bytes of a file that come to stand where a line is expected are never run. What
 * a command prints goes to us as it is, and behind it a trailer that begins with the secret:
 * status, reason, what was said, and a short answer ($x). So output may be any bytes of any length.
 *
 * The program's words: `run CMD ARGS` runs a command without stdin: $s is its status, $e what it
 * said; `tell STATUS` prints the trailer. A line calls tell once.
 *
 * Bytes that follow a line (run.pieces) are read by its command. When it fails before them or
 * within them, the trailer may say that the shell is of no more use (500 + status); the connection
 * is closed then, as it is when a request is given up before its trailer. Status and reason become
 * an errno (exec_errno); what cannot be told is -EIO with status_is_failure(). Threads: one user of
 * a connection at a time. */
#ifndef QUAY_BACKENDS_SFTP_SFTP_SHELL_H
#define QUAY_BACKENDS_SFTP_SFTP_SHELL_H

#include "backends/sftp/sftp_far.h"

struct shell_run {
    struct buf line;          /* one line, without its end */
    const struct source *src; /* bytes that follow: the pieces of it, in turn */
    const struct patch_range *pieces;
    size_t n_pieces;
    /* What is printed, as it comes; NULL: it goes to `out`, OUT_MAX bytes of it at most. < 0 with
     * op->err: the rest is dropped, and that is the result. */
    int (*take)(void *arg, struct op *op, const char *bytes, size_t len);
    void *arg;
    struct buf out;
    char extra[201]; /* the short answer */
};

#define SHELL_RUN_INIT ((struct shell_run){.src = NULL})

void shell_run_done(struct shell_run *run);
int shell_run(struct conn *c, struct op *op, struct shell_run *run, const char *what,
              const char *key);

int shell_start(struct conn *c, struct op *op);
bool shell_rest(struct conn *c);
bool shell_is_alive(struct conn *c);
void shell_free(struct shell *sh); /* NULL ok */

/* exec_program.c: what `sh` is given first, behind K=SECRET. */
extern const char shell_program[];

#endif
