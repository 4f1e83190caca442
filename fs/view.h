/* SPDX-License-Identifier: MIT
 * view.h: the read-only files of .quay/: keys, active, backends, stats.json, metrics, health.json, log,
 * staged. Each is made when it is opened and does not change while it is open. No secrets: only names,
 * URIs without credentials, numbers and error texts. Threads: any; may take a moment (not network). */
#ifndef QUAY_FS_VIEW_H
#define QUAY_FS_VIEW_H

#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>

struct fs;

size_t view_count(void);
const char *view_name(size_t i);
int view_find(const char *name); /* index or -1 */
void view_render(struct fs *fs, int view, struct buf *b);

#endif
