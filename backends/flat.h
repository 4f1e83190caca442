/* SPDX-License-Identifier: MIT
 * flat.h: what the object stores behind HTTP have in common: one flat name space of objects in a bucket,
 * directories that are only prefixes, attributes kept in metadata as s3fs keeps them.
 *
 *   flat_place.c  options: bucket and prefix, endpoint, parts; names of objects
 *   flat_meta.c   attributes <-> metadata; ETags, times
 *   flat_list.c   what a server listed -> a page of the contract
 *   flat_dir.c    stat, list, directories, over what a class can do with one object
 *   flat_read.c   is what comes what was asked for? what does a refusal mean?
 *
 * Words: a *key* is the caller's (relative to the prefix); an *object* is the full name in the bucket.
 * Pure but for the client. Threads: any. Ownership: as said; results are malloc'd. */
#ifndef QUAY_BACKENDS_FLAT_H
#define QUAY_BACKENDS_FLAT_H

#include "backends/http.h"
#include "backends/store.h"

#define FLAT_CONNECTIONS 32 /* max_connections, when it is not given */

/* ---- where ---- */
struct flat_scheme {
    const char *name;     /* "s3", for messages and URIs */
    const char *title;    /* "S3" */
    const char *option;   /* "bucket": the option that names it */
    bool (*is_name)(const char *name);
};

/* 3 to `max` letters, digits, '.', '-' and '_', a letter or digit first: what all of them take at least. */
bool flat_is_bucket_name(const char *s, size_t max);
/* getenv, as the loaders of credentials take it (tests give another). */
const char *flat_environment(const char *name);

struct flat_place {
    char *bucket;
    char *prefix;   /* "" or ending in '/' */
};

/* From 'uri', the bucket option or base_path; *ret_uri is "s3://bucket/prefix". Errors with the line. */
int flat_place(const struct conf_section *c, const struct flat_scheme *scheme, size_t key_max,
               struct err *err, struct flat_place *ret, char **ret_uri);

struct flat_endpoint {
    char *scheme;   /* "https" */
    char *host;     /* host[:port] as curl writes Host:, or NULL when none was given */
    char *root;     /* path before the bucket: "" or "/gateway" */
};

/* The option endpoint_url; https without a host when it is not given. */
int flat_endpoint(const struct conf_section *c, struct err *err, struct flat_endpoint *ret);
void flat_endpoint_done(struct flat_endpoint *e);
bool flat_same_text(const char *a, const char *b); /* NULL is like NULL only */
bool flat_same_endpoint(const struct flat_endpoint *a, const struct flat_endpoint *b);
/* store_class.place: of a bucket and a prefix that is "" or ends in '/'. */
void flat_place_text(const struct flat_endpoint *e, const char *bucket, const char *prefix, struct buf *ret_service,
                     struct buf *ret_path);
/* multipart_chunksize, multipart_threshold and max_concurrency into *l, which has part_min, part_max and put_max. */
int flat_part_limits(const struct conf_section *c, struct err *err, struct store_limits *l);

char *flat_object(const char *prefix, const char *key);     /* a file's full name, malloc'd */
char *flat_dir_object(const char *prefix, const char *key); /* a directory's prefix, malloc'd */

/* ---- metadata ---- */
struct flat_meta_rules {
    const char *head;   /* of the header's name: "x-amz-meta-" */
    const char *punct;  /* what a name may have besides a-z and 0-9 */
    bool identifiers;   /* a name does not begin with a digit */
    bool tags;          /* user.tag.NAME is kept elsewhere (CAP_TAGS) */
    size_t max;         /* bytes of names and values in all */
    const char *title;  /* who keeps no more than that: "S3" */
};

/* Adds mode, uid, gid, mtime, atime, xattr and user.meta.NAME as NAME, by attr.known, and Content-Type
 * (that of a marker for a directory). `a` may be NULL. -E2BIG, -EINVAL with err. */
int flat_meta_write(const struct attr *a, bool dir, const struct flat_meta_rules *rules, struct err *err,
                    struct http_headers *h);
/* store_class.check_meta: would flat_meta_write refuse them? `whole_names`: or a server that counts the head of each name,
 * too? */
int flat_meta_check(const struct attr *a, const struct flat_meta_rules *rules, bool whole_names, struct err *err);
/* Overlays what headers (of a reply or made from a listing) tell; sets ATTR_META. */
void flat_meta_read(const struct http_headers *h, const struct flat_meta_rules *rules, bool posix,
                    struct attr *a);
/* Is it one of the names above (and not user.meta.NAME)? */
bool flat_meta_is_own(const char *name);
void flat_version_of_etag(const char *etag, char out[ATTR_VERSION_MAX]); /* without quotes */
void flat_etag_of_version(const char *version, char out[ATTR_VERSION_MAX + 2]); /* for If-Match */
/* mtime and age from Last-Modified and Date, where they are given. */
void flat_reply_times(const struct http_res *res, struct attr *a);
/* What a write that succeeded left there: attr as given (NULL: nothing), with size, version and the
 * reply's date. */
void flat_attr_written(const struct http_res *res, const struct attr *given, uint64_t size,
                       const char *etag, bool posix, struct attr *ret);
/* A marker's attributes as those of its directory. */
void flat_make_dir_attr(struct attr *a);

/* ---- listings ---- */
struct flat_item {
    char *object; /* decoded; common prefixes and markers end in '/' */
    bool is_prefix;
    bool has_meta;
    uint64_t size;
    struct timespec mtime;
    char etag[ATTR_VERSION_MAX];
    struct http_headers meta; /* with the rules' head, and content-type; when has_meta */
};

