/* SPDX-License-Identifier: MIT
 * flat_place.c: where a store is: bucket and prefix, endpoint, HTTP client; the names of objects. */
#include "backends/flat.h"

#include "base/cleanup.h"
#include "base/name.h"
#include "base/url.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static char *without_slashes(const char *s)
{
    s += strspn(s, "/");
    size_t n = strlen(s);
    while (n > 0 && s[n - 1] == '/')
        n--;
    return xstrndup(s, n);
}

/* Splits "bucket/prefix"; the prefix without slashes at its ends. */
static void split_bucket(const char *s, char **ret_bucket, char **ret_prefix)
{
    s += strspn(s, "/");
    size_t n = strcspn(s, "/");
    *ret_bucket = xstrndup(s, n);
    *ret_prefix = without_slashes(s + n);
}

static int check_bucket(const struct conf_section *c, const struct flat_scheme *scheme,
                        const char *place, const char *bucket, struct err *err)
{
    if (!*bucket)
        return conf_error(c, NULL, err, EINVAL,
                          "%s needs '%s' (or uri = %s://%s/PREFIX, or base_path = %s/PREFIX)",
                          scheme->title, scheme->option, scheme->name, "NAME", "NAME");
    if (!scheme->is_name(bucket))
        return conf_error(c, place, err, EINVAL, "'%s' is not a %s name", bucket, scheme->option);
    return 0;
}

int flat_place(const struct conf_section *c, const struct flat_scheme *scheme, size_t key_max,
               struct err *err, struct flat_place *ret, char **ret_uri)
{
    const char *uri = conf_str(c, "uri", NULL), *bucket = conf_str(c, scheme->option, NULL);
    const char *base = conf_str(c, "base_path", ""), *after = strstr(base, "://");
    CLEANUP_FREE char *path = NULL, *more = NULL;
    if (uri && bucket)
        return conf_error(c, scheme->option, err, EINVAL, "'uri' names the %s: leave out '%s'",
                          scheme->option, scheme->option);
    if (uri) {
        after = strstr(uri, "://");
        split_bucket(after ? after + 3 : uri, &ret->bucket, &path);
        more = without_slashes(base);
    } else if (bucket) {
        ret->bucket = xstrdup(bucket);
        path = without_slashes(base);
    } else { /* base_path = s3://bucket/prefix or bucket/prefix */
        split_bucket(after ? after + 3 : base, &ret->bucket, &path);
    }
    int r = check_bucket(c, scheme, uri ? "uri" : bucket ? scheme->option : "base_path", ret->bucket,
                         err);
    if (r < 0)
        return r;
    bool two = *path && more && *more;
    ret->prefix = xasprintf("%s%s%s%s", path, two ? "/" : "", more ? more : "",
                            *path || (more && *more) ? "/" : "");
    if (strlen(ret->prefix) >= key_max / 2)
        return conf_error(c, "base_path", err, EINVAL, "base_path is too long");
    *ret_uri = xasprintf("%s://%s%s%.*s", scheme->name, ret->bucket, *ret->prefix ? "/" : "",
                         (int)(*ret->prefix ? strlen(ret->prefix) - 1 : 0), ret->prefix);
    return 0;
}

static int set_endpoint(const struct conf_section *c, const struct url *u, struct err *err,
                        struct flat_endpoint *e)
{
    bool https = strcmp(u->scheme, "https") == 0, v6 = strchr(u->host, ':') != NULL;
    if (!https && strcmp(u->scheme, "http") != 0)
        return conf_error(c, "endpoint_url", err, EINVAL,
                          "endpoint_url must begin with http(s)://");
    if (!*u->host || *u->user || *u->query)
        return conf_error(
            c, "endpoint_url", err, EINVAL,
            "endpoint_url must be http(s)://HOST[:PORT][/PATH], without user or query");
    struct buf b = BUF_INIT;
    buf_addf(&b, v6 ? "[%s]" : "%s", u->host);
    if (u->port && u->port != (https ? 443 : 80)) /* as curl writes Host: */
        buf_addf(&b, ":%d", u->port);
    e->host = buf_take(&b);
    free(e->scheme);
    e->scheme = xstrdup(u->scheme);
    free(e->root);
    e->root = xasprintf("%s%s", *u->path ? "/" : "", u->path + strspn(u->path, "/"));
    for (size_t n = strlen(e->root); n > 0 && e->root[n - 1] == '/';)
        e->root[--n] = '\0';
    return 0;
}

