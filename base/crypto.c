/* SPDX-License-Identifier: MIT
 * crypto.c: digests, base64, hex and CRC-32C.
 * Invariants: (1) algorithms are fetched and tables built once, before the first use; (2) a digest
 * that the library refuses is a broken installation and aborts; (3) the hardware and the table form
 * of crc32c give the same result for any split of the data. */
#include "base/crypto.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static pthread_once_t digests_once = PTHREAD_ONCE_INIT;
static EVP_MD *md_sha256, *md_md5, *md_sha1;

static _Noreturn void crypto_bug(const char *what)
{
    fprintf(stderr, "libcrypto: %s failed\n", what);
    abort();
}

static void digests_fetch(void)
{
    md_sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    md_md5 = EVP_MD_fetch(NULL, "MD5", "-fips"); /* a checksum that protocols ask for */
    md_sha1 = EVP_MD_fetch(NULL, "SHA1", "-fips");
    if (!md_sha256 || !md_md5 || !md_sha1)
        crypto_bug("fetching SHA256, MD5 and SHA1");
}

static void digest(EVP_MD *const *md, const void *data, size_t len, uint8_t *out)
{
    pthread_once(&digests_once, digests_fetch);
    if (EVP_Digest(data, len, out, NULL, *md, NULL) != 1)
        crypto_bug("digest");
}

void sha256(const void *data, size_t len, uint8_t out[SHA256_LEN])
{
    digest(&md_sha256, data, len, out);
}

void crypto_thread_done(void)
{
    OPENSSL_thread_stop();
}

void sha256_hex(const void *data, size_t len, char out[65])
{
    uint8_t sum[SHA256_LEN];
    sha256(data, len, sum);
    hex_encode(sum, sizeof(sum), out);
}

void sha1_hex(const void *data, size_t len, char out[2 * SHA1_LEN + 1])
{
    uint8_t sum[SHA1_LEN];
    digest(&md_sha1, data, len, sum);
    hex_encode(sum, sizeof(sum), out);
}

void md5(const void *data, size_t len, uint8_t out[MD5_LEN])
{
    digest(&md_md5, data, len, out);
}

struct sha256_stream {
    EVP_MD_CTX *ctx;
};

struct sha256_stream *sha256_begin(void)
{
    pthread_once(&digests_once, digests_fetch);
    struct sha256_stream *s = xmalloc(sizeof(*s));
    s->ctx = EVP_MD_CTX_new();
    if (!s->ctx || EVP_DigestInit_ex2(s->ctx, md_sha256, NULL) != 1)
        crypto_bug("digest");
    return s;
}

void sha256_add(struct sha256_stream *s, const void *data, size_t len)
{
    if (EVP_DigestUpdate(s->ctx, data, len) != 1)
        crypto_bug("digest");
}

void sha256_end(struct sha256_stream *s, uint8_t out[SHA256_LEN])
{
    uint8_t sum[SHA256_LEN];
    if (EVP_DigestFinal_ex(s->ctx, sum, NULL) != 1)
        crypto_bug("digest");
    if (out)
        memcpy(out, sum, SHA256_LEN);
    EVP_MD_CTX_free(s->ctx);
    free(s);
}

/* RFC 2104: one context for both hashes. */
void hmac_sha1(const void *key, size_t key_len, const void *data, size_t len,
               uint8_t out[SHA1_LEN])
{
    unsigned n = SHA1_LEN;
    if (key_len > INT_MAX || !HMAC(EVP_sha1(), key, (int)key_len, data, len, out, &n))
        crypto_bug("HMAC-SHA1");
}

