/* SPDX-License-Identifier: MIT
 * web_index.c: sizes of index lines, JSON listings, manifests. */
#include "backends/web/web_index.h"

#include "base/cleanup.h"
#include "base/date.h"
#include "base/name.h"

#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

bool web_index_size(const char *tail, uint64_t *ret)
{
    size_t n = strlen(tail);
    while (n > 0 && isspace((unsigned char)tail[n - 1]))
        n--;
    size_t end = n;
    while (n > 0 && isdigit((unsigned char)tail[n - 1]))
        n--;
    /* A lone number may be anything; behind a date with its time it is the size. */
    if (n == end || end - n > 18 || n == 0 || !isspace((unsigned char)tail[n - 1]) ||
        !memchr(tail, ':', n))
        return false;
    *ret = strtoull(tail + n, NULL, 10);
    return true;
}

bool web_is_json(const char *text, size_t len)
{
    size_t i = 0;
    while (i < len && isspace((unsigned char)text[i]))
        i++;
    return i < len && (text[i] == '[' || text[i] == '{');
}

/* ---- JSON ---- */

static void json_done(json_t **j)
{
    json_decref(*j);
}

#define CLEANUP_JSON __attribute__((cleanup(json_done)))

static const char *member_text(const json_t *o, const char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_object_get(o, names[i]);
        if (json_is_string(v))
            return json_string_value(v);
    }
    return NULL;
}

static bool parse_time(const json_t *v, int64_t *ret)
{
    struct timespec t;
    time_t s;
    if (json_is_number(v)) {
        double d = json_number_value(v);
        if (!(d > -1e11 && d < 1e11))
            return false;
        *ret = (int64_t)d;
        return true;
    }
    if (!json_is_string(v))
        return false;
    if (date_parse_http(json_string_value(v), &s)) {
        *ret = s;
        return true;
    }
    if (!date_parse_iso(json_string_value(v), &t))
        return false;
    *ret = t.tv_sec;
    return true;
}

static void take_facts(const json_t *o, struct web_name *e)
{
    static const char *const times[] = {"mtime", "mod_time", "modified", "last_modified"};
    static const char *const versions[] = {"etag", "version"};
    const json_t *size = json_object_get(o, "size");
    const char *version = member_text(o, versions, ARRAY_LEN(versions));
    if (json_is_integer(size) && json_integer_value(size) >= 0) {
        e->size = (uint64_t)json_integer_value(size);
        e->has_size = true;
    }
    for (size_t i = 0; i < ARRAY_LEN(times) && !e->has_mtime; i++)
        e->has_mtime = parse_time(json_object_get(o, times[i]), &e->mtime_s);
    if (version && *version && strlen(version) < ATTR_VERSION_MAX)
        e->version = xstrdup(version);
}

static bool says_dir(const json_t *o)
{
    const char *type = json_string_value(json_object_get(o, "type"));
    return json_is_true(json_object_get(o, "is_dir")) ||
           (type && (strcasecmp(type, "directory") == 0 || strcasecmp(type, "dir") == 0));
}

/* One element: a string, or an object with a name. false: neither. */
static bool take_element(const json_t *v, struct web_names *ret)
{
    static const char *const names[] = {"name", "path", "key", "url"};
    const char *name = json_is_string(v)   ? json_string_value(v)
                       : json_is_object(v) ? member_text(v, names, ARRAY_LEN(names))
                                           : NULL;
    if (!name)
        return false;
    size_t n = strlen(name);
    bool slash = n > 1 && name[n - 1] == '/';
    CLEANUP_FREE char *bare = xstrndup(name, n - slash);
    struct web_name *e = web_names_add(ret, bare, slash || says_dir(v));
    if (json_is_object(v))
        take_facts(v, e);
    return true;
}

static const json_t *find_array(const json_t *root)
{
    static const char *const members[] = {"files", "items", "entries"};
    if (json_is_array(root))
        return root;
    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        const json_t *v = json_object_get(root, members[i]);
        if (json_is_array(v))
            return v;
    }
    return NULL;
}

static int parse_json(const char *text, size_t len, struct err *err, struct web_names *ret)
{
    json_error_t why;
    CLEANUP_JSON json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &why);
    const json_t *array = root ? find_array(root) : NULL;
    if (!root)
        return err_set(err, EBADMSG, "line %d of the JSON: %s", why.line, why.text);
    if (!array)
        return err_set(err, EBADMSG, "the JSON has no array of names");
    size_t i;
    json_t *v;
    json_array_foreach((json_t *)(uintptr_t)array, i, v)
    {
        if (!take_element(v, ret))
            return err_set(err, EBADMSG, "element %zu of the JSON has no name", i + 1);
    }
    return 0;
}

static void drop_no_names(struct web_names *a)
{
    size_t left = 0;
    for (size_t i = 0; i < a->n; i++) {
        struct web_name *e = &a->v[i];
        size_t n = strlen(e->name);
        CLEANUP_FREE char *bare = xstrndup(e->name, n - (n > 0 && e->name[n - 1] == '/'));
        if (web_is_name(bare)) {
            a->v[left++] = *e;
        } else {
            free(e->name);
            free(e->version);
        }
    }
    a->n = left;
}

int web_index_json(const char *text, size_t len, struct err *err, struct web_names *ret)
{
    struct web_names names = {0};
    int r = parse_json(text, len, err, &names);
    if (r < 0) {
        web_names_done(&names);
        return r;
    }
    drop_no_names(&names);
    web_names_sort(&names);
    *ret = names;
    return 0;
}

/* ---- manifests ---- */

static int parse_lines(const char *text, size_t len, struct err *err, struct web_names *ret)
{
    unsigned line = 0;
    for (const char *p = text, *end = text + len; p < end;) {
        const char *nl = memchr(p, '\n', (size_t)(end - p));
        size_t n = nl ? (size_t)(nl - p) : (size_t)(end - p), whole = n;
        line++;
        while (n > 0 && (p[n - 1] == '\r' || p[n - 1] == ' ' || p[n - 1] == '\t'))
            n--;
        if (n > 0 && memchr(p, '\0', n))
            return err_set(err, EBADMSG, "line %u has a NUL byte: this is no manifest", line);
        if (n > 0 && *p != '#') {
            bool dir = n > 1 && p[n - 1] == '/';
            CLEANUP_FREE char *name = xstrndup(p, n - dir);
            (void)web_names_add(ret, name, dir);
        }
        p += whole + (nl != NULL);
    }
    return 0;
}

static int check_paths(const struct web_names *a, struct err *err)
{
    for (size_t i = 0; i < a->n; i++) {
        size_t n = strlen(a->v[i].name);
        CLEANUP_FREE char *path = xstrndup(a->v[i].name, n - (n > 0 && a->v[i].name[n - 1] == '/'));
        if (!*path || !path_is_inside(path))
            return err_set(err, EBADMSG, "'%.200s' is no path below the store's root", a->v[i].name);
    }
    return 0;
}

int web_manifest_parse(const char *text, size_t len, struct err *err, struct web_names *ret)
{
    struct web_names names = {0};
    int r = web_is_json(text, len) ? parse_json(text, len, err, &names)
                                   : parse_lines(text, len, err, &names);
    if (r == 0)
        r = check_paths(&names, err);
    if (r < 0) {
        web_names_done(&names);
        return r;
    }
    web_names_sort(&names);
    *ret = names;
    return 0;
}
