/* SPDX-License-Identifier: MIT
 * progress.h: one line that is drawn over itself on a terminal; nothing where there is none.
 *
 *     struct progress p; progress_begin(&p);            // p.live: stderr is a terminal
 *     progress_show(&p, "running 42.1% 1.31 GiB/3.11 GiB 18,204,113 rows ...");
 *     progress_end(&p);                                 // wipes the line
 * A percentage as the second word becomes a bar. */
#ifndef QUAY_CTL_PROGRESS_H
#define QUAY_CTL_PROGRESS_H

#include <stdbool.h>

struct progress {
    bool live, shown;
    unsigned width;
};

void progress_begin(struct progress *p);
void progress_show(struct progress *p, const char *line);
void progress_end(struct progress *p);

#endif
