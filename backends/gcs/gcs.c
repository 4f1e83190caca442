/* SPDX-License-Identifier: MIT
 * gcs.c: the Google Cloud Storage class: its options, how a section becomes a store, probe and sign. */
#include "backends/gcs/gcs.h"

#include "backends/sign_gcs.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/url.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HOST "storage.googleapis.com"

static const struct conf_option options[] = {
    {"bucket", CONF_STRING, .help = "bucket name; else the first part of base_path"},
    {"bucket_name", CONF_STRING, .alias = "bucket"},
    {"base_path", CONF_STRING, "", .help = "only objects below this prefix"},
    {"prefix", CONF_STRING, .alias = "base_path"},
    {"endpoint_url", CONF_STRING, .help = "http(s)://HOST[:PORT] of another server with this API"},
    {"endpoint", CONF_STRING, .alias = "endpoint_url"},
    {"credentials_file", CONF_PATH, .help = "key file in JSON: of a service account, or gcloud's of a user"},
    {"service_account", CONF_PATH, .alias = "credentials_file"},
    {"service_account_path", CONF_PATH, .alias = "credentials_file"},
    {"application_credentials", CONF_PATH, .alias = "credentials_file"},
    {"service_account_key", CONF_SECRET, .help = "the content of such a file"},
    {"token", CONF_SECRET, .help = "an access token, used as it is and never renewed"},
    {"anonymous", CONF_BOOL, "no", .help = "send no credentials (public buckets)"},
    {"skip_signature", CONF_BOOL, .alias = "anonymous"},
    {"user_project", CONF_STRING, .help = "project that pays (requester pays)"},
    {"multipart_threshold", CONF_SIZE, "64MiB", .help = "larger objects go up in parts"},
    {"multipart_chunksize", CONF_SIZE, "16MiB", .help = "size of a part (256 KiB to 5 GiB)"},
    {"max_concurrency", CONF_INT, "10", .min = 1, .max = 256,
     .help = "parts or ranges of one object at once"},
    {"max_connections", CONF_INT, "32", .min = 1, .max = 1024, .help = "connections of this store"},
    {"posix", CONF_BOOL, "yes", .help = "keep mode, owner, times, xattrs in object metadata"},
    {"verify_tls", CONF_BOOL, "yes", .help = "verify the server's certificate"},
    {"ca_file", CONF_PATH, .help = "certificates to trust instead of the system's"},
    {"connect_timeout", CONF_DURATION, "5s", .help = "connecting takes at most this"},
    {"storage_class", CONF_STRING, .help = "storage class of new objects: NEARLINE, COLDLINE, ..."},
};

static bool is_bucket_name(const char *s)
{
    return flat_is_bucket_name(s, 222);
}

static int take_place(const struct conf_section *c, struct err *err, struct gcs_store *s)
{
    static const struct flat_scheme scheme = {"gs", "Cloud Storage", "bucket", is_bucket_name};
    struct flat_place p = {0};
    int r = flat_place(c, &scheme, GCS_KEY_MAX, err, &p, &s->base.base_uri);
    s->bucket = p.bucket;
    s->prefix = p.prefix;
    if (r == 0)
        r = flat_endpoint(c, err, &s->endpoint);
    if (r == 0 && !s->endpoint.host)
        s->endpoint.host = xstrdup(HOST);
    return r;
}

static char *given(const struct conf_section *c, const char *name)
{
    const char *v = conf_str(c, name, NULL);
    return v && *v ? xstrdup(v) : NULL;
}

static int take_limits(const struct conf_section *c, struct err *err, struct gcs_store *s)
{
    s->base.limits = (struct store_limits){
        .put_max = GCS_OBJECT_MAX,
        .part_min = GCS_PART_MIN,
        .part_max = 5ULL << 30,
        .parts_max = GCS_PARTS_MAX,
        .key_max = GCS_KEY_MAX - strlen(s->prefix),
    };
    int r = flat_part_limits(c, err, &s->base.limits);
    s->base.caps = CAP_WRITE | CAP_IF_MATCH | CAP_COPY | CAP_UPLOAD | CAP_SIGN | CAP_UNNAMED | CAP_LIST_AFTER |
                   CAP_VERSIONS;
    s->posix = conf_bool(c, "posix", true);
    if (s->posix)
        s->base.caps |= CAP_SET_META | CAP_SYMLINK | CAP_LIST_META;
    s->storage_class = given(c, "storage_class");
    s->user_project = given(c, "user_project");
    return r;
}

/* Tokens are bearer tokens: whoever sees one may use it. */
static int check_wire(const struct conf_section *c, const struct gcs_store *s, enum gcs_kind kind,
                      struct err *err)
{
    bool open_wire = strcmp(s->endpoint.scheme, "https") != 0 && !http_host_is_loopback(s->endpoint.host);
    return open_wire && kind != GCS_ANONYMOUS
               ? conf_error(c, "endpoint_url", err, EINVAL,
                            "access tokens are not sent over http to another machine: use https, or "
                            "anonymous = yes")
               : 0;
}

