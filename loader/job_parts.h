/* SPDX-License-Identifier: MIT
 * job_parts.h: the pieces of the job grammar, shared by job.c, job_check.c and job_value.c only.
 *
 * job_value.c  values: lists, quoted texts, single bytes, percentages (pure)
 * job.c        sections -> struct job
 * job_check.c  what one section cannot know: direction, pairs of labels, keys on the wrong side */
#ifndef QUAY_LOADER_JOB_PARTS_H
#define QUAY_LOADER_JOB_PARTS_H

#include "base/conf.h"
#include "loader/job.h"

#define JOB_MAX_BYTES (64 * 1024)
#define JOB_MAX_OPS 256

void job_list_add(struct job_list *l, const char *text, size_t len);
void job_list_done(struct job_list *l);

/* Splits at commas and newlines outside "double quotes"; blanks around items are dropped. An empty
 * item is an error unless it was quoted. false: *ret_why is a static string. */
bool job_value_list(const char *text, struct job_list *ret, const char **ret_why);
/* One text, plain or in double quotes with \n \t \r \" \\ \xNN. Gives a malloc'd string. */
bool job_value_text(const char *text, char **ret, const char **ret_why);
/* tab comma pipe semicolon space none, \t \xNN, or one byte. none gives 0. */
bool job_value_char(const char *text, char *ret);
/* "25" or "0.1%": exactly one of the results is set. */
bool job_value_limit(const char *text, int64_t *ret_count, double *ret_pct);

/* 0, or -EINVAL for a section or key of the grammar that this version does not do, with the text
 * "... is not supported in this version". */
int job_refuse_later(const struct conf_section *s, struct err *err);
/* Unknown section kinds (with the nearest known one). */
int job_check_kinds(const struct conf *conf, struct err *err);
/* Direction, missing keys, keys on the wrong side. */
int job_check_op(const struct conf_section *from, const struct conf_section *to, struct job_op *op,
                 struct err *err);
/* What concerns several operations. */
int job_check_all(const struct conf *conf, const struct job *job, struct err *err);

#endif
