/* SPDX-License-Identifier: MIT
 * job_text.h: builds the text of a job file from sections and keys.
 *
 *     struct job_text t = JOB_TEXT_INIT;
 *     job_text_set(&t, "from", "path", "lake/a.csv");  job_text_add(&t, "from", "path", "lake/b.csv");
 *     r = job_text_render(&t, "orders", &buf, &err);   // checked by the loader's own grammar
 * Values are written so that the INI reader gives them back; what cannot be is -EINVAL. */
#ifndef QUAY_CTL_JOB_TEXT_H
#define QUAY_CTL_JOB_TEXT_H

#include "base/buf.h"
#include "base/err.h"

struct job_text_row {
    char *section, *key, *value;
};

struct job_text {
    struct job_text_row *rows;
    size_t n;
};

#define JOB_TEXT_INIT ((struct job_text){0})

void job_text_set(struct job_text *t, const char *section, const char *key, const char *value);
/* Adds an item to the key's list; quoted where a comma or blank would split or trim it. */
void job_text_add(struct job_text *t, const char *section, const char *key, const char *item);
/* "SECTION.KEY=VALUE" */
int job_text_set_option(struct job_text *t, const char *option, struct err *err);
int job_text_render(const struct job_text *t, const char *name, struct buf *ret, struct err *err);
void job_text_done(struct job_text *t);

#endif
