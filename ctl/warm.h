/* SPDX-License-Identifier: MIT
 * warm.h: following a command of the mount that fetches files (warm, pin): its progress, what goes wrong
 * and the summary.
 *
 *     struct fetching f;  fetching_begin(&f, "lake");
 *     status = daemon_call(ctl, "warm", args, fetching_progress, &f, &result);
 *     status = fetching_end(&f, status, result);      // takes result; the exit status
 * On a terminal stderr has a bar; else a line every few seconds. Files that failed are named on stderr as it
 * happens; the summary goes to stdout. */
#ifndef QUAY_CTL_WARM_H
#define QUAY_CTL_WARM_H

#include "ctl/ctl.h"
#include "ctl/progress.h"

struct fetching {
    const char *what; /* for the lines: "lake" */
    const char *key;
    bool dry, json, quiet;
    struct progress bar;
    uint64_t begun_ns, shown_ns;
};

void fetching_begin(struct fetching *f, const char *what, const char *key);
void fetching_progress(void *arg, const json_t *progress);
int fetching_end(struct fetching *f, int status, json_t *result);

uint64_t json_number_of(const json_t *o, const char *name); /* 0 when it is not there */
/* Reads -q, -j and, with `dry`, -n. CTL_OK, or CTL_USAGE after a message. */
int fetching_options(struct fetching *f, const char *command, bool dry, int argc, char **argv);

#endif
