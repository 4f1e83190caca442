/* SPDX-License-Identifier: MIT
 * api_list.c: a collection as a directory: its pages are gathered, sorted, and cut into pages again.
 *
 * Gathering may take long (many pages, a rate limit): a call of store_list fetches for GATHER_NS and at
 * least one page, then gives an empty page with a cursor; the next call goes on. What was gathered waits in
 * one of a few places under the number of the listing; when another listing needs the place, the
 * gathering begins anew.
 * A server that sends us round in circles is refused: a URL asked for twice, a page equal to the one
 * before, more than max_pages pages or API_RECORDS_MAX records, a next page at another server. */
#include "backends/api/api_int.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/name.h"
#include "base/url.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define GATHER_NS (2 * NS_PER_S)

/* ---- what was gathered so far ---- */

void api_gather_done(struct api_gather *g)
{
    free(g->dir);
    web_names_done(&g->names);
    web_ref_done(&g->first);
    web_ref_done(&g->next);
    strmap_done(&g->seen);
    *g = (struct api_gather){0};
}

static bool gather_take(struct api_store *s, uint64_t listing, const char *dir, struct api_gather *ret)
{
    LOCK_SCOPE(&s->sync.lock);
    for (unsigned i = 0; i < API_GATHERS; i++) {
        struct api_gather *g = &s->sync.gathers[i];
        if (!g->dir || g->listing != listing || strcmp(g->dir, dir) != 0)
            continue;
        *ret = *g;
        *g = (struct api_gather){0};
        return true;
    }
    return false;
}

/* Takes it; the place used longest ago is given up. */
static void gather_put(struct api_store *s, struct api_gather *g)
{
    lock_acquire(&s->sync.lock);
    struct api_gather *oldest = &s->sync.gathers[0];
    for (unsigned i = 1; i < API_GATHERS; i++)
        if (s->sync.gathers[i].used < oldest->used)
            oldest = &s->sync.gathers[i];
    struct api_gather old = *oldest;
    g->used = ++s->sync.uses;
    *oldest = *g;
    lock_release(&s->sync.lock);
    *g = (struct api_gather){0};
    api_gather_done(&old);
}

/* ---- where pages are ---- */

static void ref_set_query(struct web_ref *r, const char *name, const char *value)
{
    struct buf b = BUF_INIT;
    if (r->query && *r->query)
        buf_addf(&b, "%s&", r->query);
    url_encode(&b, name, strlen(name), false);
    buf_addc(&b, '=');
    url_encode(&b, value, strlen(value), false);
    free(r->query);
    r->query = buf_take(&b);
}

static void ref_copy(struct web_ref *to, const struct web_ref *from)
{
    web_ref_done(to);
    *to = (struct web_ref){.origin = xstrdup(from->origin),
                           .path = xstrdup(from->path),
                           .query = from->query ? xstrdup(from->query) : NULL};
}

static void set_number(const struct api_store *s, struct api_gather *g)
{
    char number[24];
    (void)snprintf(number, sizeof(number), "%" PRIu64, g->number++);
    ref_copy(&g->next, &g->first);
    ref_set_query(&g->next, s->page_param, number);
}

static bool goes_by_number(const struct api_store *s)
{
    return s->paging == API_PAGING_PAGE || (s->paging == API_PAGING_AUTO && *s->page_param);
}

static void gather_begin(struct api_store *s, uint64_t listing, const char *dir, struct api_gather *g)
{
    char size[24];
    CLEANUP_FREE char *key = path_of_prefix(dir);
    *g = (struct api_gather){.listing = listing, .dir = xstrdup(dir), .number = s->page_start};
    g->first = api_ref_of_dir(s, key);
    (void)snprintf(size, sizeof(size), "%" PRIu64, s->page_size);
    if (s->page_size)
        ref_set_query(&g->first, s->page_size_param, size);
    if (goes_by_number(s))
        set_number(s, g);
    else
        ref_copy(&g->next, &g->first);
}

/* The page that a URL names, which must be the same server's. */
static int go_to_url(struct op *op, struct api_gather *g, const struct web_ref *from, const char *url)
{
    CLEANUP_REF struct web_ref to = WEB_REF_INIT;
    if (!web_ref_resolve(from, url, &to))
        return err_set(&op->err, EIO, "the next page is no URL");
    if (!web_same_origin(&g->first, &to))
        return err_set(&op->err, EIO, "the next page is at another server (%s)", to.origin);
    ref_copy(&g->next, &to);
    return 1;
}

static int go_to_cursor(const struct api_store *s, struct api_gather *g, const char *cursor)
{
    ref_copy(&g->next, &g->first);
    ref_set_query(&g->next, s->cursor_param, cursor);
    return 1;
}

/* 1: g->next is the next page; 0: that was the last one; -errno. */
static int find_next(const struct api_store *s, struct op *op, struct api_gather *g,
                     const struct web_res *res, const struct api_page *page)
{
    bool any = s->paging == API_PAGING_AUTO;
    CLEANUP_FREE char *link =
        any || s->paging == API_PAGING_LINK ? api_link_next(&res->http.headers) : NULL;
    if (link)
        return go_to_url(op, g, &res->from, link);
    if ((any || s->paging == API_PAGING_CURSOR) && page->next)
        return page->next_is_url ? go_to_url(op, g, &res->from, page->next)
                                 : go_to_cursor(s, g, page->next);
    if (!goes_by_number(s) || page->records == 0 || page->records < s->page_size)
        return 0;
    set_number(s, g);
    return 1;
}

/* ---- pages ---- */

