/* SPDX-License-Identifier: MIT
 * output.h: a stream of bytes as a new object that appears whole or not at all.
 *
 *     r = output_open(&req, op, &out);       // -EEXIST: there, and req.if_absent
 *     r = output_write(out, op, data, len);
 *     r = output_finish(out, op, &bytes);    // publishes; or
 *     output_close(out);                     // without finish: aborts, nothing is visible
 *
 * One part is held in memory. What fits in it is one put; more is a multipart upload, part by part,
 * or, where the store has none (local), a temporary file in tmp_dir that is put at the end.
 * Threads: one owner. Errors: the store's; ERR_RETRY_UNKNOWN when publishing was not answered. */
#ifndef QUAY_LOADER_OUTPUT_H
#define QUAY_LOADER_OUTPUT_H

#include "backends/store.h"
#include "loader/job.h"

#define OUTPUT_PART (16u << 20) /* where the store has no wish of its own */

struct output_req {
    struct store *store;
    const char *key, *path; /* path: for messages */
    const char *content_type;
    const char *tmp_dir;        /* on a local disk */
    enum job_compress compress; /* not AUTO */
    bool if_absent;
};

struct output;

int output_open(const struct output_req *req, struct op *op, struct output **ret);
int output_write(struct output *out, struct op *op, const void *data, size_t len);
int output_finish(struct output *out, struct op *op, uint64_t *ret_bytes);
void output_close(struct output *out); /* NULL ok */

#endif
