/* SPDX-License-Identifier: MIT
 * azure.h: Azure Blob Storage, and what the class's files share. See README.md here for options, limits and
 * errors.
 *
 *   azure.c          class table, options, open and close, probe, sign
 *   azure_creds.c    which account and key: options, connection string, environment
 *   azure_request.c  one request: URL, signature, send, errno
 *   azure_error.c    what an error reply means: errno, retry class, advice
 *   azure_xml.c      listings in XML (pure)
 *   azure_object.c   stat, read, put, remove, list
 *   azure_copy.c     copy, set_meta
 *   azure_upload.c   blocks and block lists
 *
 * Words: key, object (a blob's full name): flat.h; the bucket is called container. A version is the ETag,
 * which also a change of metadata changes. Threads: a store is constant after open but for the list of
 * aborted uploads (its lock). Facts: learn.microsoft.com/rest/api/storageservices */
#ifndef QUAY_BACKENDS_AZURE_AZURE_H
#define QUAY_BACKENDS_AZURE_AZURE_H

#include "backends/flat.h"
#include "backends/http.h"
#include "backends/sign_azure.h"
#include "backends/store.h"
#include "backends/xml.h"
#include "base/lock.h"
#include "base/strmap.h"

extern const struct store_class azure_class;

#define AZURE_VERSION "2021-12-02"
#define AZURE_PUT_MAX (5000ULL << 20)
#define AZURE_PART_MIN (64ULL << 10)
#define AZURE_PART_MAX (4000ULL << 20)
#define AZURE_PARTS_MAX 50000u
#define AZURE_KEY_MAX 1024u
#define AZURE_META_MAX 8192u
#define AZURE_PAGE_MAX 1000u /* with 8 KiB of metadata each a reply of that is bounded */
#define AZURE_STALL_S 600u

/* ---- credentials ---- */
struct azure_creds {
    char *account;     /* or NULL: only with an endpoint_url, a SAS or anonymous */
    void *key;         /* decoded; NULL: none */
    size_t key_len;
    char *sas;         /* "sv=...&sig=...", encoded, without '?'; or NULL */
    char *endpoint;    /* of a connection string, or NULL */
    char from[80];     /* for messages */
};

typedef const char *azure_env_fn(const char *name);

/* In this order: anonymous, connection_string, account_key, sas_token, each from the section, then from the
 * environment (AZURE_STORAGE_*). -EINVAL with err. */
int azure_creds_load(const struct conf_section *section, azure_env_fn *env, struct err *err,
                     struct azure_creds *ret);
/* "AccountName=...;AccountKey=...;BlobEndpoint=..." */
int azure_creds_parse(const char *text, struct err *err, struct azure_creds *ret);
void azure_creds_done(struct azure_creds *c);

/* ---- the store ---- */
struct azure_store {
    struct store base;
    struct http_client *http;
    struct azure_creds creds;
    struct flat_endpoint endpoint; /* host is never NULL */
    struct flat_view view;
    char *container;
    char *prefix;                  /* "" or ending in '/' */
    bool posix;
    char *tier;                    /* x-ms-access-tier of new blobs, or NULL */
    struct {
        struct lock lock;
        struct strmap aborted;     /* uploads that were aborted: their blocks cannot be removed */
    } sync;
};

static inline struct azure_store *azure_of(struct store *s)
{
    return (struct azure_store *)s;
}

extern const struct flat_meta_rules azure_meta_rules;
#define AZURE_META "x-ms-meta-"

/* ---- one request ---- */
#define AZURE_MAX_PARAMS 8

struct azure_req {
    const char *op; /* for messages: "put" */
    const char *method;
    const char *object; /* full name, or NULL: the container */
    struct sign_s3_param query[AZURE_MAX_PARAMS];
    size_t n_query;
    struct http_headers headers; /* ours: azure_do() ends them */
    const struct source *body;
    bool once; /* a repeat may find its own effect: a 5xx has an unknown outcome */
    struct iovec to;
    int (*on_data)(void *arg, size_t so_far);
    void *on_data_arg;
    int (*on_reply)(void *arg, const struct http_res *res);
    void *on_reply_arg;
    unsigned stall_s;
};

