/* SPDX-License-Identifier: MIT
 * wait.h: following one job through the spool to its result.
 *
 *     struct wait w; wait_prepare(&w, spool, name);     // before submitting: notes older results
 *     spool_submit(...);
 *     rc = wait_run(&w, &how);                          // draws progress; prints the result
 *     wait_done(&w);
 * The result's summary goes to stdout, that of a failure to stderr. Gives the job's rc, or
 * CTL_UNREACHABLE when no quayload works on the spool (the job stays there), CTL_FAILED when the job has
 * vanished. */
#ifndef QUAY_CTL_WAIT_H
#define QUAY_CTL_WAIT_H

#include "base/strmap.h"

#include <stdbool.h>

struct wait {
    const char *spool, *name;
    struct strmap before; /* results of that name that were there */
};

struct wait_how {
    bool json;            /* print status.json instead of the summary */
    bool quiet;           /* nothing but errors */
};

void wait_prepare(struct wait *w, const char *spool, const char *name);
int wait_run(struct wait *w, const struct wait_how *how);
void wait_done(struct wait *w);

/* The newest result of NAME (place is "done" or "failed"), malloc'd path, or NULL. */
char *wait_newest(const char *spool, const char *name, const struct strmap *except);
/* Prints a result as said above; gives its rc. */
int wait_print(const char *dir, const char *name, const struct wait_how *how);
/* 0 when a quayload works on the spool; else the message and CTL_UNREACHABLE. */
int wait_need_loader(const char *spool, const char *config_path);

#endif
