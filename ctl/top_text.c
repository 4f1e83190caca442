/* SPDX-License-Identifier: MIT
 * top_text.c: see top_text.h. */
#include "ctl/top_text.h"

#include "base/cleanup.h"
#include "base/conf.h"

#include <string.h>

#define OPS_MAX 64

/* ---- two snapshots ---- */
static double number(const json_t *o, const char *name)
{
    return json_number_value(json_object_get(o, name));
}

static const char *word(const json_t *o, const char *name)
{
    const char *s = json_string_value(json_object_get(o, name));
    return s ? s : "";
}

static double grown(const json_t *before, const json_t *after, const char *name)
{
    double d = number(after, name) - number(before, name);
    return d > 0 ? d : 0;
}

static void put(json_t *o, const char *name, double v)
{
    json_object_set_new(o, name, json_real(v));
}

static const json_t *key_named(const json_t *snapshot, const char *name)
{
    size_t n;
    const json_t *k;
    json_array_foreach(json_object_get(snapshot, "keys"), n, k) {
        if (strcmp(word(k, "name"), name) == 0)
            return k;
    }
    return NULL;
}

/* Seconds below which `share` of the requests ended. */
static double quantile(const double *counts, const json_t *bounds, double total, double share)
{
    double seen = 0, low = 0, want = total * share;
    size_t n = json_array_size(bounds);
    for (size_t i = 0; i < n; i++) {
        double high = json_number_value(json_array_get(bounds, i));
        if (counts[i] > 0 && seen + counts[i] >= want)
            return low + (high - low) * (want - seen) / counts[i];
        seen += counts[i];
        low = high;
    }
    return low; /* beyond the last bound */
}

static json_t *op_rates(const json_t *before, const json_t *after, const json_t *bounds, double s)
{
    const json_t *then = json_object_get(before, "buckets"), *now = json_object_get(after, "buckets");
    size_t n = json_array_size(bounds);
    CLEANUP_FREE double *counts = xcalloc(n + 1, sizeof(double));
    double total = 0;
    for (size_t i = 0; i <= n; i++) {
        double d = json_number_value(json_array_get(now, i)) -
                   json_number_value(json_array_get(then, i));
        counts[i] = d > 0 ? d : 0;
        total += counts[i];
    }
    if (total == 0)
        return NULL;
    json_t *o = json_object();
    put(o, "per_s", total / s);
    put(o, "mean_ms", 1000 * grown(before, after, "seconds") / total);
    put(o, "p50_ms", 1000 * quantile(counts, bounds, total, 0.50));
    put(o, "p99_ms", 1000 * quantile(counts, bounds, total, 0.99));
    return o;
}

static json_t *key_rates(const json_t *before, const json_t *after, const json_t *bounds, double s)
{
    static const char *const rates[] = {"read_bytes", "written_bytes", "backend_read_bytes",
                                        "backend_written_bytes"};
    static const char *const counts[] = {"hits", "misses", "errors", "retries", "evictions"};
    static const char *const gauges[] = {"inflight", "queued", "open_files", "cache_bytes",
                                         "pinned_bytes", "pending_files", "pending_bytes"};
    json_t *o = json_object(), *ops = json_object();
    const char *name;
    json_t *op;
    json_object_set(o, "name", json_object_get(after, "name"));
    json_object_set(o, "state", json_object_get(after, "state"));
    for (size_t i = 0; i < ARRAY_LEN(rates); i++) {
        char text[64];
        snprintf(text, sizeof(text), "%s_per_s", rates[i]);
        put(o, text, grown(before, after, rates[i]) / s);
    }
    for (size_t i = 0; i < ARRAY_LEN(counts); i++)
        put(o, counts[i], grown(before, after, counts[i]));
    for (size_t i = 0; i < ARRAY_LEN(gauges); i++)
        json_object_set(o, gauges[i], json_object_get(after, gauges[i]));
    double asked = number(o, "hits") + number(o, "misses");
    json_object_set_new(o, "hit_rate", asked > 0 ? json_real(number(o, "hits") / asked) : json_null());
    json_object_foreach(json_object_get(after, "ops"), name, op) {
        json_t *r = op_rates(json_object_get(json_object_get(before, "ops"), name), op, bounds, s);
        if (r)
            json_object_set_new(ops, name, r);
    }
    json_object_set_new(o, "ops", ops);
    return o;
}

