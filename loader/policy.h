/* SPDX-License-Identifier: MIT
 * policy.h: [loader] allow: which databases, tables, modes and paths a job may name.
 *
 *   allow = dw.staging_*:append+replace  dw.orders:append@lake/in/x-*  dw:query+export  lab
 *   rule  = DB [ "." TABLE ] [ ":" MODE { "+" MODE } ] [ "@" PATH ]    between rules: blanks or commas
 *   DB, TABLE (* ? [a-z]) and PATH (also **) are patterns; a part that is left out allows everything.
 *   MODE: append truncate replace create upsert (imports), load (any of these), export (a table),
 *         query (an SQL query, which can read everything the login can)
 * Without allow, everything configured is allowed. A job is refused unless some rule allows it.
 * TABLE is compared with the table as the job writes it, so "public.orders" needs a rule that says so.
 *
 *     struct policy *p; r = policy_parse(text, &err, &p);     // NULL text: allows everything
 *     r = policy_check(p, &what, &err);                       // 0 or -EACCES
 * Pure; read-only after parsing. Threads: any. */
#ifndef QUAY_LOADER_POLICY_H
#define QUAY_LOADER_POLICY_H

#include "loader/job.h"

struct policy;

int policy_parse(const char *text, struct err *err, struct policy **ret);
void policy_free(struct policy *p);
/* `path` is KEY/object, or NULL to ask before the files are known (some rule may allow it). */
int policy_check(const struct policy *p, const struct job_op *op, const char *path,
                 struct err *err);

#endif
