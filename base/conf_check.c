/* SPDX-License-Identifier: MIT
 * conf_check.c: option tables against a section's pairs.
 * Invariants: after success every pair (1) bears its canonical name, once; (2) is well-formed for
 * its type and normal: sizes in bytes, durations in ms, paths absolute, so that the accessors of
 * conf.c need no table; (3) is marked used, and a second check leaves it alone. No secret's value
 * is ever put into an error text. */
#include "base/conf.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECRET_LIMIT 65536

struct tables {
    const struct conf_option *const *tables;
    const size_t *counts;
    size_t n;
};

static const struct conf_option *find_row(const struct tables *t, const char *name, size_t len)
{
    for (size_t i = 0; i < t->n; i++)
        for (size_t k = 0; k < t->counts[i]; k++)
            if (strlen(t->tables[i][k].name) == len && memcmp(t->tables[i][k].name, name, len) == 0)
                return &t->tables[i][k];
    return NULL;
}

/* The row that pair `name` is for; *ret_file when it is NAME_file of a secret NAME. */
static const struct conf_option *row_for(const struct tables *t, const char *name, bool *ret_file)
{
    size_t len = strlen(name);
    const struct conf_option *row = find_row(t, name, len);
    *ret_file = false;
    if (row || len <= 5 || strcmp(name + len - 5, "_file") != 0)
        return row;
    row = find_row(t, name, len - 5);
    *ret_file = true;
    return row && row->type == CONF_SECRET ? row : NULL;
}

static void section_title(const struct conf_section *s, char *out, size_t size)
{
    snprintf(out, size, "[%s%s%s]", s->kind, *s->name ? " " : "", s->name);
}

static int pair_error(const struct conf_section *s, const struct conf_pair *p, struct err *err,
                      const char *text)
{
    err_set(err, EINVAL, "%s", text);
    return p->line ? err_prefix(err, "%s:%d", p->file, p->line)
                   : err_prefix(err, "%s", p->file ? p->file : s->file);
}

static int unknown_key(const struct conf_section *s, const struct conf_pair *p,
                       const struct tables *t, struct err *err)
{
    size_t n = 0, at = 0;
    char title[320];
    for (size_t i = 0; i < t->n; i++)
        n += t->counts[i];
    const char **names = xcalloc(n, sizeof(char *));
    for (size_t i = 0; i < t->n; i++)
        for (size_t k = 0; k < t->counts[i]; k++)
            names[at++] = t->tables[i][k].name;
    const char *near = nearest_name(p->name, names, n);
    free(names);
    section_title(s, title, sizeof(title));
    CLEANUP_FREE char *text =
        xasprintf("unknown key '%s' in %s%s%s%s", p->name, title, near ? ": did you mean '" : "",
                  near ? near : "", near ? "'?" : "");
    return pair_error(s, p, err, text);
}

static int bad_value(const struct conf_section *s, const struct conf_pair *p,
                     const struct conf_option *row, struct err *err, const char *why)
{
    char title[320];
    section_title(s, title, sizeof(title));
    bool secret = row->type == CONF_SECRET;
    CLEANUP_FREE char *text = xasprintf("'%s%s%s' in %s: %s", p->name, secret ? "" : " = ",
                                        secret ? "" : p->value, title, why);
    return pair_error(s, p, err, text);
}

/* Several lines where one is wanted is nearly always a key that was indented by mistake. */
static int check_lines(const struct conf_section *s, const struct conf_pair *p,
                       const struct conf_option *row, const struct tables *t, struct err *err)
{
    for (const char *line = strchr(p->value, '\n'); line; line = strchr(line, '\n')) {
        line++;
        size_t n = strcspn(line, " \t=:\n");
        bool is_file;
        CLEANUP_FREE char *word = xstrndup(line, n);
        const char *after = line + n + strspn(line + n, " \t");
        bool is_key = (*after == '=' || *after == ':') && row_for(t, word, &is_file);
        if (!is_key && (row->type == CONF_STRING || row->type == CONF_SECRET))
            continue;
        CLEANUP_FREE char *text =
            is_key ? xasprintf("'%s' is indented below '%s', which makes it a part of that value: "
                               "start the line with it",
                               word, p->name)
                   : xasprintf("'%s' has several lines (an indented line continues the one above)",
                               p->name);
        return pair_error(s, p, err, text);
    }
    return 0;
}

