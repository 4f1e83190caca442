/* SPDX-License-Identifier: MIT
 * t_crypto.c: published vectors: FIPS 180, RFC 4231, RFC 1321, RFC 3720, RFC 4648. */
#include "base/crypto.h"

#include "base/clock.h"
#include "tests/unit/t.h"

static void check_hex(const uint8_t *sum, size_t n, const char *want)
{
    char hex[129];
    hex_encode(sum, n, hex);
    CHECK_STR(hex, want);
}

static void test_sha256(void)
{
    char hex[65];
    uint8_t sum[SHA256_LEN];
    sha256_hex("", 0, hex);
    CHECK_STR(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    sha256_hex("abc", 3, hex);
    CHECK_STR(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    struct sha256_stream *s = sha256_begin();
    sha256_add(s, "a", 1);
    sha256_add(s, "", 0);
    sha256_add(s, "bc", 2);
    sha256_end(s, sum);
    check_hex(sum, 32, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    sha256_end(sha256_begin(), NULL);
}

static void test_hmac(void)
{
    uint8_t key[131], sum[SHA256_LEN];
    memset(key, 0x0b, 20);
    hmac_sha256(key, 20, "Hi There", 8, sum);
    check_hex(sum, 32, "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
    hmac_sha256("Jefe", 4, "what do ya want for nothing?", 28, sum);
    check_hex(sum, 32, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    memset(key, 0xaa, 131);
    hmac_sha256(key, 131, "Test Using Larger Than Block-Size Key - Hash Key First", 54, sum);
    check_hex(sum, 32, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    hmac_sha256("", 0, "", 0, sum);
    check_hex(sum, 32, "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
}

static void test_hmac_sha1(void)
{
    uint8_t key[20], sum[SHA1_LEN]; /* RFC 2202 */
    memset(key, 0x0b, 20);
    hmac_sha1(key, 20, "Hi There", 8, sum);
    check_hex(sum, 20, "b617318655057264e28bc0b6fb378c8ef146be00");
    hmac_sha1("Jefe", 4, "what do ya want for nothing?", 28, sum);
    check_hex(sum, 20, "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79");
    hmac_sha1("", 0, "", 0, sum);
    check_hex(sum, 20, "fbdb1d1b18aa6c08324b7d64b71fb76370690e1d");
}

static void test_md5(void)
{
    uint8_t sum[MD5_LEN];
    md5("message digest", 14, sum);
    check_hex(sum, 16, "f96b697d7cb7938d525a2f31aaf161d0");
}

static void check_crc(const void *data, size_t len, uint32_t want)
{
    CHECK_INT(crc32c(0, data, len), want);
    CHECK_INT(crc32c_software(0, data, len), want);
}

static void test_crc32c(void) /* RFC 3720 B.4 */
{
    uint8_t data[32];
    check_crc("", 0, 0);
    check_crc("123456789", 9, 0xE3069283);
    memset(data, 0, 32);
    check_crc(data, 32, 0x8A9136AA);
    memset(data, 0xff, 32);
    check_crc(data, 32, 0x62A8AB43);
    for (unsigned i = 0; i < 32; i++)
        data[i] = (uint8_t)i;
    check_crc(data, 32, 0x46DD794E);
    for (unsigned i = 0; i < 32; i++)
        data[i] = (uint8_t)(31 - i);
    check_crc(data, 32, 0x113FDB5C);
    static const uint8_t pdu[48] = {0x01, 0xc0, 0, 0,    0,    0, 0, 0,    0,    0, 0,    0,
                                    0,    0,    0, 0,    0x14, 0, 0, 0,    0,    0, 0x04, 0,
                                    0,    0,    0, 0x14, 0,    0, 0, 0x18, 0x28, 0, 0,    0,
                                    0,    0,    0, 0,    0x02, 0, 0, 0,    0,    0, 0,    0};
    check_crc(pdu, 48, 0xD9963A56);
}

static void test_crc32c_splits(void)
{
    size_t n = 100001;
    uint8_t *data = xmalloc(n);
    random_bytes(data, n);
    uint32_t whole = crc32c_software(0, data, n);
    CHECK_INT(crc32c(0, data, n), whole);
    for (int round = 0; round < 300; round++) {
        size_t a = random_below((uint32_t)n), b = a + random_below((uint32_t)(n - a));
        uint32_t crc = crc32c(0, data, a);
        crc = crc32c(crc, data + a, b - a);
        crc = crc32c_software(crc, data + b, n - b);
        CHECK_INT(crc, whole);
    }
    free(data);
}

static void check_base64(const char *plain, const char *coded)
{
    CLEANUP_BUF struct buf b = BUF_INIT;
    base64_add(&b, plain, strlen(plain));
    CHECK_STR(buf_str(&b), coded);
    buf_reset(&b);
    CHECK(base64_decode(&b, coded, strlen(coded)));
    CHECK_STR(buf_str(&b), plain);
}

static void test_base64(void)
{
    check_base64("", "");
    check_base64("f", "Zg==");
    check_base64("fo", "Zm8=");
    check_base64("foo", "Zm9v");
    check_base64("foob", "Zm9vYg==");
    check_base64("fooba", "Zm9vYmE=");
    check_base64("foobar", "Zm9vYmFy");
    CLEANUP_BUF struct buf b = BUF_INIT;
    buf_adds(&b, "keep");
    CHECK(!base64_decode(&b, "Zg=", 3));
    CHECK(!base64_decode(&b, "Zm9vZ===", 8));
    CHECK(!base64_decode(&b, "Zg==Zm9v", 8));
    CHECK(!base64_decode(&b, "Zm9v\0m8=", 8));
    CHECK_STR(buf_str(&b), "keep");
}

int main(void)
{
    RUN(test_sha256);
    RUN(test_hmac);
    RUN(test_hmac_sha1);
    RUN(test_md5);
    RUN(test_crc32c);
    RUN(test_crc32c_splits);
    RUN(test_base64);
    return t_done();
}
