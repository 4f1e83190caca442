/* SPDX-License-Identifier: MIT
 * gcs.h: Google Cloud Storage over its JSON API, and what the class's files share. See README.md here for
 * options, limits and errors.
 *
 *   gcs.c          class table, options, open and close, probe, sign
 *   gcs_request.c  one request: URL, token, send, errno
 *   gcs_error.c    what an error reply means: errno, retry class, advice
 *   gcs_token.c    access tokens: where from, renewed before they expire, by one thread at a time
 *   gcs_creds.c    which credentials: options, files, environment
 *   gcs_json.c     object resources and listings in JSON (pure)
 *   gcs_object.c   stat, read, put, remove, list
 *   gcs_copy.c     copy, set_meta
 *   gcs_upload.c   parts as objects, composed at the end
 *   gcs_versions.c noncurrent generations
 *
 * Words: key, object: flat.h. A version is the object's generation: a decimal number that grows; changing
 * metadata does not change it. Threads: a store is constant after open but for the token (its lock)
 * and the atomics.
 * Protocol facts: cloud.google.com/storage/docs/json_api/v1, .../request-preconditions,
 * .../composite-objects, cloud.google.com/docs/authentication/application-default-credentials. */
#ifndef QUAY_BACKENDS_GCS_GCS_H
#define QUAY_BACKENDS_GCS_GCS_H

#include "backends/flat.h"
#include "backends/http.h"
#include "backends/sign_s3.h"
#include "backends/store.h"
#include "base/lock.h"

#include <stdatomic.h>

#include <jansson.h>

extern const struct store_class gcs_class;

#define GCS_OBJECT_MAX (5ULL << 40)
#define GCS_KEY_MAX 1024u
#define GCS_META_MAX 8192u
#define GCS_PAGE_MAX 1000u
#define GCS_COMPOSE_MAX 32u                        /* sources of one compose */
#define GCS_PARTS_MAX (GCS_COMPOSE_MAX * GCS_COMPOSE_MAX) /* two levels */
#define GCS_PART_MIN (256ULL << 10)
#define GCS_STALL_S 600u                           /* a server that copies may be silent for long */
#define GCS_PARTS ".quay-parts/"                   /* below the store's prefix: parts of uploads */

/* ---- credentials ---- */
enum gcs_kind { GCS_ANONYMOUS = 0, GCS_TOKEN, GCS_SERVICE_ACCOUNT, GCS_USER, GCS_METADATA };

struct gcs_creds {
    enum gcs_kind kind;
    char *token;                       /* TOKEN: given, never renewed */
    char *email, *private_key, *key_id; /* SERVICE_ACCOUNT */
    char *client_id, *client_secret, *refresh_token; /* USER */
    char *token_uri;                   /* SERVICE_ACCOUNT, USER; METADATA: the whole URL */
    char from[200];                    /* for messages: "GOOGLE_APPLICATION_CREDENTIALS" */
};

typedef const char *gcs_env_fn(const char *name);

/* In this order: anonymous, token, service_account_key, credentials_file, GOOGLE_APPLICATION_CREDENTIALS,
 * gcloud's application_default_credentials.json, the metadata server. -EINVAL for a file that is not a key. */
int gcs_creds_load(const struct conf_section *section, gcs_env_fn *env, struct err *err,
                   struct gcs_creds *ret);
/* The JSON of a key file. */
int gcs_creds_parse(const char *json, size_t len, struct err *err, struct gcs_creds *ret);
void gcs_creds_done(struct gcs_creds *c);

/* ---- tokens ---- */
struct gcs_tokens;
struct gcs_tokens *gcs_tokens_new(struct gcs_creds *creds /* taken, emptied */, struct http_client *http);
void gcs_tokens_free(struct gcs_tokens *t);
/* *ret: malloc'd (secret_free), or NULL when requests are anonymous. Waits for another thread that renews. */
int gcs_token(struct gcs_tokens *t, struct op *op, char **ret);
/* The server refused this one (401): true when another may be had. */
bool gcs_token_refused(struct gcs_tokens *t, const char *token);
const struct gcs_creds *gcs_tokens_creds(const struct gcs_tokens *t);
/* The signed assertion that a token is asked for with (RFC 7523); appends. -EINVAL with err. */
int gcs_jwt(const struct gcs_creds *c, time_t now, struct err *err, struct buf *ret);

/* ---- the store ---- */
struct gcs_store {
    struct store base;
    struct http_client *http, *token_http;
    struct gcs_tokens *tokens;
    struct flat_endpoint endpoint; /* host is never NULL */
    struct flat_view view;
    char *bucket;
    char *prefix;                  /* "" or ending in '/' */
    bool posix;
    char *storage_class, *user_project; /* or NULL */
    atomic_bool versioned;         /* gcs_versions.c: the bucket keeps versions */
    atomic_ullong unversioned_ns;  /* when it was asked */
};

static inline struct gcs_store *gcs_of(struct store *s)
{
    return (struct gcs_store *)s;
}

extern const struct flat_meta_rules gcs_meta_rules;

/* ---- one request ---- */
#define GCS_MAX_PARAMS 8

struct gcs_req {
    const char *op; /* for messages: "put" */
    const char *method;
    const char *in;     /* another bucket than the store's, or NULL */
    const char *object; /* full name, or NULL: the bucket's objects */
    bool bucket;        /* the bucket itself */
    const char *suffix; /* "/compose", encoded, or NULL */
    bool upload;        /* below /upload */
    struct sign_s3_param query[GCS_MAX_PARAMS];
    size_t n_query;
    struct http_headers headers; /* ours: gcs_do() ends them */
    const struct source *body;
    bool once; /* a repeat may find its own effect: a 5xx has an unknown outcome */
    struct iovec to;
    int (*on_data)(void *arg, size_t so_far);
    void *on_data_arg;
    int (*on_reply)(void *arg, const struct http_res *res);
    void *on_reply_arg;
    unsigned stall_s;
};

