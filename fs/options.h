/* SPDX-License-Identifier: MIT
 * options.h: the command line of quayfs.
 *
 *   quayfs [-c FILE] [-f] [-d] [-o OPT,...] [--env NAME] MOUNTPOINT
 *   quayfs DIRECTORY|URI MOUNTPOINT      one key named after it, no configuration (adhoc.h)
 *   quayfs FILE MOUNTPOINT [-o ...]      what mount(8) calls: mount -t fuse.quayfs FILE MOUNTPOINT
 * -o takes FUSE options (allow_other, ro, ...) and section.name=value of [quayfs] and [cache], e.g.
 * -o cache.max_size=1GiB, with a DIRECTORY or URI also store.name=value, plus config=FILE and env=NAME.
 * Errors: text for the user with exit status 2. */
#ifndef QUAY_FS_OPTIONS_H
#define QUAY_FS_OPTIONS_H

#include "base/conf.h"

#include <stdbool.h>

struct options {
    char *config;      /* -c, or the first of two arguments when it is a file */
    char *local_dir;   /* the first of two arguments when it is a directory */
    char *uri;         /* or when it is one */
    char *mountpoint;
    char *env_file;
    char *env;
    bool foreground, debug, check, ephemeral;
    bool help, version;
    char **fuse;       /* options for FUSE */
    size_t n_fuse;
    char **set;        /* "section.name=value" */
    size_t n_set;
};

int options_parse(int argc, char **argv, struct err *err, struct options *ret);
void options_done(struct options *o);
void options_help(void);
/* Puts the -o section.name=value settings into the configuration. */
int options_apply(const struct options *o, struct conf *c, struct err *err);

#endif
