/* SPDX-License-Identifier: MIT
 * web_int.h: one opened http store, for the files of this folder.
 * Locks: `manifest.lock` and the shelf's guard what threads share; nothing waits under them. */
#ifndef QUAY_BACKENDS_WEB_WEB_INT_H
#define QUAY_BACKENDS_WEB_WEB_INT_H

#include "backends/web/web.h"
#include "backends/web/web_client.h"
#include "backends/web/web_index.h"
#include "backends/web/web_list.h"
#include "backends/web/web_spool.h"

#include <stdatomic.h>

#define WEB_KEY_MAX 4096

struct web_manifest { /* what was read last; names are whole paths */
    char *file;        /* a local file, or */
    struct web_ref at; /* where it is: its path is NULL without one */
    struct lock lock;
    struct web_names names;
    char *etag;        /* as the server wrote it, or NULL */
    struct timespec mtime;
    uint64_t size, checked_ns;
    bool read;
};

struct web_store {
    struct store base;
    struct web web;
    struct web_spool *spool;
    struct web_shelf shelf;
    struct web_manifest manifest;
    bool no_listing;             /* listing = none */
    bool has_manifest;
    atomic_bool no_head;         /* HEAD was refused once */
    atomic_bool redirects_dirs;  /* a directory without '/' was redirected: absent names need one request */
};

static inline struct web_store *web_of(struct store *s)
{
    return (struct web_store *)s;
}

int web_stat(struct store *store, struct op *op, const char *key, struct attr *ret);
int web_read(struct store *store, struct op *op, const struct read_req *req, struct read_res *ret);
int web_list_store(struct store *store, struct op *op, const struct list_query *q,
                   struct list_page *ret);

/* Does the manifest have something below `key`? 1 or 0; -errno when it cannot be read. */
int web_manifest_has_dir(struct web_store *s, struct op *op, const char *key);
void web_manifest_done(struct web_manifest *m);

#endif
