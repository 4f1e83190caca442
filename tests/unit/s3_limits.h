/* SPDX-License-Identifier: MIT
 * s3_limits.h: an S3 in threads that takes multipart uploads as AWS does and keeps of them what tells whether they were
 * right: number, size and CRC-32C of each part. Its limits are AWS's, but for the sizes, which the test chooses.
 *
 *     struct s3_limits s = {.part_min = 1024, .part_max = 4096}; s3_limits_start(&s);   // s.port on 127.0.0.1
 *     s3_limits_stop(&s);   // after the client is gone: its connections are closed
 *     ... s.uploads[k] is the k-th upload ...
 *     s3_limits_done(&s);
 * A request that S3 refuses is refused in its words and counted in `refused`; one that this server does not know ends the
 * test. Source: S3's "Multipart upload limits" and the errors of UploadPart and CompleteMultipartUpload. */
#ifndef QUAY_TESTS_S3_LIMITS_H
#define QUAY_TESTS_S3_LIMITS_H

#include "base/buf.h"
#include "base/crypto.h"
#include "tests/unit/loopback.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <unistd.h>

#define S3_LIMITS_PARTS 10000u
#define S3_LIMITS_CONNECTIONS 64
#define S3_LIMITS_UPLOADS 4

struct s3_limits_part {
    uint64_t size;
    uint32_t crc;
    unsigned times; /* it was sent */
};

struct s3_limits_upload {
    struct s3_limits_part parts[S3_LIMITS_PARTS + 1]; /* by number */
    unsigned n;                                       /* named when it was completed; 0: it was not */
    uint64_t size;
    bool aborted;
};

struct s3_limits {
    uint64_t part_min, part_max;
    int listener, port;
    pthread_mutex_t lock;
    pthread_t acceptor, threads[S3_LIMITS_CONNECTIONS];
    int n_threads;
    struct s3_limits_upload *uploads;
    unsigned n_uploads, n_probes, refused, requests;
    const struct s3_limits_upload *object; /* the one that was completed last */
};

struct s3_limits_connection {
    struct s3_limits *s;
    int fd;
};

struct s3_limits_request {
    char method[8], target[1024];
    const char *head, *body;
    size_t length;
};

static inline void s3_limits_send(int fd, const char *status, const char *headers, const char *body)
{
    struct buf b = BUF_INIT;
    buf_addf(&b, "HTTP/1.1 %s\r\n%sContent-Length: %zu\r\n\r\n%s", status, headers, strlen(body), body);
    for (size_t off = 0; off < b.len;) {
        ssize_t n = send(fd, b.data + off, b.len - off, MSG_NOSIGNAL);
        if (n <= 0)
            break;
        off += (size_t)n;
    }
    buf_done(&b);
}

static inline void s3_limits_refuse(struct s3_limits *s, int fd, const char *status, const char *code)
{
    struct buf b = BUF_INIT;
    buf_addf(&b, "<Error><Code>%s</Code><Message>%s</Message></Error>", code, code);
    s->refused++;
    fprintf(stderr, "the server refuses: %s\n", code);
    s3_limits_send(fd, status, "", b.data);
    buf_done(&b);
}

/* The value of a parameter of the query, as a number. */
static inline unsigned long s3_limits_param(const char *target, const char *name)
{
    const char *at = strstr(target, name);
    return at ? strtoul(at + strlen(name), NULL, 10) : 0;
}

static inline struct s3_limits_upload *s3_limits_find(struct s3_limits *s, const char *target)
{
    unsigned long id = s3_limits_param(target, "uploadId=");
    struct s3_limits_upload *u = id && id <= s->n_uploads ? &s->uploads[id - 1] : NULL;
    return u && !u->aborted && !u->n ? u : NULL;
}

static inline bool s3_limits_is_aborted(const struct s3_limits *s, const char *target)
{
    unsigned long id = s3_limits_param(target, "uploadId=");
    return id && id <= s->n_uploads && s->uploads[id - 1].aborted;
}

static inline void s3_limits_take_part(struct s3_limits *s, int fd, const struct s3_limits_request *r)
{
    struct s3_limits_upload *u = s3_limits_find(s, r->target);
    unsigned long number = s3_limits_param(r->target, "partNumber=");
    const char *told = strcasestr(r->head, "\r\nx-amz-checksum-crc32c: ");
    uint32_t crc = crc32c(0, r->body, r->length);
    const unsigned char raw[4] = {(unsigned char)(crc >> 24), (unsigned char)(crc >> 16), (unsigned char)(crc >> 8),
                                  (unsigned char)crc};
    struct buf sum = BUF_INIT;
    char headers[100];
    base64_add(&sum, raw, sizeof(raw));
    bool same = told && strncmp(told + 25, sum.data, sum.len) == 0;
    buf_done(&sum);
    if (s3_limits_is_aborted(s, r->target)) { /* it was on its way when its sender gave it up */
        s3_limits_send(fd, "404 Not Found", "", "<Error><Code>NoSuchUpload</Code></Error>");
    } else if (!u) {
        s3_limits_refuse(s, fd, "404 Not Found", "NoSuchUpload");
    } else if (number < 1 || number > S3_LIMITS_PARTS) {
        s3_limits_refuse(s, fd, "400 Bad Request", "InvalidArgument");
    } else if (r->length > s->part_max) {
        s3_limits_refuse(s, fd, "400 Bad Request", "EntityTooLarge");
    } else if (!same) {
        s3_limits_refuse(s, fd, "400 Bad Request", "BadDigest");
    } else {
        struct s3_limits_part *p = &u->parts[number];
        *p = (struct s3_limits_part){.size = r->length, .crc = crc, .times = p->times + 1};
        (void)snprintf(headers, sizeof(headers), "ETag: \"%08x-%lu\"\r\n", crc, number);
        s3_limits_send(fd, "200 OK", headers, "");
    }
}

