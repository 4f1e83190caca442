/* SPDX-License-Identifier: MIT
 * input.h: an object as a stream of decompressed bytes.
 *
 *     struct input *in;
 *     r = input_open(&req, op, &in);        // starts one thread that reads ahead
 *     r = in->feed.read(&in->feed, op, buf, cap, &n);   // or through a window
 *     input_close(in);
 *
 * The object is read in ranges of INPUT_BLOCK bytes into a ring of INPUT_BLOCKS, pinned to the
 * version in req.attr: when it is replaced meanwhile, -ESTALE "... changed while it was being read"
 * (stat it again and repeat). Compression by option, else by content: gzip (several members, zero
 * padding) and zstd (several and skippable frames). A truncated or corrupt stream is -EIO with the
 * byte offset in the object, never a silent end. Memory: INPUT_BLOCKS * INPUT_BLOCK plus the
 * decompressor's window (zstd: at most 128 MiB, and 8 MiB up to level 19). Threads: input_* belong
 * to one thread. */
#ifndef QUAY_LOADER_INPUT_H
#define QUAY_LOADER_INPUT_H

#include "backends/store.h"
#include "loader/job.h"
#include "loader/window.h"

#include <stdatomic.h>

#define INPUT_BLOCK (4u << 20)
#define INPUT_BLOCKS 4

struct input_req {
    struct store *store;
    const char *key;
    const char *path;               /* for messages */
    const struct attr *attr;        /* size and version */
    enum job_compress compress;     /* AUTO: by content */
    atomic_uint_fast64_t *progress; /* bytes of the object consumed; or NULL */
};

struct input {
    struct feed feed;
    enum job_compress compress; /* found out */
};

int input_open(const struct input_req *req, struct op *op, struct input **ret);
void input_close(struct input *in); /* NULL ok; cancels the reading thread and waits for it */

#endif
