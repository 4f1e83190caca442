/* SPDX-License-Identifier: MIT
 * adhoc.h: mounts that need no configuration file, and caches that do not outlive the mount.
 *
 *   quayfs DIRECTORY MNT, quayfs s3://BUCKET/PREFIX MNT    one key, named after what is mounted
 *   quayfs --env-file FILE ...                             NAME=VALUE lines become environment variables
 *   quayfs --ephemeral ...                                 the cache is a directory of its own, removed at the end
 * Calling sequence: adhoc_read_env before any configuration is read; conf = adhoc_conf(o); settings_load;
 * adhoc_own_dirs(fs, o); ... cache_open; ...; cache closed; adhoc_remove_cache(fs).
 * Threads: main's, before there are others and after. Errors: -errno with a text for the user. */
#ifndef QUAY_FS_ADHOC_H
#define QUAY_FS_ADHOC_H

#include "fs/fs.h"
#include "fs/options.h"

/* Lines NAME=VALUE, also with "export " before and quotes around the value; '#' begins a comment line. What is
 * in the environment already stays. Errors name file and line. */
int adhoc_read_env(const char *file, struct err *err);

/* One [store NAME], from o->local_dir or o->uri. */
struct conf *adhoc_conf(const struct options *o);

/* A mount without configuration shares nothing with others: its cache directory and control socket are named
 * after what is mounted where. --ephemeral: the cache is a new directory below the configured one. */
int adhoc_own_dirs(struct fs *fs, const struct options *o, struct err *err);

/* With --ephemeral: removes the cache, unless something in it is not stored yet (`left`): says where it is. */
void adhoc_remove_cache(struct fs *fs, const struct options *o, bool left);

#endif
