/* SPDX-License-Identifier: MIT
 * registry.c: the table of classes; from a section to an opened store with its wrappers.
 *
 * Which class, the first that is given:
 *   backend = obstore     the class of `scheme`, else of the uri's scheme
 *   backend = fsspec      the class of `protocol` (required)
 *   backend = NAME        a class, an alias of one, or a [scheme NAME]
 *   uri = NAME://...      the same; a uri without "://" is a local path
 * [scheme NAME] holds `backend` and options that are defaults of the stores whose uri (or backend)
 * has that name; a store's own options win. Its name may be that of a class: [scheme s3]. */
#include "backends/registry.h"

#include "backends/api/api.h"
#include "backends/azure/azure.h"
#include "backends/blob/blob.h"
#include "backends/gcs/gcs.h"
#include "backends/local/local.h"
#include "backends/memory/memory.h"
#include "backends/s3/s3.h"
#include "backends/sftp/sftp.h"
#include "backends/versions.h"
#include "backends/web/web.h"

#include "base/cleanup.h"
#include "base/settings.h"

#include <strings.h>

#define PROBE_FIRST_MS 1000
#define PROBE_MAX_MS 30000
#define PROBE_MS 5000

static const struct store_class *const classes[] = {&local_class, &memory_class, &s3_class,
                                                   &gcs_class,   &azure_class,  &web_class,
                                                   &api_class,
                                                   &blob_sqlite_class, &blob_postgres_class, &blob_mysql_class,
                                                   &sftp_class, NULL};

static const struct {
    const char *name, *cls;
} aliases[] = {
    {"file", "local"},
    {"s3a", "s3"},
    {"s3n", "s3"},
    {"mem", "memory"},
    {"postgresql", "postgres"},
    {"mariadb", "mysql"},
    {"gs", "gcs"},
    {"az", "azure"},
    {"abfs", "azure"},
    {"abfss", "azure"},
    {"https", "http"},
    {"ssh", "sftp"},
};

const struct conf_option registry_common_options[] = {
    {.name = "backend",
     .type = CONF_STRING,
     .help = "Class of the store: local, memory, s3, gcs, azure, http, api, sqlite, postgres, mysql, sftp (or obstore, fsspec); default by uri"},
    {.name = "backend_type", .type = CONF_STRING, .alias = "backend", .help = "Same as backend"},
    {.name = "type", .type = CONF_STRING, .alias = "backend", .help = "Same as backend"},
    {.name = "uri", .type = CONF_STRING, .help = "Where it is: s3://BUCKET/PREFIX, file:///DIR, https://HOST/DIR/, sftp://USER@HOST/DIR"},
    {.name = "scheme", .type = CONF_STRING, .help = "With backend = obstore: s3, gs, az, file, memory"},
    {.name = "protocol", .type = CONF_STRING, .help = "With backend = fsspec: s3, gs, az, sftp, http, file, memory"},
    {.name = "read_only", .type = CONF_BOOL, .def = "no", .help = "Refuse every change"},
    {.name = "readonly", .type = CONF_BOOL, .alias = "read_only", .help = "Same as read_only"},
    {.name = "timeout",
     .type = CONF_DURATION,
     .def = "30s",
     .help = "A request without progress for this long has failed"},
    {.name = "retries",
     .type = CONF_INT,
     .def = "3",
     .min = 0,
     .max = 100,
     .help = "How often a failed request is repeated"},
    {.name = "max_retries",
     .type = CONF_INT,
     .alias = "retries",
     .min = 0,
     .max = 100,
     .help = "Same as retries"},
    {.name = "retry_delay",
     .type = CONF_DURATION,
     .def = "1s",
     .help = "Wait before the first repetition; doubled each time, at random below that"},
    {.name = "max_retry_delay", .type = CONF_DURATION, .def = "20s", .help = "Longest such wait"},
    {.name = "versions",
     .type = CONF_BOOL,
     .def = "yes",
     .help = "NAME@versions/ shows the older versions of NAME, where the store keeps them"},
    {.name = "rate_limit",
     .type = CONF_STRING,
     .help = "Requests to the store at most: 50 (a second), 600/m, 1000/h"},
    {.name = "bandwidth",
     .type = CONF_SIZE,
     .help = "Bytes a second at most, in each direction; 0 = no limit"},
    {.name = "read_bandwidth", .type = CONF_SIZE, .help = "The same for reading only"},
    {.name = "write_bandwidth", .type = CONF_SIZE, .help = "The same for writing only"},
    {.name = "fault",
     .type = CONF_STRING,
     .help = "Tests: failures to inject, see backends/fault.c"},
};
const size_t registry_n_common_options = ARRAY_LEN(registry_common_options);

