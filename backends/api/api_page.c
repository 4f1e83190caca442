/* SPDX-License-Identifier: MIT
 * api_page.c: see api_page.h. */
#include "backends/api/api_page.h"

#include "backends/web/web_url.h"
#include "base/cleanup.h"

#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static void json_done(json_t **j)
{
    json_decref(*j);
}

#define CLEANUP_JSON __attribute__((cleanup(json_done)))

/* ---- ids and names ---- */

/* Does s begin with an escape of ours? */
static bool is_escape(const char *s)
{
    return strncasecmp(s, "%2f", 3) == 0 || strncmp(s, "%25", 3) == 0;
}

char *api_name_of_id(const char *id, const char *suffix)
{
    struct buf b = BUF_INIT;
    for (const char *p = id; *p; p++) {
        if (*p == '/')
            buf_adds(&b, "%2F");
        else if (*p == '%' && is_escape(p))
            buf_adds(&b, "%25");
        else
            buf_addc(&b, *p);
    }
    buf_adds(&b, suffix);
    return buf_take(&b);
}

char *api_id_of_name(const char *name, const char *suffix)
{
    struct buf b = BUF_INIT;
    size_t n = strlen(name), s = strlen(suffix);
    if (n <= s || strcmp(name + n - s, suffix) != 0)
        return NULL;
    for (size_t i = 0; i < n - s; i++) {
        if (name[i] == '%' && n - s - i >= 3 && is_escape(name + i)) {
            buf_addc(&b, name[i + 2] == '5' ? '%' : '/');
            i += 2;
        } else {
            buf_addc(&b, name[i]);
        }
    }
    return buf_take(&b);
}

/* ---- members ---- */

/* The member at "a.b.c", or NULL. */
static const json_t *at_path(const json_t *root, const char *path)
{
    for (const char *p = path; root && *p;) {
        size_t n = strcspn(p, ".");
        CLEANUP_FREE char *name = xstrndup(p, n);
        root = json_object_get(root, name);
        p += n + (p[n] == '.');
    }
    return root;
}

/* The only array among the members. */
static const json_t *only_array(const json_t *root)
{
    const json_t *found = NULL;
    const char *name;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)root, name, v)
    {
        if (json_is_array(v) && found)
            return NULL;
        if (json_is_array(v))
            found = v;
    }
    return found;
}

static const json_t *find_items(const json_t *root, const struct api_shape *shape)
{
    static const char *const usual[] = {"data", "items", "results", "records", "entries", "value"};
    if (*shape->items_field) {
        const json_t *v = at_path(root, shape->items_field);
        return json_is_array(v) ? v : NULL;
    }
    if (json_is_array(root))
        return root;
    for (size_t i = 0; i < ARRAY_LEN(usual); i++) {
        const json_t *v = json_object_get(root, usual[i]);
        if (json_is_array(v))
            return v;
    }
    return only_array(root);
}

/* Malloc'd text of a string or an integer; NULL: neither, or nothing. */
static char *scalar(const json_t *v)
{
    if (json_is_string(v))
        return *json_string_value(v) ? xstrdup(json_string_value(v)) : NULL;
    if (json_is_integer(v))
        return xasprintf("%" JSON_INTEGER_FORMAT, json_integer_value(v));
    return NULL;
}

static char *id_of(const json_t *record, const struct api_shape *shape)
{
    return scalar(json_is_object(record) ? at_path(record, shape->id_field) : record);
}

/* ---- pages ---- */

static bool is_url(const char *s)
{
    return strstr(s, "://") || *s == '/' || *s == '?';
}

static void find_next(const json_t *root, const struct api_shape *shape, struct api_page *ret)
{
    static const char *const usual[] = {"next",          "next_cursor",     "next_page_token",
                                        "nextPageToken", "next_page_url",   "links.next",
                                        "links.next.href", "_links.next.href", "paging.next",
                                        "pagination.next", "pagination.next_cursor",
                                        "meta.next_cursor", "meta.next"};
    if (!json_is_object(root))
        return;
    if (*shape->cursor_field)
        ret->next = scalar(at_path(root, shape->cursor_field));
    for (size_t i = 0; i < ARRAY_LEN(usual) && !*shape->cursor_field && !ret->next; i++)
        ret->next = scalar(at_path(root, usual[i]));
    ret->next_is_url = ret->next && is_url(ret->next);
}

