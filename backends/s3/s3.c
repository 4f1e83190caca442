/* SPDX-License-Identifier: MIT
 * s3.c: the S3 class: its options, how a section becomes a store, probe and sign. */
#include "backends/s3/s3.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/url.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct conf_option options[] = {
    {"bucket", CONF_STRING, .help = "bucket name; else the first part of base_path"},
    {"bucket_name", CONF_STRING, .alias = "bucket"},
    {"base_path", CONF_STRING, "", .help = "only objects below this prefix"},
    {"prefix", CONF_STRING, .alias = "base_path"},
    {"endpoint_url", CONF_STRING, .help = "http(s)://HOST[:PORT] of another S3; default AWS"},
    {"endpoint", CONF_STRING, .alias = "endpoint_url"},
    {"region", CONF_STRING, "us-east-1", .help = "region; else the profile's, AWS_REGION"},
    {"region_name", CONF_STRING, .alias = "region"},
    {"access_key_id", CONF_SECRET, .help = "access key"},
    {"aws_access_key_id", CONF_SECRET, .alias = "access_key_id"},
    {"key", CONF_SECRET, .alias = "access_key_id"},
    {"secret_access_key", CONF_SECRET, .help = "its secret; better secret_access_key_file"},
    {"aws_secret_access_key", CONF_SECRET, .alias = "secret_access_key"},
    {"secret", CONF_SECRET, .alias = "secret_access_key"},
    {"session_token", CONF_SECRET, .help = "of temporary credentials"},
    {"aws_session_token", CONF_SECRET, .alias = "session_token"},
    {"profile", CONF_STRING, .help = "profile in ~/.aws/credentials and ~/.aws/config"},
    {"profile_name", CONF_STRING, .alias = "profile"},
    {"role_arn", CONF_STRING, .help = "role to assume (STS) with the keys that were found"},
    {"external_id", CONF_STRING, .help = "that the role's owner asks for"},
    {"role_session_name", CONF_STRING, "quayfs", .help = "name of the session in the owner's logs"},
    {"web_identity_token_file", CONF_PATH, .help = "with role_arn: a token instead of keys (Kubernetes)"},
    {"sts_endpoint_url", CONF_STRING, .help = "https://HOST of STS; default AWS's of the region"},
    {"imds", CONF_ENUM, "auto", "auto|yes|no",
     .help = "keys of the EC2 instance's role, when there are no others; auto: on EC2"},
    {"anonymous", CONF_BOOL, "no", .help = "send unsigned requests (public buckets)"},
    {"addressing", CONF_ENUM, "auto", "auto|path|virtual",
     .help = "https://HOST/BUCKET or https://BUCKET.HOST"},
    {"payload_signing", CONF_ENUM, "auto", "auto|signed|unsigned",
     .help = "auto: sign bodies over plain http to another machine"},
    {"checksum", CONF_ENUM, "auto", "auto|none", .help = "send CRC-32C with what is written"},
    {"multipart_threshold", CONF_SIZE, "64MiB", .help = "larger objects go up in parts"},
    {"multipart_chunksize", CONF_SIZE, "16MiB", .help = "size of a part (5 MiB to 5 GiB)"},
    {"max_concurrency", CONF_INT, "10", .min = 1, .max = 256,
     .help = "parts or ranges of one object at once"},
    {"max_connections", CONF_INT, "32", .min = 1, .max = 1024, .help = "connections of this store"},
    {"list_metadata", CONF_ENUM, "auto", "auto|yes|no",
     .help = "list with metadata (MinIO's extension); auto: where it is MinIO"},
    {"posix", CONF_BOOL, "yes", .help = "keep mode, owner, times, xattrs in object metadata"},
    {"tags", CONF_BOOL, "yes",
     .help = "object tags as user.tag.NAME; an object that is rewritten keeps them"},
    {"verify_tls", CONF_BOOL, "yes", .help = "verify the server's certificate"},
    {"ca_file", CONF_PATH, .help = "certificates to trust instead of the system's"},
    {"connect_timeout", CONF_DURATION, "5s", .help = "connecting takes at most this"},
    {"sse", CONF_ENUM, "none", "none|AES256|aws:kms|aws:kms:dsse",
     .help = "how the server encrypts new objects (SSE-S3, SSE-KMS); none: as the bucket says"},
    {"sse_kms_key_id", CONF_STRING, .help = "the KMS key of sse = aws:kms; default the bucket's"},
    {"sse_customer_key", CONF_SECRET,
     .help = "SSE-C: 32 bytes in base64; encrypts all objects of this store; better sse_customer_key_file"},
    {"request_payer", CONF_BOOL, "no", .help = "pay for requests to somebody else's bucket"},
    {"requester_pays", CONF_BOOL, .alias = "request_payer"},
    {"storage_class", CONF_STRING, .help = "x-amz-storage-class of new objects"},
};