/* NULL, or why S3 would not take this part, which follows `before`. */
static inline const char *s3_limits_wrong_part(struct s3_limits *s, struct s3_limits_upload *u, const char *text,
                                               unsigned long *before)
{
    const char *tag = strstr(text, "<PartNumber>");
    unsigned long number = tag ? strtoul(tag + 12, NULL, 10) : 0;
    char etag[40];
    if (number <= *before)
        return tag ? "InvalidPartOrder" : "MalformedXML";
    if (number > S3_LIMITS_PARTS || !u->parts[number].times)
        return "InvalidPart";
    (void)snprintf(etag, sizeof(etag), "%08x-%lu&quot;", u->parts[number].crc, number);
    if (!strstr(text, etag))
        return "InvalidPart";
    if (*before && u->parts[*before].size < s->part_min)
        return "EntityTooSmall";
    *before = number;
    u->size += u->parts[number].size;
    u->n++;
    return NULL;
}

/* NULL, or why S3 would not put these parts together. */
static inline const char *s3_limits_wrong(struct s3_limits *s, struct s3_limits_upload *u, const char *body, size_t length)
{
    unsigned long before = 0;
    const char *at = body, *all = body + length, *end, *code = NULL;
    while (!code && (at = memmem(at, (size_t)(all - at), "<Part>", 6))) {
        char text[500];
        end = memmem(at, (size_t)(all - at), "</Part>", 7);
        if (!end || (size_t)(end - at) >= sizeof(text))
            return "MalformedXML";
        (void)snprintf(text, sizeof(text), "%.*s", (int)(end - at), at);
        code = s3_limits_wrong_part(s, u, text, &before);
        at = end;
    }
    return code || u->n ? code : "MalformedXML";
}

static inline void s3_limits_complete(struct s3_limits *s, int fd, const struct s3_limits_request *r)
{
    struct s3_limits_upload *u = s3_limits_find(s, r->target);
    const char *code = u ? s3_limits_wrong(s, u, r->body, r->length) : "NoSuchUpload";
    if (code && u)
        u->n = 0;
    if (code) {
        s3_limits_refuse(s, fd, u ? "400 Bad Request" : "404 Not Found", code);
        return;
    }
    s->object = u;
    s3_limits_send(fd, "200 OK", "",
                   "<CompleteMultipartUploadResult><ETag>&quot;whole&quot;</ETag></CompleteMultipartUploadResult>");
}

static inline void s3_limits_begin(struct s3_limits *s, int fd)
{
    char text[120];
    CHECK(s->n_uploads < S3_LIMITS_UPLOADS);
    (void)snprintf(text, sizeof(text), "<InitiateMultipartUploadResult><UploadId>%u</UploadId>"
                                       "</InitiateMultipartUploadResult>", ++s->n_uploads);
    s3_limits_send(fd, "200 OK", "", text);
}

