/* SPDX-License-Identifier: MIT
 * crypto_rsa.c: signatures with a private key (RSASSA-PKCS1-v1_5 with SHA-256, RFC 8017). */
#include "base/crypto.h"

#include <errno.h>
#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <string.h>

/* A key that asks for a password is refused, and not asked for at the terminal. */
static int no_password(char *buf, int size, int writing, void *arg)
{
    (void)buf, (void)size, (void)writing, (void)arg;
    return -1;
}

static EVP_PKEY *read_key(const char *pem)
{
    BIO *b = BIO_new_mem_buf(pem, -1);
    EVP_PKEY *k = b ? PEM_read_bio_PrivateKey(b, NULL, no_password, NULL) : NULL;
    (void)BIO_free(b);
    if (k && EVP_PKEY_get_base_id(k) != EVP_PKEY_RSA) {
        EVP_PKEY_free(k);
        k = NULL;
    }
    return k;
}

int rsa_sha256_sign(const char *pem, const void *data, size_t len, struct buf *ret)
{
    EVP_PKEY *k = read_key(pem);
    EVP_MD_CTX *ctx = k ? EVP_MD_CTX_new() : NULL;
    size_t n = 0;
    int r = -EINVAL;
    if (ctx && EVP_DigestSignInit_ex(ctx, NULL, "SHA256", NULL, NULL, k, NULL) == 1 &&
        EVP_DigestSign(ctx, NULL, &n, data, len) == 1) {
        unsigned char *out = (unsigned char *)buf_reserve(ret, n);
        if (EVP_DigestSign(ctx, out, &n, data, len) == 1) {
            ret->len += n;
            ret->data[ret->len] = '\0';
            r = 0;
        }
    }
    EVP_MD_CTX_free(ctx);
    EVP_PKEY_free(k);
    return r;
}