static int take_identity(const struct conf_section *c, struct err *err, struct gcs_store *s)
{
    struct gcs_creds creds = {0};
    int r = gcs_creds_load(c, flat_environment, err, &creds);
    if (r == 0)
        r = check_wire(c, s, creds.kind, err);
    if (r == 0)
        r = http_client_of(c, FLAT_CONNECTIONS, err, &s->http);
    if (r == 0)
        r = http_client_of(c, FLAT_CONNECTIONS, err, &s->token_http);
    if (r == 0)
        s->tokens = gcs_tokens_new(&creds, s->token_http);
    gcs_creds_done(&creds);
    return r;
}

static void gcs_close(struct store *store)
{
    struct gcs_store *s = gcs_of(store);
    http_client_free(s->http);
    http_client_free(s->token_http);
    gcs_tokens_free(s->tokens);
    flat_endpoint_done(&s->endpoint);
    free(s->view.uri);
    free(s->bucket);
    free(s->prefix);
    free(s->storage_class);
    free(s->user_project);
    free(s);
}

static int gcs_open(const struct conf_section *c, struct stats *stats, struct err *err, struct store **ret)
{
    struct gcs_store *s = xcalloc(1, sizeof(*s));
    (void)stats;
    s->base.cls = &gcs_class;
    int r = take_place(c, err, s);
    if (r == 0)
        r = take_limits(c, err, s);
    if (r == 0)
        r = take_identity(c, err, s);
    if (r < 0) {
        free(s->base.base_uri);
        gcs_close(&s->base);
        return r;
    }
    gcs_view_set(s);
    *ret = &s->base;
    return 0;
}

static int gcs_probe(struct store *store, struct op *op, struct buf *ret_text)
{
    struct gcs_store *s = gcs_of(store);
    struct flat_result l = {0};
    uint64_t begun = clock_now_ns();
    int r = gcs_list_raw(s, op, "probe", s->prefix, NULL, 1, &l);
    if (r < 0)
        return r;
    flat_result_done(&l);
    buf_addf(ret_text, "%s://%s, bucket %s, credentials from %s, %llu ms; conditional writes: honoured",
             s->endpoint.scheme, s->endpoint.host, s->bucket, gcs_tokens_creds(s->tokens)->from,
             (unsigned long long)((clock_now_ns() - begun) / NS_PER_MS));
    return 0;
}

static int gcs_sign(struct store *store, struct op *op, const struct sign_req *req, struct buf *ret_url)
{
    struct gcs_store *s = gcs_of(store);
    const struct gcs_creds *c = gcs_tokens_creds(s->tokens);
    CLEANUP_FREE char *object = flat_object(s->prefix, req->key);
    CLEANUP_BUF struct buf path = BUF_INIT, query = BUF_INIT;
    if (req->expires_s < 1 || req->expires_s > SIGN_GCS_EXPIRES_MAX)
        return err_set(&op->err, EINVAL, "a signed URL of Cloud Storage lasts 1 second to 7 days");
    if (c->kind != GCS_SERVICE_ACCOUNT && !(c->kind == GCS_ANONYMOUS && !req->write))
        return err_set(&op->err, EACCES,
                       "only the key of a service account can sign; the credentials come from %s", c->from);
    buf_addf(&path, "%s/", s->endpoint.root);
    url_encode(&path, s->bucket, strlen(s->bucket), false);
    buf_addc(&path, '/');
    url_encode(&path, object, strlen(object), true);
    struct sign_gcs_req q = {.method = req->write ? "PUT" : "GET",
                             .host = s->endpoint.host,
                             .path = path.data,
                             .email = c->email,
                             .private_key = c->private_key,
                             .now = clock_wall().tv_sec,
                             .expires_s = req->expires_s};
    int r = c->kind == GCS_ANONYMOUS ? 0 : sign_gcs_presign(&q, &op->err, &query);
    if (r == 0)
        buf_addf(ret_url, "%s://%s%s%s%s", s->endpoint.scheme, s->endpoint.host, path.data,
                 query.len ? "?" : "", buf_str(&query));
    return r;
}

const struct store_class gcs_class = {
    .abi = STORE_ABI,
    .name = "gcs",
    .summary = "Google Cloud Storage (JSON API)",
    .options = options,
    .n_options = ARRAY_LEN(options),
    .open = gcs_open,
    .close = gcs_close,
    .stat = gcs_stat,
    .list = gcs_list,
    .read = gcs_read,
    .probe = gcs_probe,
    .put = gcs_put,
    .upload_begin = gcs_upload_begin,
    .upload_part = gcs_upload_part,
    .upload_finish = gcs_upload_finish,
    .upload_abort = gcs_upload_abort,
    .remove = gcs_remove,
    .copy = gcs_copy,
    .same_service = gcs_same_service,
    .place = gcs_place,
    .copy_from = gcs_copy_from,
    .set_meta = gcs_set_meta,
    .check_meta = gcs_check_meta,
    .make_dir = gcs_make_dir,
    .remove_dir = gcs_remove_dir,
    .sign = gcs_sign,
    .list_versions = gcs_list_versions,
    .stat_version = gcs_stat_version,
};