/* ---- where ---- */

static bool is_bucket_name(const char *s)
{
    return flat_is_bucket_name(s, 255);
}

static int take_place(const struct conf_section *c, struct err *err, struct s3_store *s)
{
    static const struct flat_scheme scheme = {"s3", "S3", "bucket", is_bucket_name};
    struct flat_place p = {0};
    struct flat_endpoint e = {0};
    int r = flat_place(c, &scheme, S3_KEY_MAX, err, &p, &s->base.base_uri);
    if (r == 0)
        r = flat_endpoint(c, err, &e);
    s->bucket = p.bucket;
    s->prefix = p.prefix;
    s->scheme = e.scheme;
    s->endpoint = e.host;
    s->root = e.root;
    return r;
}

/* May the bucket be part of a host name, under a wildcard certificate? */
static bool is_host_label(const char *bucket)
{
    for (const char *p = bucket; *p; p++)
        if (!islower((unsigned char)*p) && !isdigit((unsigned char)*p) && *p != '-')
            return false;
    return true;
}

static bool is_aws(const char *endpoint)
{
    return !endpoint || strstr(endpoint, ".amazonaws.com") != NULL;
}

/* S3 Express: lists in no order, and from the start only; knows no tags. */
static bool is_directory_bucket(const char *bucket)
{
    size_t n = strlen(bucket);
    return n > 6 && strcmp(bucket + n - 6, "--x-s3") == 0;
}

static void take_manners(const struct conf_section *c, struct s3_store *s)
{
    const char *addressing = conf_str(c, "addressing", "auto");
    const char *signing = conf_str(c, "payload_signing", "auto");
    const char *list = conf_str(c, "list_metadata", "auto");
    const char *class = conf_str(c, "storage_class", NULL);
    bool open_wire = strcmp(s->scheme, "http") == 0 && !http_host_is_loopback(s->endpoint);
    s->path_style = strcmp(addressing, "path") == 0 ||
                    (strcmp(addressing, "auto") == 0 && (s->endpoint || !is_host_label(s->bucket)));
    s->sign_payload = strcmp(signing, "signed") == 0 || (strcmp(signing, "auto") == 0 && open_wire);
    s->list_meta = strcmp(list, "yes") == 0  ? S3_LIST_META_YES
                   : strcmp(list, "no") == 0 ? S3_LIST_META_NO
                                             : S3_LIST_META_AUTO;
    s->posix = conf_bool(c, "posix", true);
    s->anonymous = conf_bool(c, "anonymous", false);
    s->storage_class = class && *class ? xstrdup(class) : NULL;
    atomic_store(&s->no_checksum, strcmp(conf_str(c, "checksum", "auto"), "none") == 0);
    atomic_store(&s->no_tags, !conf_bool(c, "tags", true) || is_directory_bucket(s->bucket));
    atomic_store(&s->server, is_aws(s->endpoint) ? S3_SERVER_AWS : S3_SERVER_UNKNOWN);
    s->sync.cond = is_aws(s->endpoint) ? S3_COND_YES : S3_COND_UNKNOWN;
}

/* ---- who ---- */

