/* SPDX-License-Identifier: MIT
 * text.h: numbers and lines for people and for TSV. Pure; append to a buf. Threads: any. */
#ifndef QUAY_LOADER_TEXT_H
#define QUAY_LOADER_TEXT_H

#include "base/buf.h"

#include <time.h>

void text_count(struct buf *b, uint64_t n);          /* 18,204,113 */
void text_bytes(struct buf *b, uint64_t n);          /* 212 B, 1.31 MiB, 3.11 GiB */
void text_seconds(struct buf *b, double s);          /* 0.4 s, 3.2 s, 61 s, 2 h 3 min */
void text_time(struct buf *b, struct timespec t);    /* 2026-01-02T03:04:05.123Z */
/* One TSV field: backslash, tab, newline and control bytes as \\ \t \n \xNN; cut at `max` bytes. */
void text_tsv(struct buf *b, const char *s, size_t max);

#endif
