/* SPDX-License-Identifier: MIT
 * exec_text.h: what goes to a shell on the far side and comes back from its commands, as text.
 * Pure.
 *
 *     exec_quote(&script, path, "");            // one word, whatever is in the path
 *     while ((n = exec_record(at, end, "./dir/", &w, &name, &name_len)) > 0) at += n;
 *     exec_errno(1, "No such file or directory") // ENOENT
 *
 * Facts: POSIX (the shell's quoting; LC_ALL=C); stat(1) of GNU coreutils and of BusyBox; the texts
 * of strerror() in glibc, musl and BusyBox, and what dash, bash and ash say by themselves. */
#ifndef QUAY_BACKENDS_SFTP_EXEC_TEXT_H
#define QUAY_BACKENDS_SFTP_EXEC_TEXT_H

#include "backends/sftp/sftp_conn.h"

/* What stat -c tells of a file, in this order; a listing has "%n/" behind it. */
#define EXEC_STAT_FORMAT "%f %u %g %s %X %Y %i|%y|"

/* `text` + `tail` as one word of a command on one line: no newline is in it ($n has one). */
void exec_quote(struct buf *b, const char *text, const char *tail);
/* A path: never an option. */
void exec_quote_path(struct buf *b, const char *path, const char *tail);

/* The bytes that EXEC_STAT_FORMAT took at the beginning of at..end: 0: not all of them are there
 * yet, -1: it is something else. */
ssize_t exec_attrs(const char *at, const char *end, struct wire_attr *ret);
/* The same of a record of a listing: attributes, `dir` (with its '/'), a name, "/\n". A name cannot
 * have a '/', so nothing in one looks like another record. */
ssize_t exec_record(const char *at, const char *end, const char *dir, struct wire_attr *ret,
                    const char **ret_name, size_t *ret_len);

/* The errno of a command that ended with `status` (not 0) and gave this reason: what it said behind
 * the last ": ". EIO: it cannot be told. Only what a command that was found and run says counts. */
int exec_errno(unsigned status, const char *reason);

#endif
