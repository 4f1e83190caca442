/* SPDX-License-Identifier: MIT
 * control.h: the commands of the control socket; control.c has their table, each folder's theme a file.
 * A command runs on a connection's thread and may block; see rpc.h for what it returns. */
#ifndef QUAY_FS_CONTROL_H
#define QUAY_FS_CONTROL_H

#include "fs/fs.h"

struct call {
    struct fs *fs;
    struct rpc_conn *conn;
    const json_t *args;
    const char *key;      /* NULL: all */
    struct fs_key *k;     /* NULL: all */
};

/* control_cache.c */
int cmd_cache_stats(struct call *c, struct err *err, json_t **ret);
int cmd_cache_clear(struct call *c, struct err *err, json_t **ret);
int cmd_cache_cleanup(struct call *c, struct err *err, json_t **ret);
int cmd_cache_verify(struct call *c, struct err *err, json_t **ret);
int cmd_warm(struct call *c, struct err *err, json_t **ret);
int cmd_evict(struct call *c, struct err *err, json_t **ret);
int cmd_pin(struct call *c, struct err *err, json_t **ret);
int cmd_unpin(struct call *c, struct err *err, json_t **ret);
int cmd_pins(struct call *c, struct err *err, json_t **ret);

/* control_copy.c */
int cmd_copy(struct call *c, struct err *err, json_t **ret);
int cmd_same(struct call *c, struct err *err, json_t **ret);

#endif