int flat_endpoint(const struct conf_section *c, struct err *err, struct flat_endpoint *ret)
{
    const char *given = conf_str(c, "endpoint_url", NULL);
    struct url u;
    *ret = (struct flat_endpoint){.scheme = xstrdup("https"), .root = xstrdup("")};
    if (!given || !*given)
        return 0;
    if (!url_parse(given, &u))
        return conf_error(c, "endpoint_url", err, EINVAL,
                          "'endpoint_url' is not http(s)://HOST[:PORT]");
    int r = set_endpoint(c, &u, err, ret);
    url_done(&u);
    return r;
}

void flat_endpoint_done(struct flat_endpoint *e)
{
    free(e->scheme);
    free(e->host);
    free(e->root);
    *e = (struct flat_endpoint){0};
}

bool flat_is_bucket_name(const char *s, size_t max)
{
    size_t n = strlen(s);
    for (const char *p = s; *p; p++)
        if (!isalnum((unsigned char)*p) && !strchr(".-_", *p))
            return false;
    return n >= 3 && n <= max && isalnum((unsigned char)s[0]);
}

const char *flat_environment(const char *name)
{
    return getenv(name);
}

/* Exact: "5 MiB", "4000 MiB". */
static void size_text(uint64_t bytes, char out[32])
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    size_t u = 0;
    for (; u + 1 < ARRAY_LEN(units) && bytes % 1024 == 0; u++)
        bytes /= 1024;
    (void)snprintf(out, 32, "%llu %s", (unsigned long long)bytes, units[u]);
}

static int take_size(const struct conf_section *c, const char *name, uint64_t min, uint64_t max, struct err *err,
                     uint64_t *value)
{
    char least[32], most[32];
    *value = conf_size(c, name, *value);
    if (*value >= min && *value <= max)
        return 0;
    size_text(min, least);
    size_text(max, most);
    return conf_error(c, name, err, EINVAL, "%s must be %s to %s", name, least, most);
}

int flat_part_limits(const struct conf_section *c, struct err *err, struct store_limits *l)
{
    l->part_size = 16ULL << 20;
    l->upload_threshold = 64ULL << 20;
    int r = take_size(c, "multipart_chunksize", l->part_min, l->part_max, err, &l->part_size);
    if (r == 0)
        r = take_size(c, "multipart_threshold", l->part_min, l->put_max, err, &l->upload_threshold);
    l->concurrency = (unsigned)conf_int(c, "max_concurrency", 10);
    return r;
}

char *flat_object(const char *prefix, const char *key)
{
    return xasprintf("%s%s", prefix, key + (*key && path_is_slashes(key)));
}

char *flat_dir_object(const char *prefix, const char *key)
{
    CLEANUP_FREE char *dir = path_dir_prefix(key);
    return xasprintf("%s%s", prefix, dir);
}

bool flat_same_text(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

bool flat_same_endpoint(const struct flat_endpoint *a, const struct flat_endpoint *b)
{
    return flat_same_text(a->scheme, b->scheme) && flat_same_text(a->host, b->host) && flat_same_text(a->root, b->root);
}

void flat_place_text(const struct flat_endpoint *e, const char *bucket, const char *prefix, struct buf *ret_service,
                     struct buf *ret_path)
{
    buf_addf(ret_service, "%s://", e->scheme ? e->scheme : "");
    buf_add_lower(ret_service, e->host ? e->host : "");
    buf_adds(ret_service, e->root ? e->root : "");
    size_t n = strlen(prefix);
    buf_addf(ret_path, "%s%s%.*s", bucket, n ? "/" : "", n ? (int)n - 1 : 0, prefix);
}