const struct store_class *const *registry_classes(void)
{
    return classes;
}

const struct store_class *registry_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(aliases); i++)
        if (strcasecmp(aliases[i].name, name) == 0)
            name = aliases[i].cls;
    for (size_t i = 0; classes[i]; i++)
        if (strcasecmp(classes[i]->name, name) == 0)
            return classes[i];
    return NULL;
}

/* ---- which class ---- */

static const char *raw_one(const struct conf_section *s, const char *name)
{
    return conf_raw(s, &name, 1);
}

/* How the section spells what chooses its class, for the line of an error; NULL: it does not. */
static const char *place_of(const struct conf_section *s)
{
    static const char *const places[] = {"backend", "backend_type", "type", "uri"};
    for (size_t i = 0; i < ARRAY_LEN(places); i++)
        if (raw_one(s, places[i]))
            return places[i];
    return NULL;
}

/* The name under which to look for the class and for [scheme NAME]: malloc'd in *ret. */
static int class_name(const struct conf_section *s, struct err *err, char **ret)
{
    const char *backend = conf_raw_backend(s), *other = NULL;
    CLEANUP_FREE char *scheme = conf_raw_scheme(s);
    if (backend && strcasecmp(backend, "fsspec") == 0) {
        other = raw_one(s, "protocol");
        if (!other)
            return conf_error(s, place_of(s), err, EINVAL, "backend_type = %s needs 'protocol'",
                              backend);
    } else if (backend && strcasecmp(backend, "obstore") == 0) {
        other = raw_one(s, "scheme");
        if (!other && !scheme)
            return conf_error(s, place_of(s), err, EINVAL,
                              "backend_type = %s needs 'scheme' or 'uri'", backend);
    } else {
        other = backend;
    }
    if (!other && !scheme)
        return conf_error(s, NULL, err, EINVAL, "Configuration must specify 'backend_type'");
    *ret = other ? xstrdup(other) : take_ptr(&scheme);
    return 0;
}

static const char *nearest_class(const char *name)
{
    const char *names[ARRAY_LEN(classes) + ARRAY_LEN(aliases) + 2];
    size_t n = 0;
    for (size_t i = 0; classes[i]; i++)
        names[n++] = classes[i]->name;
    for (size_t i = 0; i < ARRAY_LEN(aliases); i++)
        names[n++] = aliases[i].name;
    names[n++] = "obstore";
    names[n++] = "fsspec";
    return nearest_name(name, names, n);
}

static int unknown_class(const struct conf_section *s, const char *name, struct err *err)
{
    const char *near = nearest_class(name);
    return conf_error(s, place_of(s), err, EINVAL, "Unknown backend type: %s%s%s%s", name,
                      near ? ": did you mean '" : "", near ? near : "", near ? "'?" : "");
}

/* The class of a [scheme NAME]. */
static int scheme_class(const struct conf_section *scheme, struct err *err,
                        const struct store_class **ret)
{
    const char *backend = conf_raw_backend(scheme);
    if (!backend)
        backend = scheme->name;
    *ret = registry_find(backend);
    return *ret ? 0 : unknown_class(scheme, backend, err);
}

static const struct conf_section *find_scheme(const struct conf *conf, const char *name)
{
    return conf && name ? conf_find(conf, "scheme", name) : NULL;
}

/* ---- options ---- */

static int check_options(struct conf_section *s, const struct store_class *cls, struct err *err)
{
    const struct conf_option *const tables[] = {cls->options, registry_common_options,
                                               settings_store_options};
    const size_t counts[] = {cls->n_options, registry_n_common_options, settings_n_store_options};
    return conf_check(s, tables, counts, ARRAY_LEN(tables), err);
}

