/* SPDX-License-Identifier: MIT
 * api.c: the api class: its options, its bucket of requests, stat and read.
 *
 * A record is read as a whole, by one GET into the spool (web_spool.h): only that tells its size, and what
 * was read by the stat serves the reads that follow. */
#include "backends/api/api_int.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/name.h"
#include "base/url.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PROBE_BYTES (1u << 20) /* of a reply that may be a collection's page */

static const struct conf_option options[] = {
    {"endpoint", CONF_STRING, .help = "https://HOST/PATH of the service"},
    {"endpoint_url", CONF_STRING, .alias = "endpoint"},
    {"api_key", CONF_SECRET, .help = "key of the service; better api_key_file"},
    {"api_key_header", CONF_STRING, "X-API-Key", .help = "the header that carries it"},
    {"collections", CONF_STRING, .help = "names (or paths) that are directories, separated by ','"},
    {"rate_limit", CONF_STRING, .help = "requests per time: 10/s, 100/m, 5000/h"},
    {"pagination", CONF_ENUM, "auto", "auto|page|cursor|link|none",
     .help = "how a collection's next page is found"},
    {"page_param", CONF_STRING, .help = "query parameter of the page's number (page, offset ...)"},
    {"page_start", CONF_INT, "1", .min = 0, .max = 1000000, .help = "number of the first page"},
    {"page_size", CONF_INT, "0", .min = 0, .max = 1000000, .help = "records to ask for; 0: not said"},
    {"page_size_param", CONF_STRING, "per_page", .help = "query parameter of page_size"},
    {"cursor_param", CONF_STRING, "cursor", .help = "query parameter of a cursor"},
    {"cursor_field", CONF_STRING, .help = "member with the next cursor or URL (a.b.c)"},
    {"items_field", CONF_STRING, .help = "member with the array of records (a.b.c)"},
    {"id_field", CONF_STRING, "id", .help = "member with a record's id (a.b.c)"},
    {"suffix", CONF_STRING, "", .help = "of the records' names, as .json"},
    {"max_pages", CONF_INT, "10000", .min = 1, .max = 10000000, .help = "of one collection"},
    {"accept", CONF_STRING, "application/json", .help = "Accept header"},
    {"spool_dir", CONF_PATH, "/var/tmp", .help = "where records are kept while they are read"},
    {"spool_max", CONF_SIZE, "64MiB", .help = "bytes of them at most; a larger record is refused"},
    WEB_OPTIONS,
};

/* ---- requests per time ---- */

static int wait_turn(void *arg, struct op *op)
{
    struct api_store *s = arg;
    lock_acquire(&s->sync.lock);
    uint64_t ns = api_rate_take(&s->sync.rate, clock_now_ns());
    lock_release(&s->sync.lock);
    if (ns == 0)
        return 0;
    if (op->deadline_ns) /* that the server is not asked is no silence of its */
        op->deadline_ns += ns;
    uint64_t ms = ns / NS_PER_MS + 1;
    return op_sleep(op, ms < UINT32_MAX ? (unsigned)ms : UINT32_MAX);
}

/* Told to wait, nobody asks until then. */
static void see_answer(void *arg, const struct http_res *res)
{
    struct api_store *s = arg;
    unsigned ms = res->status == 429 || res->status == 503 ? http_retry_after_ms(&res->headers) : 0;
    if (!ms)
        return;
    LOCK_SCOPE(&s->sync.lock);
    api_rate_close(&s->sync.rate, clock_now_ns() + ms * NS_PER_MS);
}

/* ---- names ---- */

struct web_ref api_ref_of_dir(const struct api_store *s, const char *key)
{
    CLEANUP_REF struct web_ref whole = web_ref_of_key(&s->web, key, false);
    return (struct web_ref){.origin = xstrdup(whole.origin), .path = xstrdup(whole.path)};
}

enum place { PLACE_FILE = 1, PLACE_DIR, PLACE_UNKNOWN };

/* What a key is by the configuration: without one, a name at the top may be a collection. */
static enum place place_of(const struct api_store *s, const char *key)
{
    size_t n = strlen(key);
    if (n == 0)
        return PLACE_DIR;
    API_EACH_COLLECTION(s, c)
    {
        if (strncmp(c, key, n) == 0 && (c[n] == '\0' || c[n] == '/'))
            return PLACE_DIR;
    }
    return s->collections || strchr(key, '/') ? PLACE_FILE : PLACE_UNKNOWN;
}

