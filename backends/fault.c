/* SPDX-License-Identifier: MIT
 * fault.c: makes a store misbehave as a test wants it to.
 *
 * The specification: rules separated by ';', each a list of NAME=VALUE separated by ','.
 *   op=NAME         which operation ("read", "upload_part"); without it: every one
 *   key=GLOB        only keys that the glob matches (name.h; no ',' or ';' in it)
 *   nth=N           only the Nth matching call
 *   every=N         every Nth matching call
 *   after=N         every matching call after the Nth
 *   errno=NAME      the call fails ("EIO", or a number)
 *   retry=safe|unknown|never    its retry class; default never
 *   retry_after=DURATION        the server's Retry-After
 *   lost=yes        the request is carried out, only its answer is lost (with errno; retry=unknown)
 *   latency=DURATION            waits before the call ("30ms")
 *   truncate=N      read: only N bytes arrive, then EIO (retry=safe unless said)
 *   version=TEXT    the attributes returned carry this version
 * Without nth, every and after a rule is for every matching call. All rules that are due act: first
 * the latencies, then the first failure. Counting is per rule and atomic: with several threads it
 * is open which of them is the Nth. */
#include "backends/registry.h"
#include "backends/wrap.h"

#include "base/cleanup.h"
#include "base/name.h"

#include <stdatomic.h>

struct rule {
    enum store_op op; /* NONE: any */
    char *key;        /* or NULL */
    uint64_t nth, every, after;
    int error;
    enum err_retry retry;
    bool retry_given;
    uint64_t retry_after_ms;
    bool lost;
    uint64_t latency_ms;
    bool truncate;
    uint64_t truncate_at;
    char *version;
    atomic_uint_fast64_t seen;
};

struct fault {
    struct wrapper base;
    struct rule *rules;
    size_t n_rules;
};

static bool parse_count(const char *s, uint64_t *ret)
{
    int64_t v;
    if (!parse_int(s, &v) || v < 1)
        return false;
    *ret = (uint64_t)v;
    return true;
}

static bool parse_retry(const char *s, enum err_retry *ret)
{
    static const char *const names[] = {
        [ERR_RETRY_NEVER] = "never", [ERR_RETRY_SAFE] = "safe", [ERR_RETRY_UNKNOWN] = "unknown"};
    for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
        if (strcmp(s, names[i]) == 0) {
            *ret = (enum err_retry)i;
            return true;
        }
    }
    return false;
}

static bool set_field(struct rule *r, const char *name, const char *value)
{
    if (strcmp(name, "op") == 0)
        return (r->op = store_op_parse(value)) != STORE_OP_NONE || strcmp(value, "*") == 0;
    if (strcmp(name, "nth") == 0)
        return parse_count(value, &r->nth);
    if (strcmp(name, "every") == 0)
        return parse_count(value, &r->every);
    if (strcmp(name, "after") == 0)
        return parse_count(value, &r->after);
    if (strcmp(name, "errno") == 0)
        return (r->error = errno_parse(value)) != 0;
    if (strcmp(name, "retry") == 0)
        return (r->retry_given = parse_retry(value, &r->retry));
    if (strcmp(name, "retry_after") == 0)
        return parse_duration_ms(value, &r->retry_after_ms);
    if (strcmp(name, "lost") == 0)
        return parse_bool(value, &r->lost);
    if (strcmp(name, "latency") == 0)
        return parse_duration_ms(value, &r->latency_ms);
    if (strcmp(name, "truncate") == 0)
        return (r->truncate = parse_size(value, &r->truncate_at));
    char **text = strcmp(name, "key") == 0       ? &r->key
                  : strcmp(name, "version") == 0 ? &r->version
                                                 : NULL;
    if (!text || *text)
        return false;
    *text = xstrdup(value);
    return true;
}

static char *trim(char *s)
{
    s += strspn(s, " \t\n");
    for (size_t n = strlen(s); n > 0 && strchr(" \t\n", s[n - 1]); n--)
        s[n - 1] = '\0';
    return s;
}

static int parse_rule(char *text, struct err *err, struct rule *r)
{
    for (char *field; (field = strsep(&text, ",")) != NULL;) {
        field = trim(field);
        char *eq = strchr(field, '=');
        if (!eq)
            return err_set(err, EINVAL, "fault: '%s' is not NAME=VALUE", field);
        *eq = '\0';
        char *name = trim(field), *value = trim(eq + 1);
        if (!set_field(r, name, value))
            return err_set(err, EINVAL, "fault: cannot understand %s=%s", name, value);
    }
    if (!r->retry_given && r->lost)
        r->retry = ERR_RETRY_UNKNOWN;
    else if (!r->retry_given && r->truncate)
        r->retry = ERR_RETRY_SAFE;
    if (r->lost && !r->error)
        return err_set(err, EINVAL, "fault: lost=yes needs an errno");
    return 0;
}

