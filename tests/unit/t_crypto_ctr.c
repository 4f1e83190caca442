/* SPDX-License-Identifier: MIT
 * t_crypto_ctr.c: AES-128-CTR in pieces of any size is that of SP 800-38A (F.5.1) and of OpenSSL. Where OpenSSL's
 * configuration says which implementations are wanted, it is OpenSSL's; those runs are this program again, with a word. */
#include "base/crypto.h"

#include "base/cleanup.h"
#include "tests/unit/t.h"

#include <openssl/evp.h>
#include <openssl/provider.h>
#include <sys/wait.h>
#include <unistd.h>

static const unsigned char key[] = {0x2b, 0x7e, 0x15, 0x16, 0x28, 0xae, 0xd2, 0xa6,
                                    0xab, 0xf7, 0x15, 0x88, 0x09, 0xcf, 0x4f, 0x3c};
static const unsigned char counter[] = {0xf0, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7,
                                        0xf8, 0xf9, 0xfa, 0xfb, 0xfc, 0xfd, 0xfe, 0xff};

static const char *provider_of(EVP_CIPHER_CTX *c)
{
    return OSSL_PROVIDER_get0_name(EVP_CIPHER_get0_provider(EVP_CIPHER_CTX_get0_cipher(c)));
}

/* As libssh2 begins. */
static EVP_CIPHER_CTX *begin(int encrypt)
{
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    CHECK(c && EVP_CipherInit(c, EVP_aes_128_ctr(), key, counter, encrypt));
    CHECK_STR(provider_of(c), "quay");
    CHECK_INT(EVP_CIPHER_CTX_get_block_size(c), 1);
    CHECK_INT(EVP_CIPHER_CTX_get_key_length(c), 16);
    CHECK_INT(EVP_CIPHER_CTX_get_iv_length(c), 16);
    return c;
}

static void vector(void)
{
    static const unsigned char plain[] = {0x6b, 0xc1, 0xbe, 0xe2, 0x2e, 0x40, 0x9f, 0x96, 0xe9, 0x3d, 0x7e,
                                          0x11, 0x73, 0x93, 0x17, 0x2a, 0xae, 0x2d, 0x8a, 0x57, 0x1e, 0x03,
                                          0xac, 0x9c, 0x9e, 0xb7, 0x6f, 0xac, 0x45, 0xaf, 0x8e, 0x51};
    unsigned char out[sizeof(plain)];
    char hex[2 * sizeof(plain) + 1];
    EVP_CIPHER_CTX *c = begin(1);
    for (size_t at = 0; at < sizeof(plain); at += 16)
        CHECK_INT(EVP_Cipher(c, out + at, plain + at, 16), 16);
    hex_encode(out, sizeof(out), hex);
    CHECK_STR(hex, "874d6191b620e3261bef6864990db6ce9806f66b7970fdff8617187bb9fffdff");
    EVP_CIPHER_CTX_free(c);
}

#define SIZE 100003

static void reference(const unsigned char *in, unsigned char *out)
{
    EVP_CIPHER *own = EVP_CIPHER_fetch(NULL, "AES-128-CTR", "provider=default");
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    int n = 0;
    CHECK(own && c && EVP_EncryptInit_ex(c, own, NULL, key, counter));
    CHECK_STR(provider_of(c), "default");
    CHECK(EVP_EncryptUpdate(c, out, &n, in, SIZE) && n == SIZE);
    EVP_CIPHER_CTX_free(c);
    EVP_CIPHER_free(own);
}

