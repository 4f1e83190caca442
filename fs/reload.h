/* SPDX-License-Identifier: MIT
 * reload.h: keys that come, change and go while the mount runs.
 *
 * fs_reload reads the configuration again (SIGHUP, `quayctl reload`): keys that it has anew appear, those that
 * have changed are replaced, those that it has no more go, but keys that were added by hand. All of it is
 * checked and opened before anything changes: an error means that nothing has. Of [quayfs], [cache] and
 * [loader] nothing is applied but what is the default of a key's option: the rest says "at the next start".
 * fs_register adds one key: by its section of the configuration (`options` NULL), or by options given.
 * fs_unregister takes one away.
 *
 * What is open for reading stays readable: the old store lives until its last handle is closed. What is staged
 * is uploaded first; while a file is open for writing, or something cannot be stored, the change is refused
 * (-EBUSY and which files). The kernel is told to forget the names.
 *
 * Threads: any but FUSE's, one change at a time (-EBUSY). They block. ret_text: one line for people, filled on
 * success. */
#ifndef QUAY_FS_RELOAD_H
#define QUAY_FS_RELOAD_H

#include "fs/fs.h"

int fs_reload(struct fs *fs, struct err *err, struct buf *ret_text);
int fs_register(struct fs *fs, const char *name, const json_t *options /* [["bucket","b"],..] */,
                const char *dir /* of relative paths */, struct err *err, struct buf *ret_text);
int fs_unregister(struct fs *fs, const char *name, struct err *err, struct buf *ret_text);

/* A thread that reloads on SIGHUP, which is to be blocked before any thread exists. */
void fs_hangup_block(void);
int fs_hangup_start(struct fs *fs, struct err *err);
void fs_hangup_stop(struct fs *fs); /* not started: ok */

/* cmd: reload {}   add {key, options?, dir}   remove {key} */
struct call;
int cmd_reload(struct call *c, struct err *err, json_t **ret);
int cmd_add(struct call *c, struct err *err, json_t **ret);
int cmd_remove(struct call *c, struct err *err, json_t **ret);

#endif
