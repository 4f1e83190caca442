/* SPDX-License-Identifier: MIT
 * sftp.h: backend = sftp: a directory of a host that runs an SSH server. See README.md. */
#ifndef QUAY_BACKENDS_SFTP_SFTP_H
#define QUAY_BACKENDS_SFTP_SFTP_H

#include "backends/store.h"

extern const struct store_class sftp_class;

#define SFTP_OPTIONS 26
extern const struct conf_option sftp_options[SFTP_OPTIONS]; /* sftp_options.c */

#endif
