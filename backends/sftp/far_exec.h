/* SPDX-License-Identifier: MIT
 * far_exec.h: what the two files of the commands' side share. See sftp_far.h, sftp_shell.h. */
#ifndef QUAY_BACKENDS_SFTP_FAR_EXEC_H
#define QUAY_BACKENDS_SFTP_FAR_EXEC_H

#include "backends/sftp/exec_text.h"
#include "backends/sftp/sftp_int.h"
#include "backends/sftp/sftp_shell.h"

/* ---- far_exec.c ---- */
/* Appends " 'path'". */
void commands_path(struct buf *line, const char *path);
/* Appends " OWNER MODE ATIME MTIME" of what w->flags names; '-' for the others. */
void commands_attrs(struct buf *line, const struct wire_attr *owner, const struct wire_attr *rest,
                    bool atime);

/* ---- far_exec_io.c ---- */
int commands_read(struct conn *c, struct op *op, struct far_read *f);
int commands_make(struct conn *c, struct op *op, struct far_make *m);
int commands_patch(struct conn *c, struct op *op, struct far_patch *p);

#endif
