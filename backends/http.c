/* SPDX-License-Identifier: MIT
 * http.c: http.h over libcurl: a bounded LIFO pool of handles and one transfer at a time on each.
 *
 * A handle is an easy handle with a multi handle of its own, which owns its one kept-alive
 * connection. Driving the multi handle ourselves (instead of curl_easy_perform) gives a look at the
 * op every 100 ms, so cancelling is prompt, and our own stall clock: curl's low-speed limit would
 * end a server's "still working" blanks, one byte in ten seconds, which CompleteMultipartUpload
 * sends.
 *
 * States of a transfer: queued (no handle) -> signed -> sent -> reply (final status and headers
 * seen, on_reply passed) -> body -> done. `code` is set by the callback that ended it. */
#include "backends/http.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/lock.h"
#include "base/log.h"

#include <curl/curl.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define TICK_MS 100                /* how often a waiting transfer looks at its op */
#define HEADERS_MAX (64u << 10)    /* bytes of reply headers */
#define BODY_MAX (16u << 20)       /* default of http_req.body_max */
#define ERROR_BODY_MAX (64u << 10) /* kept of a non-2xx body */
#define SMALL_BODY (60u << 10)     /* below curl's MAX_INITIAL_POST_SIZE: goes out with the head */
#define RECV_BUFFER (128L << 10)   /* measured: larger ones leave the CPU cache and cost more */
#define SEND_BUFFER (256L << 10)

struct http_handle {
    struct http_handle *next; /* in the idle list */
    CURL *easy;
    CURLM *multi;
};

struct http_client {
    struct http_options opt; /* its strings are ours */
    struct {
        struct lock lock;
        struct cond freed;
        struct http_handle *idle; /* last used first: its connection is warm */
        unsigned made;
    } sync;
};

struct transfer {
    struct op *op;
    const struct http_req *req;
    struct http_res res;
    size_t header_bytes;
    bool replied;      /* the final reply's headers are complete */
    uint64_t body_off; /* next byte of req->body to send */
    uint64_t moved;    /* grows with every byte in or out */
    uint64_t moved_seen, moved_ns;
    unsigned stall_s;
    int code; /* -errno of the callback that ended the transfer, 0 */
    struct curl_slist *headers;
    char *small;       /* the body, when it is sent together with the head */
    unsigned sendings; /* how often the request was begun */
    char host[256];
    char text[CURL_ERROR_SIZE];
};

static void global_init_once(void)
{
    (void)curl_global_init(CURL_GLOBAL_DEFAULT);
}

void http_global_init(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, global_init_once);
}

/* ---- callbacks ---- */

/* A new status line begins a reply; 1xx replies come before the final one. */
static bool take_status_line(struct transfer *t, const char *p, size_t n)
{
    if (n < 12 || strncmp(p, "HTTP/", 5) != 0)
        return false;
    const char *sp = memchr(p, ' ', n);
    http_headers_done(&t->res.headers);
    t->res.status = 0;
    if (sp && (size_t)(p + n - sp) >= 4)
        for (int i = 1; i <= 3 && sp[i] >= '0' && sp[i] <= '9'; i++)
            t->res.status = t->res.status * 10 + (sp[i] - '0');
    return true;
}

