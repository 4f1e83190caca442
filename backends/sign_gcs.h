/* SPDX-License-Identifier: MIT
 * sign_gcs.h: signed URLs of Google Cloud Storage, V4 (GOOG4-RSA-SHA256). Pure: no clock, no network.
 *
 *     struct sign_gcs_req q = {.method = "GET", .host = "storage.googleapis.com", .path = "/bucket/object",
 *                              .email = email, .private_key = pem, .now = now, .expires_s = 3600};
 *     r = sign_gcs_presign(&q, &err, &query);      // the URL is https://HOST PATH ? query
 *
 * The canonical request is that of AWS Signature V4 with other names (sign_s3.h): only the host is signed as
 * a header, the payload is not. Threads: any. Ownership: everything in the request is borrowed.
 * Errors: -EINVAL when the key cannot sign. Facts: cloud.google.com/storage/docs/authentication/signatures */
#ifndef QUAY_BACKENDS_SIGN_GCS_H
#define QUAY_BACKENDS_SIGN_GCS_H

#include "backends/sign_s3.h"

#define SIGN_GCS_EXPIRES_MAX 604800u /* a week */

struct sign_gcs_req {
    const char *method;
    const char *host;
    const char *path;                  /* encoded, begins with '/' */
    const struct sign_s3_param *query; /* more of it, any order */
    size_t n_query;
    const struct http_headers *headers; /* signed as well; or NULL. Whoever uses the URL sends them */
    const char *email;                 /* of the service account */
    const char *private_key;           /* PEM */
    time_t now;
    unsigned expires_s;
};

/* Appends the signed query (without '?'). */
int sign_gcs_presign(const struct sign_gcs_req *r, struct err *err, struct buf *query);

#endif
