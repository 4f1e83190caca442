/* SPDX-License-Identifier: MIT
 * azure_creds.c: which account, key or SAS: azure.h has the order. */
#include "backends/azure/azure.h"

#include "base/cleanup.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

void azure_creds_done(struct azure_creds *c)
{
    if (c->key)
        explicit_bzero(c->key, c->key_len);
    free(c->key);
    secret_free(c->sas);
    free(c->account);
    free(c->endpoint);
    *c = (struct azure_creds){0};
}

static int take_key(const char *text, struct err *err, struct azure_creds *c)
{
    struct buf b = BUF_INIT;
    if (!*text || !base64_decode(&b, text, strlen(text)) || b.len == 0) {
        buf_done(&b);
        return err_set(err, EINVAL, "the account key is not base64");
    }
    c->key_len = b.len;
    c->key = buf_take(&b);
    return 0;
}

/* A SAS is pasted with or without '?'. It becomes part of a URL. */
static int take_sas(const char *text, struct err *err, struct azure_creds *c)
{
    text += *text == '?';
    for (const char *p = text; *p; p++)
        if (!isalnum((unsigned char)*p) && !strchr("-._~%&=+/:", *p))
            return err_set(err, EINVAL, "the SAS token has a character that no SAS has");
    if (!strstr(text, "sig="))
        return err_set(err, EINVAL, "the SAS token has no signature (sig=)");
    c->sas = xstrdup(text);
    return 0;
}

static int take_pair(const char *name, size_t len, const char *value, struct err *err,
                     struct azure_creds *c)
{
    if (len == 11 && strncasecmp(name, "AccountName", len) == 0)
        c->account = xstrdup(value);
    else if (len == 10 && strncasecmp(name, "AccountKey", len) == 0)
        return take_key(value, err, c);
    else if (len == 21 && strncasecmp(name, "SharedAccessSignature", len) == 0)
        return take_sas(value, err, c);
    else if (len == 12 && strncasecmp(name, "BlobEndpoint", len) == 0)
        c->endpoint = xstrdup(value);
    return 0; /* others are of other services */
}

int azure_creds_parse(const char *text, struct err *err, struct azure_creds *ret)
{
    struct azure_creds c = {0};
    char *copy = xstrdup(text), *rest = copy;
    int r = 0;
    for (char *pair; r == 0 && (pair = strsep(&rest, ";")) != NULL;) {
        char *eq = strchr(pair, '=');
        if (!eq && *pair)
            r = err_set(err, EINVAL, "the connection string is not NAME=VALUE;...");
        else if (eq && !(eq - pair == 11 && c.account) && !(eq - pair == 12 && c.endpoint) &&
                 !(eq - pair == 10 && c.key))
            r = take_pair(pair, (size_t)(eq - pair), eq + 1, err, &c);
    }
    secret_free(copy);
    if (r == 0 && !c.key && !c.sas)
        r = err_set(err, EINVAL, "the connection string has neither AccountKey nor SharedAccessSignature");
    if (r < 0)
        azure_creds_done(&c);
    else
        *ret = c;
    return r;
}

/* What the section, else the environment has; malloc'd, NULL for nothing. */
static int secret(const struct conf_section *s, const char *name, const char *env_value, struct err *err,
                  char **ret)
{
    int r = conf_secret(s, name, err, ret);
    if (r == -ENOENT) {
        *ret = env_value && *env_value ? xstrdup(env_value) : NULL;
        r = 0;
    }
    return r;
}

struct place {
    const char *option, *variable;
    int (*take)(const char *text, struct err *err, struct azure_creds *ret);
};

static const struct place sources[] = {
    {"connection_string", "AZURE_STORAGE_CONNECTION_STRING", azure_creds_parse},
    {"account_key", "AZURE_STORAGE_KEY", take_key},
    {"sas_token", "AZURE_STORAGE_SAS_TOKEN", take_sas},
};

/* 1: found. `env` NULL: only what the section has. */
static int look(const struct conf_section *s, azure_env_fn *env, struct err *err, struct azure_creds *c)
{
    for (size_t i = 0; i < ARRAY_LEN(sources); i++) {
        char *text = NULL;
        struct err e = ERR_INIT;
        int r = secret(s, sources[i].option, env ? env(sources[i].variable) : NULL, err, &text);
        if (r < 0)
            return r;
        if (!text)
            continue;
        (void)snprintf(c->from, sizeof(c->from), "%s", env ? sources[i].variable : sources[i].option);
        r = sources[i].take(text, &e, c);
        secret_free(text);
        if (r < 0)
            return env ? err_set(err, EINVAL, "%s: %s", sources[i].variable, e.text)
                       : conf_error(s, sources[i].option, err, EINVAL, "%s", e.text);
        (void)snprintf(c->from, sizeof(c->from), "%s", env ? sources[i].variable : sources[i].option);
        return 1;
    }
    return 0;
}

int azure_creds_load(const struct conf_section *section, azure_env_fn *env, struct err *err,
                     struct azure_creds *ret)
{
    struct azure_creds c = {.from = "nowhere (anonymous)"};
    const char *account = conf_str(section, "account", NULL);
    bool anonymous = conf_bool(section, "anonymous", false);
    int r = anonymous ? 1 : look(section, NULL, err, &c);
    if (r == 0)
        r = look(section, env, err, &c);
    if (r == 0)
        r = conf_error(section, NULL, err, EACCES,
                       "Azure needs 'account_key', 'sas_token' or 'connection_string' (or the variables "
                       "AZURE_STORAGE_KEY, _SAS_TOKEN, _CONNECTION_STRING), or anonymous = yes");
    if (!account || !*account)
        account = c.account ? NULL : env("AZURE_STORAGE_ACCOUNT");
    if (r > 0 && account && *account) {
        free(c.account);
        c.account = xstrdup(account);
    }
    if (r > 0 && c.key && !c.account)
        r = conf_error(section, NULL, err, EINVAL, "an account key needs 'account'");
    if (r < 0)
        azure_creds_done(&c);
    else
        *ret = c;
    return r < 0 ? r : 0;
}