static bool take_header(struct transfer *t, const char *p, size_t n)
{
    const char *colon = memchr(p, ':', n);
    if (!colon)
        return true; /* not a header; curl has already judged it */
    const char *v = colon + 1, *end = p + n;
    while (v < end && (*v == ' ' || *v == '\t'))
        v++;
    while (end > v && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    if (memchr(p, '\0', n))
        return false;
    CLEANUP_FREE char *name = xstrndup(p, (size_t)(colon - p));
    CLEANUP_FREE char *value = xstrndup(v, (size_t)(end - v));
    http_headers_add(&t->res.headers, name, value);
    return true;
}

static size_t on_header(char *p, size_t size, size_t nmemb, void *arg)
{
    struct transfer *t = arg;
    size_t all = size * nmemb, n = all;
    t->moved += all;
    op_moved(t->op);
    if (t->replied)
        return all; /* trailers */
    t->header_bytes += all;
    if (t->header_bytes > HEADERS_MAX) {
        t->code = err_set(&t->op->err, EIO, "%s sent more than 64 KiB of headers", t->host);
        return 0;
    }
    while (n > 0 && (p[n - 1] == '\n' || p[n - 1] == '\r'))
        n--;
    if (n > 0) {
        if (take_status_line(t, p, n) || take_header(t, p, n))
            return all;
        t->code = err_set(&t->op->err, EIO, "%s sent a malformed header", t->host);
        return 0;
    }
    if (t->res.status < 200)
        return all;
    t->replied = true;
    t->code = t->req->on_reply ? t->req->on_reply(t->req->on_reply_arg, &t->res) : 0;
    return t->code ? 0 : all;
}

static size_t store_into_iov(struct transfer *t, const char *p, size_t n)
{
    const struct iovec *to = &t->req->to;
    if (n > to->iov_len - t->res.to_len) {
        t->code = err_set(&t->op->err, EMSGSIZE, "%s sent more than the %zu bytes asked for",
                          t->host, to->iov_len);
        t->op->err.status = t->res.status;
        return 0;
    }
    memcpy((char *)to->iov_base + t->res.to_len, p, n);
    t->res.to_len += n;
    if (t->req->on_data && t->req->on_data(t->req->on_data_arg, t->res.to_len) != 0) {
        t->code = err_set(&t->op->err, EINTR, "stopped by the reader");
        return 0;
    }
    return n;
}

static size_t on_write(char *p, size_t size, size_t nmemb, void *arg)
{
    struct transfer *t = arg;
    size_t n = size * nmemb;
    bool good = t->res.status / 100 == 2;
    t->moved += n;
    op_moved(t->op);
    if (good && t->req->to.iov_base)
        return store_into_iov(t, p, n);
    if (good && t->req->sink) {
        t->code = t->req->sink(t->req->sink_arg, p, n);
        return t->code ? 0 : n;
    }
    if (!good) { /* as much of an explanation as anyone reads */
        size_t room = ERROR_BODY_MAX - t->res.body.len;
        buf_add(&t->res.body, p, n < room ? n : room);
        return n;
    }
    size_t max = t->req->body_max ? t->req->body_max : BODY_MAX;
    if (n > max - t->res.body.len) {
        t->code =
            err_set(&t->op->err, EMSGSIZE, "%s sent a reply of more than %zu bytes", t->host, max);
        return 0;
    }
    buf_add(&t->res.body, p, n);
    return n;
}

static size_t on_read(char *p, size_t size, size_t nmemb, void *arg)
{
    struct transfer *t = arg;
    const struct source *src = t->req->body;
    uint64_t left = src->size - t->body_off;
    size_t n = size * nmemb < left ? size * nmemb : (size_t)left;
    if (n == 0)
        return 0;
    int r = src->read_at(src, t->body_off, p, n);
    if (r < 0) {
        t->code = err_set(&t->op->err, -r, "cannot read what is to be sent: %s", strerror(-r));
        return CURL_READFUNC_ABORT;
    }
    t->body_off += n;
    t->moved += n;
    op_sent(t->op);
    return n;
}

static int on_seek(void *arg, curl_off_t offset, int origin)
{
    struct transfer *t = arg;
    if (origin != SEEK_SET || offset < 0 || (uint64_t)offset > t->req->body->size)
        return CURL_SEEKFUNC_FAIL;
    t->body_off = (uint64_t)offset;
    return CURL_SEEKFUNC_OK;
}

/* Before each sending: a second one is curl's own, because a kept-alive connection had died. */
static int on_sending(void *arg, char *to, char *from, int to_port, int from_port)
{
    struct transfer *t = arg;
    (void)to, (void)from, (void)to_port, (void)from_port;
    t->res.resent = t->sendings++ > 0;
    return CURL_PREREQFUNC_OK;
}

/* ---- handles ---- */

static void handle_free(struct http_handle *h)
{
    if (!h)
        return;
    if (h->easy)
        curl_easy_cleanup(h->easy);
    if (h->multi)
        (void)curl_multi_cleanup(h->multi);
    free(h);
}

/* What is the same for every request of a client. */
static void handle_set_constants(const struct http_client *c, CURL *e)
{
    curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(e, CURLOPT_PATH_AS_IS, 1L); /* keys may hold "..", "." and "//" */
    curl_easy_setopt(e, CURLOPT_TCP_NODELAY, 1L);
    curl_easy_setopt(e, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(e, CURLOPT_DNS_SHUFFLE_ADDRESSES, 1L);
    curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, (long)c->opt.connect_ms);
    curl_easy_setopt(e, CURLOPT_BUFFERSIZE, RECV_BUFFER);
    curl_easy_setopt(e, CURLOPT_UPLOAD_BUFFERSIZE, SEND_BUFFER);
    curl_easy_setopt(e, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(e, CURLOPT_SSL_VERIFYPEER, c->opt.verify_tls ? 1L : 0L);
    curl_easy_setopt(e, CURLOPT_SSL_VERIFYHOST, c->opt.verify_tls ? 2L : 0L);
    if (c->opt.ca_file)
        curl_easy_setopt(e, CURLOPT_CAINFO, c->opt.ca_file);
    curl_easy_setopt(e, CURLOPT_USERAGENT, c->opt.user_agent);
    curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_write);
    curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(e, CURLOPT_READFUNCTION, on_read);
    curl_easy_setopt(e, CURLOPT_SEEKFUNCTION, on_seek);
    curl_easy_setopt(e, CURLOPT_PREREQFUNCTION, on_sending);
}

static CURLM *multi_new(void)
{
    CURLM *m = curl_multi_init();
    if (m)
        (void)curl_multi_setopt(m, CURLMOPT_MAXCONNECTS, 1L);
    return m;
}

/* The multi handle owns the connection: it goes, and the connection with it. */
static void handle_drop_connection(struct http_handle *h)
{
    CURLM *fresh = multi_new();
    if (!fresh)
        return;
    (void)curl_multi_cleanup(h->multi);
    h->multi = fresh;
}

static struct http_handle *handle_new(const struct http_client *c)
{
    struct http_handle *h = xcalloc(1, sizeof(*h));
    h->easy = curl_easy_init();
    h->multi = multi_new();
    if (!h->easy || !h->multi) {
        handle_free(h);
        return NULL;
    }
    handle_set_constants(c, h->easy);
    return h;
}

static void handle_put(struct http_client *c, struct http_handle *h)
{
    LOCK_SCOPE(&c->sync.lock);
    if (h) {
        h->next = c->sync.idle;
        c->sync.idle = h;
    } else {
        c->sync.made--;
    }
    cond_signal(&c->sync.freed);
}

/* Takes the handle used last, or makes one, or waits until one comes back. */
static int handle_get(struct http_client *c, struct op *op, struct http_handle **ret)
{
    lock_acquire(&c->sync.lock);
    while (!c->sync.idle && c->sync.made >= c->opt.max_connections) {
        (void)cond_wait_until(&c->sync.freed, &c->sync.lock, clock_now_ns() + TICK_MS * NS_PER_MS);
        int r = op_check(op);
        if (r < 0) {
            /* The wake-up may have been ours: pass it on. */
            cond_signal(&c->sync.freed);
            lock_release(&c->sync.lock);
            return r;
        }
    }
    struct http_handle *h = c->sync.idle;
    if (h)
        c->sync.idle = h->next;
    else
        c->sync.made++;
    lock_release(&c->sync.lock);
    if (!h && !(h = handle_new(c))) {
        handle_put(c, NULL);
        return err_set(&op->err, ENOMEM, "no memory for an HTTP connection");
    }
    *ret = h;
    return 0;
}

int http_client_new(const struct http_options *o, struct err *err, struct http_client **ret)
{
    http_global_init();
    if (o->ca_file && access(o->ca_file, R_OK) != 0)
        return err_set(err, errno, "cannot read CA file %s: %s", o->ca_file, strerror(errno));
    struct http_client *c = xcalloc(1, sizeof(*c));
    c->opt = *o;
    c->opt.max_connections = o->max_connections ? o->max_connections : 32;
    c->opt.connect_ms = o->connect_ms ? o->connect_ms : 5000;
    c->opt.low_speed_s = o->low_speed_s ? o->low_speed_s : 30;
    c->opt.ca_file = o->ca_file ? xstrdup(o->ca_file) : NULL;
    c->opt.user_agent = xstrdup(o->user_agent ? o->user_agent : "quayfs/" QUAY_VERSION);
    lock_init(&c->sync.lock, LOCK_RANK_HTTP, "http");
    cond_init(&c->sync.freed);
    if (!o->verify_tls)
        log_warn("http",
                 "verify_tls = no: servers are not verified; anyone on the way can read and "
                 "change data");
    *ret = c;
    return 0;
}

void http_client_free(struct http_client *c)
{
    if (!c)
        return;
    while (c->sync.idle) {
        struct http_handle *h = c->sync.idle;
        c->sync.idle = h->next;
        handle_free(h);
    }
    cond_done(&c->sync.freed);
    lock_done(&c->sync.lock);
    free((void *)(uintptr_t)c->opt.ca_file);
    free((void *)(uintptr_t)c->opt.user_agent);
    free(c);
}

/* ---- one transfer ---- */

/* The authority of a URL, for messages. */
static void copy_host(const char *url, char *out, size_t size)
{
    const char *p = strstr(url, "://");
    p = p ? p + 3 : url;
    size_t n = strcspn(p, "/?#");
    (void)snprintf(out, size, "%.*s", (int)(n < size ? n : size - 1), p);
}

static bool set_header_list(struct transfer *t)
{
    /* Without these, curl would add headers that nobody signed or a wait for "100 Continue". */
    static const char *const off[] = {"Expect:", "Accept:", "Content-Type:"};
    struct buf line = BUF_INIT;
    bool ok = true;
    for (size_t i = 0; ok && i < ARRAY_LEN(off); i++) {
        bool own = i == 2 && t->req->headers && http_headers_get(t->req->headers, "content-type");
        struct curl_slist *l = own ? t->headers : curl_slist_append(t->headers, off[i]);
        ok = own || l;
        t->headers = l ? l : t->headers;
    }
    for (size_t i = 0; ok && t->req->headers && i < t->req->headers->n; i++) {
        const struct http_header *h = &t->req->headers->v[i];
        buf_reset(&line);
        /* "name;" is curl's way to send an empty value. */
        buf_addf(&line, *h->value ? "%s: %s" : "%s;", h->name, h->value);
        struct curl_slist *l =
            strpbrk(h->value, "\r\n") ? NULL : curl_slist_append(t->headers, line.data);
        ok = l != NULL;
        t->headers = l ? l : t->headers;
    }
    buf_done(&line);
    return ok;
}

/* A small body leaves in one piece with the head: one packet less, and a server that refuses by the
 * head alone has the body already, so that its closing does not destroy its own answer. */
static int set_small_body(CURL *e, struct transfer *t, size_t n)
{
    const struct source *src = t->req->body;
    t->small = xmalloc(n + 1);
    int r = n ? src->read_at(src, 0, t->small, n) : 0;
    if (r < 0)
        return err_set(&t->op->err, -r, "cannot read what is to be sent: %s", strerror(-r));
    curl_easy_setopt(e, CURLOPT_POST, 1L);
    curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)n);
    curl_easy_setopt(e, CURLOPT_POSTFIELDS, t->small); /* not copied */
    return 0;
}

