/* SPDX-License-Identifier: MIT
 * name.c: the escape scheme of name.h.
 *
 * Forms of a shown name, tested by name_decode in this order:
 *   LITERAL  its first '%' begins "%25" and, with that made '%', it is special   -> that
 *   LONG     ends in "%~" and 16 hex digits                                      -> leading bytes
 *   "%2F", "%2E", "%2E%2E"                                                       -> "", ".", ".."
 *   SHADOW   ends in "%2F", the rest is the segment ("%2E" etc. as above)
 *   PLAIN    anything else
 * A name is special when it has one of these forms. Invariants: (1) name_encode of a special
 * segment is LITERAL, of any other ordinary segment is itself, so the two never meet; (2) a
 * SHADOW's first
 * '%' never begins "%25", else it would read as LITERAL: such a shadow, and one too long for its
 * suffix, takes the LONG form over the hash of the segment and a '/'; (3) the leading bytes of a
 * LONG name end before a "%25" that is their first '%', for the same reason. */
#include "base/name.h"

#include "base/buf.h"
#include "base/crypto.h"

#include <fnmatch.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define LONG_SUFFIX 18 /* "%~" and 16 digits */

static bool ends_long(const char *s, size_t len)
{
    if (len < LONG_SUFFIX || memcmp(s + len - LONG_SUFFIX, "%~", 2) != 0)
        return false;
    for (size_t i = len - 16; i < len; i++)
        if (!((s[i] >= '0' && s[i] <= '9') || (s[i] >= 'a' && s[i] <= 'f')))
            return false;
    return true;
}

static bool ends_slash(const char *s, size_t len)
{
    return len >= 3 && memcmp(s + len - 3, "%2F", 3) == 0;
}

static bool is_dots(const char *s, size_t len)
{
    return (len == 3 && memcmp(s, "%2E", 3) == 0) || (len == 6 && memcmp(s, "%2E%2E", 6) == 0);
}

/* Position of the first '%' when it begins "%25", else len. */
static size_t first_25(const char *s, size_t len)
{
    const char *p = memchr(s, '%', len);
    size_t at = p ? (size_t)(p - s) : len;
    return at + 3 <= len && memcmp(s + at, "%25", 3) == 0 ? at : len;
}

/* "%25" may stand several times in a row ("%252525"), each an escape of the one before. */
static bool is_special(const char *s, size_t len)
{
    char copy[NAME_MAX_BYTES + 1];
    if (len > NAME_MAX_BYTES)
        return false;
    memcpy(copy, s, len);
    for (;;) {
        if (ends_long(copy, len) || ends_slash(copy, len) || is_dots(copy, len))
            return true;
        size_t at = first_25(copy, len);
        if (at == len)
            return false;
        memmove(copy + at + 1, copy + at + 3, len - at - 3);
        len -= 2;
    }
}

static void encode_long(const char *s, size_t len, bool shadow, char *out)
{
    uint8_t sum[SHA256_LEN];
    struct sha256_stream *hash = sha256_begin();
    sha256_add(hash, s, len);
    if (shadow)
        sha256_add(hash, "/", 1);
    sha256_end(hash, sum);

    size_t keep = strnlen(s, len);
    if (keep > NAME_MAX_BYTES - LONG_SUFFIX)
        keep = NAME_MAX_BYTES - LONG_SUFFIX;
    if (keep < len)
        for (int i = 0; i < 3 && keep > 0 && ((unsigned char)s[keep] & 0xC0) == 0x80; i++)
            keep--;
    keep = first_25(s, keep);
    memcpy(out, s, keep);
    memcpy(out + keep, "%~", 2);
    hex_encode(sum, 8, out + keep + 2);
}

static void encode_shadow(const char *s, size_t len, char *out)
{
    bool plain = len + 3 <= NAME_MAX_BYTES && !memchr(s, '\0', len) && first_25(s, len) == len &&
                 !is_dots(s, len) && !(len == 3 && ends_slash(s, len));
    if (!plain) {
        encode_long(s, len, true, out);
        return;
    }
    size_t n = len;
    if (len == 0 || (len <= 2 && memcmp(s, "..", len) == 0)) {
        name_encode(s, len, false, out);
        n = strlen(out);
    } else {
        memcpy(out, s, len);
    }
    memcpy(out + n, "%2F", 4);
}

void name_encode(const char *segment, size_t len, bool shadow, char out[NAME_MAX_BYTES + 1])
{
    if (shadow) {
        encode_shadow(segment, len, out);
        return;
    }
    if (len == 0 || (len <= 2 && memcmp(segment, "..", len) == 0)) {
        memcpy(out, len == 0 ? "%2F" : "%2E%2E", len == 2 ? 7 : 4);
        out[len == 2 ? 6 : 3] = '\0';
        return;
    }
    bool special = is_special(segment, len);
    if (len + (special ? 2 : 0) > NAME_MAX_BYTES || memchr(segment, '\0', len)) {
        encode_long(segment, len, false, out);
        return;
    }
    size_t at = 0;
    if (special) {
        const char *percent = memchr(segment, '%', len);
        at = (size_t)(percent - segment) + 1;
        memcpy(out, segment, at);
        memcpy(out + at, "25", 2);
        out += 2;
    }
    memcpy(out + at, segment + at, len - at);
    out[len] = '\0';
}

