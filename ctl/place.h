/* SPDX-License-Identifier: MIT
 * place.h: what a PATH argument means: a key and a path in it.
 *
 *   KEY:path, KEY/path           the object's own path (patterns: cache/tree.h)
 *   :path                        the same in the key that default_key in [quayfs] names
 *   /mnt/quay/KEY/path, ./path   a path in the mount, as ls shows it (escapes of base/name.h)
 * A final slash means the directory. KEY: alone is the whole key.
 *     struct places p;  r = places_resolve(ctl, argc, argv, &p);  ... places_done(&p);
 * places_resolve_any takes any other path of the local file system as well (`key` is NULL then). What could be
 * both is a key's: ./lake is not.
 * Asks the running quayfs for its mountpoint and keys. Gives CTL_OK, or a status after a message. */
#ifndef QUAY_CTL_PLACE_H
#define QUAY_CTL_PLACE_H

#include "ctl/ctl.h"

struct place {
    char *key, *path;
    bool dir;
    char *file;      /* the same as an absolute path, without a final slash */
    size_t root_len; /* bytes of it that lead to the key's name: "/mnt/quay/" */
};

struct places {
    struct place *v;
    size_t n;
};

int places_resolve(struct ctl *ctl, const char *command, int argc, char **argv, struct places *ret);
int places_resolve_any(struct ctl *ctl, const char *command, int argc, char **argv,
                       struct places *ret);
void places_done(struct places *p);

/* Resolves them, then does `each` of them; the worst status. Nothing more is tried when quayfs does not answer. */
typedef int places_fn(struct ctl *ctl, const struct place *p, void *arg);
int places_each(struct ctl *ctl, const char *command, int argc, char **argv, places_fn *each, void *arg);

#endif