static int set_method(CURL *e, struct transfer *t)
{
    const struct http_req *req = t->req;
    bool sends = strcmp(req->method, "PUT") == 0 || strcmp(req->method, "POST") == 0 || req->body;
    uint64_t size = req->body ? req->body->size : 0;
    int r = 0;
    curl_easy_setopt(e, CURLOPT_CUSTOMREQUEST, NULL);
    curl_easy_setopt(e, CURLOPT_POSTFIELDS, NULL);
    curl_easy_setopt(e, CURLOPT_HTTPGET, 1L); /* also ends NOBODY and UPLOAD of the last request */
    if (strcmp(req->method, "HEAD") == 0) {
        curl_easy_setopt(e, CURLOPT_NOBODY, 1L);
    } else if (sends && size <= SMALL_BODY) {
        r = set_small_body(e, t, (size_t)size);
    } else if (sends) {
        curl_easy_setopt(e, CURLOPT_UPLOAD, 1L);
        curl_easy_setopt(e, CURLOPT_INFILESIZE_LARGE, (curl_off_t)size);
    }
    if (strcmp(req->method, "GET") != 0 && strcmp(req->method, "HEAD") != 0)
        curl_easy_setopt(e, CURLOPT_CUSTOMREQUEST, req->method);
    return r;
}