/* The URL of a record; -ENOENT: no record can have that name. */
static int ref_of_record(const struct api_store *s, struct op *op, const char *key, struct web_ref *ret)
{
    size_t n;
    const char *name = path_base(key, &n);
    CLEANUP_FREE char *dir = xstrndup(key, n);
    CLEANUP_FREE char *id = api_id_of_name(name, n ? s->shape.suffix : "");
    if (!path_is_inside(key))
        return err_set(&op->err, EACCES, "'%s': no path below the endpoint", key);
    if (!id)
        return err_set(&op->err, ENOENT, "%s: records are called ID%s", key, s->shape.suffix);
    *ret = web_ref_of_key(&s->web, dir, true);
    struct buf b = BUF_INIT;
    buf_adds(&b, ret->path);
    url_encode(&b, id, strlen(id), false);
    free(ret->path);
    ret->path = buf_take(&b);
    return 0;
}

/* ---- stat, read ---- */

static int stat_record(struct api_store *s, struct op *op, const char *key, bool may_be_dir,
                       struct attr *ret)
{
    CLEANUP_REF struct web_ref at = WEB_REF_INIT;
    CLEANUP_FREE char *begin = may_be_dir ? xmalloc(PROBE_BYTES) : NULL;
    struct read_req req = {.key = key, .iov = {.iov_base = begin, .iov_len = may_be_dir ? PROBE_BYTES : 0}};
    struct web_facts f;
    size_t len = 0;
    int r = ref_of_record(s, op, key, &at);
    if (r == 0)
        r = web_spool_read(s->spool, op, &at, &req, &len, &f);
    if (r < 0)
        return r;
    /* More than a record usually has, or a page of records: a collection. */
    if (may_be_dir && begin && len == f.size && api_page_is_one(begin, len, &s->shape))
        *ret = (struct attr){.kind = ATTR_DIR, .known = ATTR_META};
    else
        web_facts_to_attr(&f, ret);
    return 0;
}

static int api_stat(struct store *store, struct op *op, const char *key, struct attr *ret)
{
    struct api_store *s = api_of(store);
    enum place place = place_of(s, key);
    if (place != PLACE_DIR)
        return stat_record(s, op, key, place == PLACE_UNKNOWN, ret);
    *ret = (struct attr){.kind = ATTR_DIR, .known = ATTR_META};
    return 0;
}

static int api_read(struct store *store, struct op *op, const struct read_req *req, struct read_res *ret)
{
    struct api_store *s = api_of(store);
    CLEANUP_REF struct web_ref at = WEB_REF_INIT;
    struct web_facts f;
    size_t len;
    if (place_of(s, req->key) == PLACE_DIR)
        return err_set(&op->err, EISDIR, "read %s: it is a collection", req->key);
    int r = ref_of_record(s, op, req->key, &at);
    if (r == 0)
        r = web_spool_read(s->spool, op, &at, req, &len, &f);
    if (r < 0)
        return r;
    ret->length = len;
    web_facts_to_attr(&f, &ret->attr);
    return 0;
}

static int api_probe(struct store *store, struct op *op, struct buf *ret_text)
{
    struct api_store *s = api_of(store);
    uint64_t begun = clock_now_ns();
    struct web_res res = WEB_RES_INIT;
    struct web_req req = {.verb = "probe", .method = "GET", .at = &s->web.root};
    int r = web_do(&s->web, op, &req, &res);
    web_res_done(&res);
    bool there = r == 0 || (op->err.status >= 400 && op->err.status < 500 && op->err.status != 401);
    if (!there)
        return r;
    err_clear(&op->err);
    buf_addf(ret_text, "%s answers, %llu ms", s->base.base_uri,
             (unsigned long long)((clock_now_ns() - begun) / NS_PER_MS));
    return 0;
}

/* ---- opening ---- */

/* "a, b/c" -> "a\0b/c\0\0". */
static int take_collections(const struct conf_section *c, struct err *err, struct api_store *s)
{
    const char *text = conf_str(c, "collections", "");
    struct buf b = BUF_INIT;
    int r = 0;
    for (const char *p = text; r == 0 && *p;) {
        p += strspn(p, ", \t\n");
        size_t n = strcspn(p, ",\n");
        CLEANUP_FREE char *name = xstrndup(p, n);
        for (size_t k = strlen(name); k > 0 && strchr(" \t/", name[k - 1]); k--)
            name[k - 1] = '\0';
        if (*name && !path_is_inside(name))
            r = conf_error(c, "collections", err, EINVAL, "'%s' is no name of a collection", name);
        if (*name)
            buf_add(&b, name, strlen(name) + 1);
        p += n;
    }
    if (b.len) {
        buf_addc(&b, '\0');
        s->collections = buf_take(&b);
    }
    buf_done(&b);
    return r;
}

static bool is_token(const char *s)
{
    if (!*s)
        return false;
    for (; *s; s++)
        if (*s <= ' ' || *s >= 0x7f || strchr("()<>@,;:\\\"/[]?={}", *s))
            return false;
    return true;
}