static int check_bounds(const struct api_store *s, struct op *op, const struct api_gather *g,
                        const char *url)
{
    if (strmap_get(&g->seen, url))
        return err_set(&op->err, EIO, "its pages lead round in a circle: one of them came up again");
    if (g->pages >= s->max_pages)
        return err_set(&op->err, EIO, "more than %u pages: raise max_pages", s->max_pages);
    if (g->names.n > API_RECORDS_MAX)
        return err_set(&op->err, EIO, "more than %u records", API_RECORDS_MAX);
    return 0;
}

static int take_page(struct api_store *s, struct op *op, struct api_gather *g,
                     const struct web_res *res)
{
    const struct buf *body = &res->http.body;
    struct api_page page = API_PAGE_INIT;
    uint64_t hash = hash_bytes(buf_str(body), body->len);
    size_t names = g->names.n;
    int r = api_page_parse(buf_str(body), body->len, &s->shape, &op->err, &g->names, &page);
    if (r == 0 && page.records && hash == g->last_page)
        r = err_set(&op->err, EIO,
                    "a page is the same as the one before: does the server know page_param and "
                    "cursor_param? (or pagination = none)");
    if (page.left_out)
        log_debug("api", "%s: %zu ids can be no names", g->dir, page.left_out);
    if (r == 0)
        r = find_next(s, op, g, res, &page);
    if (r < 0)
        web_names_cut(&g->names, names);
    else
        g->last_page = hash;
    api_page_done(&page);
    return r;
}

/* Fetches g->next. 1: there are more; 0: done; -errno: nothing has changed, the page may be asked for again. */
static int fetch_page(struct api_store *s, struct op *op, struct api_gather *g)
{
    struct web_res res = WEB_RES_INIT;
    CLEANUP_FREE char *url = web_ref_url(&g->next), *text = web_ref_text(&g->next);
    struct web_req req = {.verb = "list", .method = "GET", .at = &g->next};
    int r = check_bounds(s, op, g, url);
    if (r == 0)
        r = web_do(&s->web, op, &req, &res);
    if (goes_by_number(s) && g->pages > 0 && (r == -ENOENT || op->err.status == 416)) {
        err_clear(&op->err); /* some say so behind the last page */
        return 0;
    }
    if (r == 0)
        r = take_page(s, op, g, &res);
    web_res_done(&res);
    if (r >= 0) {
        (void)strmap_put(&g->seen, url, g);
        g->pages++;
    } else if ((r == -EIO || r == -EBADMSG || r == -EMSGSIZE) && op->err.status == 0 &&
               op->err.retry == ERR_RETRY_NEVER) {
        CLEANUP_FREE char *why = xstrdup(op->err.text);
        r = err_set(&op->err, EIO, "list %s: page %u: %s", text, g->pages + 1, why);
    }
    return r;
}

/* No way to list it: it looks empty, and its records can be opened by name. */
static bool cannot_be_listed(const struct api_store *s, const struct api_gather *g, int r)
{
    return g->pages == 0 && (r == -ENOTSUP || (r == -ENOENT && s->collections));
}

static int gather(struct api_store *s, struct op *op, uint64_t listing, const char *dir,
                  struct web_names *ret)
{
    struct api_gather g = {0};
    uint64_t begun = clock_now_ns();
    int r = 1;
    if (!gather_take(s, listing, dir, &g))
        gather_begin(s, listing, dir, &g);
    do
        r = fetch_page(s, op, &g);
    while (r == 1 && clock_now_ns() - begun < GATHER_NS);
    if (cannot_be_listed(s, &g, r)) {
        err_clear(&op->err);
        r = 0;
    }
    if (r != 0) { /* a failure too: who asks again with this cursor meets the same page */
        gather_put(s, &g);
        return r;
    }
    web_names_sort(&g.names);
    *ret = g.names;
    g.names = (struct web_names){0};
    api_gather_done(&g);
    return 0;
}

/* ---- directories ---- */

/* Collections directly in `dir`, or on the way to one. */
static void add_collections(const struct api_store *s, const char *dir, struct web_names *ret)
{
    size_t n = strlen(dir);
    API_EACH_COLLECTION(s, c)
    {
        if (strncmp(c, dir, n) != 0 || !c[n])
            continue;
        CLEANUP_FREE char *name = xstrndup(c + n, strcspn(c + n, "/"));
        (void)web_names_add(ret, name, true);
    }
    web_names_sort(ret);
}

static bool is_collection(const struct api_store *s, const char *key)
{
    API_EACH_COLLECTION(s, c)
    {
        if (strcmp(c, key) == 0)
            return true;
    }
    return !s->collections && *key && !strchr(key, '/');
}

static int load(void *arg, struct op *op, uint64_t listing, const char *dir, struct web_names *ret)
{
    struct api_store *s = arg;
    CLEANUP_FREE char *key = path_of_prefix(dir);
    if (!path_is_inside(key))
        return err_set(&op->err, ENOENT, "list %s: no path below the endpoint", dir);
    int r = is_collection(s, key) ? gather(s, op, listing, dir, ret) : 0;
    if (r == 0)
        add_collections(s, dir, ret);
    if (r == 0 && ret->n == 0 && *key && !is_collection(s, key))
        r = err_set(&op->err, ENOENT, "list %s: no such collection", dir);
    return r;
}

int api_list(struct store *store, struct op *op, const struct list_query *q, struct list_page *ret)
{
    struct api_store *s = api_of(store);
    struct web_lister l = {.load = load, .arg = s};
    return web_list(&s->shelf, &l, op, q, ret);
}