json_t *top_rates(const json_t *before, const json_t *after)
{
    static const char *const copied[] = {"version", "pid", "mountpoint", "uptime_s", "memory", "cache"};
    bool same = json_equal(json_object_get(before, "started"), json_object_get(after, "started"));
    double s = (number(after, "time_ns") - (same ? number(before, "time_ns") : 0)) / 1e9;
    json_t *o = json_object(), *keys = json_array();
    size_t n;
    const json_t *k;
    if (!same) /* a new daemon: its own life so far */
        s = number(after, "uptime_s");
    s = s > 0.001 ? s : 0.001;
    put(o, "interval_s", s);
    for (size_t i = 0; i < ARRAY_LEN(copied); i++)
        json_object_set(o, copied[i], json_object_get(after, copied[i]));
    json_array_foreach(json_object_get(after, "keys"), n, k) {
        const json_t *then = same ? key_named(before, word(k, "name")) : NULL;
        json_array_append_new(keys, key_rates(then, k, json_object_get(after, "bounds_s"), s));
    }
    json_object_set_new(o, "keys", keys);
    return o;
}

/* ---- the table ---- */
/* At most 6 characters: "0", "512", "1.5K", "1023M". */
static const char *compact(double v, char out[16])
{
    static const char units[] = " KMGTPE";
    size_t u = 0;
    while (v >= 1023.5 && units[u + 1]) {
        v /= 1024;
        u++;
    }
    if (u == 0)
        snprintf(out, 16, "%.0f", v);
    else
        snprintf(out, 16, v < 99.95 ? "%.1f%c" : "%.0f%c", v, units[u]);
    return out;
}

struct table {
    const struct top_look *look;
    struct buf *b;
    unsigned rows;
};

static bool room(struct table *t)
{
    return t->look->rows == 0 || t->rows < t->look->rows;
}

static void end_line(struct table *t)
{
    buf_adds(t->b, t->look->eol);
    t->rows++;
}

static void paint(struct table *t, const char *code)
{
    if (t->look->colour)
        buf_addf(t->b, "\033[%sm", code);
}

static void heading(struct table *t, const char *text)
{
    if (!room(t))
        return;
    paint(t, "7");
    buf_addf(t->b, "%-79s", text);
    paint(t, "0");
    end_line(t);
}

static void add_head(struct table *t, const json_t *r)
{
    char a[32], b[32], c[32], line[256];
    const json_t *memory = json_object_get(r, "memory"), *cache = json_object_get(r, "cache");
    unsigned long up = (unsigned long)number(r, "uptime_s");
    format_size((uint64_t)number(memory, "used"), a);
    format_size((uint64_t)number(memory, "limit"), b);
    snprintf(line, sizeof(line), "quayfs %s, pid %.0f, up %lu:%02lu:%02lu, buffers %s of %s",
             word(r, "version"), number(r, "pid"), up / 3600, up / 60 % 60, up % 60, a, b);
    buf_addf(t->b, "%.79s", line);
    end_line(t);
    format_size((uint64_t)number(cache, "bytes"), a);
    format_size((uint64_t)number(cache, "pinned_bytes"), b);
    format_size((uint64_t)number(cache, "dirty_bytes"), c);
    snprintf(line, sizeof(line), "cache %s", a);
    if (number(cache, "max_size") > 0) {
        format_size((uint64_t)number(cache, "max_size"), a);
        snprintf(line + strlen(line), sizeof(line) - strlen(line), " of %s", a);
    }
    snprintf(line + strlen(line), sizeof(line) - strlen(line), ", pinned %s, staged %s; mount %s", b,
             c, word(r, "mountpoint"));
    buf_addf(t->b, "%.79s", line);
    end_line(t);
}

