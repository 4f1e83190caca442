/* SPDX-License-Identifier: MIT
 * s3_cond.c: conditional writes. Many servers honour If-Match and If-None-Match on PUT, some ignore
 * them without a word; the store contract says honoured or refused. So the first directory that is
 * made, or the first conditional write, finds out, by two writes of one probe object that must not
 * both succeed. AWS is known to honour them. Where they are ignored, the object is looked at just before the write: best effort, warned
 * of once.
 *
 * States of sync.cond: UNKNOWN -> PROBING (one thread) -> YES | NO; back to UNKNOWN when the probe
 * itself failed in a way that says nothing. */
#include "backends/s3/s3.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PROBE ".quay-probe-"
#define PROBE_DIGITS 16
#define PROBE_AGE_S 3600
#define SWEEP_MAX 100

bool s3_is_probe(const char *name, uint64_t size)
{
    size_t n = sizeof(PROBE) - 1;
    return size == 0 && strncmp(name, PROBE, n) == 0 && strlen(name + n) == PROBE_DIGITS &&
           strspn(name + n, "0123456789abcdef") == PROBE_DIGITS;
}

/* PUT of the probe object if absent; 0, -ESTALE for refused by the condition, or another -errno. */
static int put_probe(struct s3_store *s, struct op *op, const char *object)
{
    struct source_mem empty = source_mem("", 0);
    struct http_res res = HTTP_RES_INIT;
    struct s3_req r = {.op = "probe", .method = "PUT", .object = object, .body = &empty.base};
    http_headers_add(&r.headers, "if-none-match", "*");
    int rc = s3_do(s, op, &r, &res);
    s3_req_done(&r);
    http_res_done(&res);
    return rc;
}

static void remove_probe(struct s3_store *s, struct op *op, const char *object)
{
    struct http_res res = HTTP_RES_INIT;
    struct s3_req r = {.op = "probe", .method = "DELETE", .object = object};
    struct err keep = op->err;
    (void)s3_do(s, op, &r, &res); /* left behind when it fails: the next mount sweeps it */
    http_res_done(&res);
    op->err = keep;
}

/* What mounts that were killed have left. */
static void sweep(struct s3_store *s, struct op *op)
{
    CLEANUP_FREE char *prefix = xasprintf("%s" PROBE, s->prefix);
    struct flat_result l = {0};
    struct err keep = op->err;
    time_t now = clock_wall().tv_sec + atomic_load(&s->skew_s);
    int r = s3_list_raw(s, op, "probe", prefix, NULL, SWEEP_MAX, &l);
    for (size_t i = 0; r == 0 && i < l.n; i++)
        if (s3_is_probe(l.v[i].object + strlen(s->prefix), l.v[i].size) &&
            l.v[i].mtime.tv_sec + PROBE_AGE_S < now)
            remove_probe(s, op, l.v[i].object);
    flat_result_done(&l);
    op->err = keep;
}

static int probe(struct s3_store *s, struct op *op, bool *ret)
{
    char tail[PROBE_DIGITS + 1];
    random_hex(tail, PROBE_DIGITS);
    CLEANUP_FREE char *object = xasprintf("%s" PROBE "%s", s->prefix, tail);
    int first = put_probe(s, op, object);
    if (first == -ENOTSUP ||
        first == -EACCES) { /* no conditions, or no writing where the probe is */
        *ret = false;
        return 0;
    }
    if (first < 0)
        return first;
    int second = put_probe(s, op, object);
    remove_probe(s, op, object);
    if (second < 0 && second != -ESTALE && second != -EBUSY)
        return second;
    *ret = second == -ESTALE;
    return second == -EBUSY ? second : 0;
}

/* The answer if it is known; else makes this thread the one that probes (state PROBING). */
static int wait_known(struct s3_store *s, struct op *op, enum s3_cond *ret)
{
    LOCK_SCOPE(&s->sync.lock);
    while (s->sync.cond == S3_COND_PROBING) {
        (void)cond_wait_until(&s->sync.cond_known, &s->sync.lock, clock_now_ns() + 100 * NS_PER_MS);
        int r = op_check(op);
        if (r < 0)
            return r;
    }
    *ret = s->sync.cond;
    if (s->sync.cond == S3_COND_UNKNOWN)
        s->sync.cond = S3_COND_PROBING;
    return 0;
}

int s3_cond_supported(struct s3_store *s, struct op *op, bool *ret)
{
    enum s3_cond known;
    int r = wait_known(s, op, &known);
    if (r < 0)
        return r;
    if (known != S3_COND_UNKNOWN) {
        *ret = known == S3_COND_YES;
        return 0;
    }
    bool yes = false;
    r = probe(s, op, &yes);
    if (r == 0)
        sweep(s, op);
    lock_acquire(&s->sync.lock);
    s->sync.cond = r < 0 ? S3_COND_UNKNOWN : yes ? S3_COND_YES : S3_COND_NO;
    cond_broadcast(&s->sync.cond_known);
    lock_release(&s->sync.lock);
    if (r < 0)
        return r;
    if (!yes)
        log_warn("s3",
                 "%s ignores conditional writes: two writers of one object can overwrite each "
                 "other",
                 s->base.base_uri);
    *ret = yes;
    return 0;
}

void s3_cond_learn(struct s3_store *s, struct op *op)
{
    struct err keep = op->err;
    bool yes;
    (void)s3_cond_supported(s, op, &yes); /* who needs to know asks again */
    op->err = keep;
}

int s3_cond_look(struct s3_store *s, struct op *op, const char *key, const struct precond *pre)
{
    CLEANUP_FREE char *object = s3_object(s, key);
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    int r = s3_head(s, op, "look", object, NULL, &a, NULL);
    if (r < 0 && r != -ENOENT)
        return r;
    bool there = r == 0;
    if (pre->if_absent && there)
        return err_set(&op->err, EEXIST, "%s exists", key);
    if (pre->if_match && (!there || strcmp(a.version, pre->if_match) != 0))
        return err_set(&op->err, ESTALE, "%s: the version there is '%s', not '%s'", key,
                       there ? a.version : "none", pre->if_match);
    err_clear(&op->err);
    return 0;
}

int s3_cond_prepare(struct s3_store *s, struct op *op, const char *key, const struct precond *pre,
                    struct s3_req *r)
{
    if (!pre || (!pre->if_match && !pre->if_absent))
        return 0;
    bool yes;
    int rc = s3_cond_supported(s, op, &yes);
    if (rc < 0)
        return rc;
    if (!yes)
        return s3_cond_look(s, op, key, pre);
    r->once = true;
    if (pre->if_absent) {
        http_headers_add(&r->headers, "if-none-match", "*");
    } else {
        char etag[ATTR_VERSION_MAX + 2];
        flat_etag_of_version(pre->if_match, etag);
        http_headers_add(&r->headers, "if-match", etag);
    }
    return 0;
}

int s3_cond_result(struct op *op, const struct precond *pre, int r)
{
    int code = 0;
    if (pre && pre->if_absent && r == -ESTALE && op->err.status != 404)
        code = EEXIST;
    if (pre && pre->if_match && r == -ENOENT) /* S3: If-Match on a missing object is 404 */
        code = ESTALE;
    if (!code)
        return r;
    op->err.code = code;
    return -code;
}
