/* SPDX-License-Identifier: MIT
 * s3_creds.c: where the access key comes from. In this order, the first that gives one:
 *   1. the section: access_key_id and secret_access_key (or the *_file forms), session_token
 *   2. the profile that the section names, in the AWS files
 *   3. AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN
 *   4. the profile AWS_PROFILE, or "default"
 *   5. what s3_role.c fetches: a web identity, the container's agent, the EC2 instance
 * A profile with role_arn gives the keys of its source_profile and the role that they are to take (s3_role.c).
 * One without keys may say how to ask for them: sso_session or sso_start_url, else credential_process
 * (s3_indirect.c). Of all three, keys come first.
 * The AWS files are AWS_SHARED_CREDENTIALS_FILE (~/.aws/credentials, sections [NAME]) and
 * AWS_CONFIG_FILE (~/.aws/config, sections [profile NAME] and [default]); the first wins key by
 * key. They are read here and not by conf.h, as they are not ours: what we do not know is skipped.
 * The environment is reached through s3_env_fn, so tests replace it. */
#include "backends/s3/s3.h"

#include "base/cleanup.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FILE_MAX (1u << 20)

struct profile {
    char *access_key, *secret, *token, *region;
    char *role_arn, *source, *external_id, *session, *token_file;
    struct s3_indirect indirect;
    bool found;       /* a section of that name is there */
    bool unsupported; /* it has credential_source */
};

struct section {
    const char *kind; /* "profile", "sso-session" */
    const char *name;
};

static void profile_done(struct profile *p)
{
    free(p->access_key);
    secret_free(p->secret);
    secret_free(p->token);
    free(p->region);
    free(p->role_arn);
    free(p->source);
    free(p->external_id);
    free(p->session);
    free(p->token_file);
    s3_indirect_done(&p->indirect);
    *p = (struct profile){0};
}

void s3_creds_done(struct s3_creds *c)
{
    free(c->access_key);
    secret_free(c->secret);
    secret_free(c->token);
    free(c->region);
    free(c->profile);
    free(c->role_arn);
    free(c->external_id);
    free(c->role_session);
    free(c->token_file);
    s3_indirect_done(&c->indirect);
    *c = (struct s3_creds){0};
}

static char *trimmed(char *s)
{
    while (*s == ' ' || *s == '\t')
        s++;
    size_t n = strlen(s);
    while (n > 0 && strchr(" \t\r\n", s[n - 1]))
        s[--n] = '\0';
    return s;
}

/* Is "[...]" this section? `is_config`: in ~/.aws/config the names have a prefix. */
static bool is_section(char *line, const struct section *want, bool is_config)
{
    size_t prefix = strlen(want->kind);
    char *end = strchr(line, ']');
    if (!end)
        return false;
    *end = '\0';
    char *name = trimmed(line + 1);
    if (is_config && strncmp(name, want->kind, prefix) == 0 && (name[prefix] == ' ' || name[prefix] == '\t'))
        name = trimmed(name + prefix);
    else if (is_config && (strcmp(name, "default") != 0 || strcmp(want->kind, "profile") != 0))
        return false;
    size_t n = strlen(name);
    if (n >= 2 && name[0] == '"' && name[n - 1] == '"') {
        name[n - 1] = '\0';
        name++;
    }
    return strcmp(name, want->name) == 0;
}

static void take_pair(struct profile *p, char *line, const char *where)
{
    struct s3_indirect *i = &p->indirect;
    const struct {
        const char *name;
        char **to;
    } known[] = {{"aws_access_key_id", &p->access_key}, {"aws_secret_access_key", &p->secret},
                 {"aws_session_token", &p->token},      {"region", &p->region},
                 {"role_arn", &p->role_arn},            {"source_profile", &p->source},
                 {"external_id", &p->external_id},      {"role_session_name", &p->session},
                 {"web_identity_token_file", &p->token_file}, {"credential_process", &i->process},
                 {"sso_session", &i->sso_session},      {"sso_start_url", &i->sso_url},
                 {"sso_region", &i->sso_region},        {"sso_account_id", &i->sso_account},
                 {"sso_role_name", &i->sso_role}};
    char *eq = strchr(line, '=');
    if (!eq)
        return;
    *eq = '\0';
    const char *name = trimmed(line), *value = trimmed(eq + 1);
    char **to = NULL;
    for (size_t n = 0; n < ARRAY_LEN(known); n++)
        if (strcmp(name, known[n].name) == 0)
            to = known[n].to;
    if (strcmp(name, "credential_source") == 0)
        p->unsupported = true;
    if (to && !*to && *value)
        *to = xstrdup(value);
    if (!i->where && s3_indirect_given(i))
        i->where = xstrdup(where);
}