/* A number that is red when it is not 0. */
static void add_bad(struct table *t, int width, double v)
{
    char text[16];
    if (v > 0)
        paint(t, "31;1");
    buf_addf(t->b, " %*s", width, compact(v, text));
    if (v > 0)
        paint(t, "0");
}

static void add_key(struct table *t, const json_t *k)
{
    char rd[16], wr[16], brd[16], bwr[16], hit[16] = "-", x[5][16];
    const json_t *rate = json_object_get(k, "hit_rate");
    bool ok = strcmp(word(k, "state"), "ok") == 0;
    if (!room(t))
        return;
    if (json_is_number(rate))
        snprintf(hit, sizeof(hit), "%.0f%%", 100 * json_number_value(rate));
    if (!ok)
        paint(t, "31;1");
    buf_addf(t->b, "%-10.10s", word(k, "name"));
    if (!ok)
        paint(t, "0");
    buf_addf(t->b, " %6s %6s %6s %6s %4s %3s %4s %4s", compact(number(k, "read_bytes_per_s"), rd),
             compact(number(k, "written_bytes_per_s"), wr),
             compact(number(k, "backend_read_bytes_per_s"), brd),
             compact(number(k, "backend_written_bytes_per_s"), bwr), hit,
             compact(number(k, "inflight"), x[0]), compact(number(k, "queued"), x[1]),
             compact(number(k, "open_files"), x[2]));
    add_bad(t, 4, number(k, "errors"));
    add_bad(t, 4, number(k, "retries"));
    buf_addf(t->b, " %4s %6s", compact(number(k, "pending_files"), x[3]),
             compact(number(k, "cache_bytes"), x[4]));
    end_line(t);
}

struct op_row {
    const char *key, *op;
    const json_t *v;
};

static int by_rate(const void *a, const void *b)
{
    double x = number(((const struct op_row *)a)->v, "per_s");
    double y = number(((const struct op_row *)b)->v, "per_s");
    return (x < y) - (x > y);
}

static void add_ops(struct table *t, const json_t *keys)
{
    struct op_row rows[OPS_MAX];
    size_t n = 0, i;
    const json_t *k;
    const char *name;
    json_t *op;
    json_array_foreach(keys, i, k) {
        json_object_foreach(json_object_get(k, "ops"), name, op) {
            if (n < OPS_MAX)
                rows[n++] = (struct op_row){word(k, "name"), name, op};
        }
    }
    if (n == 0)
        return;
    qsort(rows, n, sizeof(rows[0]), by_rate);
    if (room(t))
        end_line(t);
    heading(t, "key        request to the store        per s    mean ms     p50 ms     p99 ms");
    for (i = 0; i < n && room(t); i++) {
        buf_addf(t->b, "%-10.10s %-22.22s %10.1f %10.2f %10.2f %10.2f", rows[i].key, rows[i].op,
                 number(rows[i].v, "per_s"), number(rows[i].v, "mean_ms"),
                 number(rows[i].v, "p50_ms"), number(rows[i].v, "p99_ms"));
        end_line(t);
    }
}

void top_table(const json_t *rates, const struct top_look *look, struct buf *b)
{
    struct table t = {.look = look, .b = b};
    const json_t *keys = json_object_get(rates, "keys");
    char line[128];
    size_t n;
    const json_t *k;
    add_head(&t, rates);
    end_line(&t);
    snprintf(line, sizeof(line), "%-10s %13s %13s", "", "application", "store");
    heading(&t, line);
    snprintf(line, sizeof(line), "%-10s %6s %6s %6s %6s %4s %3s %4s %4s %4s %4s %4s %6s", "key", "read",
             "write", "read", "write", "hit", "fly", "wait", "open", "err", "rty", "pend", "cache");
    heading(&t, line);
    json_array_foreach(keys, n, k)
        add_key(&t, k);
    add_ops(&t, keys);
}
