/* SPDX-License-Identifier: MIT
 * crypto_ctr.c: AES-128-CTR in small pieces (crypto_ctr_start).
 *
 * OpenSSL's own takes 40 ns for each call, which for 16 bytes is nearly all of it. Here a piece is XORed with key
 * stream that was made 4 KiB at a time, by OpenSSL's own: zeros encrypted. It is a provider, OpenSSL's way to have
 * another implementation of an algorithm; whoever asks for the algorithm from then on gets it.
 * Facts: provider(7), provider-cipher(7), EVP_set_default_properties(3), config(5). */
#include "base/crypto.h"

#include "base/cleanup.h"

#include <openssl/conf.h>
#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/provider.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define KEY_LEN 16
#define STREAM 4096

struct ctr {
    EVP_CIPHER_CTX *own;
    size_t left; /* of stream, its end */
    unsigned char stream[STREAM];
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static EVP_CIPHER *own_aes; /* OpenSSL's; set once */
static OSSL_PROVIDER *provider;

static void *ctr_new(void *context)
{
    struct ctr *c = xcalloc(1, sizeof(*c));
    (void)context;
    c->own = EVP_CIPHER_CTX_new();
    if (c->own)
        return c;
    free(c);
    return NULL;
}

static void ctr_free(void *arg)
{
    struct ctr *c = arg;
    EVP_CIPHER_CTX_free(c->own);
    OPENSSL_cleanse(c, sizeof(*c));
    free(c);
}

static void *ctr_dup(void *arg)
{
    const struct ctr *from = arg;
    struct ctr *c = ctr_new(NULL);
    if (!c)
        return NULL;
    c->left = from->left;
    memcpy(c->stream, from->stream, STREAM);
    if (EVP_CIPHER_CTX_copy(c->own, from->own))
        return c;
    ctr_free(c);
    return NULL;
}

/* Both directions are one. A key or a counter of NULL stays. */
static int ctr_init(void *arg, const unsigned char *key, size_t key_len, const unsigned char *iv, size_t iv_len,
                    const OSSL_PARAM params[])
{
    struct ctr *c = arg;
    (void)params;
    if ((key && key_len != KEY_LEN) || (iv && iv_len != KEY_LEN))
        return 0;
    c->left = 0;
    return EVP_EncryptInit_ex(c->own, key ? own_aes : NULL, NULL, key, iv);
}

static inline void xor_block(unsigned char *out, const unsigned char *in, const unsigned char *key)
{
    uint64_t a[2], b[2];
    memcpy(a, in, sizeof(a));
    memcpy(b, key, sizeof(b));
    a[0] ^= b[0];
    a[1] ^= b[1];
    memcpy(out, a, sizeof(a));
}

static void xor(unsigned char *out, const unsigned char *in, const unsigned char *key, size_t n)
{
    for (; n >= KEY_LEN; n -= KEY_LEN, out += KEY_LEN, in += KEY_LEN, key += KEY_LEN)
        xor_block(out, in, key);
    for (size_t i = 0; i < n; i++)
        out[i] = in[i] ^ key[i];
}

static int ctr_update(void *arg, unsigned char *out, size_t *ret_len, size_t size, const unsigned char *in, size_t len)
{
    static const unsigned char zeros[STREAM];
    struct ctr *c = arg;
    if (size < len)
        return 0;
    if (len == KEY_LEN && c->left >= KEY_LEN) { /* all but one of 256 */
        xor_block(out, in, c->stream + STREAM - c->left);
        c->left -= KEY_LEN;
        *ret_len = len;
        return 1;
    }
    for (size_t at = 0; at < len;) {
        int made = STREAM;
        if (c->left == 0 && (!EVP_EncryptUpdate(c->own, c->stream, &made, zeros, STREAM) || made != STREAM))
            return 0;
        c->left = c->left ? c->left : STREAM;
        size_t n = len - at < c->left ? len - at : c->left;
        xor(out + at, in + at, c->stream + STREAM - c->left, n);
        c->left -= n;
        at += n;
    }
    *ret_len = len;
    return 1;
}

static int ctr_final(void *arg, unsigned char *out, size_t *ret_len, size_t size)
{
    (void)arg, (void)out, (void)size;
    *ret_len = 0;
    return 1;
}

static int set_size(OSSL_PARAM params[], const char *name, size_t value)
{
    OSSL_PARAM *p = OSSL_PARAM_locate(params, name);
    return !p || OSSL_PARAM_set_size_t(p, value);
}

static int ctr_params(OSSL_PARAM params[])
{
    OSSL_PARAM *mode = OSSL_PARAM_locate(params, OSSL_CIPHER_PARAM_MODE);
    return (!mode || OSSL_PARAM_set_uint(mode, EVP_CIPH_CTR_MODE)) &&
           set_size(params, OSSL_CIPHER_PARAM_BLOCK_SIZE, 1) && set_size(params, OSSL_CIPHER_PARAM_IVLEN, KEY_LEN) &&
           set_size(params, OSSL_CIPHER_PARAM_KEYLEN, KEY_LEN);
}

static int ctr_context_params(void *arg, OSSL_PARAM params[])
{
    (void)arg;
    return set_size(params, OSSL_CIPHER_PARAM_IVLEN, KEY_LEN) && set_size(params, OSSL_CIPHER_PARAM_KEYLEN, KEY_LEN);
}

typedef void (*slot_fn)(void);

static const OSSL_DISPATCH cipher_slots[] = {
    {OSSL_FUNC_CIPHER_NEWCTX, (slot_fn)ctr_new},
    {OSSL_FUNC_CIPHER_FREECTX, (slot_fn)ctr_free},
    {OSSL_FUNC_CIPHER_DUPCTX, (slot_fn)ctr_dup},
    {OSSL_FUNC_CIPHER_ENCRYPT_INIT, (slot_fn)ctr_init},
    {OSSL_FUNC_CIPHER_DECRYPT_INIT, (slot_fn)ctr_init},
    {OSSL_FUNC_CIPHER_UPDATE, (slot_fn)ctr_update},
    {OSSL_FUNC_CIPHER_FINAL, (slot_fn)ctr_final},
    {OSSL_FUNC_CIPHER_CIPHER, (slot_fn)ctr_update},
    {OSSL_FUNC_CIPHER_GET_PARAMS, (slot_fn)ctr_params},
    {OSSL_FUNC_CIPHER_GET_CTX_PARAMS, (slot_fn)ctr_context_params},
    {0, NULL},
};

static const OSSL_ALGORITHM ciphers[] = {
    {"AES-128-CTR", "provider=quay", cipher_slots, "AES-128-CTR in small pieces"},
    {NULL, NULL, NULL, NULL},
};

static const OSSL_ALGORITHM *query(void *context, int operation, int *no_cache)
{
    (void)context;
    *no_cache = 0;
    return operation == OSSL_OP_CIPHER ? ciphers : NULL;
}

static int provider_init(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *in, const OSSL_DISPATCH **out,
                         void **ret_context)
{
    static const OSSL_DISPATCH slots[] = {{OSSL_FUNC_PROVIDER_QUERY_OPERATION, (slot_fn)query}, {0, NULL}};
    (void)in;
    *out = slots;
    *ret_context = (void *)(uintptr_t)handle;
    return 1;
}

static void end(void)
{
    (void)OSSL_PROVIDER_unload(provider);
    EVP_CIPHER_free(own_aes);
}

/* Does OpenSSL's configuration say which implementations are wanted? It cannot be asked for what it has read, and what
 * is set here would take the place of that. A file that cannot be read has told OpenSSL nothing, either. */
static bool has_default_properties(void)
{
    CONF *conf = NCONF_new(NULL);
    char *path = CONF_get1_default_config_file();
    bool found = false;
    ERR_set_mark();
    const char *first = conf && path && NCONF_load(conf, path, NULL) > 0 ? NCONF_get_string(conf, NULL, "openssl_conf")
                                                                         : NULL;
    const STACK_OF(CONF_VALUE) *modules = first ? NCONF_get_section(conf, first) : NULL;
    for (int i = 0; i < sk_CONF_VALUE_num(modules) && !found; i++) {
        const CONF_VALUE *m = sk_CONF_VALUE_value(modules, i);
        size_t len = strcspn(m->name, "."); /* alg_section, or alg_section.ANYTHING */
        if (len == strlen("alg_section") && memcmp(m->name, "alg_section", len) == 0)
            found = NCONF_get_string(conf, m->value, "default_properties") != NULL;
    }
    ERR_pop_to_mark();
    OPENSSL_free(path);
    NCONF_free(conf);
    return found;
}

static void start(void)
{
    if (EVP_default_properties_is_fips_enabled(NULL) || has_default_properties()) /* who wants others gets those */
        return;
    own_aes = EVP_CIPHER_fetch(NULL, "AES-128-CTR", "provider=default");
    if (own_aes && OSSL_PROVIDER_add_builtin(NULL, "quay", provider_init))
        provider = OSSL_PROVIDER_try_load(NULL, "quay", 1);
    if (provider && atexit(end) == 0) /* before OpenSSL's own */
        (void)EVP_set_default_properties(NULL, "?provider=quay");
}

void crypto_ctr_start(void)
{
    pthread_once(&once, start);
}
