/* SPDX-License-Identifier: MIT
 * web_client.h: requests to one web server: its credentials, redirects, what its status means.
 *
 * Used by the classes http (backends/web) and api (backends/api); a layer over backends/http.h.
 *     struct web w;  r = web_open(section, "url", &err, &w);  ... web_do(&w, op, &req, &res); web_close(&w);
 *
 * What it guarantees
 *  - Credentials (Authorization, an API key) go to the configured origin only, never to where a redirect
 *    leads; `web_origin_is_open` credentials over plain http to another machine are warned of at opening.
 *  - Redirects of GET and HEAD are followed, at most `max_redirects`, not from https to http and not from
 *    another machine to this one. A redirect to the same place with '/' at its end is an answer (dir).
 *  - Nothing is asked to be compressed: Accept-Encoding: identity. No cookies.
 *  - Texts name URLs without their query, which may be a credential.
 * Errors: as http.h; a status that is not 2xx (304 and 416 when the caller takes them) is -errno by the
 * table in README.md, with op->err.status. Threads: any, after web_open. */
#ifndef QUAY_BACKENDS_WEB_CLIENT_H
#define QUAY_BACKENDS_WEB_CLIENT_H

#include "backends/http.h"
#include "backends/web/web_url.h"

struct web {
    struct http_client *http;
    struct web_ref root;             /* the directory that is the store's root: path ends in '/' */
    struct http_headers credentials; /* for root.origin only */
    struct http_headers always;      /* sent with every request */
    unsigned max_redirects;
    /* Optional, around every request: waits for its turn (0 or -errno); sees what was answered. */
    int (*before)(void *arg, struct op *op);
    void (*after)(void *arg, const struct http_res *res);
    void *around_arg;
};

/* Rows of an option table that web_open reads. */
#define WEB_OPTIONS                                                                                \
    {"username", CONF_STRING, .help = "user of basic authentication"},                             \
    {"password", CONF_SECRET, .help = "its password; better password_file"},                       \
    {"bearer_token", CONF_SECRET, .help = "sent as Authorization: Bearer"},                        \
    {"max_redirects", CONF_INT, "5", .min = 0, .max = 20, .help = "redirects followed in a row"},  \
    {"max_connections", CONF_INT, "16", .min = 1, .max = 256, .help = "connections of this store"}, \
    {"verify_tls", CONF_BOOL, "yes", .help = "verify the server's certificate"},                   \
    {"ca_file", CONF_PATH, .help = "certificates to trust instead of the system's"},               \
    {"connect_timeout", CONF_DURATION, "5s", .help = "connecting takes at most this"}

struct web_req {
    const char *verb;              /* "stat", "read": for texts */
    const char *method;            /* GET, HEAD */
    const struct web_ref *at;
    struct http_headers headers;   /* more to send; freed by web_req_done */
    bool take_304, take_416;       /* these are answers, not errors */
    bool stop_at_dir;              /* a redirect to the same place with '/' ends it with ret->dir */
    /* As in http_req. */
    struct iovec to;
    int (*on_data)(void *arg, size_t so_far);
    void *on_data_arg;
    int (*sink)(void *arg, const void *data, size_t len);
    void *sink_arg;
    int (*on_reply)(void *arg, const struct http_res *res); /* of the last reply of a chain */
    void *on_reply_arg;
    size_t body_max;
};

struct web_res {
    struct http_res http;
    struct web_ref from; /* who answered in the end */
    bool dir;            /* see stop_at_dir */
};

#define WEB_RES_INIT ((struct web_res){0})

/* `option` names the option that `url` came from, for texts. */
int web_open(const struct conf_section *c, const char *option, const char *url, struct err *err,
             struct web *ret);
void web_close(struct web *w);
/* Adds a credential header; warns once where it would cross a network in the clear. */
void web_add_credential(struct web *w, const char *name, const char *value);
int web_do(struct web *w, struct op *op, struct web_req *req, struct web_res *ret);
void web_req_done(struct web_req *r);
void web_res_done(struct web_res *r);
/* The place of a key (its bytes are encoded) below the root; `dir`: with '/' at its end. */
struct web_ref web_ref_of_key(const struct web *w, const char *key, bool dir);
/* "https://host/dir/file" without query, for texts; malloc'd. */
char *web_ref_text(const struct web_ref *r);
/* -errno and text for a reply that is no success. */
int web_error(struct op *op, const char *verb, const struct web_ref *at, const struct http_res *res);
/* Content-Length; false when there is none, or an odd one. */
bool web_reply_length(const struct http_res *res, uint64_t *ret);

#endif
