/* SPDX-License-Identifier: MIT
 * daemon.h: asking the running quayfs of the configuration.
 *
 *     r = daemon_call(ctl, "cache.stats", args, NULL, NULL, &result);   // CTL_OK, or a status after a message
 * args are taken; *ret_result is given (json_decref). */
#ifndef QUAY_CTL_DAEMON_H
#define QUAY_CTL_DAEMON_H

#include "base/rpc.h"
#include "ctl/ctl.h"

/* The same without the message: on failure err has its text. */
int daemon_ask(struct ctl *ctl, const char *cmd, json_t *args, rpc_progress_fn *on_progress,
               void *arg, struct err *err, json_t **ret_result);
int daemon_call(struct ctl *ctl, const char *cmd, json_t *args, rpc_progress_fn *on_progress,
                void *arg, json_t **ret_result);
int daemon_print_json(json_t *j); /* taken; CTL_OK */

#endif
