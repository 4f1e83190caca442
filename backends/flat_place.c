/* SPDX-License-Identifier: MIT
 * flat_place.c: where a store is: bucket and prefix, endpoint, HTTP client; the names of objects. */
#include "backends/flat.h"

#include "base/cleanup.h"
#include "base/name.h"
#include "base/url.h"

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

int flat_client(const struct conf_section *c, struct err *err, struct http_client **ret)
{
    uint64_t idle_s = conf_ms(c, "timeout", 30000) / 1000;
    uint64_t connect_ms = conf_ms(c, "connect_timeout", 5000);
    struct http_options o = {
        .max_connections = (unsigned)conf_int(c, "max_connections", 32),
        .connect_ms = connect_ms < INT32_MAX ? (unsigned)connect_ms : INT32_MAX,
        .low_speed_s = idle_s < 1       ? 1
                       : idle_s < 86400 ? (unsigned)idle_s
                                        : 86400,
        .verify_tls = conf_bool(c, "verify_tls", true),
        .ca_file = conf_str(c, "ca_file", NULL),
    };
    int r = http_client_new(&o, err, ret);
    return r < 0 ? conf_error(c, "ca_file", err, -r, "ca_file '%s' cannot be read: %s", o.ca_file,
                              strerror(-r))
                 : 0;
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