static int parse_spec(const char *spec, struct err *err, struct fault *f)
{
    CLEANUP_FREE char *copy = xstrdup(spec);
    char *rest = copy;
    for (char *text; (text = strsep(&rest, ";")) != NULL;) {
        text = trim(text);
        if (!*text)
            continue;
        f->rules = xrealloc(f->rules, (f->n_rules + 1) * sizeof(*f->rules));
        struct rule *r = &f->rules[f->n_rules++];
        memset(r, 0, sizeof(*r));
        int e = parse_rule(text, err, r);
        if (e < 0)
            return e;
    }
    return 0;
}

static bool is_due(struct rule *r, const struct call *c)
{
    if (r->op && r->op != c->kind)
        return false;
    if (r->truncate && c->kind != STORE_OP_READ)
        return false;
    if (r->key && !path_glob(r->key, c->key))
        return false;
    uint64_t n = atomic_fetch_add(&r->seen, 1) + 1;
    if (!r->nth && !r->every && !r->after)
        return true;
    return (r->nth && n == r->nth) || (r->every && n % r->every == 0) || (r->after && n > r->after);
}

static int fail(struct op *op, const struct call *c, const struct rule *r)
{
    err_set(&op->err, r->error, "%s %s: injected %s", store_op_name(c->kind), c->key,
            errno_name(r->error));
    op->err.retry = r->retry;
    op->err.retry_after_ms = (unsigned)r->retry_after_ms;
    return -r->error;
}

/* Lets the first bytes through, and then fails as a broken connection does. */
static int read_short(struct store *next, struct op *op, const struct call *c, const struct rule *r)
{
    struct read_req req = *c->u.read.req;
    struct read_res res = READ_RES_INIT;
    if (req.iov.iov_len > r->truncate_at)
        req.iov.iov_len = (size_t)r->truncate_at;
    int e = store_read(next, op, &req, &res);
    size_t got = res.length;
    read_res_done(&res);
    if (e < 0)
        return e;
    err_set(&op->err, EIO, "read %s: injected end after %zu bytes", c->key, got);
    op->err.retry = r->retry;
    return -EIO;
}

/* Carries the request out although its answer will be lost: the results are thrown away. */
static void do_unseen(struct store *next, struct op *op, const struct call *c)
{
    if (call_forward(next, op, c) < 0)
        return;
    struct attr *a = call_attr(c);
    if (a)
        attr_done(a);
    if (c->kind == STORE_OP_READ)
        read_res_done(c->u.read.ret);
    else if (c->kind == STORE_OP_LIST)
        list_page_done(c->u.list.ret);
    else if (c->kind == STORE_OP_UPLOAD_BEGIN)
        free(take_ptr(c->u.begin.ret_id));
    else if (c->kind == STORE_OP_PROBE)
        buf_done(c->u.probe.ret);
    else if (c->kind == STORE_OP_SIGN)
        buf_done(c->u.sign.ret);
    else if (c->kind == STORE_OP_LIST_VERSIONS)
        version_page_done(c->u.list_versions.ret);
}

static int fault_around(struct wrapper *w, struct op *op, struct call *c)
{
    struct fault *f = (struct fault *)w;
    struct store *next = w->base.next;
    const struct rule *failing = NULL, *changing = NULL;
    uint64_t latency_ms = 0;

    for (size_t i = 0; i < f->n_rules; i++) {
        struct rule *r = &f->rules[i];
        if (!is_due(r, c))
            continue;
        latency_ms += r->latency_ms;
        if (!failing && (r->error || r->truncate))
            failing = r;
        if (!changing && r->version)
            changing = r;
    }
    if (latency_ms) {
        int r = op_sleep(op, latency_ms > UINT32_MAX ? UINT32_MAX : (unsigned)latency_ms);
        if (r < 0)
            return r;
    }
    if (failing && failing->truncate)
        return read_short(next, op, c, failing);
    if (failing && failing->lost)
        do_unseen(next, op, c);
    if (failing)
        return fail(op, c, failing);
    int r = call_forward(next, op, c);
    struct attr *a = r == 0 ? call_attr(c) : NULL;
    if (a && changing)
        snprintf(a->version, sizeof(a->version), "%s", changing->version);
    return r;
}

static void fault_done(struct wrapper *w)
{
    struct fault *f = (struct fault *)w;
    for (size_t i = 0; i < f->n_rules; i++) {
        free(f->rules[i].key);
        free(f->rules[i].version);
    }
    free(f->rules);
}

static const struct store_class fault_class = {
    .abi = STORE_ABI,
    .name = "fault",
    .summary = "injects failures (tests)",
    WRAP_SLOTS,
};

int store_wrap_fault(struct store *next, const char *spec, struct err *err, struct store **ret)
{
    struct fault *f = xcalloc(1, sizeof(*f));
    wrapper_init(&f->base, &fault_class, next, fault_around);
    f->base.done = fault_done;
    int r = parse_spec(spec, err, f);
    if (r < 0) {
        store_close(&f->base.base);
        return r;
    }
    *ret = &f->base.base;
    return 0;
}
