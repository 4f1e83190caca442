/* SPDX-License-Identifier: MIT
 * sign_azure.h: Azure Storage's SharedKey authorization and service SAS. Pure: no clock, no network.
 *
 *     sign_azure_headers(&req, key, key_len, &headers);   // adds x-ms-date and authorization
 *     sign_azure_sas(&sas, key, key_len, &query);         // or the query of a URL that anyone may use
 *
 * Every x-ms-* header of the list and the standard headers that the scheme names are signed; the path is
 * signed as it is sent (encoded), the query decoded. Threads: any. Ownership: all of it is borrowed.
 * Facts: learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key, .../create-service-sas */
#ifndef QUAY_BACKENDS_SIGN_AZURE_H
#define QUAY_BACKENDS_SIGN_AZURE_H

#include "backends/sign_s3.h"

struct sign_azure_req {
    const char *method;
    const char *account;
    const char *path;                  /* encoded, begins with '/'; with the account where the URL has it */
    const struct sign_s3_param *query; /* plain, any order */
    size_t n_query;
    uint64_t length;                   /* of the body */
    time_t now;
};

/* What is signed; `h` has x-ms-date already. */
void sign_azure_string(const struct sign_azure_req *r, const struct http_headers *h, struct buf *ret);
/* Adds x-ms-date and authorization to `h`. */
void sign_azure_headers(const struct sign_azure_req *r, const void *key, size_t key_len,
                        struct http_headers *h);

struct sign_azure_sas {
    const char *account, *container, *blob; /* plain */
    bool write;     /* create and write instead of read */
    bool https;     /* not over http */
    time_t expires;
};

void sign_azure_sas_string(const struct sign_azure_sas *s, struct buf *ret);
void sign_azure_sas(const struct sign_azure_sas *s, const void *key, size_t key_len, struct buf *query);

#endif
