/* SPDX-License-Identifier: MIT
 * far_sftp.h: what the two files of the packets' side share. See sftp_far.h. */
#ifndef QUAY_BACKENDS_SFTP_FAR_SFTP_H
#define QUAY_BACKENDS_SFTP_FAR_SFTP_H

#include "backends/sftp/sftp_far.h"
#include "backends/sftp/sftp_int.h"

/* How a temporary is opened, and its mode until it has that of its file: `hidden`: for nobody else. */
#define PACKETS_TEMP (SSH_FXF_WRITE | SSH_FXF_CREAT | SSH_FXF_EXCL)
struct wire_attr packets_temp_mode(bool hidden);

/* ---- far_sftp_io.c ---- */
int packets_read(struct conn *c, struct op *op, struct far_read *r);
int packets_make(struct conn *c, struct op *op, struct far_make *m);
int packets_patch(struct conn *c, struct op *op, struct far_patch *p);

#endif
