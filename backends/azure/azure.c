/* SPDX-License-Identifier: MIT
 * azure.c: the Azure Blob Storage class: its options, how a section becomes a store, probe and sign. */
#include "backends/azure/azure.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/url.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SUFFIX "blob.core.windows.net"
#define EXPIRES_MAX 604800u

static const struct conf_option options[] = {
    {"container", CONF_STRING, .help = "container name; else the first part of base_path"},
    {"container_name", CONF_STRING, .alias = "container"},
    {"bucket", CONF_STRING, .alias = "container"},
    {"base_path", CONF_STRING, "", .help = "only blobs below this prefix"},
    {"prefix", CONF_STRING, .alias = "base_path"},
    {"account", CONF_STRING, .help = "storage account; else AZURE_STORAGE_ACCOUNT"},
    {"account_name", CONF_STRING, .alias = "account"},
    {"endpoint_url", CONF_STRING,
     .help = "http(s)://HOST[:PORT][/ACCOUNT]; default https://ACCOUNT." SUFFIX},
    {"endpoint", CONF_STRING, .alias = "endpoint_url"},
    {"account_key", CONF_SECRET, .help = "key of the account; better account_key_file"},
    {"access_key", CONF_SECRET, .alias = "account_key"},
    {"sas_token", CONF_SECRET, .help = "shared access signature instead of a key"},
    {"connection_string", CONF_SECRET, .help = "AccountName=...;AccountKey=... in one"},
    {"anonymous", CONF_BOOL, "no", .help = "send no credentials (public containers)"},
    {"skip_signature", CONF_BOOL, .alias = "anonymous"},
    {"multipart_threshold", CONF_SIZE, "64MiB", .help = "larger blobs go up in blocks"},
    {"multipart_chunksize", CONF_SIZE, "16MiB", .help = "size of a block (64 KiB to 4000 MiB)"},
    {"max_concurrency", CONF_INT, "10", .min = 1, .max = 256,
     .help = "blocks or ranges of one blob at once"},
    {"max_connections", CONF_INT, "32", .min = 1, .max = 1024, .help = "connections of this store"},
    {"posix", CONF_BOOL, "yes", .help = "keep mode, owner, times, xattrs in blob metadata"},
    {"verify_tls", CONF_BOOL, "yes", .help = "verify the server's certificate"},
    {"ca_file", CONF_PATH, .help = "certificates to trust instead of the system's"},
    {"connect_timeout", CONF_DURATION, "5s", .help = "connecting takes at most this"},
    {"access_tier", CONF_STRING, .help = "tier of new blobs: Hot, Cool, Cold"},
};

static bool is_container_name(const char *s)
{
    size_t n = strlen(s);
    for (const char *p = s; *p; p++)
        if (!islower((unsigned char)*p) && !isdigit((unsigned char)*p) && *p != '-' && *p != '$')
            return false;
    return n >= 3 && n <= 63; /* also $root, $web */
}

static bool is_account_name(const char *s)
{
    size_t n = strlen(s);
    return n >= 3 && n <= 24 && strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789") == n;
}

/* ---- where and who ---- */

/* endpoint_url, else the connection string's, else the account's own. */
static int take_endpoint(const struct conf_section *c, struct err *err, struct azure_store *s)
{
    int r = flat_endpoint(c, err, &s->endpoint);
    struct url u;
    if (r < 0 || s->endpoint.host)
        return r;
    if (s->creds.endpoint) {
        if (!url_parse(s->creds.endpoint, &u))
            return conf_error(c, "connection_string", err, EINVAL, "its BlobEndpoint is not a URL");
        free(s->endpoint.scheme);
        s->endpoint.scheme = xstrdup(u.scheme);
        s->endpoint.host = u.port ? xasprintf("%s:%d", u.host, u.port) : xstrdup(u.host);
        free(s->endpoint.root);
        s->endpoint.root = xstrdup(u.path);
        for (size_t n = strlen(s->endpoint.root); n > 0 && s->endpoint.root[n - 1] == '/';)
            s->endpoint.root[--n] = '\0';
        url_done(&u);
        return 0;
    }
    if (!s->creds.account)
        return conf_error(c, NULL, err, EINVAL, "Azure needs 'account' or 'endpoint_url'");
    if (!is_account_name(s->creds.account))
        return conf_error(c, "account", err, EINVAL, "'%.60s' is not a storage account's name",
                          s->creds.account);
    s->endpoint.host = xasprintf("%s." SUFFIX, s->creds.account);
    return 0;
}

/* A SAS is in the URL: whoever sees it may use it. A key is not sent, but what is signed can be read. */
static int check_wire(const struct conf_section *c, const struct azure_store *s, struct err *err)
{
    bool open_wire = strcmp(s->endpoint.scheme, "https") != 0 && !http_host_is_loopback(s->endpoint.host);
    return open_wire && s->creds.sas
               ? conf_error(c, "endpoint_url", err, EINVAL,
                            "a SAS token is not sent over http to another machine: use https")
               : 0;
}

static int take_place(const struct conf_section *c, struct err *err, struct azure_store *s)
{
    static const struct flat_scheme scheme = {"az", "Azure", "container", is_container_name};
    struct flat_place p = {0};
    int r = flat_place(c, &scheme, AZURE_KEY_MAX, err, &p, &s->base.base_uri);
    s->container = p.bucket;
    s->prefix = p.prefix;
    if (r == 0)
        r = azure_creds_load(c, flat_environment, err, &s->creds);
    if (r == 0)
        r = take_endpoint(c, err, s);
    if (r == 0)
        r = check_wire(c, s, err);
    return r;
}

