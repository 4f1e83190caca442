/* SPDX-License-Identifier: MIT
 * rpc.h: requests over a Unix socket, one JSON object a line: how quayctl talks to the daemons.
 *
 * Request  {"cmd":"cache.stats","args":{...}}
 * Reply    any number of {"progress":{...}}, then one {"ok":true,"result":...} or
 *          {"ok":false,"errno":5,"error":"text"}.
 * Server:  rpc_serve(path, handler, arg, &err, &srv) starts a thread; each connection gets one of at
 *          most 16 threads. Socket mode 0600; only the same uid and root are served (SO_PEERCRED).
 *          A stale socket file is replaced, a live one is -EADDRINUSE.
 * Client:  rpc_call(path, "cache.stats", args, on_progress, arg, &err, &result).
 *          -ECONNREFUSED/-ENOENT: no daemon. A daemon's error comes back as its errno and text, with
 *          err->remote "daemon".
 * Ownership: args are borrowed; *ret_result is given (json_decref). JSON is jansson's. */
#ifndef QUAY_BASE_RPC_H
#define QUAY_BASE_RPC_H

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>

struct rpc_server;
struct rpc_conn;

/* Runs on a connection's thread; may block. Returns 0 with *ret_result (may stay NULL: null), or
 * -errno with err filled. rpc_progress() may be called meanwhile; it returns false when the client has
 * gone or the server is stopping (then stop the work). */
typedef int rpc_handler_fn(void *arg, struct rpc_conn *conn, const char *cmd, const json_t *args,
                           struct err *err, json_t **ret_result);
bool rpc_progress(struct rpc_conn *conn, json_t *progress /* taken */);

int rpc_serve(const char *path, rpc_handler_fn *handler, void *arg, struct err *err,
              struct rpc_server **ret);
void rpc_stop(struct rpc_server *srv); /* waits for running handlers; removes the socket; NULL ok */
/* The same; calls `meanwhile` (NULL: nothing) now and then while handlers run. */
void rpc_stop_while(struct rpc_server *srv, void (*meanwhile)(void *arg), void *arg);

typedef void rpc_progress_fn(void *arg, const json_t *progress);
int rpc_call(const char *path, const char *cmd, json_t *args, rpc_progress_fn *on_progress,
             void *arg, struct err *err, json_t **ret_result);

#endif
