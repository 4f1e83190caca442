/* SPDX-License-Identifier: MIT
 * s3.h: the S3 class, and what its files share. See README.md here for options, limits and errors.
 *
 *   s3.c          class table, options, open and close, probe, sign
 *   s3_request.c  one request: URL, checksum, signature, send, adapt, errno
 *   s3_error.c    what an error reply means: errno, retry class, advice
 *   s3_object.c   stat, read, put, remove, directories
 *   s3_copy.c     copy, set_meta
 *   s3_upload.c   multipart upload
 *   s3_list.c     ListObjectsV2
 *   s3_xml.c      replies in XML
 *   s3_meta.c     attributes <-> headers
 *   s3_tags.c     object tags
 *   s3_versions.c kept versions
 *   s3_sse.c      encryption at the server, requester pays
 *   s3_creds.c    where keys come from
 *   s3_role.c     temporary keys: STS, ECS, EC2; when they are fetched
 *   s3_indirect.c those that a profile gets by credential_process or SSO
 *   s3_cond.c     conditional writes: are they honoured, and what to do when not
 *
 * Words: a *key* is the caller's (relative to base_path); an *object* is the full name in the
 * bucket. Threads: a store is constant after open but for `sync` (its lock) and the atomics. */
#ifndef QUAY_BACKENDS_S3_S3_H
#define QUAY_BACKENDS_S3_S3_H

#include "backends/flat.h"
#include "backends/http.h"
#include "backends/sign_s3.h"
#include "backends/store.h"
#include "backends/xml.h"
#include "base/lock.h"

#include <stdatomic.h>

extern const struct store_class s3_class;

#define S3_PUT_MAX (5ULL << 30)
#define S3_PART_MIN (5ULL << 20)
#define S3_COPY_PART (1ULL << 30) /* of a multipart copy */
#define S3_PARTS_MAX 10000u
#define S3_DELETE_MAX 1000u
#define S3_KEY_MAX 1024u
#define S3_META_MAX 2048u
#define S3_PAGE_MAX 1000u
#define S3_TAGS_MAX 10u
#define S3_TAG_NAME_MAX 128u
#define S3_TAG_VALUE_MAX 256u
#define S3_COPY_STALL_S 600u /* a server that copies may be silent for long */

/* ---- credentials ---- */
/* How a profile gets keys that it has not itself: by a process, or by single sign-on. */
struct s3_indirect {
    char *process;         /* credential_process; or NULL, then: */
    char *sso_url, *sso_region, *sso_account, *sso_role, *sso_session; /* session: name of [sso-session], or NULL */
    char *where;           /* for messages: "profile 'dev' in /home/me/.aws/config" */
    char *home;            /* below which SSO's tokens are */
    char *portal, *oidc;   /* URLs of SSO */
};

struct s3_creds {
    char *access_key, *secret, *token; /* token may be NULL; all NULL: anonymous */
    char *region;                      /* the profile's, or NULL */
    char *profile;                     /* came from this profile: read again when they expire */
    char *role_arn, *external_id, *role_session, *token_file; /* the profile's role: s3_role.c; or NULL */
    struct s3_indirect indirect;       /* keys are to be asked for in this way: s3_indirect.c */
    char from[160];                    /* for messages: "profile 'dev' in ~/.aws/credentials" */
};

typedef const char *s3_env_fn(const char *name);

/* 0, or -EACCES with a text that names every place looked at; -EINVAL for half a pair of keys. */
int s3_creds_load(const struct conf_section *section, s3_env_fn *env, struct err *err,
                  struct s3_creds *ret);
/* Only the named profile. -ENOENT when it is not in the files. */
int s3_creds_load_profile(const char *profile, s3_env_fn *env, struct err *err,
                          struct s3_creds *ret);
void s3_creds_done(struct s3_creds *c);

/* ---- s3_indirect.c ---- */
bool s3_indirect_given(const struct s3_indirect *i);
void s3_indirect_done(struct s3_indirect *i);
/* The keys now, and when they expire (wall clock; S3_NEVER from now when that is not said). -EACCES, ... */
#define S3_NEVER (100LL * 365 * 86400)
#define S3_INDIRECT_MS 60000 /* a process may take so long */
int s3_indirect_ask(const struct s3_indirect *i, struct http_client *http, struct op *op, struct s3_creds *ret,
                    time_t *expires);

/* ---- s3_role.c ---- */
struct s3_store;
struct s3_role;
/* Are keys to be fetched, by means of what was `found` (perhaps nothing)? Then *ret, and `found` has none any
 * more; else *ret is untouched. No network. */
