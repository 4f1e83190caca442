/* SPDX-License-Identifier: MIT
 * api_int.h: one opened api store, for the files of this folder.
 * Locks: `sync.lock` guards the bucket and the listings under way; nothing waits under it. */
#ifndef QUAY_BACKENDS_API_API_INT_H
#define QUAY_BACKENDS_API_API_INT_H

#include "backends/api/api.h"
#include "backends/api/api_page.h"
#include "backends/api/api_rate.h"
#include "backends/web/web_client.h"
#include "backends/web/web_spool.h"
#include "base/strmap.h"

#define API_KEY_MAX 2048
#define API_GATHERS 4
#define API_RECORDS_MAX 500000 /* of one collection */

enum api_paging { API_PAGING_AUTO = 0, API_PAGING_PAGE, API_PAGING_CURSOR, API_PAGING_LINK, API_PAGING_NONE };

struct api_gather { /* a collection of which some pages were read */
    uint64_t listing, used;
    char *dir;           /* NULL: this place is free */
    struct web_names names;
    struct web_ref first, next;
    struct strmap seen;  /* URLs that were asked for */
    uint64_t last_page;  /* hash of its bytes */
    uint64_t number;     /* of the next page */
    unsigned pages;
};

struct api_store {
    struct store base;
    struct web web;
    struct web_spool *spool;
    struct web_shelf shelf;
    struct api_shape shape;
    char *collections;     /* "dataset\0v2/users\0\0", or NULL: none are configured */
    enum api_paging paging;
    char *page_param;      /* or "" */
    char *page_size_param, *cursor_param;
    uint64_t page_start, page_size;
    unsigned max_pages;
    struct {
        struct lock lock;
        struct api_rate rate;
        struct api_gather gathers[API_GATHERS];
        uint64_t uses;
    } sync;
};

static inline struct api_store *api_of(struct store *s)
{
    return (struct api_store *)s;
}

#define API_EACH_COLLECTION(s, c)                                                                  \
    for (const char *c = (s)->collections; c && *c; c += strlen(c) + 1)

/* Where a record's or collection's name leads. */
struct web_ref api_ref_of_dir(const struct api_store *s, const char *key);
int api_list(struct store *store, struct op *op, const struct list_query *q, struct list_page *ret);
void api_gather_done(struct api_gather *g);

#endif