static inline void s3_limits_head(struct s3_limits *s, int fd)
{
    char head[200];
    if (s->object) /* Content-Length is the object's, without a body */
        (void)snprintf(head, sizeof(head), "HTTP/1.1 200 OK\r\nETag: \"whole\"\r\nContent-Length: %llu\r\n"
                                           "Last-Modified: Tue, 14 Nov 2023 22:13:20 GMT\r\n\r\n",
                       (unsigned long long)s->object->size);
    else
        (void)snprintf(head, sizeof(head), "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    CHECK(send(fd, head, strlen(head), MSG_NOSIGNAL) == (ssize_t)strlen(head));
}

/* GET: of the bucket. */
static inline void s3_limits_get(struct s3_limits *s, int fd, const char *target)
{
    struct buf b = BUF_INIT;
    if (strstr(target, "list-type=2")) {
        buf_adds(&b, "<ListBucketResult><IsTruncated>false</IsTruncated>");
        if (s->object)
            buf_addf(&b, "<Contents><Key>f</Key><Size>%llu</Size><ETag>&quot;whole&quot;</ETag>"
                         "<LastModified>2023-11-14T22:13:20.000Z</LastModified></Contents>",
                     (unsigned long long)s->object->size);
        buf_adds(&b, "</ListBucketResult>");
    } else if (strstr(target, "?tagging")) {
        buf_adds(&b, "<Tagging><TagSet></TagSet></Tagging>");
    } else {
        CHECK(strstr(target, "?uploads"));
        buf_adds(&b, "<ListMultipartUploadsResult></ListMultipartUploadsResult>");
    }
    s3_limits_send(fd, "200 OK", "", b.data);
    buf_done(&b);
}

static inline void s3_limits_answer(struct s3_limits *s, int fd, const struct s3_limits_request *r)
{
    s->requests++;
    if (strcmp(r->method, "HEAD") == 0) {
        s3_limits_head(s, fd);
    } else if (strcmp(r->method, "GET") == 0) {
        s3_limits_get(s, fd, r->target);
    } else if (strcmp(r->method, "DELETE") == 0) {
        struct s3_limits_upload *u = s3_limits_find(s, r->target);
        if (u)
            u->aborted = true;
        s3_limits_send(fd, "204 No Content", "", "");
    } else if (strstr(r->target, ".quay-probe-") && s->n_probes++) {
        s3_limits_send(fd, "412 Precondition Failed", "", "<Error><Code>PreconditionFailed</Code></Error>");
    } else if (strstr(r->target, ".quay-probe-")) {
        s3_limits_send(fd, "200 OK", "ETag: \"probe\"\r\n", "");
    } else if (strcmp(r->method, "PUT") == 0) {
        s3_limits_take_part(s, fd, r);
    } else if (strstr(r->target, "?uploads")) {
        s3_limits_begin(s, fd);
    } else {
        s3_limits_complete(s, fd, r);
    }
}

/* One request, with its body; false: the client has closed. What follows it stays in `b`. */
static inline bool s3_limits_read(int fd, struct buf *b, struct s3_limits_request *r, size_t *ret_all)
{
    char tmp[65536];
    for (;;) {
        char *end = b->len ? strstr(b->data, "\r\n\r\n") : NULL;
        if (end) {
            const char *len = strcasestr(b->data, "\r\ncontent-length:");
            r->length = len && len < end ? strtoul(len + 17, NULL, 10) : 0;
            *ret_all = (size_t)(end + 4 - b->data) + r->length;
        }
        if (end && b->len >= *ret_all) {
            CHECK(sscanf(b->data, "%7s %1023s", r->method, r->target) == 2);
            r->head = b->data;
            r->body = end + 4;
            return true;
        }
        ssize_t n = read(fd, tmp, sizeof(tmp));
        if (n <= 0)
            return false;
        buf_add(b, tmp, (size_t)n);
    }
}

static inline void *s3_limits_serve(void *arg)
{
    struct s3_limits_connection c = *(struct s3_limits_connection *)arg;
    struct buf b = BUF_INIT;
    struct s3_limits_request r;
    size_t all = 0;
    free(arg);
    while (s3_limits_read(c.fd, &b, &r, &all)) {
        pthread_mutex_lock(&c.s->lock);
        s3_limits_answer(c.s, c.fd, &r);
        pthread_mutex_unlock(&c.s->lock);
        struct buf rest = BUF_INIT;
        buf_add(&rest, b.data + all, b.len - all);
        buf_done(&b);
        b = rest;
    }
    buf_done(&b);
    close(c.fd);
    return NULL;
}

static inline void *s3_limits_accept(void *arg)
{
    struct s3_limits *s = arg;
    for (int fd; (fd = accept(s->listener, NULL, NULL)) >= 0;) {
        struct s3_limits_connection *c = malloc(sizeof(*c));
        CHECK(c && s->n_threads < S3_LIMITS_CONNECTIONS);
        *c = (struct s3_limits_connection){.s = s, .fd = fd};
        CHECK(pthread_create(&s->threads[s->n_threads++], NULL, s3_limits_serve, c) == 0);
    }
    return NULL;
}

static inline void s3_limits_start(struct s3_limits *s)
{
    s->uploads = calloc(S3_LIMITS_UPLOADS, sizeof(*s->uploads));
    CHECK(s->uploads && pthread_mutex_init(&s->lock, NULL) == 0);
    s->listener = loopback_listen(64, &s->port);
    CHECK(pthread_create(&s->acceptor, NULL, s3_limits_accept, s) == 0);
}

static inline void s3_limits_stop(struct s3_limits *s)
{
    CHECK(shutdown(s->listener, SHUT_RDWR) == 0);
    CHECK(pthread_join(s->acceptor, NULL) == 0);
    close(s->listener);
    for (int i = 0; i < s->n_threads; i++)
        CHECK(pthread_join(s->threads[i], NULL) == 0);
}

static inline void s3_limits_done(struct s3_limits *s)
{
    free(s->uploads);
    pthread_mutex_destroy(&s->lock);
}

/* While it runs. */
static inline unsigned s3_limits_requests(struct s3_limits *s)
{
    pthread_mutex_lock(&s->lock);
    unsigned n = s->requests;
    pthread_mutex_unlock(&s->lock);
    return n;
}

#endif