int s3_role_open(const struct conf_section *c, s3_env_fn *env, const char *region, struct err *err,
                 struct s3_creds *found, struct s3_role **ret);
void s3_role_free(struct s3_role *g); /* NULL ok */
/* Before a request is signed: keys that are good now are in sync.creds. `refused`: the server says that those
 * have expired. Without a role: 0. */
int s3_role_refresh(struct s3_store *s, struct op *op, bool refused);

/* ---- the store ---- */
enum s3_server { S3_SERVER_UNKNOWN = 0, S3_SERVER_AWS, S3_SERVER_MINIO, S3_SERVER_OTHER };
enum s3_cond { S3_COND_UNKNOWN = 0, S3_COND_PROBING, S3_COND_YES, S3_COND_NO };
enum s3_list_meta { S3_LIST_META_AUTO = 0, S3_LIST_META_YES, S3_LIST_META_NO };

struct s3_store {
    struct store base;
    struct http_client *http;
    char *bucket;
    char *prefix;   /* "" or ending in '/' */
    char *scheme;   /* "https" */
    char *endpoint; /* host[:port]; NULL: AWS, by region */
    char *root;     /* path before the bucket: "" or "/gateway" */
    bool path_style, sign_payload, anonymous, posix;
    enum s3_list_meta list_meta;
    struct flat_view view;
    char *storage_class;      /* or NULL */
    char *sse, *kms_key;      /* s3_sse.c: "AES256", ...; or NULL */
    char *customer_key, *customer_md5; /* SSE-C, in base64; or NULL */
    bool pay;                 /* request_payer */
    struct s3_role *role;     /* or NULL */
    atomic_int server;        /* enum s3_server */
    atomic_bool no_checksum;  /* it refused x-amz-checksum-* */
    atomic_bool no_tags;      /* tags = no, or it has none */
    atomic_bool hidden_tags;  /* this key may not read them */
    atomic_bool no_list_meta; /* metadata=true did not work */
    atomic_long skew_s;       /* its clock minus ours */
    atomic_bool versioned;    /* s3_versions.c: the bucket keeps versions */
    atomic_ullong unversioned_ns; /* when it was seen not to; 0: not yet */
    struct {
        struct lock lock;
        struct s3_creds creds;
        char region[64];
        struct sign_s3_key key; /* today's */
        enum s3_cond cond;
        struct cond cond_known;
    } sync;
};

static inline struct s3_store *s3_of(struct store *s)
{
    return (struct s3_store *)s;
}

/* ---- s3_sse.c ---- */
int s3_sse_take(const struct conf_section *c, struct err *err, struct s3_store *s);
void s3_sse_done(struct s3_store *s);

/* ---- one request ---- */
struct s3_req;
void s3_sse_headers(const struct s3_store *s, const struct s3_req *r, struct http_headers *h);
struct s3_error;
/* What a refusal of an object may have to do with its encryption; NULL: nothing. */
const char *s3_sse_advice(const struct s3_store *s, const struct s3_req *r, int status, const struct s3_error *e);
#define S3_MAX_PARAMS 10

enum s3_checksum { S3_CHECKSUM_NONE = 0, S3_CHECKSUM_IF_TAKEN, S3_CHECKSUM_ALWAYS };

struct s3_req {
    const char *op; /* for messages: "put" */
    const char *method;
    const char *object; /* full name, or NULL: the bucket */
    struct sign_s3_param query[S3_MAX_PARAMS];
    size_t n_query;
    struct http_headers headers; /* ours: s3_req_done() */
    const struct source *body;
    enum s3_checksum checksum; /* add x-amz-checksum-crc32c of the body */
    bool md5;                  /* add Content-MD5 (small bodies) */
    bool once;                 /* a repeat may find its own effect: a 5xx has an unknown outcome */
    struct iovec to;
    int (*on_data)(void *arg, size_t so_far);
    void *on_data_arg;
    int (*on_reply)(void *arg, const struct http_res *res);
    void *on_reply_arg;
    unsigned stall_s;
    char crc32c[16]; /* out: the checksum sent, base64; "" when none */
};

void s3_req_param(struct s3_req *r, const char *name, const char *value); /* borrowed */
void s3_req_done(struct s3_req *r);
/* Sends it. 0 with a 2xx reply in *ret; else -errno, op->err filled. */
int s3_do(struct s3_store *s, struct op *op, struct s3_req *r, struct http_res *ret);
char *s3_object(const struct s3_store *s, const char *key);     /* a file's, malloc'd */
char *s3_dir_object(const struct s3_store *s, const char *key); /* a directory's, malloc'd */
/* host[:port] and the path of an object (NULL: the bucket), for the region given. */
void s3_host(const struct s3_store *s, const char *region, struct buf *ret);
void s3_path(const struct s3_store *s, const char *object, struct buf *ret);
/* What is needed to sign now; a copy, so that no lock is held. */
struct s3_signer {
    char *access_key, *token, *region;
    struct sign_s3_key key;
    time_t now;
};
bool s3_signer_take(struct s3_store *s, struct s3_signer *ret); /* false: anonymous */
void s3_signer_done(struct s3_signer *g);

