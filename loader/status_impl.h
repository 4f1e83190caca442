/* SPDX-License-Identifier: MIT
 * status_impl.h: the inside of status.h, for status.c and status_write.c only. */
#ifndef QUAY_LOADER_STATUS_IMPL_H
#define QUAY_LOADER_STATUS_IMPL_H

#include "base/lock.h"
#include "loader/spool.h"
#include "loader/status.h"
#include "loader/text.h"

struct status_file {
    char *path, *version, *error;
    size_t op;
    uint64_t size, began_ns, ended_ns;
    double seconds;
    enum status_file_state state;
    struct transfer_result result;
};

struct status_op {
    int rc;
    char *error;
};

struct status {
    char *dir, *name, *run_id;       /* constant */
    struct timespec started;
    uint64_t started_ns;

    struct lock lock;
    struct cond written;
    bool writing, complained;
    bool dirty;                      /* files changed since files.tsv was written */
    const struct job *job;           /* NULL until it was parsed */
    const char *state;
    uint64_t running_ns;             /* when rows began to move; 0 = not yet */
    uint64_t retry_at_ns;
    unsigned retry_attempt, retry_of;
    struct status_file *files;
    size_t n_files, cap_files;
    struct status_op *ops;
    size_t n_ops;
    uint64_t bytes_total, bytes_done;
    struct status_totals totals;
    const char *method;
    char guarantee[64];
    struct {
        size_t file;
        struct transfer_progress *progress;
    } live[STATUS_SLOTS_MAX];
    char **warnings;
    size_t n_warnings;
    char *error;
    int rc;                          /* -1 while running */
    double seconds;
    struct timespec finished;
};

void status_op_totals_locked(const struct status *st, size_t op, struct status_totals *ret);
const char *status_file_word(enum status_file_state state);

#endif