static int transfer_set_up(struct http_handle *h, struct transfer *t)
{
    CURL *e = h->easy;
    if (!set_header_list(t))
        return err_set(&t->op->err, EINVAL, "a header of the request to %s has a line break",
                       t->host);
    int r = set_method(e, t);
    if (r < 0)
        return r;
    CURLcode cc = curl_easy_setopt(e, CURLOPT_URL, t->req->url);
    if (cc == CURLE_OK)
        cc = curl_easy_setopt(e, CURLOPT_PROXY, http_host_is_loopback(t->host) ? "" : NULL);
    if (cc != CURLE_OK)
        return err_set(&t->op->err, EINVAL, "%s: %s", t->host, curl_easy_strerror(cc));
    curl_easy_setopt(e, CURLOPT_HTTPHEADER, t->headers);
    curl_easy_setopt(e, CURLOPT_WRITEDATA, t);
    curl_easy_setopt(e, CURLOPT_HEADERDATA, t);
    curl_easy_setopt(e, CURLOPT_READDATA, t);
    curl_easy_setopt(e, CURLOPT_SEEKDATA, t);
    curl_easy_setopt(e, CURLOPT_PREREQDATA, t);
    curl_easy_setopt(e, CURLOPT_ERRORBUFFER, t->text);
    return 0;
}