static int take_records(const json_t *items, const struct api_shape *shape, struct err *err,
                        struct web_names *names, struct api_page *ret)
{
    size_t i;
    json_t *v;
    json_array_foreach((json_t *)(uintptr_t)items, i, v)
    {
        CLEANUP_FREE char *id = id_of(v, shape);
        if (!id && json_is_object(v) && !json_is_string(at_path(v, shape->id_field)))
            return err_set(err, EBADMSG, "record %zu has no '%s': set id_field", i + 1,
                           shape->id_field);
        CLEANUP_FREE char *name = id ? api_name_of_id(id, "") : NULL;
        if (!name || !web_is_name(name)) {
            ret->left_out++;
            continue;
        }
        CLEANUP_FREE char *whole = xasprintf("%s%s", name, shape->suffix);
        (void)web_names_add(names, whole, false);
    }
    ret->records = json_array_size(items);
    return 0;
}

int api_page_parse(const char *text, size_t len, const struct api_shape *shape, struct err *err,
                   struct web_names *names, struct api_page *ret)
{
    json_error_t why;
    struct api_page page = API_PAGE_INIT;
    CLEANUP_JSON json_t *root = json_loadb(text, len, 0, &why);
    if (!root)
        return err_set(err, EBADMSG, "it is no JSON: line %d: %s", why.line, why.text);
    const json_t *items = find_items(root, shape);
    if (!items)
        return err_set(err, EBADMSG, "it has no array of records%s%s%s: set items_field",
                       *shape->items_field ? " at '" : "", shape->items_field,
                       *shape->items_field ? "'" : "");
    int r = take_records(items, shape, err, names, &page);
    if (r < 0)
        return r;
    find_next(root, shape, &page);
    *ret = page;
    return 0;
}

void api_page_done(struct api_page *p)
{
    free(p->next);
    *p = API_PAGE_INIT;
}

bool api_page_is_one(const char *text, size_t len, const struct api_shape *shape)
{
    CLEANUP_JSON json_t *root = json_loadb(text, len, 0, NULL);
    const json_t *items = root ? find_items(root, shape) : NULL;
    if (!items)
        return false;
    /* A record may have lists too; it is one when it has an id of its own. */
    CLEANUP_FREE char *own = json_is_object(root) ? scalar(at_path(root, shape->id_field)) : NULL;
    return !own;
}

/* ---- Link ---- */

/* Is rel="..." of this one link (what follows its '>') "next"? */
static bool says_next(const char *params, size_t len)
{
    CLEANUP_FREE char *text = xstrndup(params, len);
    for (char *p = text; (p = strcasestr(p, "rel")) != NULL; p += 3) {
        const char *v = p + 3;
        bool begins = p == text || strchr("; \t", p[-1]);
        v += strspn(v, " \t");
        if (!begins || *v != '=')
            continue;
        v++;
        v += strspn(v, " \t");
        bool quoted = *v == '"';
        v += quoted;
        for (size_t n; (n = strcspn(v, quoted ? " \t\"" : " \t;\"")) > 0; v += strspn(v, " \t")) {
            if (n == 4 && strncasecmp(v, "next", 4) == 0)
                return true;
            v += n;
            if (!quoted || *v == '"')
                break;
        }
    }
    return false;
}

/* The end of one link's parameters: a ',' outside of quotes. */
static size_t params_length(const char *s)
{
    bool quoted = false;
    size_t n = 0;
    for (; s[n] && (quoted || s[n] != ','); n++)
        if (s[n] == '"')
            quoted = !quoted;
    return n;
}

char *api_link_next(const struct http_headers *h)
{
    for (size_t i = 0; i < h->n; i++) {
        if (strcasecmp(h->v[i].name, "link") != 0)
            continue;
        for (const char *p = h->v[i].value; (p = strchr(p, '<')) != NULL;) {
            const char *end = strchr(p, '>');
            if (!end)
                break;
            size_t n = params_length(end + 1);
            if (says_next(end + 1, n))
                return xstrndup(p + 1, (size_t)(end - p - 1));
            p = end + 1 + n;
        }
    }
    return NULL;
}