void hmac_sha256(const void *key, size_t key_len, const void *data, size_t len,
                 uint8_t out[SHA256_LEN])
{
    uint8_t inner[64] = {0}, outer[64], sum[SHA256_LEN];
    if (key_len > sizeof(inner))
        sha256(key, key_len, inner);
    else if (key_len)
        memcpy(inner, key, key_len);
    for (size_t i = 0; i < sizeof(inner); i++) {
        outer[i] = inner[i] ^ 0x5c;
        inner[i] ^= 0x36;
    }
    pthread_once(&digests_once, digests_fetch);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    if (!ctx || EVP_DigestInit_ex2(ctx, md_sha256, NULL) != 1 ||
        EVP_DigestUpdate(ctx, inner, sizeof(inner)) != 1 || EVP_DigestUpdate(ctx, data, len) != 1 ||
        EVP_DigestFinal_ex(ctx, sum, NULL) != 1 || EVP_DigestInit_ex2(ctx, md_sha256, NULL) != 1 ||
        EVP_DigestUpdate(ctx, outer, sizeof(outer)) != 1 ||
        EVP_DigestUpdate(ctx, sum, sizeof(sum)) != 1 || EVP_DigestFinal_ex(ctx, out, NULL) != 1)
        crypto_bug("hmac");
    EVP_MD_CTX_free(ctx);
    OPENSSL_cleanse(inner, sizeof(inner));
    OPENSSL_cleanse(outer, sizeof(outer));
}

/* CRC-32C, reflected polynomial. byte_table advances the register by one byte; lane_table[k][b] is
 * what byte k of the register, of value b, becomes after LANE zero bytes: with it three independent
 * lanes, which the processor computes side by side, are joined. */
#define POLYNOMIAL 0x82F63B78U
#define LANE 4096

static pthread_once_t crc_once = PTHREAD_ONCE_INIT;
static uint32_t byte_table[8][256];
static uint32_t lane_table[4][256];
static bool crc_hardware;

static uint32_t crc_software(uint32_t reg, const uint8_t *p, size_t len)
{
    for (; len >= 8; len -= 8, p += 8) {
        reg ^= (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
        reg = byte_table[7][reg & 0xff] ^ byte_table[6][(reg >> 8) & 0xff] ^
              byte_table[5][(reg >> 16) & 0xff] ^ byte_table[4][reg >> 24] ^ byte_table[3][p[4]] ^
              byte_table[2][p[5]] ^ byte_table[1][p[6]] ^ byte_table[0][p[7]];
    }
    while (len--)
        reg = byte_table[0][(reg ^ *p++) & 0xff] ^ (reg >> 8);
    return reg;
}

static void crc_tables(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t reg = i;
        for (int bit = 0; bit < 8; bit++)
            reg = (reg >> 1) ^ (reg & 1 ? POLYNOMIAL : 0);
        byte_table[0][i] = reg;
    }
    for (int k = 1; k < 8; k++)
        for (uint32_t i = 0; i < 256; i++)
            byte_table[k][i] =
                byte_table[0][byte_table[k - 1][i] & 0xff] ^ (byte_table[k - 1][i] >> 8);

    static const uint8_t zeros[LANE];
    for (unsigned bit = 0; bit < 32; bit++) {
        uint32_t after = crc_software(1U << bit, zeros, LANE);
        uint32_t *column = lane_table[bit / 8];
        for (unsigned i = 0; i < 256; i++)
            if (i & (1U << (bit % 8)))
                column[i] ^= after;
    }
#if defined(__x86_64__)
    crc_hardware = __builtin_cpu_supports("sse4.2");
#endif
}

#if defined(__x86_64__)
static inline uint32_t lane_shift(uint32_t reg)
{
    return lane_table[0][reg & 0xff] ^ lane_table[1][(reg >> 8) & 0xff] ^
           lane_table[2][(reg >> 16) & 0xff] ^ lane_table[3][reg >> 24];
}

static inline uint64_t load64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof(v));
    return v;
}