/* The server has all of it, or will have: it may do what it was asked for whether we wait or not. */
static bool is_sent(struct http_handle *h, const struct transfer *t)
{
    curl_off_t body = 0;
    long head = 0;
    (void)curl_easy_getinfo(h->easy, CURLINFO_REQUEST_SIZE, &head);
    (void)curl_easy_getinfo(h->easy, CURLINFO_SIZE_UPLOAD_T, &body);
    return head > 0 && (!t->req->body || (uint64_t)body >= t->req->body->size);
}

/* Cancelled, past its deadline, or stalled? */
static int transfer_check(struct http_handle *h, struct transfer *t)
{
    int r = op_check(t->op);
    if (r == -EINTR && op_waits_for_sent(t->op) && is_sent(h, t)) {
        err_clear(&t->op->err);
        r = 0;
    }
    if (r < 0)
        return r;
    curl_off_t up = 0;
    (void)curl_easy_getinfo(h->easy, CURLINFO_SIZE_UPLOAD_T, &up);
    uint64_t moved = t->moved + (uint64_t)up, now = clock_now_ns();
    if (moved != t->moved_seen) {
        t->moved_seen = moved;
        t->moved_ns = now;
    } else if (now - t->moved_ns > t->stall_s * NS_PER_S) {
        return err_set(&t->op->err, ETIMEDOUT, "%s moved no byte for %u s", t->host, t->stall_s);
    }
    return 0;
}

