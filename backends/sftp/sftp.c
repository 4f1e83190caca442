/* SPDX-License-Identifier: MIT
 * sftp.c: a directory of an SSH server as a store: options, opening, stat, space, probe. See
 * README.md. */
#include "backends/sftp/sftp_int.h"

#include "base/crypto.h"
#include "base/name.h"
#include "base/url.h"

#include <limits.h>
#include <pwd.h>

#define PART_SIZE (8ULL << 20)

/* ---- paths ---- */

int sftp_path(struct sftp *s, struct op *op, const char *key, char **ret)
{
    if (!path_is_inside(key))
        return err_set(&op->err, EACCES, "'%s' is refused: not a path below the directory", key);
    if (temp_name_in(key))
        return err_set(&op->err, EACCES, "'%s' is refused: %s is a reserved name", key,
                       TEMP_PREFIX);
    if (!key[0])
        *ret = xstrdup(s->root);
    else
        *ret = xasprintf("%s%s%s", s->root, strcmp(s->root, "/") == 0 ? "" : "/", key);
    return 0;
}

char *sftp_parent(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash)
        return xstrdup(".");
    return slash == path ? xstrdup("/") : xstrndup(path, (size_t)(slash - path));
}

/* ---- slots ---- */

static int sftp_stat(struct store *store, struct op *op, const char *key, struct attr *ret)
{
    struct sftp *s = sftp_of(store);
    CLEANUP_FREE char *path = NULL;
    struct conn *c;
    struct wire_attr w;
    int r = sftp_path(s, op, key, &path);
    if (r == 0)
        r = sftp_take(s, op, false, &c);
    if (r < 0)
        return r;
    r = c->far->look(c, op, path, key, !key[0], &w);
    sftp_give(s, c, false);
    if (r == 0)
        r = sftp_check_kind(op, &w, key);
    if (r == 0)
        sftp_attr_of(s, key, &w, ret);
    return r;
}

static int space_of(struct sftp *s, struct conn *c, struct op *op, struct store_space *ret)
{
    if (!(c->extensions & EXT_STATVFS))
        return err_set(&op->err, ENOTSUP, "sftp %s: the server does not tell its space", c->name);
    return c->far->space(c, op, s->root, ret);
}

static int sftp_space(struct store *store, struct op *op, struct store_space *ret)
{
    struct sftp *s = sftp_of(store);
    struct conn *c;
    int r = sftp_take(s, op, false, &c);
    if (r < 0)
        return r;
    r = space_of(s, c, op, ret);
    sftp_give(s, c, false);
    return r;
}

static int sftp_probe(struct store *store, struct op *op, struct buf *ret_text)
{
    struct sftp *s = sftp_of(store);
    struct store_space space = {0};
    struct wire_attr w;
    struct conn *c;
    int r = sftp_take(s, op, false, &c);
    if (r < 0)
        return r;
    r = c->far->look(c, op, s->root, s->root, true, &w);
    if (r == -ENOENT)
        r = err_set(&op->err, EIO, "sftp %s: %s is not there any more", c->name, s->root);
    if (r == 0)
        buf_addf(ret_text, "%s by %s, %s", s->store.base_uri, c->name, c->far->how);
    if (r == 0 && space_of(s, c, op, &space) == 0)
        buf_addf(ret_text, ", %llu MiB free", (unsigned long long)(space.avail >> 20));
    sftp_give(s, c, false);
    return r;
}

/* ---- opening ---- */

static void add_endpoint(struct sftp *s, const char *host, unsigned port)
{
    s->endpoints = xrealloc(s->endpoints, (s->n_endpoints + 1) * sizeof(*s->endpoints));
    struct endpoint *e = &s->endpoints[s->n_endpoints++];
    *e = (struct endpoint){.host = xstrdup(host), .port = port};
    e->name = strchr(host, ':') ? xasprintf("[%s]:%u", host, port) : xasprintf("%s:%u", host, port);
}

/* "host", "host:port", "[::1]:port", "::1". Cuts `text` up. */
static bool parse_endpoint(struct sftp *s, char *text, unsigned port)
{
    char *host = text, *colon = strrchr(text, ':');
    int64_t n = port;
    if (*text == '[') {
        char *end = strchr(text, ']');
        if (!end || (end[1] && end[1] != ':'))
            return false;
        colon = end[1] ? end + 1 : NULL;
        *end = '\0';
        host = text + 1;
    } else if (colon && strchr(text, ':') != colon) {
        colon = NULL; /* a bare IPv6 address */
    }
    if (colon) {
        *colon = '\0';
        if (!parse_int(colon + 1, &n) || n < 1 || n > 65535)
            return false;
    }
    if (!*host || *host == '-' || strpbrk(host, " \t/@"))
        return false;
    add_endpoint(s, host, (unsigned)n);
    return true;
}