static int take_key(const struct conf_section *c, struct err *err, struct api_store *s)
{
    const char *header = conf_str(c, "api_key_header", "X-API-Key");
    char *key = NULL;
    int r = conf_secret(c, "api_key", err, &key);
    if (r == -ENOENT)
        return 0;
    if (r == 0 && !is_token(header))
        r = conf_error(c, "api_key_header", err, EINVAL, "'%s' is no name of a header", header);
    for (const char *p = key; r == 0 && *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            r = conf_error(c, NULL, err, EINVAL, "'api_key' has control bytes");
    if (r == 0)
        web_add_credential(&s->web, header, key);
    secret_free(key);
    return r;
}

static void take_shape(const struct conf_section *c, struct api_store *s)
{
    static const char *const pagings[] = {"auto", "page", "cursor", "link", "none"};
    const char *paging = conf_str(c, "pagination", "auto");
    for (unsigned i = 0; i < ARRAY_LEN(pagings); i++)
        if (strcmp(paging, pagings[i]) == 0)
            s->paging = (enum api_paging)i;
    bool page = s->paging == API_PAGING_PAGE;
    s->page_param = xstrdup(conf_str(c, "page_param", page ? "page" : ""));
    s->page_size_param = xstrdup(conf_str(c, "page_size_param", "per_page"));
    s->cursor_param = xstrdup(conf_str(c, "cursor_param", "cursor"));
    s->page_start = (uint64_t)conf_int(c, "page_start", 1);
    s->page_size = (uint64_t)conf_int(c, "page_size", 0);
    s->max_pages = (unsigned)conf_int(c, "max_pages", 10000);
    s->shape = (struct api_shape){.items_field = xstrdup(conf_str(c, "items_field", "")),
                                  .id_field = xstrdup(conf_str(c, "id_field", "id")),
                                  .cursor_field = xstrdup(conf_str(c, "cursor_field", "")),
                                  .suffix = xstrdup(conf_str(c, "suffix", ""))};
}

static int take_endpoint(const struct conf_section *c, struct err *err, struct api_store *s)
{
    int r = web_open(c, "endpoint", conf_str(c, "endpoint", NULL), err, &s->web);
    if (r == 0)
        r = take_key(c, err, s);
    if (r == 0)
        r = take_collections(c, err, s);
    if (r == 0 && !api_rate_parse(conf_str(c, "rate_limit", ""), &s->sync.rate))
        r = conf_error(c, "rate_limit", err, EINVAL, "'rate_limit' is N/s, N/m, N/h or N/d");
    if (r == 0 && strchr(s->shape.suffix, '/'))
        r = conf_error(c, "suffix", err, EINVAL, "'suffix' has a '/'");
    if (r < 0)
        return r;
    http_headers_add(&s->web.always, "accept", conf_str(c, "accept", "application/json"));
    s->web.before = wait_turn;
    s->web.after = see_answer;
    s->web.around_arg = s;
    CLEANUP_FREE char *root = web_ref_url(&s->web.root);
    s->base.base_uri = xstrndup(root, strlen(root) - 1);
    return 0;
}

static void drop(const char *s)
{
    free((void *)(uintptr_t)s);
}

static void api_close(struct store *store)
{
    struct api_store *s = api_of(store);
    web_spool_free(s->spool);
    web_close(&s->web);
    web_shelf_done(&s->shelf);
    for (unsigned i = 0; i < API_GATHERS; i++)
        api_gather_done(&s->sync.gathers[i]);
    lock_done(&s->sync.lock);
    free(s->collections);
    free(s->page_param);
    free(s->page_size_param);
    free(s->cursor_param);
    drop(s->shape.items_field);
    drop(s->shape.id_field);
    drop(s->shape.cursor_field);
    drop(s->shape.suffix);
    free(s);
}

static int api_open(const struct conf_section *c, struct stats *stats, struct err *err,
                    struct store **ret)
{
    struct api_store *s = xcalloc(1, sizeof(*s));
    (void)stats;
    s->base.cls = &api_class;
    s->base.caps = CAP_REAL_DIRS | CAP_READ_META | CAP_HIDES;
    s->base.limits = (struct store_limits){.concurrency = 4, .key_max = API_KEY_MAX};
    lock_init(&s->sync.lock, LOCK_RANK_STORE, "api");
    web_shelf_init(&s->shelf);
    take_shape(c, s);
    int r = take_endpoint(c, err, s);
    if (r < 0) {
        free(s->base.base_uri);
        api_close(&s->base);
        return r;
    }
    s->spool = web_spool_new(&s->web, conf_str(c, "spool_dir", "/var/tmp"),
                             conf_size(c, "spool_max", 64ULL << 20));
    *ret = &s->base;
    return 0;
}

const struct store_class api_class = {
    .abi = STORE_ABI,
    .name = "api",
    .summary = "Records of a REST service, read-only",
    .options = options,
    .n_options = ARRAY_LEN(options),
    .open = api_open,
    .close = api_close,
    .stat = api_stat,
    .list = api_list,
    .read = api_read,
    .probe = api_probe,
};