static int wait_ms(const struct op *op)
{
    if (!op->deadline_ns)
        return TICK_MS;
    uint64_t now = clock_now_ns();
    uint64_t left = op->deadline_ns > now ? (op->deadline_ns - now) / NS_PER_MS + 1 : 0;
    return left < TICK_MS ? (int)left : TICK_MS;
}

/* Runs the transfer to its end; a code of our own is left in t->code. */
static CURLcode transfer_run(struct http_handle *h, struct transfer *t)
{
    CURLcode cc = CURLE_ABORTED_BY_CALLBACK;
    t->moved_ns = clock_now_ns();
    CURLMcode mc = curl_multi_add_handle(h->multi, h->easy);
    for (int running = 1; mc == CURLM_OK && running;) {
        mc = curl_multi_perform(h->multi, &running);
        if (mc != CURLM_OK || !running)
            break;
        int r = transfer_check(h, t);
        if (r < 0) {
            t->code = r;
            break;
        }
        mc = curl_multi_poll(h->multi, NULL, 0, wait_ms(t->op), NULL);
    }
    int queued;
    struct CURLMsg *m = mc == CURLM_OK ? curl_multi_info_read(h->multi, &queued) : NULL;
    if (m && m->msg == CURLMSG_DONE)
        cc = m->data.result;
    else if (mc != CURLM_OK)
        cc = CURLE_FAILED_INIT;
    (void)curl_multi_remove_handle(h->multi, h->easy);
    return cc;
}

static int errno_of_curl(CURLcode cc, bool *ret_connecting)
{
    *ret_connecting = false;
    switch (cc) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
    case CURLE_OPERATION_TIMEDOUT: /* only connecting has a limit of curl's */
        *ret_connecting = true;
        return EHOSTUNREACH;
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
        return EINVAL;
    case CURLE_OUT_OF_MEMORY:
        return ENOMEM;
    default:
        return EIO;
    }
}

/* How far it came, for err.remote. */
static const char *failed_step(const struct http_handle *h, CURLcode cc)
{
    double connected = 0;
    switch (cc) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
        return "DNS";
    case CURLE_COULDNT_CONNECT:
        return "connect";
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
        return "TLS";
    case CURLE_OPERATION_TIMEDOUT:
        (void)curl_easy_getinfo(h->easy, CURLINFO_CONNECT_TIME, &connected);
        return connected > 0 ? "TLS" : "connect";
    default:
        return "";
    }
}

static bool is_trust_failure(CURLcode cc)
{
    return cc == CURLE_PEER_FAILED_VERIFICATION || cc == CURLE_SSL_CACERT_BADFILE ||
           cc == CURLE_SSL_ISSUER_ERROR || cc == CURLE_SSL_CERTPROBLEM;
}

/* May the same request be sent again? */
static enum err_retry retry_class(struct http_handle *h, const struct transfer *t, bool connecting)
{
    long sent = 0;
    (void)curl_easy_getinfo(h->easy, CURLINFO_REQUEST_SIZE, &sent);
    bool reads = strcmp(t->req->method, "GET") == 0 || strcmp(t->req->method, "HEAD") == 0;
    return connecting || reads || sent == 0 ? ERR_RETRY_SAFE : ERR_RETRY_UNKNOWN;
}

