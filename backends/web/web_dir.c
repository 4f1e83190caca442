/* SPDX-License-Identifier: MIT
 * web_dir.c: what is in a directory: its index page, or what the manifest has below it.
 *
 * A manifest is read when a directory is listed, and for lookups when what was read is older than
 * MANIFEST_NS; a URL is asked with If-None-Match, a file is read again when its time or size differs. */
#include "backends/web/web_int.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/name.h"
#include "base/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define INDEX_MAX (64u << 20) /* bytes of an index page or a manifest: some 500,000 names */
#define MANIFEST_NS (5 * NS_PER_S)

/* ---- index pages ---- */

static bool has_type(const struct http_res *res, const char *type)
{
    const char *v = http_headers_get(&res->headers, "content-type");
    return v && strncasecmp(v, type, strlen(type)) == 0;
}

static int read_index(struct op *op, const struct web_res *res, struct web_names *ret)
{
    const struct buf *body = &res->http.body;
    if (has_type(&res->http, "application/json"))
        return web_index_json(buf_str(body), body->len, &op->err, ret);
    if (has_type(&res->http, "text/html") || has_type(&res->http, "application/xhtml"))
        return web_index_html(&res->from, buf_str(body), body->len, &op->err, ret);
    return err_set(&op->err, EBADMSG, "it is neither HTML nor JSON");
}

static int no_index(struct op *op, const struct web_ref *at, int r)
{
    CLEANUP_FREE char *url = web_ref_text(at);
    const char *advice = "files can be opened by name; set 'manifest', or listing = none";
    if (r == -EMSGSIZE)
        return err_set(&op->err, EIO, "list %s: the index page has more than %u MiB; set 'manifest'", url,
                       INDEX_MAX >> 20);
    if (r == -EBADMSG) {
        CLEANUP_FREE char *why = xstrdup(op->err.text);
        return err_set(&op->err, EIO, "list %s: no index page: %s; %s", url, why, advice);
    }
    if (r == -EACCES) {
        struct err was = op->err;
        r = err_set(&op->err, EACCES, "%s; %s", was.text, advice);
        op->err.status = was.status;
    }
    return r;
}

static int load_index(struct web_store *s, struct op *op, const char *dir, struct web_names *ret)
{
    CLEANUP_FREE char *key = path_of_prefix(dir);
    CLEANUP_REF struct web_ref at = web_ref_of_key(&s->web, key, true);
    struct web_res res = WEB_RES_INIT;
    struct web_req req = {.verb = "list", .method = "GET", .at = &at, .body_max = INDEX_MAX};
    http_headers_add(&req.headers, "accept", "application/json, text/html;q=0.9, */*;q=0.1");
    int r = web_do(&s->web, op, &req, &res);
    web_req_done(&req);
    if (r == 0)
        r = read_index(op, &res, ret);
    web_res_done(&res);
    return r < 0 ? no_index(op, &at, r) : 0;
}

/* ---- manifest ---- */

void web_manifest_done(struct web_manifest *m)
{
    free(m->file);
    free(m->etag);
    web_ref_done(&m->at);
    web_names_done(&m->names);
    lock_done(&m->lock);
}

/* Takes the names. */
static void manifest_keep(struct web_manifest *m, struct web_names *names, const char *etag,
                          const struct stat *st)
{
    lock_acquire(&m->lock);
    struct web_names old = m->names;
    m->names = *names;
    free(m->etag);
    m->etag = etag ? xstrdup(etag) : NULL;
    m->mtime = st ? st->st_mtim : (struct timespec){0};
    m->size = st ? (uint64_t)st->st_size : 0;
    m->checked_ns = clock_now_ns();
    m->read = true;
    lock_release(&m->lock);
    web_names_done(&old);
}

static void manifest_is_current(struct web_manifest *m)
{
    LOCK_SCOPE(&m->lock);
    m->checked_ns = clock_now_ns();
}

static bool is_same_file(struct web_manifest *m, const struct stat *st)
{
    LOCK_SCOPE(&m->lock);
    return m->read && m->size == (uint64_t)st->st_size && m->mtime.tv_sec == st->st_mtim.tv_sec &&
           m->mtime.tv_nsec == st->st_mtim.tv_nsec;
}

static int manifest_from_file(struct web_manifest *m, struct op *op)
{
    struct stat st;
    struct web_names names = {0};
    CLEANUP_BUF struct buf b = BUF_INIT;
    CLEANUP_FD int fd = sys_openat(AT_FDCWD, m->file, O_RDONLY, 0);
    if (fd < 0 || fstat(fd, &st) < 0)
        return err_set(&op->err, EIO, "%s", strerror(fd < 0 ? -fd : errno));
    if (is_same_file(m, &st)) {
        manifest_is_current(m);
        return 0;
    }
    if (!S_ISREG(st.st_mode) || st.st_size > INDEX_MAX)
        return err_set(&op->err, EIO, "no file of at most %u MiB", INDEX_MAX >> 20);
    char *to = buf_reserve(&b, (size_t)st.st_size + 1);
    ssize_t n = sys_pread(fd, to, (size_t)st.st_size, 0);
    int r = n < 0 ? err_set(&op->err, (int)-n, "%s", strerror((int)-n))
                  : web_manifest_parse(to, (size_t)n, &op->err, &names);
    if (r == 0)
        manifest_keep(m, &names, NULL, &st);
    return r;
}

