/* SPDX-License-Identifier: MIT
 * gcs_creds.c: which credentials: gcs.h has the order. The JSON of a key file is what the Google Cloud
 * console and `gcloud auth application-default login` write; of its types, service_account and
 * authorized_user are known. */
#include "backends/gcs/gcs.h"

#include "base/cleanup.h"
#include "base/url.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FILE_MAX (256u << 10)
#define TOKEN_URI "https://oauth2.googleapis.com/token"
#define METADATA_HOST "metadata.google.internal"
#define METADATA_PATH "/computeMetadata/v1/instance/service-accounts/default/token"

void gcs_creds_done(struct gcs_creds *c)
{
    secret_free(c->token);
    free(c->email);
    secret_free(c->private_key);
    free(c->key_id);
    free(c->client_id);
    secret_free(c->client_secret);
    secret_free(c->refresh_token);
    free(c->token_uri);
    *c = (struct gcs_creds){0};
}

/* A required field, malloc'd; false when it is not there. */
static bool take(const json_t *o, const char *name, char **ret)
{
    const char *v = json_string_value(json_object_get(o, name));
    if (!v || !*v)
        return false;
    *ret = xstrdup(v);
    return true;
}

/* Secrets go there: encrypted, or within this machine. */
static int check_token_uri(const char *uri, struct err *err)
{
    struct url u;
    if (!url_parse(uri, &u))
        return err_set(err, EINVAL, "token_uri '%.200s' is not a URL", uri);
    bool safe = strcmp(u.scheme, "https") == 0 ||
                (strcmp(u.scheme, "http") == 0 && http_host_is_loopback(u.host));
    url_done(&u);
    return safe ? 0 : err_set(err, EINVAL, "token_uri '%.200s' is not https", uri);
}

static int take_fields(const json_t *o, struct err *err, struct gcs_creds *c)
{
    const char *type = json_string_value(json_object_get(o, "type"));
    bool whole;
    if (type && strcmp(type, "service_account") == 0) {
        c->kind = GCS_SERVICE_ACCOUNT;
        whole = take(o, "client_email", &c->email) && take(o, "private_key", &c->private_key);
        (void)take(o, "private_key_id", &c->key_id);
    } else if (type && strcmp(type, "authorized_user") == 0) {
        c->kind = GCS_USER;
        whole = take(o, "client_id", &c->client_id) && take(o, "client_secret", &c->client_secret) &&
                take(o, "refresh_token", &c->refresh_token);
    } else {
        return err_set(err, EINVAL,
                       "credentials of type '%.40s' are not known (service_account, authorized_user)",
                       type ? type : "");
    }
    if (!whole)
        return err_set(err, EINVAL, "the %s credentials lack a field", type);
    if (!take(o, "token_uri", &c->token_uri))
        c->token_uri = xstrdup(TOKEN_URI);
    return check_token_uri(c->token_uri, err);
}

int gcs_creds_parse(const char *json, size_t len, struct err *err, struct gcs_creds *ret)
{
    struct gcs_creds c = {0};
    json_t *o = json_loadb(json, len, JSON_REJECT_DUPLICATES, NULL);
    int r = json_is_object(o) ? take_fields(o, err, &c)
                              : err_set(err, EINVAL, "the credentials are not a JSON object");
    json_decref(o);
    if (r < 0)
        gcs_creds_done(&c);
    else
        *ret = c;
    return r;
}

/* -ENOENT: no such file, err untouched. */
static int load_file(const char *path, const char *from, struct err *err, struct gcs_creds *ret)
{
    CLEANUP_FILE FILE *f = fopen(path, "re");
    if (!f)
        return errno == ENOENT ? -ENOENT
                               : err_set(err, EINVAL, "%s: %s: %s", from, path, strerror(errno));
    char *text = xmalloc(FILE_MAX + 1);
    size_t n = fread(text, 1, FILE_MAX, f);
    text[n] = '\0';
    int r = gcs_creds_parse(text, n, err, ret);
    explicit_bzero(text, n);
    free(text);
    if (r < 0)
        return err_prefix(err, "%s: %.300s", from, path);
    (void)snprintf(ret->from, sizeof(ret->from), "%s", from);
    return 0;
}

/* What the section says. -ENOENT: nothing. */
static int load_section(const struct conf_section *s, struct err *err, struct gcs_creds *ret)
{
    char *text = NULL;
    const char *file = conf_str(s, "credentials_file", NULL);
    int r = conf_secret(s, "token", err, &text);
    if (r == 0) {
        *ret = (struct gcs_creds){.kind = GCS_TOKEN, .token = text, .from = "'token'"};
        return 0;
    }
    if (r == -ENOENT)
        r = conf_secret(s, "service_account_key", err, &text);
    if (r == 0) {
        struct err e = ERR_INIT;
        r = gcs_creds_parse(text, strlen(text), &e, ret);
        secret_free(text);
        if (r < 0)
            return conf_error(s, "service_account_key", err, EINVAL, "%s", e.text);
        (void)snprintf(ret->from, sizeof(ret->from), "service_account_key");
        return 0;
    }
    if (r != -ENOENT || !file || !*file)
        return r;
    struct err e = ERR_INIT;
    r = load_file(file, "credentials_file", &e, ret);
    if (r == -ENOENT)
        return conf_error(s, "credentials_file", err, EINVAL, "'%s' is not there", file);
    return r < 0 ? conf_error(s, "credentials_file", err, EINVAL, "%s", e.text) : 0;
}

/* gcloud's file; -ENOENT when it is not there. */
static int load_gcloud(gcs_env_fn *env, struct err *err, struct gcs_creds *ret)
{
    const char *dir = env("CLOUDSDK_CONFIG");
    CLEANUP_FREE char *home = conf_home();
    CLEANUP_FREE char *path = dir && *dir
                                  ? xasprintf("%s/application_default_credentials.json", dir)
                                  : xasprintf("%s/.config/gcloud/application_default_credentials.json",
                                              home ? home : "");
    return load_file(path, "gcloud's application default credentials", err, ret);
}

static void use_metadata(gcs_env_fn *env, struct gcs_creds *ret)
{
    const char *host = env("GCE_METADATA_HOST");
    host = host && *host ? host : METADATA_HOST;
    *ret = (struct gcs_creds){.kind = GCS_METADATA,
                              .token_uri = xasprintf("http://%s" METADATA_PATH, host)};
    (void)snprintf(ret->from, sizeof(ret->from), "the metadata server %.100s", host);
}

int gcs_creds_load(const struct conf_section *section, gcs_env_fn *env, struct err *err,
                   struct gcs_creds *ret)
{
    const char *named = env("GOOGLE_APPLICATION_CREDENTIALS");
    if (conf_bool(section, "anonymous", false)) {
        *ret = (struct gcs_creds){.kind = GCS_ANONYMOUS, .from = "nowhere (anonymous)"};
        return 0;
    }
    int r = load_section(section, err, ret);
    if (r == -ENOENT && named && *named) {
        r = load_file(named, "GOOGLE_APPLICATION_CREDENTIALS", err, ret);
        if (r == -ENOENT)
            return err_set(err, EINVAL, "GOOGLE_APPLICATION_CREDENTIALS: %.300s is not there", named);
    }
    if (r == -ENOENT)
        r = load_gcloud(env, err, ret);
    if (r == -ENOENT) {
        use_metadata(env, ret);
        r = 0;
    }
    return r;
}