static int transfer_failed(struct http_handle *h, struct transfer *t, CURLcode cc)
{
    struct err *e = &t->op->err;
    if (t->code) { /* ended by us; the text is there */
        if (t->code == -ETIMEDOUT || t->code == -EINTR)
            e->retry = retry_class(h, t, false);
        if (t->code == -EINTR && e->retry == ERR_RETRY_SAFE)
            e->retry = ERR_RETRY_NEVER;
        return t->code;
    }
    const char *why = t->text[0] ? t->text : curl_easy_strerror(cc);
    if (is_trust_failure(cc)) {
        (void)err_set(e, EIO, "TLS certificate of %s is not trusted: %s", t->host, why);
        (void)snprintf(e->remote, sizeof(e->remote), "TLS");
        return -EIO;
    }
    bool connecting;
    int code = errno_of_curl(cc, &connecting);
    int r = err_set(e, code, "%s: %s%s", t->host, why,
                    code == EHOSTUNREACH ? "; is the server up, and endpoint_url right?" : "");
    if (code == EHOSTUNREACH || code == EIO)
        e->retry = retry_class(h, t, connecting);
    (void)snprintf(e->remote, sizeof(e->remote), "%s", failed_step(h, cc));
    return r;
}

static void note_remote(struct http_handle *h, struct http_res *res)
{
    char *ip = NULL;
    long port = 0;
    (void)curl_easy_getinfo(h->easy, CURLINFO_PRIMARY_IP, &ip);
    (void)curl_easy_getinfo(h->easy, CURLINFO_PRIMARY_PORT, &port);
    if (ip && *ip)
        (void)snprintf(res->remote_addr, sizeof(res->remote_addr), "%.50s:%ld", ip, port);
}

static int transfer_do(struct http_handle *h, struct transfer *t)
{
    int r = t->req->sign ? t->req->sign(t->req->sign_arg, t->req->headers) : 0;
    if (r == 0)
        r = transfer_set_up(h, t);
    if (r < 0)
        return r;
    uint64_t begun = clock_now_ns();
    CURLcode cc = transfer_run(h, t);
    if (cc != CURLE_OK || t->code)
        r = transfer_failed(h, t, cc == CURLE_OK ? CURLE_ABORTED_BY_CALLBACK : cc);
    else if (!t->replied)
        r = err_set(&t->op->err, EIO, "%s sent no HTTP reply", t->host);
    else
        note_remote(h, &t->res);
    log_debug("http", "%s %.*s: %d, status %d, %llu us", t->req->method,
              (int)strcspn(t->req->url, "?"), t->req->url, r, t->res.status,
              (unsigned long long)((clock_now_ns() - begun) / 1000));
    /* Servers that refuse an upload (412, 503) without having read it close the connection
     * afterwards, often without saying so: the next request would run into that. */
    if (r == 0 && t->res.status >= 400 && t->req->body)
        handle_drop_connection(h);
    /* The handle outlives this frame: nothing of it may point here. */
    curl_easy_setopt(h->easy, CURLOPT_POSTFIELDS, NULL);
    curl_easy_setopt(h->easy, CURLOPT_HTTPHEADER, NULL);
    curl_easy_setopt(h->easy, CURLOPT_ERRORBUFFER, NULL);
    return r;
}

int http_do(struct http_client *c, struct op *op, const struct http_req *req, struct http_res *ret)
{
    lock_assert_none_held();
    struct transfer t = {.op = op, .req = req};
    t.stall_s = req->stall_s ? req->stall_s : c->opt.low_speed_s;
    copy_host(req->url, t.host, sizeof(t.host));
    struct http_handle *h = NULL;
    int r = op_check(op);
    if (r == 0)
        r = handle_get(c, op, &h);
    if (r == 0 && h) {
        r = transfer_do(h, &t);
        handle_put(c, h);
    }
    curl_slist_free_all(t.headers);
    free(t.small);
    if (r < 0)
        http_res_done(&t.res);
    else
        *ret = t.res;
    return r;
}