static int take_limits(const struct conf_section *c, struct err *err, struct azure_store *s)
{
    const char *tier = conf_str(c, "access_tier", NULL);
    s->base.limits = (struct store_limits){
        .put_max = AZURE_PUT_MAX,
        .part_min = AZURE_PART_MIN,
        .part_max = AZURE_PART_MAX,
        .parts_max = AZURE_PARTS_MAX,
        .key_max = AZURE_KEY_MAX - strlen(s->prefix),
    };
    int r = flat_part_limits(c, err, &s->base.limits);
    s->base.caps = CAP_WRITE | CAP_IF_MATCH | CAP_AGE | CAP_COPY | CAP_UPLOAD | CAP_SIGN | CAP_UNNAMED |
                   CAP_READ_META;
    s->posix = conf_bool(c, "posix", true);
    if (s->posix)
        s->base.caps |= CAP_SET_META | CAP_SYMLINK | CAP_LIST_META;
    s->tier = tier && *tier ? xstrdup(tier) : NULL;
    return r;
}

static void azure_close(struct store *store)
{
    struct azure_store *s = azure_of(store);
    http_client_free(s->http);
    azure_creds_done(&s->creds);
    flat_endpoint_done(&s->endpoint);
    strmap_done(&s->sync.aborted);
    lock_done(&s->sync.lock);
    free(s->view.uri);
    free(s->container);
    free(s->prefix);
    free(s->tier);
    free(s);
}

static int azure_open(const struct conf_section *c, struct stats *stats, struct err *err,
                      struct store **ret)
{
    struct azure_store *s = xcalloc(1, sizeof(*s));
    (void)stats;
    s->base.cls = &azure_class;
    lock_init(&s->sync.lock, LOCK_RANK_STORE, "azure");
    int r = take_place(c, err, s);
    if (r == 0)
        r = take_limits(c, err, s);
    if (r == 0)
        r = http_client_of(c, FLAT_CONNECTIONS, err, &s->http);
    if (r < 0) {
        free(s->base.base_uri);
        azure_close(&s->base);
        return r;
    }
    azure_view_set(s);
    *ret = &s->base;
    return 0;
}

/* ---- probe, sign ---- */

static int azure_probe(struct store *store, struct op *op, struct buf *ret_text)
{
    struct azure_store *s = azure_of(store);
    struct flat_result l = {0};
    uint64_t begun = clock_now_ns();
    int r = azure_list_raw(s, op, "probe", s->prefix, NULL, 1, &l);
    if (r < 0)
        return r;
    flat_result_done(&l);
    buf_addf(ret_text, "%s://%s, container %s, credentials from %s, %llu ms; conditional writes: honoured",
             s->endpoint.scheme, s->endpoint.host, s->container, s->creds.from,
             (unsigned long long)((clock_now_ns() - begun) / NS_PER_MS));
    return 0;
}

static int azure_sign(struct store *store, struct op *op, const struct sign_req *req, struct buf *ret_url)
{
    struct azure_store *s = azure_of(store);
    CLEANUP_FREE char *object = flat_object(s->prefix, req->key);
    bool open_to_all = !s->creds.key && !s->creds.sas && !req->write;
    if (req->expires_s < 1 || req->expires_s > EXPIRES_MAX)
        return err_set(&op->err, EINVAL, "a signed URL of Azure lasts 1 second to 7 days");
    if (!s->creds.key && !open_to_all)
        return err_set(&op->err, EACCES, "only an account key can sign; the credentials come from %s",
                       s->creds.from);
    struct sign_azure_sas q = {.account = s->creds.account,
                               .container = s->container,
                               .blob = object,
                               .write = req->write,
                               .https = strcmp(s->endpoint.scheme, "https") == 0,
                               .expires = clock_wall().tv_sec + req->expires_s};
    buf_addf(ret_url, "%s://%s", s->endpoint.scheme, s->endpoint.host);
    azure_path(s, object, ret_url);
    if (!open_to_all) {
        buf_addc(ret_url, '?');
        sign_azure_sas(&q, s->creds.key, s->creds.key_len, ret_url);
    }
    return 0;
}

const struct store_class azure_class = {
    .abi = STORE_ABI,
    .name = "azure",
    .summary = "Azure Blob Storage",
    .options = options,
    .n_options = ARRAY_LEN(options),
    .open = azure_open,
    .close = azure_close,
    .stat = azure_stat,
    .list = azure_list,
    .read = azure_read,
    .probe = azure_probe,
    .put = azure_put,
    .upload_begin = azure_upload_begin,
    .upload_part = azure_upload_part,
    .upload_finish = azure_upload_finish,
    .upload_abort = azure_upload_abort,
    .remove = azure_remove,
    .copy = azure_copy,
    .same_service = azure_same_service,
    .place = azure_place,
    .copy_from = azure_copy_from,
    .set_meta = azure_set_meta,
    .check_meta = azure_check_meta,
    .make_dir = azure_make_dir,
    .remove_dir = azure_remove_dir,
    .sign = azure_sign,
};
