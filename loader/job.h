/* SPDX-License-Identifier: MIT
 * job.h: a job file (INI) as a checked struct. The grammar is documented in packaging/man/quayload.5
 * (job file) and printed into .load/README.
 *
 *     struct job *job; r = job_parse("orders.job", text, &err, &job);   // FILE:LINE errors, -EINVAL
 *     job_free(job);
 * A job holds one operation, or several labelled ones ([from a] [to a] [from b] [to b]).
 * Direction: exactly one of [from]/[to] has `path` (an object path KEY/...), the other has `db`.
 * Nothing here touches a store or a database. Ownership: strings belong to the job. */
#ifndef QUAY_LOADER_JOB_H
#define QUAY_LOADER_JOB_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum job_direction { JOB_IMPORT = 1, JOB_EXPORT };
enum job_mode { JOB_APPEND = 1, JOB_TRUNCATE, JOB_REPLACE, JOB_CREATE, JOB_UPSERT };
enum job_format { JOB_FORMAT_AUTO = 0, JOB_FORMAT_CSV, JOB_FORMAT_TSV, JOB_FORMAT_JSONL };
enum job_compress { JOB_COMPRESS_AUTO = 0, JOB_COMPRESS_NONE, JOB_COMPRESS_GZIP, JOB_COMPRESS_ZSTD };
enum job_header { JOB_HEADER_MATCH = 1, JOB_HEADER_YES, JOB_HEADER_NO };
enum job_ragged { JOB_RAGGED_FAIL = 0, JOB_RAGGED_NULL, JOB_RAGGED_REJECT };
enum job_on_error { JOB_ABORT = 1, JOB_SKIP_ROW, JOB_SKIP_FILE };
enum job_changed { JOB_CHANGED_FAIL = 1, JOB_CHANGED_RELOAD, JOB_CHANGED_SKIP };
enum job_overwrite { JOB_OVERWRITE_FAIL = 1, JOB_OVERWRITE_REPLACE, JOB_OVERWRITE_SKIP };

struct job_list {
    char **v;
    size_t n;
};

struct job_format_options {
    enum job_format type;
    enum job_compress compress;
    char delimiter;       /* 0: by type (',' csv, tab tsv) */
    char quote;           /* default '"'; 0 = none */
    char escape;          /* default: the quote doubled */
    struct job_list null; /* texts that mean NULL when unquoted; default "" */
    enum job_header header;
    unsigned header_skip; /* lines before the header */
    char comment;         /* 0 = none */
    bool trim;
    enum job_ragged ragged;
    uint64_t max_row;     /* default 16 MiB */
};

struct job_column {
    char *name;           /* in the table */
    char *source;         /* header name, "#3", "@file", "@line", "@run", "@loaded_at" or "'constant'" */
};

struct job_op {
    char *label;          /* "" when the job has one operation */
    enum job_direction direction;
    /* the object side */
    struct job_list paths;   /* KEY/path or globs; export: one */
    struct job_list exclude; /* default _* .* *.tmp *.part (matched on the base name) */
    bool fail_when_empty;    /* on_empty; default yes */
    /* the database side */
    char *db, *table, *query;
    enum job_mode mode;
    struct job_list key;     /* upsert */
    enum job_overwrite overwrite; /* export; default replace */
    struct job_format_options format;
    struct job_column *columns;
    size_t n_columns;
    bool columns_rest;       /* `* = auto`: others by name (the default with an empty [columns]) */
    struct job_list drop;
    enum job_on_error on_error;
    int64_t max_errors;      /* -1 no limit */
    double max_errors_pct;   /* < 0: not given */
    bool ledger, force;
    enum job_changed changed;
};

struct job {
    char *name;
    char *description;
    bool atomic_job;         /* all files in one transaction; default no: one per file */
    uint64_t timeout_ms;     /* 0 = none */
    unsigned parallel;
    unsigned retries;        /* transient errors; default 8 */
    struct job_op *ops;
    size_t n_ops;
    struct job_list warnings; /* e.g. "deprecated: URI ..." */
};

int job_parse(const char *file, const char *text, struct err *err, struct job **ret);
void job_free(struct job *job);

#endif