void gcs_req_param(struct gcs_req *r, const char *name, const char *value); /* borrowed */
/* Adds ifGenerationMatch for the condition. -ESTALE for a version that cannot be a generation. */
int gcs_req_precond(struct gcs_req *r, struct op *op, const struct precond *pre);
/* Sends it. 0 with a 2xx reply in *ret; else -errno, op->err filled. */
int gcs_do(struct gcs_store *s, struct op *op, struct gcs_req *r, struct http_res *ret);
/* The same with a JSON body (taken) and a JSON object as reply. */
int gcs_do_json(struct gcs_store *s, struct op *op, struct gcs_req *r, json_t *body, json_t **ret);
void gcs_path(const struct gcs_store *s, const struct gcs_req *r, struct buf *ret);
bool gcs_is_generation(const char *version);

/* ---- error replies ---- */
/* Fills op->err for this reply and returns -errno. */
int gcs_error_set(const struct gcs_store *s, struct op *op, const struct gcs_req *r,
                  const struct http_res *res);

/* ---- JSON ---- */
/* One object resource. `o` is borrowed. -EBADMSG. */
struct gcs_object {
    char *name;
    struct attr attr;
    char metageneration[24];
    struct timespec created; /* when this generation was stored */
    char crc32c[12]; /* base64, or "" */
};
int gcs_json_object(const json_t *o, bool posix, struct gcs_object *ret);
void gcs_object_done(struct gcs_object *o);
/* A listing. -EBADMSG. */
int gcs_json_list(const char *data, size_t len, struct flat_result *ret);
/* The metadata of attributes as the fields "metadata" and "contentType" of a resource. */
int gcs_json_meta(const struct attr *a, bool dir, struct err *err, json_t *to);

/* ---- slots ---- */
int gcs_stat(struct store *s, struct op *op, const char *key, struct attr *ret);
int gcs_read(struct store *s, struct op *op, const struct read_req *req, struct read_res *ret);
int gcs_put(struct store *s, struct op *op, const struct put_req *req, struct attr *ret);
int gcs_remove(struct store *s, struct op *op, const char *key, const char *if_match);
int gcs_make_dir(struct store *s, struct op *op, const char *key, const struct attr *attr);
int gcs_remove_dir(struct store *s, struct op *op, const char *key);
int gcs_list(struct store *s, struct op *op, const struct list_query *q, struct list_page *ret);
int gcs_copy(struct store *s, struct op *op, const char *from, const char *from_version,
             const char *to, const struct precond *pre, struct attr *ret);
void gcs_place(const struct store *s, struct buf *ret_service, struct buf *ret_path);
bool gcs_same_service(const struct store *s, const struct store *other);
int gcs_copy_from(struct store *s, struct op *op, struct store *source, const char *from, const char *from_version,
                  const char *to, const struct precond *pre, struct attr *ret);
/* The slot set_meta of the view. */
int gcs_set_file_meta(struct store *store, struct op *op, const char *object, const char *if_match,
                      const struct attr *change, struct attr *ret);
int gcs_check_meta(const struct store *s, const struct attr *a, struct err *err);
int gcs_set_meta(struct store *s, struct op *op, const char *key, const char *if_match,
                 const struct attr *change, struct attr *ret);
int gcs_upload_begin(struct store *s, struct op *op, const struct upload_req *req, char **ret_id);
int gcs_upload_part(struct store *s, struct op *op, const char *key, const char *id,
                    const struct source *src, struct store_part *part);
int gcs_upload_finish(struct store *s, struct op *op, const char *key, const char *id,
                      const struct store_part *parts, size_t n, const struct precond *pre,
                      struct attr *ret);
int gcs_upload_abort(struct store *s, struct op *op, const char *key, const char *id);

int gcs_list_versions(struct store *s, struct op *op, const char *key, const char *cursor, unsigned max,
                      struct version_page *ret);
int gcs_stat_version(struct store *s, struct op *op, const char *key, const char *id, struct attr *ret);

/* ---- shared by the slots ---- */
/* The generation that a kept version names (contract 11 of store.h); "": it is none. */
struct gcs_version {
    char generation[24];
};
struct gcs_version gcs_version(const char *version /* NULL ok */);
void gcs_version_told(const struct gcs_version *v, struct attr *attr); /* attr->version names the kept one */
/* The resource of a full object name. if_match: version or NULL (-ESTALE when it is another). */
int gcs_look(struct gcs_store *s, struct op *op, const char *opname, const char *object,
             const char *if_match, struct gcs_object *ret);
/* Writes an object by one request; `meta`: fields of its resource (borrowed). */
int gcs_insert(struct gcs_store *s, struct op *op, const char *opname, const char *object, json_t *meta,
               const struct source *src, const struct precond *pre, struct gcs_object *ret);
int gcs_delete(struct gcs_store *s, struct op *op, const char *opname, const char *object,
               const char *if_match);
/* First entries below a full prefix; flat without q. */
int gcs_list_raw(struct gcs_store *s, struct op *op, const char *opname, const char *prefix,
                 const struct list_query *q, unsigned max, struct flat_result *ret);
/* A resource from a reply. */
int gcs_take_object(struct gcs_store *s, struct op *op, const char *opname, json_t *o,
                    struct gcs_object *ret);
void gcs_view_set(struct gcs_store *s);

#endif
