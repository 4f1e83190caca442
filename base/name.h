/* SPDX-License-Identifier: MIT
 * name.h: object key segments <-> legal file names, reversibly.
 *
 * Purpose: an object store's keys are arbitrary bytes; a directory cannot show all of them. What
 * cannot be a file name is shown under an escape that leads back to exactly that key, so nothing
 * escapes the mount, is hidden or is merged.
 *   segment          shown as
 *   ""   (// or a leading /)   %2F
 *   "."  / ".."      %2E / %2E%2E
 *   over 255 bytes   first bytes, then "%~" and 16 hex digits of SHA-256 of the segment
 *                    (cut at a UTF-8 boundary; found again by listing, NAME_LONG)
 *   a prefix `a/` beside an object `a`    directory "a%2F", object "a"
 *   a literal name that would read as one of these    its first '%' becomes %25
 *   what none of these can show (a NUL byte; an escape over 255 bytes; a shadow of a name that
 *   itself looks like an escape)       as "over 255 bytes"; a shadow's hash is of segment and '/'
 * All other bytes stay as they are (Linux names are bytes; '/' cannot occur within a segment).
 *
 * Paths. A directory's path is what its listing prefix (the keys below it begin with it) is without one
 * '/', but "" for the root, whose prefix is ""; a path of slashes only is its own prefix. So of the keys
 * "/x", "//x", "d//x" the directories are "/", "//" in it, and "d/" in "d"; each shown as %2F. An object
 * whose key is a directory's prefix is that directory's marker; but if it has content, it is also the
 * file with the empty segment in it: "d/" is a file in "d" (store.h says which stores have such). In a
 * directory of slashes only that file has its own path, "//" in "/", with one '/' more than the object.
 *
 * Pure functions. Threads: any. Errors: as said. */
#ifndef QUAY_BASE_NAME_H
#define QUAY_BASE_NAME_H

#include <stdbool.h>
#include <stddef.h>

#define NAME_MAX_BYTES 255

/* `shadow`: this is a directory beside an object of the same name. out gets a NUL-terminated name. */
void name_encode(const char *segment, size_t len, bool shadow, char out[NAME_MAX_BYTES + 1]);

enum name_form {
    NAME_PLAIN = 0,
    NAME_SHADOW, /* directory `segment` that stands beside an object */
    NAME_LONG    /* out holds the leading bytes; compare name_encode() of listed segments */
};
/* Gives the key segment (out NUL-terminated, at most 255 bytes; may be empty for "%2F"). */
enum name_form name_decode(const char *name, char out[NAME_MAX_BYTES + 1]);

/* True when joining `base` and `key` stays below base: no "..", ".", empty or absolute segment. For
 * backends whose keys become real paths (local, sftp). "" is inside. */
bool path_is_inside(const char *key);
/* Malloc'd "a/b" from parts, where an empty part adds no slash. */
char *path_join(const char *a, const char *b);
/* Only slashes, or "": a directory whose listing prefix is its path. */
bool path_is_slashes(const char *path);
/* Malloc'd listing prefix of a directory: "" for "", "/" for "/", "a/" for "a". */
char *path_dir_prefix(const char *dir);
/* Malloc'd directory of a listing prefix: the inverse. */
char *path_of_prefix(const char *prefix);
/* Malloc'd path of a segment (or several, joined by '/') in a directory; the segment may be empty. */
char *path_child(const char *dir, const char *segment);
/* Pointer to the last segment; the parent's length (0 for the root) in *ret_parent_len. */
const char *path_base(const char *path, size_t *ret_parent_len);
char *path_parent(const char *path); /* malloc'd; "" for the root and its children */
bool path_below(const char *path, const char *dir); /* strictly; everything is below "" */
bool path_within(const char *path, const char *dir); /* is it dir, or below it? */
/* What path_child() adds to dir to get a path below it: path_child(other, path_rest(path, dir)) moves it. */
const char *path_rest(const char *path, const char *dir);
/* A file with the empty segment as its name ("d/"). */
bool path_is_unnamed(const char *path);
/* fnmatch with FNM_PATHNAME semantics plus '**' for any number of segments. */
bool path_glob(const char *pattern, const char *path);
/* Length of the leading part of a glob that has no wildcard and ends at a '/' (for listing). */
size_t path_glob_fixed(const char *pattern);

#endif
