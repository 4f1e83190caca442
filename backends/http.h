/* SPDX-License-Identifier: MIT
 * http.h: the HTTP client of all HTTP backends; the only file pair that touches libcurl.
 *
 * One client per store: a pool of at most `max_connections` handles, each with its kept-alive
 * connection. http_do() blocks the calling thread; a thread beyond the limit waits its turn.
 *
 * What it guarantees
 *  - TLS: peer and host verified, TLS 1.2 or later; `verify_tls = no` logs a warning at every open.
 *  - Redirects are not followed; the caller sees the 3xx. Only http and https are spoken.
 *  - Stalls: no byte for low_speed_s -> -ETIMEDOUT; connecting takes at most connect_ms.
 *    There is no absolute limit but op->deadline. op_cancel ends a transfer within 100 ms: -EINTR; op_cancel_unsent
 *    does not when the request was sent completely.
 *  - Bodies stream both ways: uploads from a struct source (rewindable), downloads into the caller's
 *    memory (to_iov), to a function (sink) or into a growing buf (bounded by body_max).
 *  - A download's length must match Content-Length; a short body is -EIO, ERR_RETRY_SAFE.
 *  - Response headers: those asked for are kept; at most 64 KiB of headers in all.
 * Errors: network failures give -errno with retry class (SAFE before the request was sent or for
 * idempotent methods; UNKNOWN for a PUT/POST/DELETE that had been sent). An HTTP status is not an
 * error here: 0 is returned and res->status holds it.
 * Signing: `sign` is called with the final header list just before each attempt is sent. */
#ifndef QUAY_BACKENDS_HTTP_H
#define QUAY_BACKENDS_HTTP_H

#include "backends/store.h"

struct http_client;

struct http_options {
    unsigned max_connections; /* default 32 */
    unsigned connect_ms;      /* default 5000 */
    unsigned low_speed_s;     /* default 30 */
    bool verify_tls;
    const char *ca_file;      /* NULL: the system's */
    const char *user_agent;   /* NULL: quayfs/VERSION */
};

struct http_header {
    char *name;  /* lower case */
    char *value;
};

struct http_headers {
    struct http_header *v;
    size_t n;
};

void http_headers_add(struct http_headers *h, const char *name, const char *value); /* copies */
void http_headers_addf(struct http_headers *h, const char *name, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
const char *http_headers_get(const struct http_headers *h, const char *name); /* NULL: none */
void http_headers_done(struct http_headers *h);

struct http_res;

struct http_req {
    const char *method;            /* GET HEAD PUT POST DELETE */
    const char *url;               /* complete, encoded */
    struct http_headers *headers;  /* to send; borrowed */
    const struct source *body;     /* or NULL */
    struct iovec to;               /* a 2xx body goes here when iov_base is set; longer is -EMSGSIZE */
    int (*on_data)(void *arg, size_t so_far);
    void *on_data_arg;
    /* Or: is given a 2xx body piece by piece; 0, or -errno with op->err set (ends the transfer). */
    int (*sink)(void *arg, const void *data, size_t len);
    void *sink_arg;
    size_t body_max;               /* limit of res->body; default 16 MiB */
    unsigned stall_s;              /* instead of the client's low_speed_s; 0 = that */
    /* Optional: adds the signature to `headers`; 0, or -errno with op->err set. */
    int (*sign)(void *arg, struct http_headers *headers);
    void *sign_arg;
    /* Optional: sees status and headers of the final reply before a byte of its body is stored or
     * announced; 0, or -errno with op->err set (ends the transfer, http_do gives that). */
    int (*on_reply)(void *arg, const struct http_res *res);
    void *on_reply_arg;
};

struct http_res {
    int status;
    struct http_headers headers;
    struct buf body;               /* when not read into `to`, and for every non-2xx */
    size_t to_len;                 /* bytes put into `to` */
    bool resent;                   /* a kept-alive connection died and the request was sent twice */
    char remote_addr[64];
};

#define HTTP_RES_INIT ((struct http_res){0})

int http_client_new(const struct http_options *o, struct err *err, struct http_client **ret);
/* By the options max_connections (`connections` when it is not given), connect_timeout, timeout, verify_tls, ca_file. */
int http_client_of(const struct conf_section *c, unsigned connections, struct err *err, struct http_client **ret);
void http_client_free(struct http_client *c);
int http_do(struct http_client *c, struct op *op, const struct http_req *req, struct http_res *ret);
void http_res_done(struct http_res *r);

/* "bytes=OFF-LAST": the one range builder (inclusive end). len > 0. */
void http_range(uint64_t offset, uint64_t len, char out[64]);
/* Parses "bytes 0-99/1234" (or /star: total = UINT64_MAX). */
bool http_parse_content_range(const char *s, uint64_t *first, uint64_t *last, uint64_t *total);
/* Retry-After in seconds or as a date -> ms from now, at most 5 minutes; 0 = none. */
unsigned http_retry_after_ms(const struct http_headers *h);
/* Is this host[:port] on this machine? (Loopback: no proxy, no eavesdropper.) */
bool http_host_is_loopback(const char *authority);
void http_global_init(void); /* once, before threads */

#endif
