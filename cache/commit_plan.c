/* SPDX-License-Identifier: MIT
 * commit_plan.c: see commit_plan.h.
 * Rules of an UPLOAD: (1) every part but the last has at least part_min bytes, none more than part_max;
 * (2) there are at most parts_max; when copying would need more, nothing is copied; (3) a copied part is
 * a whole run of clean base bytes or an even piece of it, at least part_min long. */
#include "cache/commit_plan.h"

#include "base/cleanup.h"

#include <errno.h>

#define COPY_FACTOR 8 /* a copied part may have this many part sizes: it costs the client nothing */
#define PART_ALIGN (1024ULL * 1024)

void commit_plan_done(struct commit_plan *p)
{
    free(p->parts);
    free(p->ranges);
    ranges_done(&p->fill);
    *p = COMMIT_PLAN_INIT;
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* How many clean base bytes follow from `pos` on. */
static uint64_t clean_run(const struct plan_input *in, uint64_t pos)
{
    uint64_t limit = min_u64(in->has_base ? in->base_len : 0, in->size), end = 0;
    if (pos >= limit || ranges_run(in->staged, pos, limit, &end))
        return 0;
    return end - pos;
}

/* Adds what of [off, end) is neither staged nor zero. */
static void add_fill(const struct plan_input *in, uint64_t off, uint64_t end, struct ranges *fill)
{
    end = min_u64(end, min_u64(in->has_base ? in->base_len : 0, in->size));
    for (uint64_t pos = off, next; pos < end; pos = next)
        if (!ranges_run(in->staged, pos, end, &next))
            ranges_add(fill, pos, next);
}

/* ---- PATCH ---- */

static bool wants_patch(const struct plan_input *in)
{
    if (!(in->caps & CAP_PATCH) || !in->has_base || in->copied || in->base_len == 0)
        return false;
    return !ranges_has(in->staged, 0, in->size);
}

static void plan_patch(const struct plan_input *in, struct commit_plan *p)
{
    struct ranges changed = RANGES_INIT;
    ranges_copy(&changed, in->staged);
    if (in->base_len < in->base_size) /* what was cut off and grown again is zeros now */
        ranges_add(&changed, in->base_len, in->size);
    ranges_remove(&changed, in->size, UINT64_MAX);
    p->kind = PLAN_PATCH;
    p->ranges = xcalloc(changed.n + 1, sizeof(*p->ranges));
    p->n_ranges = changed.n;
    for (size_t i = 0; i < changed.n; i++)
        p->ranges[i] = (struct patch_range){.offset = changed.v[i].off,
                                            .length = changed.v[i].end - changed.v[i].off};
    ranges_done(&changed);
}

/* ---- UPLOAD ---- */

struct part_sizes {
    uint64_t min, data, copy; /* copy: largest copied part */
};

static int part_sizes(const struct plan_input *in, struct part_sizes *ret)
{
    const struct store_limits *l = in->limits;
    uint64_t most = l->part_max ? l->part_max : UINT64_MAX;
    uint64_t parts = l->parts_max ? l->parts_max : 10000;
    uint64_t data = l->part_size ? l->part_size : 16 * PART_ALIGN;
    uint64_t least = in->size / parts + (in->size % parts != 0);
    if (least > data) {
        data = (least + PART_ALIGN - 1) / PART_ALIGN * PART_ALIGN;
        data = data > most ? least : data;
    }
    if (data > most || data < l->part_min)
        data = data > most ? most : l->part_min;
    if (least > data)
        return -EFBIG;
    ret->data = data;
    ret->min = l->part_min ? l->part_min : 1;
    ret->copy = data > most / COPY_FACTOR ? most : data * COPY_FACTOR;
    return 0;
}

static void add_part(struct commit_plan *p, size_t *cap, uint64_t off, uint64_t len, bool copy)
{
    if (p->n_parts == *cap) {
        *cap = *cap ? *cap * 2 : 16;
        p->parts = xrealloc(p->parts, *cap * sizeof(*p->parts));
    }
    p->parts[p->n_parts++] = (struct plan_part){.off = off, .len = len, .copy = copy};
}

/* Where a data part that begins at `pos` ends: at its size, or where a run worth copying begins. */
static uint64_t data_end(const struct plan_input *in, const struct part_sizes *z, bool copying,
                         uint64_t pos)
{
    uint64_t end = z->data < in->size - pos ? pos + z->data : in->size;
    if (!copying)
        return end;
    for (uint64_t at = pos; at < end;) {
        uint64_t run = clean_run(in, at), next = 0;
        if (run == 0) {
            (void)ranges_run(in->staged, at, in->size, &next);
            if (at >= in->base_len)
                break; /* no base from here on */
            at = next;
            continue;
        }
        uint64_t start = at - pos < z->min ? pos + z->min : at; /* this part must be large enough */
        if (start < at + run && at + run - start >= z->min)
            return min_u64(start, end);
        at += run;
    }
    return end;
}

static void plan_parts(const struct plan_input *in, const struct part_sizes *z, bool copying,
                       struct commit_plan *p)
{
    size_t cap = 0;
    p->n_parts = 0;
    for (uint64_t pos = 0; pos < in->size;) {
        uint64_t run = copying ? clean_run(in, pos) : 0;
        if (run >= z->min) {
            uint64_t pieces = run / z->copy + (run % z->copy != 0);
            for (; pieces; pieces--) {
                uint64_t len = run / pieces;
                add_part(p, &cap, pos, len, true);
                pos += len;
                run -= len;
            }
        } else {
            uint64_t end = data_end(in, z, copying, pos);
            add_part(p, &cap, pos, end - pos, false);
            pos = end;
        }
    }
}

static int plan_upload(const struct plan_input *in, struct commit_plan *p)
{
    struct part_sizes z;
    int r = part_sizes(in, &z);
    if (r < 0)
        return r;
    bool copying = (in->caps & CAP_COPY_PART) && in->has_base;
    uint64_t most = in->limits->parts_max ? in->limits->parts_max : UINT64_MAX;
    p->kind = PLAN_UPLOAD;
    plan_parts(in, &z, copying, p);
    if (p->n_parts > most) {
        free(p->parts);
        p->parts = NULL;
        plan_parts(in, &z, false, p);
    }
    for (size_t i = 0; i < p->n_parts; i++)
        if (!p->parts[i].copy)
            add_fill(in, p->parts[i].off, p->parts[i].off + p->parts[i].len, &p->fill);
    return 0;
}

int commit_plan_make(const struct plan_input *in, struct commit_plan *ret)
{
    const struct store_limits *l = in->limits;
    struct commit_plan p = COMMIT_PLAN_INIT;
    bool can_upload = in->caps & CAP_UPLOAD;
    bool large = l->upload_threshold && in->size > l->upload_threshold;
    bool copies = in->copied && (in->caps & CAP_COPY_PART) && min_u64(in->size, in->base_len) > l->part_min;
    bool too_large = l->put_max && in->size > l->put_max;
    int r = 0;
    if (wants_patch(in)) {
        plan_patch(in, &p);
    } else if (can_upload && in->size > 0 && (large || too_large || copies)) {
        r = plan_upload(in, &p);
    } else if (too_large) {
        r = -EFBIG;
    } else {
        p.kind = PLAN_PUT;
        add_fill(in, 0, in->size, &p.fill);
    }
    if (r < 0) {
        commit_plan_done(&p);
        return r;
    }
    *ret = p;
    return 0;
}