__attribute__((target("sse4.2"))) static uint32_t crc_sse42(uint32_t reg, const uint8_t *p,
                                                            size_t len)
{
    uint64_t a = reg;
    for (; len >= 3 * (size_t)LANE; len -= 3 * (size_t)LANE, p += 3 * (size_t)LANE) {
        uint64_t b = 0, c = 0;
        for (size_t i = 0; i < LANE; i += 8) {
            a = __builtin_ia32_crc32di(a, load64(p + i));
            b = __builtin_ia32_crc32di(b, load64(p + LANE + i));
            c = __builtin_ia32_crc32di(c, load64(p + 2 * (size_t)LANE + i));
        }
        a = lane_shift((uint32_t)a) ^ (uint32_t)b;
        a = lane_shift((uint32_t)a) ^ (uint32_t)c;
    }
    for (; len >= 8; len -= 8, p += 8)
        a = __builtin_ia32_crc32di(a, load64(p));
    reg = (uint32_t)a;
    while (len--)
        reg = __builtin_ia32_crc32qi(reg, *p++);
    return reg;
}
#else
static uint32_t crc_sse42(uint32_t reg, const uint8_t *p, size_t len)
{
    return crc_software(reg, p, len);
}
#endif

uint32_t crc32c(uint32_t crc, const void *data, size_t len)
{
    pthread_once(&crc_once, crc_tables);
    return ~(crc_hardware ? crc_sse42 : crc_software)(~crc, data, len);
}

uint32_t crc32c_software(uint32_t crc, const void *data, size_t len)
{
    pthread_once(&crc_once, crc_tables);
    return ~crc_software(~crc, data, len);
}

void hex_encode(const void *data, size_t len, char *out)
{
    static const char hex[] = "0123456789abcdef";
    const uint8_t *p = data;
    for (size_t i = 0; i < len; i++) {
        *out++ = hex[p[i] >> 4];
        *out++ = hex[p[i] & 15];
    }
    *out = '\0';
}

static const char base64_digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_add(struct buf *b, const void *data, size_t len)
{
    const uint8_t *p = data;
    buf_reserve(b, (len + 2) / 3 * 4);
    for (; len > 0; p += 3) {
        size_t n = len < 3 ? len : 3;
        uint32_t v = (uint32_t)p[0] << 16 | (n > 1 ? (uint32_t)p[1] << 8 : 0) | (n > 2 ? p[2] : 0);
        char out[4] = {base64_digits[v >> 18], base64_digits[(v >> 12) & 63],
                       n > 1 ? base64_digits[(v >> 6) & 63] : '=',
                       n > 2 ? base64_digits[v & 63] : '='};
        buf_add(b, out, 4);
        len -= n;
    }
}

void base64url_add(struct buf *b, const void *data, size_t len)
{
    size_t start = b->len;
    base64_add(b, data, len);
    while (b->len > start && b->data[b->len - 1] == '=')
        buf_truncate(b, b->len - 1);
    for (size_t i = start; i < b->len; i++)
        b->data[i] = b->data[i] == '+' ? '-' : b->data[i] == '/' ? '_' : b->data[i];
}

static int base64_value(char c)
{
    const char *at = c ? strchr(base64_digits, c) : NULL;
    return at ? (int)(at - base64_digits) : -1;
}

bool base64_decode(struct buf *b, const char *s, size_t len)
{
    size_t start = b->len;
    if (len % 4 != 0)
        return false;
    for (size_t i = 0; i < len; i += 4) {
        size_t pad = 0;
        if (i + 4 == len)
            pad = s[i + 3] != '=' ? 0 : s[i + 2] != '=' ? 1 : 2;
        uint32_t v = 0;
        for (size_t k = 0; k < 4; k++) {
            int d = k < 4 - pad ? base64_value(s[i + k]) : 0;
            if (d < 0) {
                buf_truncate(b, start);
                return false;
            }
            v = v << 6 | (uint32_t)d;
        }
        char out[3] = {(char)(v >> 16), (char)(v >> 8), (char)v};
        buf_add(b, out, 3 - pad);
    }
    return true;
}