/* Is option `name` of a scheme (perhaps NAME_file of a secret) already set by the store? */
static bool is_set(const struct conf_section *s, const char *name)
{
    size_t n = strlen(name);
    size_t stem = n > 5 && strcmp(name + n - 5, "_file") == 0 ? n - 5 : n;
    for (size_t i = 0; i < s->n_pairs; i++) {
        const char *p = s->pairs[i].name;
        if (strcmp(p, name) == 0 ||
            (strncmp(p, name, stem) == 0 && (p[stem] == '\0' || strcmp(p + stem, "_file") == 0)))
            return true;
    }
    return false;
}

/* Adds what the store leaves open. Both are checked: names are canonical, values normal. */
static void add_defaults(struct conf_section *s, const struct conf_section *scheme)
{
    size_t own = s->n_pairs;
    for (size_t i = 0; i < scheme->n_pairs; i++) {
        const struct conf_pair *from = &scheme->pairs[i];
        if (strcmp(from->name, "backend") == 0 || is_set(s, from->name))
            continue;
        conf_set(s, from->name, from->value);
        struct conf_pair *to = &s->pairs[own++];
        to->line = from->line;
        to->file = from->file;
        to->level = CONF_LEVEL_FILE;
        to->used = true;
    }
}

/* minio://b/p -> s3://b/p: a class knows its own scheme only. (https is no other spelling of http.) */
static void rewrite_uri(struct conf_section *s, const struct store_class *cls)
{
    const char *scheme = cls == &local_class ? "file" : cls->name;
    CLEANUP_FREE char *given = conf_raw_scheme(s);
    if (given && strcasecmp(given, "https") == 0)
        return;
    for (size_t i = 0; i < s->n_pairs; i++) {
        struct conf_pair *p = &s->pairs[i];
        const char *rest = strcmp(p->name, "uri") == 0 ? strstr(p->value, "://") : NULL;
        if (!rest)
            continue;
        char *uri = xasprintf("%s%s", scheme, rest);
        free(p->value);
        p->value = uri;
    }
}

static int check_all_schemes(const struct conf *conf, struct err *err)
{
    if (!conf)
        return 0;
    CONF_EACH(conf, s)
    {
        const struct store_class *cls;
        int r = 0;
        if (strcmp(s->kind, "scheme") != 0)
            continue;
        r = scheme_class(s, err, &cls);
        if (r == 0)
            r = check_options(s, cls, err);
        if (r < 0)
            return r;
    }
    return 0;
}

static int find_class(const struct conf *conf, const struct conf_section *s, const char *name,
                      struct err *err, const struct store_class **ret)
{
    const struct conf_section *scheme = find_scheme(conf, name);
    *ret = registry_find(name);
    if (*ret)
        return 0;
    return scheme ? scheme_class(scheme, err, ret) : unknown_class(s, name, err);
}

/* backend = local with uri = s3://... would mean two places. */
static int check_uri(const struct conf *conf, const struct conf_section *s, const char *uri_name,
                     const struct store_class *cls, struct err *err)
{
    const struct store_class *of_uri;
    int r = find_class(conf, s, uri_name, err, &of_uri);
    if (r == 0 && of_uri != cls)
        r = conf_error(s, "uri", err, EINVAL, "uri = %s://... is of backend '%s', not '%s'",
                       uri_name, of_uri->name, cls->name);
    return r;
}

int registry_check(const struct conf *conf, struct conf_section *section, struct err *err,
                   const struct store_class **ret)
{
    const struct store_class *cls = NULL;
    CLEANUP_FREE char *name = NULL, *uri_name = conf_raw_scheme(section);
    int r = check_all_schemes(conf, err);
    if (r == 0)
        r = class_name(section, err, &name);
    if (r == 0)
        r = find_class(conf, section, name, err, &cls);
    if (r == 0 && uri_name)
        r = check_uri(conf, section, uri_name, cls, err);
    if (r == 0)
        r = check_options(section, cls, err);
    if (r < 0)
        return r;
    const struct conf_section *scheme = find_scheme(conf, uri_name);
    if (!scheme)
        scheme = find_scheme(conf, name);
    if (scheme)
        add_defaults(section, scheme);
    rewrite_uri(section, cls);
    *ret = cls;
    return 0;
}