static int parse_endpoints(struct sftp *s, const struct conf_section *c, const char *list,
                           struct err *err)
{
    CLEANUP_FREE char *copy = xstrdup(list);
    unsigned port = (unsigned)conf_int(c, "port", 22);
    char *rest = copy;
    for (char *p; (p = strsep(&rest, ",")) != NULL;) {
        p += strspn(p, " \t");
        for (size_t n = strlen(p); n > 0 && strchr(" \t", p[n - 1]); n--)
            p[n - 1] = '\0';
        if (!*p)
            continue;
        CLEANUP_FREE char *whole = xstrdup(p);
        if (!parse_endpoint(s, p, port))
            return conf_error(c, conf_has(c, "endpoints") ? "endpoints" : "host", err, EINVAL,
                              "endpoints: '%s' is not host or host:port", whole);
    }
    return 0;
}

/* base_path as the server understands it: relative paths start in the home directory there. */
static int set_root(struct sftp *s, const struct conf_section *c, const char *path, struct err *err)
{
    const char *at = path;
    if (*at == '~' && at[1] && at[1] != '/')
        return conf_error(c, "base_path", err, EINVAL,
                          "'%s': only the home directory of the user who logs in (~) is known",
                          path);
    if (*at == '~') {
        at++;
        at += strspn(at, "/");
    }
    s->root = xstrdup(*at ? at : ".");
    for (size_t n = strlen(s->root); n > 1 && s->root[n - 1] == '/'; n--)
        s->root[n - 1] = '\0';
    return 0;
}

/* sftp://[user@]host[:port]/path: the path is absolute, /~/ is the home directory. */
static int from_uri(struct sftp *s, const struct conf_section *c, struct err *err, char **ret_path)
{
    const char *text = conf_str(c, "uri", "");
    struct url u = {0};
    CLEANUP_BUF struct buf path = BUF_INIT, user = BUF_INIT;
    if (!text[0])
        return 0;
    if (!url_parse(text, &u))
        return conf_error(
            c, "uri", err, EINVAL,
            "'%s' is not sftp://[user@]host[:port]/path (passwords do not belong there)",
            strchr(text, '@') ? "sftp://...@..." : text);
    bool good =
        url_decode(&path, u.path, strlen(u.path)) && url_decode(&user, u.user, strlen(u.user));
    if (good && u.host[0] && !conf_has(c, "endpoints") && !conf_has(c, "host"))
        add_endpoint(s, u.host, u.port ? (unsigned)u.port : (unsigned)conf_int(c, "port", 22));
    if (good && user.len && !conf_has(c, "user"))
        s->login.user = xstrdup(buf_str(&user));
    if (good && path.len)
        *ret_path =
            xstrdup(strncmp(buf_str(&path), "/~", 2) == 0 ? buf_str(&path) + 1 : buf_str(&path));
    url_done(&u);
    return good ? 0 : conf_error(c, "uri", err, EINVAL, "'%s' has a malformed %%XX", text);
}

static int set_places(struct sftp *s, const struct conf_section *c, struct err *err)
{
    CLEANUP_FREE char *uri_path = NULL;
    int r = from_uri(s, c, err, &uri_path);
    if (r == 0 && conf_has(c, "endpoints"))
        r = parse_endpoints(s, c, conf_str(c, "endpoints", ""), err);
    else if (r == 0 && conf_has(c, "host"))
        r = parse_endpoints(s, c, conf_str(c, "host", ""), err);
    if (r == 0 && s->n_endpoints == 0)
        r = conf_error(c, NULL, err, EINVAL,
                       "backend = sftp needs a server: host, endpoints or uri = sftp://host/path");
    if (r == 0)
        r = set_root(s, c, conf_str(c, "base_path", uri_path ? uri_path : "~"), err);
    return r;
}

