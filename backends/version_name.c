/* SPDX-License-Identifier: MIT
 * version_name.c: names of older versions: see versions.h. */
#include "backends/versions.h"

#include "base/cleanup.h"
#include "base/date.h"
#include "base/name.h"
#include "base/url.h"

#include <ctype.h>
#include <string.h>

#define STAMP_LEN 24 /* 2026-11-22T01:02:03.456Z */
#define EXTENSION_MAX 16

/* Has the last segment of the first `len` bytes the suffix, and something before it? */
static bool is_dir_form(const char *key, size_t len)
{
    size_t n = sizeof(VERSIONS_SUFFIX) - 1;
    return len > n && memcmp(key + len - n, VERSIONS_SUFFIX, n) == 0 && key[len - n - 1] != '/';
}

bool version_is_hidden(const char *key)
{
    return is_dir_form(key, strlen(key));
}

/* Length of the directory's key; 0: not of this form. */
static size_t dir_length(const char *key)
{
    const char *slash = strrchr(key, '/');
    size_t all = strlen(key), up = slash ? (size_t)(slash - key) : 0;
    return is_dir_form(key, all) ? all : is_dir_form(key, up) ? up : 0;
}

bool version_path_is(const char *key)
{
    return dir_length(key) > 0;
}

bool version_path_parse(const char *key, struct version_path *ret)
{
    size_t dir = dir_length(key);
    *ret = (struct version_path){0};
    if (!dir)
        return false;
    ret->dir = xstrndup(key, dir);
    ret->object = xstrndup(key, dir - (sizeof(VERSIONS_SUFFIX) - 1));
    ret->name = key[dir] ? key + dir + 1 : NULL;
    return true;
}

void version_path_done(struct version_path *p)
{
    free(p->object);
    free(p->dir);
    *p = (struct version_path){0};
}

/* ".csv" of "d/f.csv"; "" when it has none to speak of. */
static const char *extension(const char *object)
{
    size_t up = 0;
    const char *name = path_base(object, &up), *dot = strrchr(name, '.');
    if (!dot || dot == name || !dot[1] || strlen(dot) > EXTENSION_MAX)
        return "";
    for (const char *p = dot + 1; *p; p++)
        if (!isalnum((unsigned char)*p))
            return "";
    return dot;
}

char *version_name(const char *object, struct timespec stored, const char *id)
{
    CLEANUP_BUF struct buf b = BUF_INIT;
    char stamp[32];
    date_format_iso(stored, stamp);
    buf_addf(&b, "%s-", stamp);
    url_encode(&b, id, strlen(id), false);
    buf_adds(&b, extension(object));
    return buf_take(&b);
}

bool version_name_parse(const char *object, const char *name, struct timespec *ret_stored, char **ret_id)
{
    const char *ext = extension(object);
    size_t len = strlen(name), tail = strlen(ext);
    if (len <= STAMP_LEN + 1 + tail || name[STAMP_LEN] != '-' || strcmp(name + len - tail, ext) != 0)
        return false;
    char stamp[STAMP_LEN + 1];
    memcpy(stamp, name, STAMP_LEN);
    stamp[STAMP_LEN] = '\0';
    CLEANUP_BUF struct buf id = BUF_INIT;
    struct timespec at;
    if (!date_parse_iso(stamp, &at) || !url_decode(&id, name + STAMP_LEN + 1, len - STAMP_LEN - 1 - tail))
        return false;
    CLEANUP_FREE char *again = version_name(object, at, buf_str(&id)); /* one spelling only */
    if (strcmp(again, name) != 0)
        return false;
    *ret_stored = at;
    *ret_id = buf_take(&id);
    return true;
}
