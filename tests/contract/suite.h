/* SPDX-License-Identifier: MIT
 * suite.h: one conformance suite for every store and every wrapper.
 *
 * What a store must do is in backends/store.h; the suite asks for what its capabilities promise and
 * for a decent refusal otherwise. Every test works below a prefix of its own, so that a bucket may
 * be used again and again; suite_run() removes what it made. struct suite s; suite_init(&s,
 * "memory", store); suite_run(&s); suite_done(&s); A failed check ends the program (t.h). */
#ifndef QUAY_TESTS_CONTRACT_SUITE_H
#define QUAY_TESTS_CONTRACT_SUITE_H

#include "backends/registry.h"
#include "backends/temp_name.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "tests/unit/t.h"

struct suite {
    struct store *store;
    const char *label;
    char run[48];    /* "contract-1f2e" */
    char prefix[96]; /* of the current test, with a final '/' */
    struct op op;    /* of the main thread */
    struct err last; /* op.err of the last call */
};

void suite_init(struct suite *s, const char *label, struct store *store);
void suite_done(struct suite *s); /* closes the store */
void suite_run(struct suite *s);
void suite_clear(struct suite *s); /* removes everything that it made; suite_run does */

/* One test's beginning: its prefix (made where directories are real). */
void suite_begin(struct suite *s, const char *test);
bool has(const struct suite *s, uint32_t cap);
/* The full key; valid for the next 32 calls, main thread only. */
const char *K(struct suite *s, const char *name);

/* Checks of return values: r must be 0, or -code. They print the store's text. */
void check_ok(struct suite *s, const char *file, int line, const char *what, int r);
void check_fails(struct suite *s, const char *file, int line, const char *what, int r, int code);
#define OK(expr) check_ok(s, __FILE__, __LINE__, #expr, (expr))
#define FAILS(expr, code) check_fails(s, __FILE__, __LINE__, #expr, (expr), (code))

/* ---- short forms; names are relative to the test's prefix ---- */
void make_parents(struct suite *s, const char *name);
int put_bytes(struct suite *s, const char *name, const void *data, size_t len,
              const struct attr *attr, const struct precond *pre, struct attr *ret /* or NULL */);
void put_text(struct suite *s, const char *name, const char *text, struct attr *ret /* or NULL */);
/* Reads at most len bytes; the count or -errno. */
ssize_t read_at(struct suite *s, const char *name, const char *version, uint64_t off, void *buf,
                size_t len);
void check_text(struct suite *s, const char *name, const char *text);
int stat_key(struct suite *s, const char *name, struct attr *ret);
void check_gone(struct suite *s, const char *name);
/* All pages of a listing in one; checks order, page sizes and cursors on the way. */
void list_all(struct suite *s, const char *prefix, bool recursive, unsigned max,
              struct list_page *ret);
/* "a b/ c" of a listing below the test's prefix: directories with '/'. Malloc'd. */
char *list_text(struct suite *s, const char *prefix, bool recursive, unsigned max);
const struct list_entry *find_entry(const struct list_page *p, const char *key);
/* Byte `off` of a generated object. */
unsigned char pattern(uint64_t off, unsigned seed);
struct pattern_source {
    struct source base;
    unsigned seed;
    unsigned sleep_ms; /* before each piece */
};
struct pattern_source pattern_source(uint64_t size, unsigned seed);
void check_pattern(const void *data, size_t len, uint64_t off, unsigned seed);

/* ---- the tests, one function for each file ---- */
void suite_basic(struct suite *s);
void suite_conditions(struct suite *s);
void suite_list(struct suite *s);
void suite_names(struct suite *s);
void suite_meta(struct suite *s);
void suite_dirs(struct suite *s);
void suite_move(struct suite *s);
void suite_patch(struct suite *s);
void suite_upload(struct suite *s);
void suite_threads(struct suite *s);
void suite_versions(struct suite *s); /* of a store that keeps them; not part of suite_run */
/* What can be asked of a store that only reads; `writer` makes the files (s->store itself, if it can). */
void suite_reading(struct suite *s, struct store *writer);
/* For a store that refuses changes; `name` is an object with content `text`. */
void suite_refusals(struct suite *s, const char *key, const char *text);

/* ---- for the programs ---- */
struct store *open_store(const char *text /* INI with [store t] */, struct stats *stats);
/* A variable of the environment; without it the program fails. */
const char *need(const char *name);
/* A temporary file's name (temp_name.h) of a process that is no more. */
void left_name(char ret[TEMP_NAME_MAX]);
/* suite_run over the store of the section `text`. */
void suite_over(const char *label, const char *text);
/* suite_refusals over the store of `ro`, of an object that the store of `text`, the same place, makes and removes. */
void suite_read_only(const char *label, const char *text, const char *ro);
/* Copies by the service from the store of `other` to that of `text`, and back: other places of one service. From another
 * service, that of `text` with another endpoint_url, it is EXDEV without a request. (Of classes that cannot: suite_move.) */
void suite_between(const char *label, const char *text, const char *other);
/* The store of `text`, which has a wrong password, says EACCES and not the password. */
void suite_wrong_password(const char *label, const char *text, const char *password);
/* A new directory below $TMPDIR or /tmp, malloc'd; removed with its content. */
char *temp_dir(void);
void temp_dir_remove(const char *path);

#endif