static int check_enum(const struct conf_section *s, const struct conf_pair *p,
                      const struct conf_option *row, struct err *err)
{
    const char *words[64];
    size_t n = 0;
    CLEANUP_FREE char *copy = xstrdup(row->values ? row->values : "");
    char *rest = copy, *word;
    struct buf list = BUF_INIT;
    while (n < ARRAY_LEN(words) && (word = strsep(&rest, "|")) != NULL) {
        if (strcmp(word, p->value) == 0) {
            buf_done(&list);
            return 0;
        }
        words[n++] = word;
        buf_addf(&list, "%s%s", list.len ? ", " : "not one of ", word);
    }
    const char *near = nearest_name(p->value, words, n);
    if (near)
        buf_addf(&list, ": did you mean '%s'?", near);
    int r = bad_value(s, p, row, err, buf_str(&list));
    buf_done(&list);
    return r;
}

static int check_int(const struct conf_section *s, const struct conf_pair *p,
                     const struct conf_option *row, struct err *err)
{
    int64_t v;
    char why[96];
    if (!parse_int(p->value, &v))
        return bad_value(s, p, row, err, "not a whole number");
    if ((row->min || row->max) && (v < row->min || v > row->max)) {
        snprintf(why, sizeof(why), "not a number from %lld to %lld", (long long)row->min,
                 (long long)row->max);
        return bad_value(s, p, row, err, why);
    }
    return 0;
}

char *conf_home(void)
{
    const char *home = getenv("HOME");
    if (home && home[0] == '/')
        return xstrdup(home);
    struct passwd entry, *found = NULL;
    CLEANUP_FREE char *space = xmalloc(16384);
    if (getpwuid_r(geteuid(), &entry, space, 16384, &found) == 0 && found && found->pw_dir)
        return xstrdup(found->pw_dir);
    return xstrdup("/");
}

static char *expand_path(const struct conf_section *s, const char *value)
{
    if (value[0] == '~' && (!value[1] || value[1] == '/')) {
        CLEANUP_FREE char *home = conf_home();
        return xasprintf("%s%s", home, value + 1);
    }
    if (value[0] == '/')
        return xstrdup(value);
    if (value[0] == '.' && (value[1] == '/' || !value[1])) {
        value++;
        value += strspn(value, "/");
    }
    const char *slash = *value && strcmp(s->dir, "/") != 0 ? "/" : "";
    return xasprintf("%s%s%s", s->dir, slash, value);
}

static void replace(struct conf_pair *p, char *value)
{
    secret_free(p->value);
    p->value = value;
}

static int check_secret(const struct conf_section *s, struct conf_pair *p,
                        const struct conf_option *row, struct err *err)
{
    p->secret = true;
    if (!p->commented)
        return 0;
    char why[200];
    snprintf(why, sizeof(why),
             "has ' ;', which begins a comment: write it on an indented line "
             "below, or into a file named by %s_file",
             p->name);
    return bad_value(s, p, row, err, why);
}

static int check_duration(const struct conf_section *s, struct conf_pair *p,
                          const struct conf_option *row, struct err *err)
{
    uint64_t ms;
    if (row->type == CONF_HOURS) {
        CLEANUP_FREE char *hours = xasprintf("%sh", p->value);
        if (!parse_duration_ms(hours, &ms))
            return bad_value(s, p, row, err, "not a number of hours");
    } else if (!parse_duration_ms(p->value, &ms)) {
        return bad_value(s, p, row, err,
                         "not a duration (examples: 250ms, 30s, 5m, 12h, 7d, 0 = never)");
    }
    replace(p, xasprintf("%llums", (unsigned long long)ms));
    return 0;
}

static int check_size(const struct conf_section *s, struct conf_pair *p,
                      const struct conf_option *row, struct err *err)
{
    uint64_t size;
    if (row->type == CONF_MEGABYTES) {
        int64_t n;
        if (!parse_int(p->value, &n) || n < 0 || n > INT64_MAX >> 20)
            return bad_value(s, p, row, err, "not a number of MiB");
        size = (uint64_t)n << 20;
    } else if (!parse_size(p->value, &size)) {
        return bad_value(s, p, row, err, "not a size (examples: 512K, 64MiB, 20GiB)");
    }
    replace(p, xasprintf("%llu", (unsigned long long)size));
    return 0;
}

static int check_value(struct conf_section *s, struct conf_pair *p, const struct conf_option *row,
                       struct err *err)
{
    bool yes;
    switch (row->type) {
    case CONF_STRING:
        return 0;
    case CONF_BOOL:
        return parse_bool(p->value, &yes) ? 0 : bad_value(s, p, row, err, "not yes or no");
    case CONF_INT:
        return check_int(s, p, row, err);
    case CONF_SIZE:
    case CONF_MEGABYTES:
        return check_size(s, p, row, err);
    case CONF_DURATION:
    case CONF_HOURS:
        return check_duration(s, p, row, err);
    case CONF_ENUM:
        return check_enum(s, p, row, err);
    case CONF_PATH:
        if (!*p->value)
            return bad_value(s, p, row, err, "a path is missing");
        replace(p, expand_path(s, p->value));
        return 0;
    case CONF_SECRET:
        return check_secret(s, p, row, err);
    }
    return 0;
}

