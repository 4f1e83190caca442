/* SPDX-License-Identifier: MIT
 * web.c: the http class: its options, how a section becomes a store, probe. */
#include "backends/web/web.h"

#include "backends/web/web_int.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct conf_option options[] = {
    {"url", CONF_STRING, .help = "https://HOST/DIRECTORY/ (uri says the same)"},
    {"base_url", CONF_STRING, .alias = "url"},
    {"listing", CONF_ENUM, "auto", "auto|none",
     .help = "auto: read index pages (or the manifest); none: directories look empty"},
    {"manifest", CONF_STRING, .help = "file or URL that names the files, one a line or as JSON"},
    {"spool_dir", CONF_PATH, "/var/tmp", .help = "for files that can only be read as a whole"},
    {"spool_max", CONF_SIZE, "1GiB", .help = "bytes of such files on disk at most"},
    WEB_OPTIONS,
};

/* The value as a URL, a path made absolute, or neither. */
static int take_manifest(const struct conf_section *c, struct err *err, struct web_store *s)
{
    const char *v = conf_str(c, "manifest", NULL);
    if (!v || !*v)
        return 0;
    s->has_manifest = true;
    if (strstr(v, "://"))
        return web_ref_parse(v, &s->manifest.at)
                   ? 0
                   : conf_error(c, "manifest", err, EINVAL, "'manifest' is no http(s) URL");
    if (*v == '/')
        s->manifest.file = xstrdup(v);
    else
        s->manifest.file = xasprintf("%s/%s", c->dir ? c->dir : ".", v);
    return 0;
}

static int take_url(const struct conf_section *c, struct err *err, struct web_store *s)
{
    const char *uri = conf_str(c, "uri", NULL), *url = conf_str(c, "url", NULL);
    if (uri && url)
        return conf_error(c, "url", err, EINVAL, "'uri' and 'url' say the same: leave one out");
    int r = web_open(c, uri ? "uri" : "url", uri ? uri : url, err, &s->web);
    if (r < 0)
        return r;
    CLEANUP_FREE char *root = web_ref_url(&s->web.root);
    s->base.base_uri = xstrndup(root, strlen(root) - 1);
    return 0;
}

static void http_close(struct store *store)
{
    struct web_store *s = web_of(store);
    web_spool_free(s->spool);
    web_close(&s->web);
    web_shelf_done(&s->shelf);
    web_manifest_done(&s->manifest);
    free(s);
}

static int http_open(const struct conf_section *c, struct stats *stats, struct err *err,
                     struct store **ret)
{
    struct web_store *s = xcalloc(1, sizeof(*s));
    (void)stats;
    s->base.cls = &web_class;
    s->base.caps = CAP_REAL_DIRS | CAP_READ_META | CAP_HIDES;
    s->base.limits = (struct store_limits){.concurrency = 8, .key_max = WEB_KEY_MAX};
    s->no_listing = strcmp(conf_str(c, "listing", "auto"), "none") == 0;
    web_shelf_init(&s->shelf);
    lock_init(&s->manifest.lock, LOCK_RANK_STORE, "manifest");
    int r = take_url(c, err, s);
    if (r == 0)
        r = take_manifest(c, err, s);
    if (r < 0) {
        free(s->base.base_uri);
        http_close(&s->base);
        return r;
    }
    s->spool = web_spool_new(&s->web, conf_str(c, "spool_dir", "/var/tmp"),
                             conf_size(c, "spool_max", 1ULL << 30));
    *ret = &s->base;
    return 0;
}

/* Any answer but a refusal or a failure of the server shows that it is there. */
static int http_probe(struct store *store, struct op *op, struct buf *ret_text)
{
    struct web_store *s = web_of(store);
    uint64_t begun = clock_now_ns();
    struct web_res res = WEB_RES_INIT;
    struct web_req req = {.verb = "probe", .method = "HEAD", .at = &s->web.root, .stop_at_dir = true};
    int r = web_do(&s->web, op, &req, &res);
    web_req_done(&req);
    bool there = r == 0 || r == -ENOENT || r == -ENOTSUP || op->err.status == 403;
    if (!there)
        return r;
    err_clear(&op->err);
    const char *server = r == 0 ? http_headers_get(&res.http.headers, "server") : NULL;
    buf_addf(ret_text, "%s answers (%.60s), %llu ms", s->base.base_uri, server ? server : "HTTP",
             (unsigned long long)((clock_now_ns() - begun) / NS_PER_MS));
    web_res_done(&res);
    return 0;
}

const struct store_class web_class = {
    .abi = STORE_ABI,
    .name = "http",
    .summary = "Files of a web server, read-only",
    .options = options,
    .n_options = ARRAY_LEN(options),
    .open = http_open,
    .close = http_close,
    .stat = web_stat,
    .list = web_list_store,
    .read = web_read,
    .probe = http_probe,
};
