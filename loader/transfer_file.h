/* SPDX-License-Identifier: MIT
 * transfer_file.h: one import under way; what the transfer_*.c files share.
 *
 * An attempt:  file_open -> (begin, ledger, table, plan) -> rows -> (ledger, commit) -> file_close.
 * transfer_import() makes attempts until one is final; `how` says what the one before has taught:
 *     parse          bytes cannot be passed on (the server refused them, or a look at them did)
 *     scan_all       the table's types must come from the whole file (a sample was wrong)
 *     all_defaults   JSON lines: a column with a default does occur in the file */
#ifndef QUAY_LOADER_TRANSFER_FILE_H
#define QUAY_LOADER_TRANSFER_FILE_H

#include "loader/input.h"
#include "loader/ledger.h"
#include "loader/plan.h"
#include "loader/reader.h"
#include "loader/rejects.h"
#include "loader/sample.h"
#include "loader/transfer.h"

#define FILE_SAMPLE (1u << 20) /* bytes looked at before the first row is loaded */
#define FILE_STEP (256u << 10) /* bytes read at once */
#define BATCH_BYTES (4u << 20)
#define BATCH_ROWS 5000
#define BATCH_CELLS 200000

enum { FILE_REDO = 1 }; /* positive result inside: `how` was changed, do the attempt again */

struct file_how {
    bool parse, scan_all, all_defaults;
};

struct batch;

struct file_load {
    const struct transfer_import *req;
    struct transfer_result *res;
    struct op *op;
    struct database *db;
    struct file_how how;

    /* of the attempt */
    struct input *input;
    struct window window;
    enum job_format format;
    struct reader_rows rows;
    bool reader_ready;
    struct names names; /* header, or the keys of the sample */
    struct buf header;  /* its bytes */
    struct sample sample;
    struct db_table table;
    struct plan plan;
    bool planned, created; /* created: the table was made in this attempt, from the sample */
    struct rejects *rejects;
    struct cell *cells;
    struct batch *batch;
    bool policy; /* the error is a decision about bad rows, made; not to be redone */
    bool skip_file;
    struct err data_error; /* of policy */
};

/* ---- transfer_file.c: the file side ---- */
/* Opens the object, finds the format, reads header and sample. */
int file_open(struct file_load *f);
void file_close(struct file_load *f);
/* Makes a sample of all rows, in a pass of its own over the object, before file_open (so that only
 * one ring of blocks exists at a time); file_use_sample puts it in the place of the one of
 * file_open. */
int file_scan_all(struct file_load *f, struct sample *ret);
void file_use_sample(struct file_load *f, struct sample *all /* taken */);
void file_plan_req(const struct file_load *f, struct plan_req *ret);
/* "KEY/path:LINE: column c: message" into op->err: -EBADMSG. */
int file_bad(struct file_load *f, const struct bad_row *bad);
/* A bad row: into the rejects, and by on_error: 0 go on, -EBADMSG stop (f->policy). */
int file_reject(struct file_load *f, const struct bad_row *bad, const void *raw, size_t len);
/* The database refused a row (op->err, db->bad): the same; or FILE_REDO. */
int file_refused(struct file_load *f, uint64_t line, uint64_t offset, const struct cell *cells,
                 const void *raw, size_t len);
void file_count(struct file_load *f, uint64_t read, uint64_t loaded);
void file_phase(const struct file_load *f, const char *phase);

/* ---- transfer_rows.c: rows into the table ---- */
int file_load_rows(struct file_load *f);
struct db_load file_load_spec(const struct file_load *f);

/* ---- transfer_batch.c: rows into a database that blames no row: in batches, halved where refused
 * ---- */
int batch_add(struct file_load *f, const struct record *rec, const struct cell *cells);
int batch_flush(struct file_load *f);
void batch_free(struct batch *b);

#endif
