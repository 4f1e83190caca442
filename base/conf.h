/* SPDX-License-Identifier: MIT
 * conf.h: an INI file (parsed by inih) as sections of key/value pairs that remember their line.
 *
 * Purpose: one place that reads configuration, so that every message about it names FILE:LINE.
 *
 * Calling sequence:
 *     struct conf *c;
 *     r = conf_load("quayfs.conf", &err, &c);            // syntax, duplicate keys and sections
 *     r = conf_apply_env(c, "dev", &err);                // [store lake@dev] over [store lake]
 *     CONF_EACH(c, s) if (!strcmp(s->kind, "store")) ...
 *     r = conf_check(s, options, n, &err);               // unknown keys, types, units; nearest name
 *     v = conf_str(s, "bucket");  n = conf_size(s, "max_size", 0);
 *     conf_free(c);
 *
 * Sections are `[kind]` or `[kind name]` (`[kind "name"]` and the older `[kind.name]`,
 * `[storage.NAME]` = `[store NAME]`, `[db.NAME]` = `[database NAME]`, are accepted). Values: blanks
 * trimmed, continuation lines (indented) joined by a newline (a section header may be indented; a key
 * may not, and conf_check says so where it can tell). [storage] = [quayfs], [env.E.storage.NAME] =
 * [store NAME@E] are accepted too. A line that begins with ';' or '#' is a comment, and so is " ;" and
 * what follows it after a value; '#' in a value is kept. conf_check refuses a secret with such a
 * comment, since it may be a cut password: put it on an indented line of its own below `name =`, or
 * into a file named by NAME_file. A line may have 65,000 bytes (inih other than Debian's: 197).
 * Aliases: an option table row may name another as its canonical form (bucket_name -> bucket); both
 * given is an error.
 *
 * Errors: -EINVAL with "FILE:LINE: message"; -ENOENT/-EACCES when the file cannot be read. A text that
 * suggests: `quayfs.conf:12: unknown key 'bukcet' in [store lake]: did you mean 'bucket'?`
 * Threads: read-only after conf_check. Ownership: strings belong to the conf. */
#ifndef QUAY_BASE_CONF_H
#define QUAY_BASE_CONF_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum conf_type {
    CONF_STRING = 1,
    CONF_BOOL,     /* yes no true false on off 1 0 */
    CONF_INT,      /* decimal, within min..max */
    CONF_SIZE,     /* bytes: 4096, 64K, 16M, 20GiB, 1 MB (= 1048576) */
    CONF_DURATION, /* 250ms 30s 5m 12h 7d, plain number = seconds (fractions allowed); 0 = never */
    CONF_ENUM,     /* one of `values`, separated by '|' */
    CONF_PATH,     /* ~ and ~/ expanded; made absolute against the file's directory */
    CONF_SECRET,   /* string that never reaches a log or dump; also NAME_file = path to read it from */
    CONF_HOURS,    /* number of hours, stored as a duration (cache_expiry_hours) */
    CONF_MEGABYTES /* number of MiB, stored as a size (max_cache_size_mb) */
};

struct conf_option {
    const char *name;
    enum conf_type type;
    const char *def;    /* default as text, for --help and `quayctl backends -v`; NULL = none */
    const char *values; /* CONF_ENUM: "a|b|c" */
    const char *alias;  /* this row is another spelling of option `alias`; type is its own */
    const char *help;   /* one line */
    int64_t min, max;   /* CONF_INT: both 0 = any */
};

enum conf_level { /* of two spellings of one option the higher wins; in one level they clash */
    CONF_LEVEL_FILE = 0,
    CONF_LEVEL_OVERLAY, /* [store lake@dev] */
    CONF_LEVEL_SET      /* conf_set: the command line */
};

struct conf_pair {
    char *name, *value; /* name: as written, or the canonical one after conf_check */
    int line;           /* 0: not from a file */
    const char *file;   /* pairs of an overlay come from another place */
    bool used;          /* conf_check has seen it */
    bool secret;        /* conf_check knows that it is one */
    bool commented;     /* inih cut a " ; comment" off the value */
    enum conf_level level;
};