/* ---- error replies ---- */
struct s3_error {
    char code[64];
    char message[256];
    char region[64]; /* where the bucket is, when the server says so */
};
void s3_error_read(const struct http_res *res, struct s3_error *ret);
/* Fills op->err for this reply and returns -errno. */
int s3_error_set(const struct s3_store *s, struct op *op, const struct s3_req *r,
                 const struct http_res *res, const struct s3_error *e);
/* A 200 whose body is an error (copy, complete): like s3_error_set, with 0 when it is none. */
int s3_error_in_body(const struct s3_store *s, struct op *op, const struct s3_req *r,
                     const struct http_res *res);

/* ---- XML ---- */
int s3_xml_list(const char *data, size_t len, struct flat_result *ret);

struct s3_delete_errors {
    struct s3_delete_error {
        char *object;
        char *code;
    } * v;
    size_t n;
};
struct s3_versions {
    struct s3_listed {
        char *object, *id;
        bool deleted;
        uint64_t size;
        struct timespec mtime;
        char etag[ATTR_VERSION_MAX];
    } * v;
    size_t n;
    bool truncated;
    char *next_object, *next_id; /* markers of the next page, or NULL */
};
int s3_xml_versions(const char *data, size_t len, struct s3_versions *ret);
void s3_versions_done(struct s3_versions *l);

int s3_xml_delete(const char *data, size_t len, struct s3_delete_errors *ret);
void s3_delete_errors_done(struct s3_delete_errors *e);

/* ---- metadata ---- */
enum s3_meta_as { S3_META_OBJECT = 1, S3_META_DIR };
/* Headers for attributes: x-amz-meta-*, Content-Type. -E2BIG, -EINVAL with err. */
int s3_meta_to_headers(const struct attr *a, enum s3_meta_as as, struct err *err,
                       struct http_headers *h);
/* Overlays what headers (of GET, HEAD, or a listing with metadata) tell; sets ATTR_META. */
void s3_meta_from_headers(const struct http_headers *h, bool posix, struct attr *a);
/* Size, version, mtime, kind and metadata of a GET, HEAD reply. `total`: the object's size. */
void s3_attr_from_reply(const struct http_res *res, uint64_t total, bool posix, struct attr *ret);

extern const struct flat_meta_rules s3_meta_rules;
void s3_view_set(struct s3_store *s); /* once bucket, prefix and posix are known */

/* ---- tags ---- */
enum attr_tags s3_tags_told(const struct s3_store *s, const struct http_headers *h);
/* Adds the tags that a new object gets: those that `attr` gives, else those of the object that is there, when
 * attr->version says that it is replaced. */
int s3_add_tags(struct s3_store *s, struct op *op, const char *object, const struct attr *attr,
                struct http_headers *h);

/* ---- kept versions ---- */
/* A version as the contract has it, in two: id NULL: of whatever is there now. */
struct s3_version {
    char *id;
    char etag[ATTR_VERSION_MAX]; /* "": any */
};
struct s3_version s3_version(const char *version /* NULL ok */);
void s3_version_done(struct s3_version *v);
#define CLEANUP_S3_VERSION __attribute__((cleanup(s3_version_done)))
/* What a reply told of it: attr->version names the kept one. */
void s3_version_told(const struct s3_version *v, struct attr *attr);

/* ---- conditional writes ---- */
/* Before a write with `pre`: learns whether the server honours conditions, and adds the headers; or
 * looks whether the condition holds, and adds none. 0 = go ahead. */
int s3_cond_prepare(struct s3_store *s, struct op *op, const char *key, const struct precond *pre,
                    struct s3_req *r);
/* Is `name`, below the prefix, what that is learnt with? Not shown, and swept when nobody can need it any more. */
bool s3_is_probe(const char *name, uint64_t size);
/* Looks now (HEAD): 0, -EEXIST or -ESTALE. */
int s3_cond_look(struct s3_store *s, struct op *op, const char *key, const struct precond *pre);
/* Learns it if need be: 0 and yes/no, or the probe's own failure. */
int s3_cond_supported(struct s3_store *s, struct op *op, bool *ret);
/* The same while nobody waits for a file to be stored. Failures say nothing: it is learnt later. */
void s3_cond_learn(struct s3_store *s, struct op *op);
/* The errno of a conditional write that failed with `r`. */
int s3_cond_result(struct op *op, const struct precond *pre, int r);