/* The pair that already stands for canonical option `name`, looking at NAME and NAME_file as one.
 */
static struct conf_pair *rival(const struct conf_section *s, const struct conf_pair *me,
                               const char *name, bool secret)
{
    size_t n = strlen(name);
    for (size_t i = 0; i < s->n_pairs; i++) {
        struct conf_pair *p = &s->pairs[i];
        if (p == me || !p->used || strncmp(p->name, name, n) != 0)
            continue;
        if (!p->name[n] || (secret && strcmp(p->name + n, "_file") == 0))
            return p;
    }
    return NULL;
}

static void drop_pair(struct conf_section *s, struct conf_pair *p)
{
    free(p->name);
    secret_free(p->value);
    size_t i = (size_t)(p - s->pairs);
    s->n_pairs--;
    memmove(p, p + 1, (s->n_pairs - i) * sizeof(*p));
}

/* Checks pair i; *ret_dropped counts how many pairs at or before it went away. */
static int check_pair(struct conf_section *s, size_t i, const struct tables *t, struct err *err,
                      size_t *ret_dropped)
{
    struct conf_pair *p = &s->pairs[i];
    bool is_file;
    const struct conf_option *row = row_for(t, p->name, &is_file);
    struct conf_option file_row;
    if (!row)
        return unknown_key(s, p, t, err);
    const char *canonical = row->alias ? row->alias : row->name;
    bool secret = row->type == CONF_SECRET;
    if (is_file) {
        file_row = (struct conf_option){.name = p->name, .type = CONF_PATH};
        row = &file_row;
    }
    int r = check_lines(s, p, row, t, err);
    if (r == 0)
        r = check_value(s, p, row, err);
    if (r < 0)
        return r;
    struct conf_pair *other = rival(s, p, canonical, secret);
    if (other && other->level == p->level) {
        char title[320];
        section_title(s, title, sizeof(title));
        CLEANUP_FREE char *text =
            xasprintf("'%s' in %s: '%s' on line %d says the same, give one of them", p->name, title,
                      other->name, other->line);
        return pair_error(s, p, err, text);
    }
    char *name = xasprintf("%s%s", canonical, is_file ? "_file" : "");
    free(p->name);
    p->name = name;
    p->used = true;
    if (other) {
        drop_pair(s, other->level < p->level ? other : p);
        *ret_dropped = 1;
    }
    return 0;
}

int conf_check(struct conf_section *s, const struct conf_option *const *tables,
               const size_t *counts, size_t n_tables, struct err *err)
{
    struct tables t = {.tables = tables, .counts = counts, .n = n_tables};
    size_t i = 0;
    while (i < s->n_pairs) {
        size_t dropped = 0;
        if (!s->pairs[i].used) {
            int r = check_pair(s, i, &t, err, &dropped);
            if (r < 0)
                return r;
        }
        i += 1 - dropped;
    }
    return 0;
}

static int read_secret(const char *path, struct stat *st, char **ret)
{
    CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0 || fstat(fd, st) < 0)
        return -errno;
    char *text = xcalloc(1, SECRET_LIMIT + 1);
    size_t n = 0;
    while (n < SECRET_LIMIT) {
        ssize_t got = read(fd, text + n, SECRET_LIMIT - n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            int r = got < 0 ? -errno : 0;
            *ret = text;
            return r ? r : memchr(text, '\0', n) ? -EINVAL : 0;
        }
        n += (size_t)got;
    }
    *ret = text;
    return -EFBIG;
}

int conf_secret(const struct conf_section *s, const char *name, struct err *err, char **ret)
{
    const char *value = conf_str(s, name, NULL);
    if (value) {
        *ret = xstrdup(value);
        return 0;
    }
    CLEANUP_FREE char *option = xasprintf("%s_file", name);
    const char *path = conf_str(s, option, NULL);
    if (!path)
        return -ENOENT;
    struct stat st;
    char *text = NULL;
    int r = read_secret(path, &st, &text);
    if (r < 0) {
        secret_free(text);
        return conf_error(s, option, err, r == -ENOENT ? EINVAL : -r, "cannot read '%s': %s", path,
                          strerror(-r));
    }
    if (st.st_mode & 077)
        log_warn("conf", "%s (%s) can be read by others: chmod 600 it", path, option);
    size_t n = strlen(text);
    if (n > 0 && text[n - 1] == '\n')
        text[--n] = '\0';
    if (n > 0 && text[n - 1] == '\r')
        text[--n] = '\0';
    *ret = xstrdup(text);
    secret_free(text);
    return 0;
}

void secret_free(char *s)
{
    if (s)
        explicit_bzero(s, strlen(s));
    free(s);
}