/* Adds what the file says about the profile. A file that is not there says nothing. */
static int read_file(const char *path, const struct section *want, bool is_config, struct err *err,
                     struct profile *p)
{
    CLEANUP_FREE char *where = xasprintf("%s '%s' in %s", want->kind, want->name, path);
    CLEANUP_FILE FILE *f = fopen(path, "re");
    if (!f)
        return errno == ENOENT || errno == ENOTDIR
                   ? 0
                   : err_set(err, EACCES, "cannot read %s: %s", path, strerror(errno));
    char *line = NULL;
    size_t cap = 0, all = 0;
    bool inside = false;
    ssize_t n;
    while ((n = getline(&line, &cap, f)) >= 0 && (all += (size_t)n) < FILE_MAX) {
        bool nested = line[0] == ' ' || line[0] == '\t'; /* "s3 =" and its indented lines */
        char *s = trimmed(line);
        if (*s == '[' && !nested) {
            inside = is_section(s, want, is_config);
            p->found = p->found || inside;
        } else if (inside && !nested && *s && *s != '#' && *s != ';') {
            take_pair(p, s, where);
        }
        explicit_bzero(line, (size_t)n);
    }
    free(line);
    return 0;
}

/* The two AWS files, malloc'd; NULL when there is no home to look in. */
static char *aws_file(s3_env_fn *env, const char *variable, const char *name)
{
    const char *set = env(variable), *home = env("HOME");
    if (set && *set)
        return xstrdup(set);
    return home && *home ? xasprintf("%s/.aws/%s", home, name) : NULL;
}

/* Keys that are asked for when they are needed. */
static int take_indirect(struct profile *p, const char *name, s3_env_fn *env, struct err *err,
                         struct s3_creds *ret)
{
    struct s3_indirect *i = &p->indirect;
    const char *home = env("HOME");
    if (p->unsupported && !s3_indirect_given(i))
        return err_set(err, EACCES, "profile '%s' gets its keys by credential_source, which is not supported: export "
                                    "keys into the environment or credentials file", name);
    if (!s3_indirect_given(i))
        return -ENOENT;
    bool sso = i->sso_session || i->sso_url;
    if (sso && (!i->sso_url || !i->sso_region || !i->sso_account || !i->sso_role))
        return err_set(err, EACCES, "%s: SSO needs sso_account_id, sso_role_name, sso_start_url and sso_region%s",
                       i->where, i->sso_session ? " (the last two in its [sso-session])" : "");
    const char *portal = env("AWS_ENDPOINT_URL_SSO"), *oidc = env("AWS_ENDPOINT_URL_SSO_OIDC");
    i->home = xstrdup(home ? home : "");
    if (sso) {
        i->portal = portal && *portal ? xstrdup(portal)
                                      : xasprintf("https://portal.sso.%s.amazonaws.com", i->sso_region);
        i->oidc = oidc && *oidc ? xstrdup(oidc) : xasprintf("https://oidc.%s.amazonaws.com", i->sso_region);
    }
    ret->indirect = *i;
    *i = (struct s3_indirect){0};
    ret->region = take_ptr(&p->region);
    (void)snprintf(ret->from, sizeof(ret->from), "%s of %.120s", sso ? "SSO" : "credential_process",
                   ret->indirect.where);
    return 0;
}

static int take_profile(struct profile *p, const char *name, s3_env_fn *env, struct err *err,
                        struct s3_creds *ret)
{
    if (!p->access_key || !p->secret)
        return take_indirect(p, name, env, err, ret);
    ret->access_key = take_ptr(&p->access_key);
    ret->secret = take_ptr(&p->secret);
    ret->token = take_ptr(&p->token);
    ret->region = take_ptr(&p->region);
    ret->profile = xstrdup(name);
    (void)snprintf(ret->from, sizeof(ret->from), "profile '%.100s' of the AWS files", name);
    return 0;
}

static int read_profile(const char *name, s3_env_fn *env, struct err *err, struct profile *p)
{
    CLEANUP_FREE char *creds = aws_file(env, "AWS_SHARED_CREDENTIALS_FILE", "credentials");
    CLEANUP_FREE char *config = aws_file(env, "AWS_CONFIG_FILE", "config");
    struct section profile = {"profile", name};
    int r = creds ? read_file(creds, &profile, false, err, p) : 0;
    if (r == 0 && config)
        r = read_file(config, &profile, true, err, p);
    if (r < 0 || !config || !p->indirect.sso_session)
        return r;
    CLEANUP_FREE char *session_name = xstrdup(p->indirect.sso_session);
    struct section session = {"sso-session", session_name};
    bool found = p->found;
    p->found = false;
    r = read_file(config, &session, true, err, p);
    if (r == 0 && !p->found)
        r = err_set(err, EACCES, "%s: [sso-session %s] is not in %s", p->indirect.where, session_name, config);
    p->found = found;
    return r;
}

static int load_keys(const char *name, s3_env_fn *env, struct err *err, struct s3_creds *ret)
{
    struct profile p = {0};
    int r = read_profile(name, env, err, &p);
    if (r == 0)
        r = take_profile(&p, name, env, err, ret);
    profile_done(&p);
    return r;
}