void azure_req_param(struct azure_req *r, const char *name, const char *value); /* borrowed */
/* Adds If-Match or If-None-Match. */
void azure_req_precond(struct azure_req *r, const struct precond *pre);
/* Sends it. 0 with a 2xx reply in *ret; else -errno, op->err filled. */
int azure_do(struct azure_store *s, struct op *op, struct azure_req *r, struct http_res *ret);
/* Are these bytes that a name, or the beginning of one, can have? */
bool azure_can_hold(const char *name);
void azure_path(const struct azure_store *s, const char *object, struct buf *ret);
/* The URL of a blob as a source of copies: with the SAS when that is what there is. */
void azure_source_url(const struct azure_store *s, const char *object, struct buf *ret);
int azure_error_set(const struct azure_store *s, struct op *op, const struct azure_req *r,
                    const struct http_res *res);

/* ---- XML ---- */
int azure_xml_list(const char *data, size_t len, struct flat_result *ret);

/* ---- slots ---- */
int azure_stat(struct store *s, struct op *op, const char *key, struct attr *ret);
int azure_read(struct store *s, struct op *op, const struct read_req *req, struct read_res *ret);
int azure_put(struct store *s, struct op *op, const struct put_req *req, struct attr *ret);
int azure_remove(struct store *s, struct op *op, const char *key, const char *if_match);
int azure_make_dir(struct store *s, struct op *op, const char *key, const struct attr *attr);
int azure_remove_dir(struct store *s, struct op *op, const char *key);
int azure_list(struct store *s, struct op *op, const struct list_query *q, struct list_page *ret);
int azure_copy(struct store *s, struct op *op, const char *from, const char *from_version,
               const char *to, const struct precond *pre, struct attr *ret);
void azure_place(const struct store *s, struct buf *ret_service, struct buf *ret_path);
bool azure_same_service(const struct store *s, const struct store *other);
int azure_copy_from(struct store *s, struct op *op, struct store *source, const char *from,
                    const char *from_version, const char *to, const struct precond *pre, struct attr *ret);
/* The slot set_meta of the view. */
int azure_set_file_meta(struct store *store, struct op *op, const char *object, const char *if_match,
                        const struct attr *change, struct attr *ret);
int azure_check_meta(const struct store *s, const struct attr *a, struct err *err);
int azure_set_meta(struct store *s, struct op *op, const char *key, const char *if_match,
                   const struct attr *change, struct attr *ret);
int azure_upload_begin(struct store *s, struct op *op, const struct upload_req *req, char **ret_id);
int azure_upload_part(struct store *s, struct op *op, const char *key, const char *id,
                      const struct source *src, struct store_part *part);
int azure_upload_finish(struct store *s, struct op *op, const char *key, const char *id,
                        const struct store_part *parts, size_t n, const struct precond *pre,
                        struct attr *ret);
int azure_upload_abort(struct store *s, struct op *op, const char *key, const char *id);

/* ---- shared by the slots ---- */
/* HEAD. if_match: version or NULL (-ESTALE). `ret_all`: the reply's headers as well, or NULL. */
int azure_head(struct azure_store *s, struct op *op, const char *opname, const char *object,
               const char *if_match, struct attr *ret, struct http_headers *ret_all);
int azure_list_raw(struct azure_store *s, struct op *op, const char *opname, const char *prefix,
                   const struct list_query *q, unsigned max, struct flat_result *ret);
/* Metadata and type of a new blob as headers. */
int azure_meta_headers(const struct azure_store *s, const struct attr *a, bool dir, struct err *err,
                       struct http_headers *h);
void azure_view_set(struct azure_store *s);

#endif