static int take_identity(const struct conf_section *c, struct err *err, struct s3_store *s)
{
    struct err none = ERR_INIT;
    int r = s->anonymous ? 0 : s3_creds_load(c, flat_environment, &none, &s->sync.creds);
    if (r < 0 && r != -EACCES)
        *err = none;
    if (r < 0 && r != -EACCES)
        return r;
    const char *region = conf_str(c, "region", s->sync.creds.region);
    const char *const variables[] = {"AWS_REGION", "AWS_DEFAULT_REGION"};
    for (size_t i = 0; (!region || !*region) && i < ARRAY_LEN(variables); i++)
        region = flat_environment(variables[i]);
    region = region && *region ? region : "us-east-1";
    for (const char *p = region; *p; p++)
        if (!isalnum((unsigned char)*p) && !strchr("-_", *p))
            return conf_error(c, "region", err, EINVAL, "'%s' is not a region", region);
    if (strlen(region) >= sizeof(s->sync.region))
        return conf_error(c, "region", err, EINVAL, "'region' is too long");
    memcpy(s->sync.region, region, strlen(region) + 1);
    if (s->anonymous || (r < 0 && conf_has(c, "profile") && !conf_has(c, "role_arn"))) {
        *err = r < 0 ? none : *err;
        return r;
    }
    int found = s3_role_open(c, flat_environment, s->sync.region, err, &s->sync.creds, &s->role);
    if (found == 0 && r < 0 && !s->role) {
        *err = none;
        return r;
    }
    return found;
}

/* ---- limits, client ---- */

static int take_limits(const struct conf_section *c, struct err *err, struct s3_store *s)
{
    s->base.limits = (struct store_limits){
        .put_max = S3_PUT_MAX,
        .part_min = S3_PART_MIN,
        .part_max = S3_PUT_MAX,
        .parts_max = S3_PARTS_MAX,
        .key_max = S3_KEY_MAX - strlen(s->prefix),
        .delete_max = S3_DELETE_MAX,
        .tags_max = S3_TAGS_MAX,
        .tag_name_max = S3_TAG_NAME_MAX,
        .tag_value_max = S3_TAG_VALUE_MAX,
    };
    int r = flat_part_limits(c, err, &s->base.limits);
    s->base.caps = CAP_WRITE | CAP_IF_MATCH | CAP_AGE | CAP_COPY | CAP_UPLOAD | CAP_COPY_PART | CAP_SIGN |
                   CAP_UNNAMED | CAP_READ_META;
    if (!is_directory_bucket(s->bucket))
        s->base.caps |= CAP_LIST_AFTER | CAP_VERSIONS;
    if (!atomic_load(&s->no_tags))
        s->base.caps |= CAP_TAGS;
    if (s->posix)
        s->base.caps |= CAP_SET_META | CAP_SYMLINK;
    if (s->posix && s->list_meta == S3_LIST_META_YES)
        s->base.caps |= CAP_LIST_META;
    return r;
}

static void s3_close(struct store *store)
{
    struct s3_store *s = s3_of(store);
    http_client_free(s->http);
    s3_creds_done(&s->sync.creds);
    s3_role_free(s->role);
    explicit_bzero(&s->sync.key, sizeof(s->sync.key));
    cond_done(&s->sync.cond_known);
    lock_done(&s->sync.lock);
    free(s->bucket);
    free(s->prefix);
    free(s->scheme);
    free(s->endpoint);
    free(s->root);
    free(s->storage_class);
    free(s->view.uri);
    s3_sse_done(s);
    free(s);
}

static int s3_open(const struct conf_section *c, struct stats *stats, struct err *err,
                   struct store **ret)
{
    struct s3_store *s = xcalloc(1, sizeof(*s));
    (void)stats;
    s->base.cls = &s3_class;
    lock_init(&s->sync.lock, LOCK_RANK_STORE, "s3");
    cond_init(&s->sync.cond_known);
    int r = take_place(c, err, s);
    if (r == 0) {
        take_manners(c, s);
        s3_view_set(s);
        r = take_identity(c, err, s);
    }
    if (r == 0)
        r = s3_sse_take(c, err, s);
    if (r == 0)
        r = take_limits(c, err, s);
    if (r == 0)
        r = http_client_of(c, FLAT_CONNECTIONS, err, &s->http);
    if (r < 0) {
        free(s->base.base_uri);
        s3_close(&s->base);
        return r;
    }
    *ret = &s->base;
    return 0;
}

/* ---- probe, sign ---- */

#define SKEW_WORTH_SAYING_S 10

