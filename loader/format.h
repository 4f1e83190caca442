/* SPDX-License-Identifier: MIT
 * format.h: which format and compression a file has: by option, then name, then content. Pure. */
#ifndef QUAY_LOADER_FORMAT_H
#define QUAY_LOADER_FORMAT_H

#include "base/err.h"
#include "loader/job.h"

/* Compression by the first bytes (content rules on import: a name may lie). */
enum job_compress format_compress_of_content(const void *data, size_t len);
/* By the name: .gz, .zst; else none (export). */
enum job_compress format_compress_of_name(const char *path);

/* AUTO when the name does not say. Endings .gz .zst .bad are looked through. */
enum job_format format_of_name(const char *path);
/* AUTO when the (decompressed) content does not say: empty, or binary. */
enum job_format format_of_content(const void *data, size_t len);
/* Import: option, name, content. -EINVAL with what to do about it. */
int format_resolve(const struct job_format_options *o, const char *path, const void *data,
                   size_t len, struct err *err, enum job_format *ret);

char format_delimiter(const struct job_format_options *o, enum job_format type);
const char *format_name(enum job_format type); /* "csv" */
const char *format_compress_name(enum job_compress c);

#endif