static void pieces(void)
{
    CLEANUP_FREE unsigned char *in = xmalloc(SIZE), *want = xmalloc(SIZE), *got = xmalloc(SIZE);
    for (size_t i = 0; i < SIZE; i++)
        in[i] = (unsigned char)(i * i >> 3);
    reference(in, want);
    for (int encrypt = 0; encrypt < 2; encrypt++) {
        EVP_CIPHER_CTX *c = begin(encrypt), *copy = NULL;
        unsigned seed = 7;
        for (size_t at = 0, n; at < SIZE; at += n) {
            seed = seed * 1103515245 + 12345;
            n = seed >> 16 & 1 ? 16 : (seed >> 17) % (seed >> 30 ? 300 : 9000) + 1;
            n = n < SIZE - at ? n : SIZE - at;
            CHECK_INT(EVP_Cipher(c, got + at, in + at, (unsigned)n), n);
            if (!copy && at > SIZE / 2) { /* goes on where the first is */
                copy = EVP_CIPHER_CTX_new();
                CHECK(EVP_CIPHER_CTX_copy(copy, c));
                EVP_CIPHER_CTX_free(c);
                c = copy;
            }
        }
        CHECK(memcmp(got, want, SIZE) == 0);
        EVP_CIPHER_CTX_free(c);
    }
}

/* A context that begins again, in place, with the key that it has. */
static void again(void)
{
    unsigned char a[32] = {0}, b[32] = {0};
    EVP_CIPHER_CTX *c = begin(1);
    CHECK_INT(EVP_Cipher(c, a, a, 32), 32);
    CHECK(EVP_CipherInit(c, NULL, NULL, counter, 1));
    CHECK_INT(EVP_Cipher(c, b, b, 32), 32);
    CHECK(memcmp(a, b, 32) == 0 && a[0] != 0);
    EVP_CIPHER_CTX_free(c);
}

/* Others are OpenSSL's. */
static void others(void)
{
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    unsigned char long_key[32] = {1};
    CHECK(c && EVP_CipherInit(c, EVP_aes_256_ctr(), long_key, counter, 1));
    CHECK_STR(provider_of(c), "default");
    EVP_CIPHER_CTX_free(c);
    char hex[65];
    sha256_hex("abc", 3, hex);
    CHECK_STR(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

/* ---- configurations ---- */

#define INIT "openssl_conf = init\n[init]\n"

/* Whose AES-128-CTR is it in a process with this configuration? */
static void check_configured(const char *conf, const char *want)
{
    char name[] = "/tmp/t_crypto_ctr.XXXXXX", *self = realpath("/proc/self/exe", NULL);
    int fd = mkstemp(name), status = 0;
    CHECK(self && fd >= 0 && write(fd, conf, strlen(conf)) == (ssize_t)strlen(conf));
    close(fd);
    CHECK(setenv("OPENSSL_CONF", name, 1) == 0);
    pid_t pid = fork();
    if (pid == 0) {
        execl(self, self, want, (char *)NULL);
        _exit(127);
    }
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
    unlink(name);
    free(self);
    if (status)
        fprintf(stderr, "with this configuration:\n%s", conf);
    CHECK_INT(status, 0);
}

static int run_configured(const char *want)
{
    crypto_ctr_start();
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    CHECK(c && EVP_CipherInit(c, EVP_aes_128_ctr(), key, counter, 1));
    CHECK_STR(provider_of(c), want);
    EVP_CIPHER_CTX_free(c);
    return 0;
}

static void configurations(void)
{
    check_configured("", "quay");
    check_configured("this is no configuration", "quay");
    check_configured(INIT "alg_section = nowhere\n", "quay");
    check_configured(INIT "alg_section = algs\n[algs]\n", "quay");
    check_configured("[algs]\ndefault_properties = provider=default\n", "quay"); /* nobody asks for it */
    check_configured(INIT "alg_section = algs\n[algs]\ndefault_properties = provider=default\n", "default");
    check_configured(INIT "alg_section = algs\n[algs]\ndefault_properties = ?provider=elsewhere\n", "default");
    check_configured(INIT "alg_section.1 = algs\n[algs]\ndefault_properties = fips=no\n", "default");
}

int main(int argc, char **argv)
{
    if (argc > 1)
        return run_configured(argv[1]);
    crypto_ctr_start();
    crypto_ctr_start();
    RUN(configurations);
    RUN(vector);
    RUN(pieces);
    RUN(again);
    RUN(others);
    return t_done();
}