/* ---- slots ---- */
int s3_stat(struct store *s, struct op *op, const char *key, struct attr *ret);
int s3_read(struct store *s, struct op *op, const struct read_req *req, struct read_res *ret);
int s3_put(struct store *s, struct op *op, const struct put_req *req, struct attr *ret);
int s3_remove(struct store *s, struct op *op, const char *key, const char *if_match);
int s3_remove_many(struct store *s, struct op *op, const char *const *keys, size_t n,
                   struct remove_result *results);
int s3_make_dir(struct store *s, struct op *op, const char *key, const struct attr *attr);
int s3_remove_dir(struct store *s, struct op *op, const char *key);
int s3_copy(struct store *s, struct op *op, const char *from, const char *from_version,
            const char *to, const struct precond *pre, struct attr *ret);
void s3_place(const struct store *s, struct buf *ret_service, struct buf *ret_path);
bool s3_same_service(const struct store *s, const struct store *other);
int s3_copy_from(struct store *s, struct op *op, struct store *source, const char *from, const char *from_version,
                 const char *to, const struct precond *pre, struct attr *ret);
int s3_check_meta(const struct store *s, const struct attr *a, struct err *err);
int s3_set_meta(struct store *s, struct op *op, const char *key, const char *if_match,
                const struct attr *change, struct attr *ret);
int s3_get_tags(struct store *s, struct op *op, const char *key, struct attr *ret);
int s3_set_tags(struct store *s, struct op *op, const char *key, const struct attr *tags);
int s3_list(struct store *s, struct op *op, const struct list_query *q, struct list_page *ret);
int s3_upload_begin(struct store *s, struct op *op, const struct upload_req *req, char **ret_id);
int s3_upload_part(struct store *s, struct op *op, const char *key, const char *id,
                   const struct source *src, struct store_part *part);
int s3_upload_copy_part(struct store *s, struct op *op, const char *key, const char *id,
                        const char *from, const char *from_version, uint64_t offset,
                        struct store_part *part);
int s3_upload_finish(struct store *s, struct op *op, const char *key, const char *id,
                     const struct store_part *parts, size_t n, const struct precond *pre,
                     struct attr *ret);
int s3_upload_abort(struct store *s, struct op *op, const char *key, const char *id);
/* As s3_upload_finish, for who begins the upload anew itself when the request has met another: -EBUSY. */
int s3_upload_complete(struct s3_store *s, struct op *op, const char *key, const char *id,
                       const struct store_part *parts, size_t n, const struct precond *pre,
                       struct attr *ret);

int s3_list_versions(struct store *s, struct op *op, const char *key, const char *cursor, unsigned max,
                     struct version_page *ret);
int s3_stat_version(struct store *s, struct op *op, const char *key, const char *id, struct attr *ret);

/* ---- shared by the slots ---- */
/* HEAD of a full object name. if_match: version or NULL (-ESTALE when it is another). `ret_all`:
 * the reply's headers as well, or NULL. */
int s3_head(struct s3_store *s, struct op *op, const char *opname, const char *object,
            const char *if_match, struct attr *ret, struct http_headers *ret_all);
/* The same of a file by its key: -ENOENT for the marker "d/" of a directory, and for "/". */
int s3_head_file(struct s3_store *s, struct op *op, const char *opname, const char *key,
                 const char *if_match, struct attr *ret, struct http_headers *ret_all);
/* First entries (at most `max`) below a full prefix, flat, with metadata where the server can. */
int s3_list_raw(struct s3_store *s, struct op *op, const char *opname, const char *prefix,
                const struct list_query *q, unsigned max, struct flat_result *ret);
int s3_put_marker(struct s3_store *s, struct op *op, const char *opname, const char *object,
                  const struct attr *attr, struct attr *ret);
/* Adds the headers that a new object gets: metadata, storage class. */
int s3_add_object_headers(struct s3_store *s, struct op *op, const struct attr *attr,
                          struct http_headers *h);
/* The pieces of a multipart copy; `object`, `from` are full names, ids as s3_upload_begin gives
 * them. */
int s3_upload_create(struct s3_store *s, struct op *op, const char *object,
                     const struct http_headers *h, char **ret_id);
int s3_copy_part(struct s3_store *s, struct op *op, const char *object, const char *id,
                 const struct s3_store *source, const char *from, const char *from_version,
                 uint64_t offset, struct store_part *part);
void s3_add_copy_source(const struct s3_store *s, struct s3_req *r, const char *object,
                        const char *version);

#endif