static int manifest_from_url(struct web_store *s, struct op *op)
{
    struct web_manifest *m = &s->manifest;
    struct web_names names = {0};
    struct web_res res = WEB_RES_INIT;
    struct web_req req = {
        .verb = "manifest", .method = "GET", .at = &m->at, .take_304 = true, .body_max = INDEX_MAX};
    lock_acquire(&m->lock);
    if (m->etag)
        http_headers_add(&req.headers, "if-none-match", m->etag);
    lock_release(&m->lock);
    int r = web_do(&s->web, op, &req, &res);
    web_req_done(&req);
    if (r == 0 && res.http.status == 304)
        manifest_is_current(m);
    else if (r == 0)
        r = web_manifest_parse(buf_str(&res.http.body), res.http.body.len, &op->err, &names);
    if (r == 0 && res.http.status != 304)
        manifest_keep(m, &names, http_headers_get(&res.http.headers, "etag"), NULL);
    web_res_done(&res);
    return r;
}

/* Reads it if it has changed. What is wrong with a manifest is never that a file is absent. */
static int manifest_refresh(struct web_store *s, struct op *op)
{
    struct web_manifest *m = &s->manifest;
    int r = m->file ? manifest_from_file(m, op) : manifest_from_url(s, op);
    if (r == 0 || r == -EINTR || r == -ETIMEDOUT || r == -EHOSTUNREACH || r == -EBUSY)
        return r;
    struct err was = op->err;
    CLEANUP_FREE char *url = m->file ? NULL : web_ref_text(&m->at);
    r = err_set(&op->err, EIO, "manifest %s: %s", m->file ? m->file : url, was.text);
    op->err.retry = was.retry;
    op->err.status = was.status;
    return r;
}

/* The first name that begins with `prefix`, or sorts behind it. */
static size_t first_below(const struct web_names *a, const char *prefix)
{
    size_t low = 0, high = a->n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (strcmp(a->v[mid].name, prefix) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

int web_manifest_has_dir(struct web_store *s, struct op *op, const char *key)
{
    struct web_manifest *m = &s->manifest;
    CLEANUP_FREE char *prefix = path_dir_prefix(key);
    lock_acquire(&m->lock);
    bool old = !m->read || clock_now_ns() - m->checked_ns > MANIFEST_NS;
    lock_release(&m->lock);
    int r = old ? manifest_refresh(s, op) : 0;
    if (r < 0)
        return r;
    LOCK_SCOPE(&m->lock);
    size_t i = first_below(&m->names, prefix);
    return i < m->names.n && strncmp(m->names.v[i].name, prefix, strlen(prefix)) == 0;
}

static void add_child(struct web_names *ret, const struct web_name *from, const char *rest)
{
    size_t n = strcspn(rest, "/");
    CLEANUP_FREE char *name = xstrndup(rest, n);
    bool dir = rest[n] == '/';
    if (dir && ret->n && strncmp(ret->v[ret->n - 1].name, rest, n + 1) == 0 &&
        ret->v[ret->n - 1].name[n + 1] == '\0')
        return; /* as the one before */
    struct web_name *e = web_names_add(ret, name, dir);
    if (dir)
        return;
    e->size = from->size;
    e->mtime_s = from->mtime_s;
    e->has_size = from->has_size;
    e->has_mtime = from->has_mtime;
    e->version = from->version ? xstrdup(from->version) : NULL;
}

static int load_manifest(struct web_store *s, struct op *op, const char *dir, struct web_names *ret)
{
    struct web_manifest *m = &s->manifest;
    size_t n = strlen(dir);
    bool found = n == 0;
    int r = manifest_refresh(s, op);
    if (r < 0)
        return r;
    lock_acquire(&m->lock);
    for (size_t i = first_below(&m->names, dir); i < m->names.n; i++) {
        const struct web_name *e = &m->names.v[i];
        if (strncmp(e->name, dir, n) != 0)
            break;
        found = true;
        if (e->name[n])
            add_child(ret, e, e->name + n);
    }
    lock_release(&m->lock);
    return found ? 0 : err_set(&op->err, ENOENT, "list %s: not in the manifest", dir);
}

/* ---- listings ---- */

static int load(void *arg, struct op *op, uint64_t listing, const char *dir, struct web_names *ret)
{
    struct web_store *s = arg;
    (void)listing;
    CLEANUP_FREE char *key = path_of_prefix(dir);
    if (!path_is_inside(key))
        return err_set(&op->err, ENOENT, "list %s: no path below the store's root", dir);
    if (s->no_listing)
        return 0;
    return s->has_manifest ? load_manifest(s, op, dir, ret) : load_index(s, op, dir, ret);
}

int web_list_store(struct store *store, struct op *op, const struct list_query *q,
                   struct list_page *ret)
{
    struct web_store *s = web_of(store);
    struct web_lister l = {.load = load, .arg = s, .whole_truth = true};
    return web_list(&s->shelf, &l, op, q, ret);
}