/* A secret from the section, its NAME_file, or the environment variable NAME_env names. */
static int get_secret(const struct conf_section *c, const char *name, struct err *err, char **ret)
{
    CLEANUP_FREE char *env_name = xasprintf("%s_env", name);
    const char *variable = conf_str(c, env_name, "");
    int r = conf_secret(c, name, err, ret);
    if (r != -ENOENT)
        return r;
    if (!variable[0])
        return 0;
    const char *value = getenv(variable);
    if (!value || !*value)
        return conf_error(c, env_name, err, EINVAL, "the environment variable %s is not set",
                          variable);
    *ret = xstrdup(value);
    return 0;
}

/* "SHA256:base64" without padding, as ssh-keygen -l prints it, or 64 hex digits. */
static int set_pin(struct sftp *s, const struct conf_section *c, struct err *err)
{
    const char *text = conf_str(c, "host_key_sha256", "");
    CLEANUP_BUF struct buf b = BUF_INIT;
    if (!text[0])
        return 0;
    if (strncmp(text, "SHA256:", 7) == 0)
        text += 7;
    size_t n = strlen(text);
    CLEANUP_FREE char *padded = xasprintf("%s%s", text, n % 4 == 2 ? "==" : n % 4 == 3 ? "=" : "");
    if (n == 64 && strspn(text, "0123456789abcdefABCDEF") == 64) {
        for (size_t i = 0; i < 64; i += 2) {
            char pair[3] = {text[i], text[i + 1], '\0'};
            buf_addc(&b, (char)strtoul(pair, NULL, 16));
        }
    } else if (!base64_decode(&b, padded, strlen(padded))) {
        buf_reset(&b);
    }
    if (b.len != sizeof(s->login.pin))
        return conf_error(
            c, "host_key_sha256", err, EINVAL,
            "host_key_sha256 is no fingerprint: SHA256:... as `ssh-keygen -l` prints it");
    memcpy(s->login.pin, b.data, sizeof(s->login.pin));
    s->login.pinned = true;
    return 0;
}

static char *dup_or_null(const struct conf_section *c, const char *name)
{
    return conf_has(c, name) ? xstrdup(conf_str(c, name, "")) : NULL;
}

static int set_login(struct sftp *s, const struct conf_section *c, struct err *err)
{
    struct sftp_login *l = &s->login;
    if (conf_has(c, "user"))
        l->user = xstrdup(conf_str(c, "user", ""));
    if (!l->user || !l->user[0]) {
        struct passwd p, *found = NULL;
        char text[4096];
        if (getpwuid_r(geteuid(), &p, text, sizeof(text), &found) != 0 || !found)
            return conf_error(c, NULL, err, EINVAL, "user = who logs in on the server?");
        free(l->user);
        l->user = xstrdup(found->pw_name);
    }
    l->key_file = dup_or_null(c, "key_file");
    l->agent_socket = dup_or_null(c, "agent_socket");
    l->known_hosts = dup_or_null(c, "known_hosts");
    l->agent = conf_bool(c, "agent", true);
    int r = set_pin(s, c, err);
    if (r == 0)
        r = get_secret(c, "key_passphrase", err, &l->passphrase);
    if (r == 0)
        r = get_secret(c, "password", err, &l->password);
    return r;
}

static void free_sftp(struct sftp *s)
{
    for (size_t i = 0; i < s->n_endpoints; i++) {
        free(s->endpoints[i].host);
        free(s->endpoints[i].name);
    }
    free(s->endpoints);
    free(s->login.user);
    free(s->login.key_file);
    secret_free(s->login.passphrase);
    secret_free(s->login.password);
    free(s->login.agent_socket);
    free(s->login.known_hosts);
    free(s->root);
    free(s);
}

static void set_numbers(struct sftp *s, const struct conf_section *c)
{
    s->connect_ms = (unsigned)conf_ms(c, "connection_timeout", 2000);
    s->connect_ms = s->connect_ms ? s->connect_ms : 30000;
    s->stall_ms = (unsigned)conf_ms(c, "timeout", 30000);
    s->max_connections = (unsigned)conf_int(c, "max_connections", 4);
    s->fail_back_ns = conf_ms(c, "fail_back", 60000) * NS_PER_MS;
    s->keepalive_ns = conf_ms(c, "keepalive", 30000) * NS_PER_MS;
    s->idle_ns = conf_ms(c, "idle_timeout", 600000) * NS_PER_MS;
    s->read_only = conf_bool(c, "read_only", false);
    s->create = conf_bool(c, "create_if_missing", true) && !s->read_only;
    s->auto_connect = conf_bool(c, "auto_connect", true);
    const char *transfer = conf_str(c, "transfer", "auto");
    s->transfer = strcmp(transfer, "auto") == 0   ? SFTP_BY_ANY
                  : strcmp(transfer, "sftp") == 0 ? SFTP_BY_SFTP
                                                  : SFTP_BY_COMMANDS; /* exec, scp */
}