/* ---- opening ---- */

static bool is_complete(const struct store_class *cls)
{
    return cls->abi == STORE_ABI && cls->name && cls->open && cls->close && cls->stat &&
           cls->list && cls->read;
}

/* "50", "50/s", "600/m", "1000/h" */
static bool parse_rate(const char *text, double *ret)
{
    char *end;
    double n = strtod(text, &end), per = 1;
    if (end == text || !(n > 0) || n > 1e9)
        return false;
    if (strcmp(end, "/m") == 0)
        per = 60;
    else if (strcmp(end, "/h") == 0)
        per = 3600;
    else if (*end && strcmp(end, "/s") != 0)
        return false;
    *ret = n / per;
    return true;
}

static int take_limits(const struct conf_section *s, struct err *err, struct limit_options *ret)
{
    const char *rate = conf_str(s, "rate_limit", "");
    uint64_t both = conf_size(s, "bandwidth", 0);
    *ret = (struct limit_options){.read_per_s = conf_size(s, "read_bandwidth", both),
                                  .written_per_s = conf_size(s, "write_bandwidth", both)};
    if (*rate && !parse_rate(rate, &ret->requests_per_s))
        return conf_error(s, "rate_limit", err, EINVAL,
                          "'rate_limit = %s': not a number of requests such as 50, 600/m or 1000/h", rate);
    return 0;
}

/* Puts the wrappers around an opened class. Takes `s`. */
static int wrap(const struct conf_section *section, const struct limit_options *limits,
                struct stats *stats, struct err *err, struct store *s, struct store **ret)
{
    const char *fault = conf_str(section, "fault", "");
    struct retry_options o = {
        .retries = (unsigned)conf_int(section, "retries", 3),
        .delay_ms = conf_ms(section, "retry_delay", 1000),
        .max_delay_ms = conf_ms(section, "max_retry_delay", 20000),
        .timeout_ms = conf_ms(section, "timeout", 30000),
    };
    if (fault[0]) {
        struct err e = ERR_INIT;
        int r = store_wrap_fault(s, fault, &e, &s);
        if (r < 0)
            return conf_error(section, "fault", err, -r, "%s", e.text);
    }
    if (limits->requests_per_s > 0 || limits->read_per_s || limits->written_per_s)
        s = store_wrap_limit(s, limits, stats);
    s = store_wrap_retry(s, &o);
    if (!(s->caps & (CAP_LOCAL_FD | CAP_PRIVATE))) {
        struct breaker_options b = {.first_ms = PROBE_FIRST_MS, .max_ms = PROBE_MAX_MS};
        b.probe_ms = o.timeout_ms && o.timeout_ms < PROBE_MS ? (unsigned)o.timeout_ms : PROBE_MS;
        s = store_wrap_breaker(s, &b, stats);
    }
    if (conf_bool(section, "read_only", false))
        s = store_wrap_readonly(s);
    if (stats)
        s = store_wrap_metrics(s, stats);
    if ((s->caps & CAP_VERSIONS) && conf_bool(section, "versions", true))
        s = store_wrap_versions(s);
    *ret = s;
    return 0;
}

int registry_open(const struct conf *conf, struct conf_section *section, struct stats *stats,
                  struct err *err, struct store **ret)
{
    const struct store_class *cls;
    struct store *s = NULL;
    struct limit_options limits;
    int r = registry_check(conf, section, err, &cls);
    if (r == 0)
        r = take_limits(section, err, &limits);
    if (r < 0)
        return r;
    if (!is_complete(cls))
        return conf_error(section, "backend", err, EINVAL,
                          "Backend instance must implement StorageBackendProtocol.");
    r = cls->open(section, stats, err, &s);
    if (r < 0)
        return r;
    free(s->key);
    s->key = xstrdup(section->name);
    return wrap(section, &limits, stats, err, s, ret);
}