static int s3_probe(struct store *store, struct op *op, struct buf *ret_text)
{
    struct s3_store *s = s3_of(store);
    struct flat_result l = {0};
    static const char *const servers[] = {"unknown server", "AWS", "MinIO", "S3-compatible server"};
    uint64_t begun = clock_now_ns();
    int r = s3_list_raw(s, op, "probe", s->prefix, NULL, 1, &l);
    if (r < 0)
        return r;
    flat_result_done(&l);
    CLEANUP_BUF struct buf host = BUF_INIT;
    uint64_t ms = (clock_now_ns() - begun) / NS_PER_MS;
    lock_acquire(&s->sync.lock);
    s3_host(s, s->sync.region, &host);
    enum s3_cond cond = s->sync.cond;
    buf_addf(ret_text, "%s://%s (%s, region %s), bucket %s, keys from %s, %llu ms", s->scheme,
             host.data, servers[atomic_load(&s->server)], s->sync.region, s->bucket,
             s->anonymous ? "nowhere (anonymous)" : s->sync.creds.from, (unsigned long long)ms);
    lock_release(&s->sync.lock);
    long skew = atomic_load(&s->skew_s);
    if (labs(skew) >= SKEW_WORTH_SAYING_S)
        buf_addf(ret_text, "; its clock is %ld s %s ours (requests are signed by its clock)", labs(skew),
                 skew > 0 ? "ahead of" : "behind");
    buf_addf(ret_text, "; conditional writes: %s; checksums: %s",
             cond == S3_COND_YES  ? "honoured"
             : cond == S3_COND_NO ? "ignored by the server, looked up before writing"
                                  : "not tried yet",
             atomic_load(&s->no_checksum) ? "none" : "CRC-32C");
    return 0;
}

static int s3_sign(struct store *store, struct op *op, const struct sign_req *req,
                   struct buf *ret_url)
{
    struct s3_store *s = s3_of(store);
    if (req->expires_s < 1 || req->expires_s > SIGN_S3_EXPIRES_MAX)
        return err_set(&op->err, EINVAL, "a signed URL of S3 lasts 1 second to 7 days");
    if (s->customer_key)
        return err_set(&op->err, ENOTSUP, "the objects are encrypted with sse_customer_key, which no URL can carry");
    CLEANUP_FREE char *object = s3_object(s, req->key);
    CLEANUP_BUF struct buf host = BUF_INIT, path = BUF_INIT;
    struct s3_signer g;
    int fresh = s3_role_refresh(s, op, false);
    if (fresh < 0)
        return fresh;
    bool named = s3_signer_take(s, &g);
    s3_host(s, g.region, &host);
    s3_path(s, object, &path);
    int r = 0;
    if (!named && req->write) {
        r = err_set(&op->err, EACCES, "anonymous = yes: there is no key to sign with");
    } else {
        buf_addf(ret_url, "%s://%s%s", s->scheme, host.data, path.data);
        struct sign_s3_req q = {.method = req->write ? "PUT" : "GET",
                                .host = host.data,
                                .path = path.data,
                                .access_key = g.access_key,
                                .token = g.token,
                                .now = g.now};
        if (named) {
            buf_addc(ret_url, '?');
            sign_s3_presign(&q, &g.key, req->expires_s, ret_url);
        }
    }
    s3_signer_done(&g);
    return r;
}

const struct store_class s3_class = {
    .abi = STORE_ABI,
    .name = "s3",
    .summary = "Amazon S3 and S3-compatible object stores",
    .options = options,
    .n_options = ARRAY_LEN(options),
    .open = s3_open,
    .close = s3_close,
    .stat = s3_stat,
    .list = s3_list,
    .read = s3_read,
    .probe = s3_probe,
    .put = s3_put,
    .upload_begin = s3_upload_begin,
    .upload_part = s3_upload_part,
    .upload_copy_part = s3_upload_copy_part,
    .upload_finish = s3_upload_finish,
    .upload_abort = s3_upload_abort,
    .remove = s3_remove,
    .remove_many = s3_remove_many,
    .copy = s3_copy,
    .same_service = s3_same_service,
    .place = s3_place,
    .copy_from = s3_copy_from,
    .set_meta = s3_set_meta,
    .check_meta = s3_check_meta,
    .get_tags = s3_get_tags,
    .set_tags = s3_set_tags,
    .make_dir = s3_make_dir,
    .remove_dir = s3_remove_dir,
    .sign = s3_sign,
    .list_versions = s3_list_versions,
    .stat_version = s3_stat_version,
};