static char *uri_of(const struct sftp *s)
{
    const struct endpoint *e = &s->endpoints[0];
    struct buf b = BUF_INIT;
    buf_addf(&b, "sftp://%s@%s", s->login.user, e->port == 22 ? e->host : e->name);
    if (s->root[0] != '/')
        buf_adds(&b, "/~/");
    if (strcmp(s->root, ".") != 0)
        url_encode(&b, s->root, strlen(s->root), true);
    return buf_take(&b);
}

static void sftp_place(const struct store *store, struct buf *ret_service, struct buf *ret_path)
{
    const struct sftp *s = (const struct sftp *)store;
    const struct endpoint *e = &s->endpoints[0];
    buf_addf(ret_service, "%s@", s->login.user);
    buf_add_lower(ret_service, e->host);
    buf_addf(ret_service, ":%u", e->port);
    if (s->root[0] != '/') /* the directory of the login */
        buf_adds(ret_path, strcmp(s->root, ".") == 0 ? "~" : "~/");
    if (strcmp(s->root, ".") != 0)
        buf_adds(ret_path, s->root);
}

static int sftp_open(const struct conf_section *section, struct stats *stats, struct err *err,
                     struct store **ret)
{
    (void)stats;
    struct sftp *s = xcalloc(1, sizeof(*s));
    set_numbers(s, section);
    int r = set_places(s, section, err);
    if (r == 0)
        r = set_login(s, section, err);
    if (r == 0 && ssh_start() < 0)
        r = conf_error(section, NULL, err, EIO, "libssh2 does not start");
    if (r < 0) {
        free_sftp(s);
        return r;
    }
    s->store = (struct store){
        .cls = &sftp_class,
        .base_uri = uri_of(s),
        .caps = CAP_WRITE | CAP_IF_MATCH | CAP_RENAME_FILE | CAP_RENAME_DIR | CAP_PATCH |
                CAP_REAL_DIRS | CAP_SET_META | CAP_LIST_META | CAP_SYMLINK | CAP_READ_META |
                CAP_WHOLE_SECONDS | CAP_WEAK_VERSIONS | CAP_NO_XATTRS | CAP_UPLOAD,
        .limits = {.concurrency = s->max_connections,
                   .key_max = PATH_MAX - TEMP_NAME_MAX - strlen(s->root),
                   .upload_threshold = PART_SIZE,
                   .part_size = PART_SIZE},
    };
    claims_init(&s->claims, "sftp claims");
    versions_init(&s->versions);
    rests_init(&s->rests, "sftp listings", REST_NS, sftp_items_free);
    lock_init(&s->torn.lock, LOCK_RANK_STORE, "sftp uploads");
    sftp_pool_init(s);
    *ret = &s->store;
    return 0;
}

static void sftp_close(struct store *store)
{
    struct sftp *s = sftp_of(store);
    sftp_pool_done(s);
    claims_done(&s->claims);
    versions_done(&s->versions);
    rests_done(&s->rests);
    sftp_torn_done(s);
    free_sftp(s);
}

const struct store_class sftp_class = {
    .abi = STORE_ABI,
    .name = "sftp",
    .summary = "a directory of an SSH server",
    .options = sftp_options,
    .n_options = SFTP_OPTIONS,
    .open = sftp_open,
    .close = sftp_close,
    .place = sftp_place,
    .stat = sftp_stat,
    .list = sftp_list,
    .read = sftp_read,
    .probe = sftp_probe,
    .put = sftp_put,
    .patch = sftp_patch,
    .upload_begin = sftp_upload_begin,
    .upload_part = sftp_upload_part,
    .upload_finish = sftp_upload_finish,
    .upload_abort = sftp_upload_abort,
    .remove = sftp_remove,
    .remove_many = sftp_remove_many,
    .rename = sftp_rename,
    .set_meta = sftp_set_meta,
    .make_dir = sftp_make_dir,
    .remove_dir = sftp_remove_dir,
    .space = sftp_space,
};
