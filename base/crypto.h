/* SPDX-License-Identifier: MIT
 * crypto.h: digests (OpenSSL), base64, hex, CRC32C. Pure functions. Threads: any. */
#ifndef QUAY_BASE_CRYPTO_H
#define QUAY_BASE_CRYPTO_H

#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SHA256_LEN 32
#define MD5_LEN 16

void sha256(const void *data, size_t len, uint8_t out[SHA256_LEN]);
void sha256_hex(const void *data, size_t len, char out[65]);
void hmac_sha256(const void *key, size_t key_len, const void *data, size_t len,
                 uint8_t out[SHA256_LEN]);
/* Only for what a format prescribes: hashed names in known_hosts files, names of AWS's token files. */
#define SHA1_LEN 20
void sha1_hex(const void *data, size_t len, char out[2 * SHA1_LEN + 1]);
void hmac_sha1(const void *key, size_t key_len, const void *data, size_t len,
               uint8_t out[SHA1_LEN]);
void md5(const void *data, size_t len, uint8_t out[MD5_LEN]);

/* Appends the RSA signature (PKCS #1 v1.5) of the data's SHA-256; `pem`: an unencrypted private key.
 * -EINVAL when it is none. */
int rsa_sha256_sign(const char *pem, const void *data, size_t len, struct buf *ret);

struct sha256_stream;
struct sha256_stream *sha256_begin(void);
void sha256_add(struct sha256_stream *s, const void *data, size_t len);
void sha256_end(struct sha256_stream *s, uint8_t out[SHA256_LEN]); /* frees s; out may be NULL */

/* CRC-32C (Castagnoli, RFC 3720), hardware where there is one. Start with crc = 0; chainable. */
uint32_t crc32c(uint32_t crc, const void *data, size_t len);
/* The same by tables only: for tests, and what crc32c does on other processors. */
uint32_t crc32c_software(uint32_t crc, const void *data, size_t len);

/* From now on AES-128-CTR costs users of OpenSSL in this process half or less when they hand it over 16 bytes at a time,
 * as libssh2 does: an OpenSSL provider (crypto_ctr.c). Nothing happens where OpenSSL is to be FIPS's, or its configuration
 * has default_properties, whichever they are. Once, before there are threads: EVP_set_default_properties(3) may not run
 * beside other uses of OpenSSL. */
void crypto_ctr_start(void);

/* Frees what OpenSSL keeps for the calling thread. A thread that nobody joins calls it before it is counted as gone:
 * its own clean-up may come after OpenSSL's at the end of the process, and then frees nothing. */
void crypto_thread_done(void);

void hex_encode(const void *data, size_t len, char *out); /* lower case; out has 2*len+1 */
void base64_add(struct buf *b, const void *data, size_t len);
void base64url_add(struct buf *b, const void *data, size_t len); /* RFC 4648 section 5, no padding */
/* Appends the decoded bytes; false (and b unchanged) when not base64. */
bool base64_decode(struct buf *b, const char *s, size_t len);

#endif
