/* SPDX-License-Identifier: MIT
 * versions.h: older versions of objects (CAP_VERSIONS) as files that can be read.
 *
 * Beside each object `d/f` of which a store keeps versions is a directory `d/f@versions`, which no listing tells
 * of. In it is a file for each version that has content, also when `d/f` itself is deleted:
 *
 *     d/f.csv@versions/2026-11-22T01:02:03.456Z-3sL4kqtJlcpXroDTDmJ.csv
 *
 * the time at which it was stored (UTC; so names sort by it), the store's id of the version with %XX for what is
 * not A-Z a-z 0-9 - . _ ~, and the extension of the object's name, by which programs know what a file is.
 * Deletions are not files: the directory's time is that of the last change, a deletion too. Nothing can be
 * changed there (-EROFS). A real object or directory of that name wins.
 *
 * store_wrap_versions is the wrapper around a whole stack that does all this by list_versions, stat_version and
 * reads of kept versions: what lies above (cache, loader, quayctl) sees keys like all others, but for names that
 * listings hide: CAP_VERSION_DIRS, version_is_hidden. Requests for other names pass it untouched.
 * Cost: a lookup of NAME@versions asks for the real one first. Where no versions are kept, that is all.
 *
 * Threads: any. Ownership: as said. Errors: as in store.h. */
#ifndef QUAY_BACKENDS_VERSIONS_H
#define QUAY_BACKENDS_VERSIONS_H

#include "backends/store.h"

#define VERSIONS_SUFFIX "@versions"

/* ---- names (version_name.c, pure) ---- */
struct version_path {
    char *object;     /* key of the object */
    char *dir;        /* of its versions: "d/f@versions" */
    const char *name; /* of one, behind dir in the key that was parsed; NULL: it is the directory */
};
/* Is the key such a directory, or something right in it, by its form? */
bool version_path_is(const char *key);
bool version_path_parse(const char *key, struct version_path *ret);
void version_path_done(struct version_path *p);
#define CLEANUP_VERSION_PATH __attribute__((cleanup(version_path_done)))
/* Is it such a directory by its form? Its parent's listing does not tell. */
bool version_is_hidden(const char *key);
/* The name of a version of that object, malloc'd, and back; false: not such a name. */
char *version_name(const char *object, struct timespec stored, const char *id);
bool version_name_parse(const char *object, const char *name, struct timespec *ret_stored, char **ret_id);

/* ---- the wrapper; takes `next` ---- */
struct store *store_wrap_versions(struct store *next);

#endif
