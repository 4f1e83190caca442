/* SPDX-License-Identifier: MIT
 * sign_s3.h: AWS Signature Version 4 as S3 uses it. Pure functions: no clock, no network.
 *
 *     struct sign_s3_key key;                       // once a day, region and secret
 *     sign_s3_key(secret, "20130524", "us-east-1", "s3", &key);
 *     sign_s3_headers(&req, &key, &headers);        // adds x-amz-date ... authorization
 *     sign_s3_presign(&req, &key, 86400, &query);   // or the query of a URL that anyone may use
 *
 * The path is signed as it is sent: S3 does not normalise it. Every header in the list is signed,
 * so nothing on the way can be changed; headers added later (User-Agent, Content-Length) are not.
 * Threads: any. Ownership: everything in struct sign_s3_req is borrowed. */
#ifndef QUAY_BACKENDS_SIGN_S3_H
#define QUAY_BACKENDS_SIGN_S3_H

#include "backends/http.h"
#include "base/buf.h"
#include "base/crypto.h"

#include <time.h>

#define SIGN_S3_UNSIGNED "UNSIGNED-PAYLOAD"
#define SIGN_S3_EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define SIGN_S3_EXPIRES_MAX 604800u /* a week */

struct sign_s3_key {
    char date[9]; /* YYYYMMDD that it is good for */
    char region[64];
    char service[16];
    uint8_t key[SHA256_LEN];
};

struct sign_s3_param {
    const char *name, *value; /* plain; encoded when used */
};

struct sign_s3_req {
    const char *method;
    const char *host;                  /* as sent: with the port unless it is the scheme's own */
    const char *path;                  /* encoded, begins with '/' */
    const struct sign_s3_param *query; /* any order */
    size_t n_query;
    const char *access_key;
    const char *token;        /* session token or NULL */
    const char *payload_hash; /* hex SHA-256 or SIGN_S3_UNSIGNED */
    time_t now;
};

/* Derives the signing key; `date` is the first eight digits of the request's x-amz-date. */
void sign_s3_key(const char *secret, const char *date, const char *region, const char *service,
                 struct sign_s3_key *ret);
/* "a=1&b=2", encoded and in canonical order: sign and send the same text. */
void sign_s3_query(struct buf *b, const struct sign_s3_param *query, size_t n);
/* Adds x-amz-date, x-amz-content-sha256, x-amz-security-token and authorization to `h`. */
void sign_s3_headers(const struct sign_s3_req *r, const struct sign_s3_key *key,
                     struct http_headers *h);
/* Appends the signed query (without '?'); payload_hash is ignored: UNSIGNED-PAYLOAD. */
void sign_s3_presign(const struct sign_s3_req *r, const struct sign_s3_key *key, unsigned expires_s,
                     struct buf *query);
/* The canonical request, for tests and for comparing with what a server says it saw. */
void sign_s3_canonical(const struct sign_s3_req *r, const char *canonical_query,
                       const struct http_headers *h, const char *payload_hash, struct buf *ret,
                       struct buf *ret_signed_headers);

#endif