enum name_form name_decode(const char *name, char out[NAME_MAX_BYTES + 1])
{
    size_t len = strnlen(name, NAME_MAX_BYTES);
    size_t at = first_25(name, len);
    memcpy(out, name, len);
    out[len] = '\0';
    if (at < len) {
        memmove(out + at + 1, out + at + 3, len - at - 2);
        if (is_special(out, len - 2))
            return NAME_PLAIN;
        memcpy(out, name, len);
        out[len] = '\0';
    }
    if (ends_long(name, len)) {
        out[len - LONG_SUFFIX] = '\0';
        return NAME_LONG;
    }
    enum name_form form = NAME_PLAIN;
    if (ends_slash(name, len)) {
        len -= 3;
        out[len] = '\0';
        if (len == 0)
            return NAME_PLAIN;
        form = NAME_SHADOW;
        if (len == 3 && ends_slash(name, len))
            out[0] = '\0';
    }
    if (is_dots(name, len)) {
        memset(out, '.', len / 3);
        out[len / 3] = '\0';
    }
    return form;
}

bool path_is_inside(const char *key)
{
    if (!*key)
        return true;
    for (const char *p = key;; p++) {
        size_t n = strcspn(p, "/");
        if (n == 0 || (n == 1 && p[0] == '.') || (n == 2 && p[0] == '.' && p[1] == '.'))
            return false;
        p += n;
        if (!*p)
            return true;
    }
}

char *path_join(const char *a, const char *b)
{
    size_t n = strlen(a);
    const char *slash = n > 0 && *b && a[n - 1] != '/' ? "/" : "";
    return xasprintf("%s%s%s", a, slash, b);
}

bool path_is_slashes(const char *path)
{
    return path[strspn(path, "/")] == '\0';
}

char *path_dir_prefix(const char *dir)
{
    return xasprintf("%s%s", dir, path_is_slashes(dir) ? "" : "/");
}

char *path_of_prefix(const char *prefix)
{
    return xstrndup(prefix, strlen(prefix) - !path_is_slashes(prefix));
}

char *path_child(const char *dir, const char *segment)
{
    bool joined = path_is_slashes(dir) && !path_is_slashes(segment);
    return xasprintf("%s%s%s", dir, joined ? "" : "/", segment);
}

const char *path_base(const char *path, size_t *ret_parent_len)
{
    const char *slash = strrchr(path, '/');
    size_t len = slash ? (size_t)(slash - path) : 0;
    if (slash && slash[1] && strspn(path, "/") == len + 1)
        len++; /* the parent has only slashes: the last is its own */
    if (ret_parent_len)
        *ret_parent_len = len;
    return slash ? slash + 1 : path;
}

char *path_parent(const char *path)
{
    size_t len = 0;
    (void)path_base(path, &len);
    return xstrndup(path, len);
}

bool path_below(const char *path, const char *dir)
{
    size_t len = strlen(dir);
    if (strncmp(path, dir, len) != 0 || !path[len])
        return false;
    return path_is_slashes(dir) || path[len] == '/';
}

bool path_within(const char *path, const char *dir)
{
    return strcmp(path, dir) == 0 || path_below(path, dir);
}

const char *path_rest(const char *path, const char *dir)
{
    bool joined = path_is_slashes(dir) && !path_is_slashes(path);
    return path + strlen(dir) + !joined;
}

bool path_is_unnamed(const char *path)
{
    size_t len = strlen(path);
    return len > 0 && path[len - 1] == '/';
}

static bool segment_matches(const char *pattern, size_t p_len, const char *s, size_t s_len)
{
    char *p = xstrndup(pattern, p_len);
    char *t = xstrndup(s, s_len);
    bool match = fnmatch(p, t, FNM_PATHNAME) == 0;
    free(p);
    free(t);
    return match;
}

/* As '*' is matched within a word, but over segments: on a mismatch the last "**" takes one more.
 */
bool path_glob(const char *pattern, const char *path)
{
    const char *p = pattern, *s = path; /* at the beginning of a segment, NULL past the last */
    const char *retry_p = NULL, *retry_s = NULL;
    for (;;) {
        size_t p_len = p ? strcspn(p, "/") : 0;
        if (p && p_len == 2 && p[0] == '*' && p[1] == '*') {
            p = p[2] ? p + 3 : NULL;
            retry_p = p;
            retry_s = s;
            if (!p)
                return true;
            continue;
        }
        if (!p && !s)
            return true;
        size_t s_len = s ? strcspn(s, "/") : 0;
        if (p && s && segment_matches(p, p_len, s, s_len)) {
            p = p[p_len] ? p + p_len + 1 : NULL;
            s = s[s_len] ? s + s_len + 1 : NULL;
            continue;
        }
        if (!retry_s)
            return false;
        size_t skip = strcspn(retry_s, "/");
        retry_s = retry_s[skip] ? retry_s + skip + 1 : NULL;
        p = retry_p;
        s = retry_s;
        if (!s)
            return false;
    }
}

size_t path_glob_fixed(const char *pattern)
{
    size_t n = strcspn(pattern, "*?[\\");
    while (n > 0 && pattern[n - 1] != '/')
        n--;
    return n;
}