/* A role: the keys that may take it are another profile's, or a token is. */
static int take_role(struct profile *p, const char *name, s3_env_fn *env, struct err *err,
                     struct s3_creds *ret)
{
    int r = 0;
    if (!p->token_file && !p->source)
        return err_set(err, EACCES, "profile '%s' has role_arn, but neither source_profile nor "
                                    "web_identity_token_file", name);
    if (p->source && strcmp(p->source, name) == 0)
        r = take_profile(p, name, env, err, ret);
    else if (p->source)
        r = load_keys(p->source, env, err, ret);
    if (r == -ENOENT)
        r = err_set(err, EACCES, "source_profile '%s' of profile '%s' has no keys", p->source, name);
    if (r < 0)
        return r;
    free(ret->profile);
    ret->profile = NULL; /* its keys are not those that requests are signed with */
    if (p->region) {
        free(ret->region);
        ret->region = take_ptr(&p->region);
    }
    ret->role_arn = take_ptr(&p->role_arn);
    ret->external_id = take_ptr(&p->external_id);
    ret->role_session = take_ptr(&p->session);
    ret->token_file = take_ptr(&p->token_file);
    return 0;
}

int s3_creds_load_profile(const char *name, s3_env_fn *env, struct err *err, struct s3_creds *ret)
{
    struct profile p = {0};
    int r = read_profile(name, env, err, &p);
    if (r == 0)
        r = p.role_arn ? take_role(&p, name, env, err, ret) : take_profile(&p, name, env, err, ret);
    profile_done(&p);
    return r;
}

/* ---- the other places ---- */

/* 0, -ENOENT (none there), or another -errno. */
static int from_section(const struct conf_section *s, struct err *err, struct s3_creds *ret)
{
    struct s3_creds c = {0};
    int ra = conf_secret(s, "access_key_id", err, &c.access_key);
    int rs = ra == 0 || ra == -ENOENT ? conf_secret(s, "secret_access_key", err, &c.secret) : ra;
    int rt = rs == 0 || rs == -ENOENT ? conf_secret(s, "session_token", err, &c.token) : rs;
    int r = rt == -ENOENT ? 0 : rt;
    if (r == 0 && ra == -ENOENT && rs == -ENOENT)
        r = -ENOENT;
    else if (r == 0 && ra == -ENOENT)
        r = conf_error(s, "secret_access_key", err, EINVAL,
                       "secret_access_key is given without access_key_id");
    else if (r == 0 && rs == -ENOENT)
        r = conf_error(s, "access_key_id", err, EINVAL,
                       "access_key_id is given without secret_access_key");
    if (r < 0) {
        s3_creds_done(&c);
        return r;
    }
    (void)snprintf(c.from, sizeof(c.from), "the configuration");
    *ret = c;
    return 0;
}

static int from_env(s3_env_fn *env, struct s3_creds *ret)
{
    const char *id = env("AWS_ACCESS_KEY_ID"), *secret = env("AWS_SECRET_ACCESS_KEY");
    const char *token = env("AWS_SESSION_TOKEN");
    if (!id || !*id || !secret || !*secret)
        return -ENOENT;
    ret->access_key = xstrdup(id);
    ret->secret = xstrdup(secret);
    ret->token = token && *token ? xstrdup(token) : NULL;
    (void)snprintf(ret->from, sizeof(ret->from), "the environment");
    return 0;
}

static int none_found(const struct conf_section *s, s3_env_fn *env, const char *profile,
                      struct err *err)
{
    CLEANUP_FREE char *creds = aws_file(env, "AWS_SHARED_CREDENTIALS_FILE", "credentials");
    CLEANUP_FREE char *config = aws_file(env, "AWS_CONFIG_FILE", "config");
    return conf_error(
        s, NULL, err, EACCES,
        "no S3 credentials: looked at access_key_id and secret_access_key here, "
        "AWS_ACCESS_KEY_ID, and profile '%s' in %s and %s (anonymous = yes for a public "
        "bucket)",
        profile, creds ? creds : "~/.aws/credentials", config ? config : "~/.aws/config");
}

int s3_creds_load(const struct conf_section *section, s3_env_fn *env, struct err *err,
                  struct s3_creds *ret)
{
    const char *named = conf_str(section, "profile", NULL);
    int r = from_section(section, err, ret);
    if (r != -ENOENT)
        return r;
    if (named) {
        r = s3_creds_load_profile(named, env, err, ret);
        if (r == -ENOENT)
            r = conf_error(section, "profile", err, EACCES,
                           "profile '%s' with keys is in neither AWS_SHARED_CREDENTIALS_FILE "
                           "(~/.aws/credentials) nor AWS_CONFIG_FILE (~/.aws/config)",
                           named);
        return r;
    }
    if (from_env(env, ret) == 0)
        return 0;
    const char *profile = env("AWS_PROFILE");
    profile = profile && *profile ? profile : "default";
    r = s3_creds_load_profile(profile, env, err, ret);
    return r == -ENOENT ? none_found(section, env, profile, err) : r;
}
