/* SPDX-License-Identifier: MIT
 * registry.h: the table of classes, and how a [store NAME] section becomes an opened, wrapped store.
 *
 *     r = registry_open(conf, section, stats, &err, &store);   // class, then retry and metrics around it
 * Stack, outermost first: (versions, where the store can keep them) -> (metrics, with stats) -> (readonly) ->
 * (breaker, where there is a network) -> retry -> (limit, where one is set) -> (fault) -> class.
 *
 * Which class: `backend` (alias backend_type, type); else the scheme of `uri` (s3:// file:// ..., also
 * [scheme NAME]); neither: -EINVAL "Configuration must specify 'backend_type'". Unknown:
 * "Unknown backend type: X" and the nearest name. backend = obstore takes the class of `scheme` (else of
 * the uri), backend = fsspec that of `protocol`.
 * [scheme NAME] has `backend` (default: the class NAME) and options that are defaults for stores whose
 * uri or backend has that name; the store's own win. registry_check merges them into the section, and
 * rewrites NAME:// to the class's own scheme. Every [scheme] is checked, also those that nobody uses.
 *
 * Options that every store takes (registry_common_options): backend, uri, read_only, timeout, retries,
 * retry_delay, max_retry_delay, rate_limit, bandwidth, fault, and the cache.* policy read by the cache (cache.ttl,
 * cache.enabled, write, offline, ...).
 *
 * `fault` (tests): "op=read,nth=3,errno=EIO; op=put,latency=30ms; op=read,truncate=100;
 * op=stat,every=10,errno=EBUSY,retry=safe; key=a*,op=remove,errno=EIO,lost=yes": see backends/fault.c.
 *
 * Threads: opening is done by one thread. Errors carry FILE:LINE. */
#ifndef QUAY_BACKENDS_REGISTRY_H
#define QUAY_BACKENDS_REGISTRY_H

#include "backends/store.h"

/* All classes, ended by NULL. */
const struct store_class *const *registry_classes(void);
const struct store_class *registry_find(const char *name);

extern const struct conf_option registry_common_options[];
extern const size_t registry_n_common_options;

/* Checks the section's keys and finds its class; no connection is made. */
int registry_check(const struct conf *conf, struct conf_section *section, struct err *err,
                   const struct store_class **ret);
int registry_open(const struct conf *conf, struct conf_section *section, struct stats *stats,
                  struct err *err, struct store **ret);

/* What the metrics wrapper of a store has seen: for .quay/health.json and `quayctl keys`. */
struct store_health {
    struct timespec last_ok;    /* wall clock; 0 = never */
    struct timespec last_error; /* of the store itself: "not found" and refusals of ours are answers */
    unsigned errors_in_row;     /* since the last answer; 0 = healthy */
    int code;                   /* of the last error */
    char op[20];
    char text[704];
};
/* Searches the stack of wrappers; false when it has no metrics wrapper (ret is then untouched). */
bool store_health(struct store *s, struct store_health *ret);

/* While the breaker refuses requests (breaker.c). */
struct store_outage {
    struct timespec since;  /* wall clock */
    uint64_t next_probe_ms; /* from now; 0: a probe is under way */
    unsigned probes;        /* made so far */
    int code;               /* positive errno and text of the failure that was last seen */
    char text[704];
};
/* Searches the stack of wrappers; false when the store is not away (ret is then untouched). */
bool store_outage(struct store *s, struct store_outage *ret);
/* `fn` is called, by a thread of the breaker's without locks, each time that the store answers again.
 * To be set once, before requests are made; not called any more when store_close has returned. */
void store_on_recovery(struct store *s, void (*fn)(void *arg), void *arg);

/* The wrappers, each takes ownership of `next` (also when it fails). */
struct retry_options {
    unsigned retries;         /* after the first try; default 3 */
    uint64_t delay_ms;        /* base, doubled each time, full jitter; default 1000 */
    uint64_t max_delay_ms;    /* default 20000 */
    uint64_t timeout_ms;      /* for each attempt of a request without payload, becomes op->deadline where
                                 that is later; default 30000. Transfers: without progress, see http.h */
};
struct store *store_wrap_retry(struct store *next, const struct retry_options *o);
struct store *store_wrap_metrics(struct store *next, struct stats *stats);
struct breaker_options {
    uint64_t first_ms, max_ms; /* between probes while the store is away: doubled, up to max */
    unsigned probe_ms;         /* deadline of a probe */
};
struct store *store_wrap_breaker(struct store *next, const struct breaker_options *o,
                                 struct stats *stats /* NULL ok */);
struct limit_options { /* 0: none */
    double requests_per_s;
    uint64_t read_per_s, written_per_s; /* bytes */
};
struct store *store_wrap_limit(struct store *next, const struct limit_options *o,
                               struct stats *stats /* NULL ok */);
int store_wrap_fault(struct store *next, const char *spec, struct err *err, struct store **ret);
struct store *store_wrap_readonly(struct store *next);

#endif