struct flat_result {
    struct flat_item *v;
    size_t n;
    bool truncated;
    char *token;
};

struct flat_item *flat_result_add(struct flat_result *r, bool is_prefix);
void flat_result_done(struct flat_result *r);

struct flat_view {
    char *uri;          /* "s3://bucket", for messages; ours */
    const char *prefix; /* the store's */
    const char *hide;   /* a prefix below the store's that is not shown, or NULL */
    bool (*is_hidden)(const char *name, uint64_t size); /* nor is such an object (below the prefix), or NULL */
    bool posix;
    bool from_start;    /* it cannot list behind a name: `after` only leaves out what came before */
    unsigned page_max;
    const struct flat_meta_rules *rules;
    /* First entries (at most `max`) below a full prefix; one level when q says so, else flat. */
    int (*list)(struct store *s, struct op *op, const char *opname, const char *prefix,
                const struct list_query *q, unsigned max, struct flat_result *ret);
    /* Attributes of an object by its full name; if_match: version or NULL (-ESTALE). */
    int (*head)(struct store *s, struct op *op, const char *opname, const char *object,
                const char *if_match, struct attr *ret);
    int (*put_marker)(struct store *s, struct op *op, const char *opname, const char *object,
                      const struct attr *attr, struct attr *ret /* or NULL */);
    int (*remove)(struct store *s, struct op *op, const char *object, const char *if_match);
    /* Metadata of one object by its full name, for flat_set_meta; NULL: the class has its own. -EAGAIN: somebody
     * else has changed the object since this call looked at it, and nothing was done. */
    int (*set_meta)(struct store *s, struct op *op, const char *object, const char *if_match,
                    const struct attr *change, struct attr *ret);
};
/* A truncated listing has a token, and not the one that it was asked with: else -EIO. */
int flat_check_paging(struct op *op, const char *cursor, struct flat_result *l);
/* What was parsed of a reply (r < 0: it is no listing, -EIO) becomes *ret, its paging checked; takes *l. */
int flat_take_listing(const struct flat_view *view, struct op *op, const char *opname, const char *prefix,
                      const struct list_query *q, int r, struct flat_result *l, struct flat_result *ret);
/* Entries, dir_exists, unordered and cursor of a page; takes l's token. `prefix` is the full one. What
 * the server listed elsewhere is -EIO. */
int flat_fill_page(const struct flat_view *view, struct op *op, const char *prefix,
                   const struct list_query *q, struct flat_result *l, struct list_page *page);


/* ---- slots over a view ---- */
int flat_list(const struct flat_view *v, struct store *s, struct op *op, const struct list_query *q,
              struct list_page *ret);
/* The file, else the directory of that key. */
int flat_stat(const struct flat_view *v, struct store *s, struct op *op, const char *key, struct attr *ret);
/* A file by its key: -ENOENT for the marker "d/" of a directory, and for "/". */
int flat_head_file(const struct flat_view *v, struct store *s, struct op *op, const char *opname,
                   const char *key, const char *if_match, struct attr *ret);
/* Is there a directory `key`? 0 with its attributes (from the marker if there is one, *ret_marker),
 * or -ENOENT. */
int flat_stat_dir(const struct flat_view *v, struct store *s, struct op *op, const char *key,
                  struct attr *ret, bool *ret_marker);
int flat_make_dir(const struct flat_view *v, struct store *s, struct op *op, const char *key,
                  const struct attr *attr);
int flat_remove_dir(const struct flat_view *v, struct store *s, struct op *op, const char *key);
/* After an attempt that looks and then writes on condition that nothing has changed: true when *r is -EAGAIN, and
 * it is to look again, at once: who was faster has done his work, so this ends when the others do. After very many
 * (*tries, at first 0) *r is -EBUSY, or what ended the operation. */
bool flat_overtaken(struct op *op, unsigned *tries, int *r);
/* Of a file, else of the directory of that key. */
int flat_set_meta(const struct flat_view *v, struct store *s, struct op *op, const char *key, const char *if_match,
                  const struct attr *change, struct attr *ret);
/* After a copy of object `from` to object `to` by a service that gives copies a time of their own: one whose source
 * has no stored time is given the one that the source has shown, when there is room for it. *copy: what is there
 * now. `source`: the store that `from` is in. Costs requests only for such a source. */
int flat_keep_time(const struct flat_view *v, struct store *s, struct op *op, struct store *source,
                   const char *from, const char *from_version, const char *to, struct attr *copy);
int flat_set_dir_meta(const struct flat_view *v, struct store *s, struct op *op, const char *key,
                      const struct attr *change, struct attr *ret);

/* ---- conditions ---- */
/* The errno that the contract wants for a failed condition: -ESTALE (409 or 412) of a creation is -EEXIST, -ENOENT of
 * a replacement -ESTALE. */
int flat_cond_result(struct op *op, const struct precond *pre, int r);
/* `refused`: the reply says that a condition failed. When curl sent the request twice the first sending may be what
 * the second one ran into: the outcome is unknown. Else r. */
int flat_resent_result(struct op *op, const char *opname, const char *method, const struct http_res *res, bool refused,
                       int r);

/* ---- reading ---- */
struct flat_reading {
    struct op *op;
    const struct read_req *req;
    const char *version_header; /* "etag" */
    uint64_t total;             /* out: size of the object */
    uint64_t expected;          /* out: bytes that must come */
};
/* http_req.on_reply: status, Content-Range and version, before a byte is announced to the reader. */
int flat_check_reply(void *arg, const struct http_res *res);
/* Content-Length of a reply; false when absent or odd. */
bool flat_reply_length(const struct http_res *res, uint64_t *ret);

#endif