struct conf_section {
    char *kind, *name;  /* "store", "lake"; name is "" for [cache] */
    char *env;          /* "dev" for [store lake@dev], else "" */
    const char *file, *dir; /* dir: what relative paths start from, absolute */
    int line;
    struct conf_pair *pairs;
    size_t n_pairs;
    struct conf_section *next; /* in file order */
};

struct conf {
    char *file;
    char *dir; /* the file's directory, or the working directory */
    struct conf_section *sections;
};

int conf_load(const char *path, struct err *err, struct conf **ret);
int conf_parse(const char *name, const char *text, struct err *err, struct conf **ret);
/* An empty configuration to which sections and pairs are added (`quayfs ./data MNT`, -o k=v). */
struct conf *conf_new(const char *name);
struct conf_section *conf_add_section(struct conf *c, const char *kind, const char *name);
void conf_set(struct conf_section *s, const char *name, const char *value); /* replaces */
void conf_free(struct conf *c);

/* Merges sections named for `env` over their base section, drops those for other environments.
 * An overlay without a base section becomes the section; so does one of a store that names another backend, or a uri
 * of another scheme. env NULL or "" drops all overlays.
 * -EINVAL when no section is for `env` (a misspelt --env). */
int conf_apply_env(struct conf *c, const char *env, struct err *err);

/* -EINVAL when `name` cannot be a store's key (empty, '/', leading '.', control bytes, too long). */
int store_name_check(const char *name, struct err *err);

struct conf_section *conf_find(const struct conf *c, const char *kind, const char *name);
#define CONF_EACH(c, s) for (struct conf_section *s = (c)->sections; s; s = s->next)

/* Checks every pair against the tables (tables[i] has counts[i] rows), resolves aliases, validates
 * values. Keys that are in no table are errors. */
int conf_check(struct conf_section *s, const struct conf_option *const *tables,
               const size_t *counts, size_t n_tables, struct err *err);

/* Before conf_check, which resolves aliases: the value of one of these names (of the highest level, if several are
 * given), NULL when there is none or it is empty. */
const char *conf_raw(const struct conf_section *s, const char *const *names, size_t n);
/* What a section says its backend is, under any of the option's names; NULL: nothing. */
const char *conf_raw_backend(const struct conf_section *s);
/* The scheme of its 'uri', malloc'd: "s3" of "s3://...", "local" without "://"; NULL without a uri. */
char *conf_raw_scheme(const struct conf_section *s);

/* Values, after conf_check (which proved them well-formed). `def` where the key is absent. */
const char *conf_str(const struct conf_section *s, const char *name, const char *def);
bool conf_bool(const struct conf_section *s, const char *name, bool def);
int64_t conf_int(const struct conf_section *s, const char *name, int64_t def);
uint64_t conf_size(const struct conf_section *s, const char *name, uint64_t def);
uint64_t conf_ms(const struct conf_section *s, const char *name, uint64_t def_ms);
bool conf_has(const struct conf_section *s, const char *name);
int conf_line(const struct conf_section *s, const char *name); /* the section's when absent */
/* CONF_SECRET: the value, or the content of NAME_file without its final newline.
 * 0 and malloc'd text (caller: secret_free), -ENOENT when not configured (err untouched), or another
 * -errno with err (-EINVAL when the file is missing). A file that others may read is only warned of. */
int conf_secret(const struct conf_section *s, const char *name, struct err *err, char **ret);
void secret_free(char *s); /* wipes, then frees; NULL ok */

/* The user's home directory (malloc'd): $HOME, else the account's. */
char *conf_home(void);

/* err text "FILE:LINE: ..." for a pair (or the section when `name` is NULL or absent). */
int conf_error(const struct conf_section *s, const char *name, struct err *err, int code,
               const char *fmt, ...) __attribute__((format(printf, 5, 6)));

/* The same parsers for -o options and job files. false = malformed. */
bool parse_bool(const char *s, bool *ret);
bool parse_int(const char *s, int64_t *ret);
bool parse_size(const char *s, uint64_t *ret);
void format_size(uint64_t bytes, char out[32]); /* "1.5 GiB" */
bool parse_duration_ms(const char *s, uint64_t *ret);
/* The closest of `n` names within edit distance 3 (and less than half its length), or NULL. */
const char *nearest_name(const char *word, const char *const *names, size_t n);

#endif
