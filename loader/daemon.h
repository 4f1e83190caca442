/* SPDX-License-Identifier: MIT
 * daemon.h: quayload after its configuration is known: spool, queue, control socket, the main loop.
 *
 *     r = daemon_prepare(&d, conf, &settings, &err);  // checks the configuration
 *     r = daemon_lock(&d, &err);                      // takes the spool: -EBUSY another has it
 *     (fork)
 *     r = daemon_start(&d, &err);                     // threads from here on
 *     rc = daemon_loop(&d, once);                     // until SIGTERM or SIGINT
 *     daemon_stop(&d);
 * Threads: all by the main thread. SIGTERM and SIGINT must be blocked before daemon_start(). */
#ifndef QUAY_LOADER_DAEMON_H
#define QUAY_LOADER_DAEMON_H

#include "base/rpc.h"
#include "loader/queue.h"

struct daemon {
    struct run_env env;
    const struct settings *settings;
    struct queue *queue;
    struct rpc_server *rpc;
    struct timespec started;
    int wake_fd, signal_fd;
    atomic_bool unready; /* files were seen that are not complete yet: look again soon */
    uint64_t pruned_ns, stats_ns;
};

int daemon_prepare(struct daemon *d, struct conf *conf, const struct settings *settings,
                   struct err *err);
int daemon_lock(struct daemon *d, struct err *err);
int daemon_start(struct daemon *d, struct err *err);
/* `once`: ends when the spool is empty, with the worst rc; else 0. */
int daemon_loop(struct daemon *d, bool once);
void daemon_stop(struct daemon *d); /* half-prepared ok */
/* Tells systemd ("READY=1"), when it asked to be told. */
void daemon_notify(const char *state);

#endif
