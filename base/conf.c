/* SPDX-License-Identifier: MIT
 * conf.c: reading INI text into sections, and looking values up.
 *
 * inih splits lines into names and values; our line reader feeds it, so that we know the line
 * number and see what inih does not tell: sections without keys, and section names longer than its
 * 49 bytes. Invariants: (1) a pair's name and value are never NULL; (2) names are unique within a
 * section and (kind, name, env) within a conf: the parser refuses, conf_set replaces, overlays
 * merge; (3) values are wiped when freed, as any may be a secret. Comments: a line that begins with
 * ';' or '#'; and " ;" after a value, which inih cuts off there. A
 * '#' within a value is kept. The pair remembers the cut, and conf_check refuses it in a secret. */
#include "base/conf.h"

#include "base/buf.h"
#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <ini.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINE_LIMIT 65536
#define FILE_LIMIT (4U << 20)

/* Debian's inih has its limits in variables; elsewhere they are compiled in and these are NULL. */
extern int ini_max_line __attribute__((weak));
extern int ini_initial_alloc __attribute__((weak));
extern bool ini_use_stack __attribute__((weak));

struct parser {
    struct conf *conf;
    struct err *err;
    const char *next; /* the rest of the text */
    const char *line; /* the one being parsed */
    size_t line_len;
    int line_no;
    int failed_line; /* err is filled; 0 = not failed */
    struct conf_section *section;
    struct conf_pair *last; /* what an indented line continues */
};

static void inih_limits(void)
{
    if (&ini_max_line && &ini_initial_alloc && &ini_use_stack) {
        ini_max_line = LINE_LIMIT;
        ini_initial_alloc = LINE_LIMIT;
        ini_use_stack = false;
    }
}

__attribute__((format(printf, 2, 3))) static void parse_error(struct parser *p, const char *fmt,
                                                              ...)
{
    va_list ap;
    va_start(ap, fmt);
    err_vset(p->err, EINVAL, fmt, ap);
    va_end(ap);
    err_prefix(p->err, "%s:%d", p->conf->file, p->line_no);
    p->failed_line = p->line_no;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static const char *skip_blanks(const char *s, const char *end)
{
    while (s < end && is_blank(*s))
        s++;
    return s;
}

static const char *trim_end(const char *s, const char *end)
{
    while (end > s && (is_blank(end[-1]) || end[-1] == '\r'))
        end--;
    return end;
}

struct conf *conf_new(const char *name)
{
    struct conf *c = xcalloc(1, sizeof(*c));
    c->file = xstrdup(name);
    char *cwd = getcwd(NULL, 0);
    c->dir = cwd ? cwd : xstrdup("/");
    return c;
}

static void pair_done(struct conf_pair *p)
{
    secret_free(p->value);
    free(p->name);
}

static void section_free(struct conf_section *s)
{
    for (size_t i = 0; i < s->n_pairs; i++)
        pair_done(&s->pairs[i]);
    free(s->pairs);
    free(s->kind);
    free(s->name);
    free(s->env);
    free(s);
}

void conf_free(struct conf *c)
{
    if (!c)
        return;
    while (c->sections) {
        struct conf_section *next = c->sections->next;
        section_free(c->sections);
        c->sections = next;
    }
    free(c->file);
    free(c->dir);
    free(c);
}

static struct conf_section *section_add(struct conf *c, char *kind, char *name, char *env)
{
    struct conf_section **at = &c->sections;
    while (*at)
        at = &(*at)->next;
    struct conf_section *s = xcalloc(1, sizeof(*s));
    s->kind = kind;
    s->name = name;
    s->env = env;
    s->file = c->file;
    s->dir = c->dir;
    *at = s;
    return s;
}

struct conf_section *conf_add_section(struct conf *c, const char *kind, const char *name)
{
    return section_add(c, xstrdup(kind), xstrdup(name ? name : ""), xstrdup(""));
}

static struct conf_section *find_env(const struct conf *c, const char *kind, const char *name,
                                     const char *env)
{
    CONF_EACH(c, s)
    if (strcmp(s->kind, kind) == 0 && strcmp(s->name, name) == 0 && strcmp(s->env, env) == 0)
        return s;
    return NULL;
}

struct conf_section *conf_find(const struct conf *c, const char *kind, const char *name)
{
    return find_env(c, kind, name ? name : "", "");
}

static struct conf_pair *find_pair(const struct conf_section *s, const char *name)
{
    for (size_t i = 0; i < s->n_pairs; i++)
        if (strcmp(s->pairs[i].name, name) == 0)
            return &s->pairs[i];
    return NULL;
}

static struct conf_pair *pair_add(struct conf_section *s, const char *name, const char *value)
{
    s->pairs = xrealloc(s->pairs, (s->n_pairs + 1) * sizeof(*s->pairs));
    struct conf_pair *p = &s->pairs[s->n_pairs++];
    *p = (struct conf_pair){.name = xstrdup(name), .value = xstrdup(value), .file = s->file};
    return p;
}

void conf_set(struct conf_section *s, const char *name, const char *value)
{
    struct conf_pair *p = find_pair(s, name);
    if (p) {
        secret_free(p->value);
        p->value = xstrdup(value);
    } else {
        p = pair_add(s, name, value);
    }
    p->line = 0;
    p->used = p->commented = false;
    p->level = CONF_LEVEL_SET;
}

int store_name_check(const char *name, struct err *err)
{
    if (!*name)
        return err_set(err, EINVAL, "Backend key must be a non-empty string.");
    if (name[0] == '.')
        return err_set(err, EINVAL,
                       "'%s' cannot be a backend key: names that begin with '.' are reserved",
                       name);
    if (strchr(name, '/'))
        return err_set(err, EINVAL, "'%s' cannot be a backend key: it has a '/'", name);
    if (strlen(name) > NAME_MAX)
        return err_set(err, EINVAL, "a backend key is longer than %d bytes", NAME_MAX);
    for (const char *c = name; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            return err_set(err, EINVAL, "'%s' cannot be a backend key: it has a control byte",
                           name);
    return 0;
}

/* Older spellings: [storage] = [quayfs], [storage.NAME] = [store NAME], [db.NAME] = [database
 * NAME]. */
static void rename_kind(char **kind, const char *name)
{
    const char *now = NULL;
    if (strcmp(*kind, "storage") == 0)
        now = *name ? "store" : "quayfs";
    else if (strcmp(*kind, "db") == 0)
        now = "database";
    if (now) {
        free(*kind);
        *kind = xstrdup(now);
    }
}

/* `name`, `name@env`, `"name"` or `"name"@env` in [s, end). */
static bool split_name(const char *s, const char *end, char **ret_name, char **ret_env)
{
    const char *at = NULL;
    if (s < end && *s == '"') {
        const char *quote = memrchr(s + 1, '"', (size_t)(end - s) - 1);
        if (!quote || (quote + 1 < end && quote[1] != '@'))
            return false;
        *ret_name = xstrndup(s + 1, (size_t)(quote - s) - 1);
        at = quote + 1 < end ? quote + 1 : NULL;
    } else {
        at = memrchr(s, '@', (size_t)(end - s));
        *ret_name = xstrndup(s, (size_t)((at ? at : end) - s));
    }
    *ret_env = at ? xstrndup(at + 1, (size_t)(end - at) - 1) : xstrdup("");
    return !at || **ret_env;
}

/* [env.NAME.storage.KEY] = [store KEY@NAME]: moves s past "env.NAME." and gives NAME. */
static const char *split_old_env(const char *s, const char *end, char **ret_env)
{
    if ((size_t)(end - s) < 5 || strncmp(s, "env.", 4) != 0)
        return s;
    const char *dot = memchr(s + 4, '.', (size_t)(end - s) - 4);
    if (!dot || dot == s + 4)
        return s;
    *ret_env = xstrndup(s + 4, (size_t)(dot - s) - 4);
    return dot + 1;
}

static void section_begin(struct parser *p, const char *s, const char *end)
{
    CLEANUP_FREE char *kind = NULL, *name = NULL, *env = NULL, *old_env = NULL;
    s = split_old_env(s, end, &old_env);
    size_t n = 0;
    while (s + n < end && !is_blank(s[n]) && s[n] != '.' && s[n] != '@')
        n++;
    kind = xstrndup(s, n);
    const char *rest = s + n;
    if (rest < end && *rest != '@')
        rest = skip_blanks(rest + 1, end);
    if (n == 0 || !split_name(rest, end, &name, &env)) {
        parse_error(p, "malformed section name [%.*s]", (int)(end - s), s);
        return;
    }
    if (old_env && !*env) {
        free(env);
        env = take_ptr(&old_env);
    }
    rename_kind(&kind, name);
    bool is_store = strcmp(kind, "store") == 0;
    if (is_store && store_name_check(name, p->err) < 0) {
        parse_error(p, "%s", err_text(p->err));
        return;
    }
    struct conf_section *old = find_env(p->conf, kind, name, env);
    if (old && is_store && !*env) {
        parse_error(p, "Backend key '%s' is already registered. (first on line %d)", name,
                    old->line);
        return;
    }
    if (old) {
        parse_error(p, "section [%.*s] is already on line %d", (int)(end - s), s, old->line);
        return;
    }
    p->section = section_add(p->conf, take_ptr(&kind), take_ptr(&name), take_ptr(&env));
    p->section->line = p->line_no;
    p->last = NULL;
}

/* A header, also when indented (else it would continue the value above). Gives its inner part. */
static bool is_header(const char *line, const char *end, const char **s, const char **e)
{
    const char *open = skip_blanks(line, end);
    if (open >= end || *open != '[')
        return false;
    const char *close = memchr(open, ']', (size_t)(end - open));
    if (open > line) {
        bool plain = close && trim_end(line, end) == close + 1 && open[1] >= 'a' && open[1] <= 'z';
        if (!plain)
            return false;
    }
    *s = skip_blanks(open + 1, end);
    *e = close ? trim_end(*s, close) : NULL;
    if (close) {
        const char *stop = trim_end(line, end);
        const char *after = skip_blanks(close + 1, stop);
        if (after < stop && *after != ';' && *after != '#' && *after != '\r')
            *e = NULL;
    }
    return true;
}

/* The fgets() of inih: hands out one line a call, NULL at the end or after an error. */
static char *next_line(char *to, int room, void *arg)
{
    struct parser *p = arg;
    const char *s, *e;
    if (p->failed_line || !*p->next)
        return NULL;
    p->line = p->next;
    p->line_len = strcspn(p->line, "\n");
    p->next = p->line + p->line_len + (p->line[p->line_len] == '\n');
    p->line_no++;
    const char *end = p->line + p->line_len;
    if (p->line_no == 1 && p->line_len >= 3 && memcmp(p->line, "\xEF\xBB\xBF", 3) == 0) {
        p->line += 3;
        p->line_len -= 3;
    }
    if (is_header(p->line, end, &s, &e)) {
        if (!e)
            parse_error(p, "a section is written [kind] or [kind name]");
        else
            section_begin(p, s, e);
        memcpy(to, "[s]\n", 5); /* for inih it only ends the value before */
        return to;
    }
    if (p->line_len + 3 > (size_t)room) {
        parse_error(p, "line is longer than %d bytes", room - 3);
        return NULL;
    }
    memcpy(to, p->line, p->line_len);
    memcpy(to + p->line_len, "\n", 2);
    return to;
}

static bool has_comment(const struct parser *p)
{
    bool value = false;
    for (size_t i = 0; i < p->line_len; i++) {
        char c = p->line[i];
        if (value && c == ';' && is_blank(p->line[i - 1]))
            return true;
        value = value || c == '=' || c == ':';
    }
    return false;
}

/* The line as it stands: some versions of inih cut " ;" off continuation lines, others keep it. A query
 * must not depend on that. */
static void continue_value(struct parser *p)
{
    const char *end = trim_end(p->line, p->line + p->line_len);
    const char *raw = skip_blanks(p->line, end);
    char *joined = xasprintf("%s%s%.*s", p->last->value, *p->last->value ? "\n" : "",
                             (int)(end - raw), raw);
    secret_free(p->last->value);
    p->last->value = joined;
}

static int take_pair(void *arg, const char *section, const char *name, const char *value)
{
    struct parser *p = arg;
    (void)section;
    if (p->failed_line)
        return 0;
    if (p->last && p->line_len && is_blank(p->line[0])) {
        continue_value(p);
        return 1;
    }
    if (!p->section) {
        parse_error(p, "'%s' stands before the first [section]", name);
        return 0;
    }
    if (!*name) {
        parse_error(p, "a name is missing before '='");
        return 0;
    }
    struct conf_pair *old = find_pair(p->section, name);
    if (old) {
        parse_error(p, "'%s' is already set on line %d", name, old->line);
        return 0;
    }
    p->last = pair_add(p->section, name, value);
    p->last->line = p->line_no;
    p->last->commented = has_comment(p);
    return 1;
}

static int parse_into(struct conf *c, const char *text, struct err *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct parser p = {.conf = c, .err = err, .next = text};
    pthread_once(&once, inih_limits);
    int line = ini_parse_stream(next_line, &p, take_pair, &p);
    if (p.failed_line && (line <= 0 || line >= p.failed_line))
        return -EINVAL;
    if (line > 0) {
        p.line_no = line;
        parse_error(&p, "expected [section] or name = value");
        return -EINVAL;
    }
    return line < 0 ? err_set(err, ENOMEM, "%s: out of memory", c->file) : 0;
}

int conf_parse(const char *name, const char *text, struct err *err, struct conf **ret)
{
    struct conf *c = conf_new(name);
    int r = parse_into(c, text, err);
    if (r < 0) {
        conf_free(c);
        return r;
    }
    *ret = c;
    return 0;
}

/* The whole file, at most `limit` bytes; *ret is malloc'd. */
static int read_text(const char *path, size_t limit, struct stat *st, struct buf *ret)
{
    CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0 || fstat(fd, st) < 0)
        return -errno;
    if (S_ISDIR(st->st_mode))
        return -EISDIR;
    for (;;) {
        if (ret->len > limit)
            return -EFBIG;
        char *to = buf_reserve(ret, 4096);
        ssize_t n = read(fd, to, 4096);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return 0;
        ret->len += (size_t)n;
        buf_reserve(ret, 0);
    }
}

static void buf_wipe(struct buf *b)
{
    if (b->data)
        explicit_bzero(b->data, b->cap);
    buf_done(b);
}

int conf_load(const char *path, struct err *err, struct conf **ret)
{
    struct stat st;
    struct buf text = BUF_INIT;
    int r = read_text(path, FILE_LIMIT, &st, &text);
    if (r < 0) {
        buf_wipe(&text);
        return err_set(err, -r, "cannot read %s: %s", path, strerror(-r));
    }
    struct conf *c = conf_new(path);
    char *real = realpath(path, NULL);
    if (real) {
        char *slash = strrchr(real, '/');
        slash[slash == real] = '\0';
        free(c->dir);
        c->dir = real;
    }
    const char *nul = text.len ? memchr(text.data, '\0', text.len) : NULL;
    if (nul) {
        int line = 1;
        for (const char *q = text.data; q < nul; q++)
            line += *q == '\n';
        r = err_set(err, EINVAL, "%s:%d: a NUL byte", path, line);
    } else {
        r = parse_into(c, buf_str(&text), err);
    }
    buf_wipe(&text);
    if (r < 0) {
        conf_free(c);
        return r;
    }
    *ret = c;
    return 0;
}

static void merge(struct conf_section *base, struct conf_section *overlay)
{
    for (size_t i = 0; i < overlay->n_pairs; i++) {
        struct conf_pair *from = &overlay->pairs[i];
        struct conf_pair *to = find_pair(base, from->name);
        if (!to)
            to = pair_add(base, from->name, "");
        if (to->level > CONF_LEVEL_OVERLAY)
            continue; /* the command line's own */
        char *value = to->value;
        to->value = from->value;
        from->value = value;
        to->line = from->line;
        to->file = from->file;
        to->commented = from->commented;
        to->level = CONF_LEVEL_OVERLAY;
    }
}

const char *conf_raw(const struct conf_section *s, const char *const *names, size_t n)
{
    const struct conf_pair *best = NULL;
    for (size_t i = 0; i < s->n_pairs; i++)
        for (size_t k = 0; k < n; k++)
            if (strcmp(s->pairs[i].name, names[k]) == 0 &&
                (!best || s->pairs[i].level > best->level))
                best = &s->pairs[i];
    return best && best->value[0] ? best->value : NULL;
}

const char *conf_raw_backend(const struct conf_section *s)
{
    static const char *const names[] = {"backend", "backend_type", "type"};
    return conf_raw(s, names, ARRAY_LEN(names));
}

char *conf_raw_scheme(const struct conf_section *s)
{
    static const char *const name = "uri";
    const char *uri = conf_raw(s, &name, 1), *end = uri ? strstr(uri, "://") : NULL;
    if (!uri)
        return NULL;
    return end ? xstrndup(uri, (size_t)(end - uri)) : xstrdup("local");
}

/* What kind of place a section says it is, malloc'd: "s3" of backend = s3 and of uri = s3://...; NULL: nothing. */
static char *place_kind(const struct conf_section *s)
{
    const char *backend = conf_raw_backend(s);
    return backend ? xstrdup(backend) : conf_raw_scheme(s);
}

/* An overlay that says another kind of place stands alone: bucket and region mean nothing to a directory. */
static void drop_other_kind(struct conf_section *base, const struct conf_section *overlay)
{
    CLEANUP_FREE char *was = place_kind(base), *is = place_kind(overlay);
    size_t kept = 0;
    if (strcmp(base->kind, "store") != 0 || !is || !was || strcasecmp(was, is) == 0)
        return;
    for (size_t i = 0; i < base->n_pairs; i++) {
        if (base->pairs[i].level > CONF_LEVEL_OVERLAY)
            base->pairs[kept++] = base->pairs[i];
        else
            pair_done(&base->pairs[i]);
    }
    base->n_pairs = kept;
    base->line = overlay->line;
}

int conf_apply_env(struct conf *c, const char *env, struct err *err)
{
    bool found = !env || !*env;
    struct conf_section **at = &c->sections;
    while (*at) {
        struct conf_section *s = *at;
        if (!*s->env) {
            at = &s->next;
            continue;
        }
        bool mine = env && strcmp(s->env, env) == 0;
        found |= mine;
        struct conf_section *base = mine ? conf_find(c, s->kind, s->name) : NULL;
        if (mine && !base) {
            s->env[0] = '\0';
            at = &s->next;
            continue;
        }
        if (mine) {
            drop_other_kind(base, s);
            merge(base, s);
        }
        *at = s->next;
        section_free(s);
    }
    if (!found)
        return err_set(err, EINVAL, "%s: no section is for the environment '%s'", c->file, env);
    return 0;
}

const char *conf_str(const struct conf_section *s, const char *name, const char *def)
{
    const struct conf_pair *p = find_pair(s, name);
    return p ? p->value : def;
}

bool conf_bool(const struct conf_section *s, const char *name, bool def)
{
    const struct conf_pair *p = find_pair(s, name);
    bool v = def;
    return p && parse_bool(p->value, &v) ? v : def;
}

int64_t conf_int(const struct conf_section *s, const char *name, int64_t def)
{
    const struct conf_pair *p = find_pair(s, name);
    int64_t v = def;
    return p && parse_int(p->value, &v) ? v : def;
}

uint64_t conf_size(const struct conf_section *s, const char *name, uint64_t def)
{
    const struct conf_pair *p = find_pair(s, name);
    uint64_t v = def;
    return p && parse_size(p->value, &v) ? v : def;
}

uint64_t conf_ms(const struct conf_section *s, const char *name, uint64_t def_ms)
{
    const struct conf_pair *p = find_pair(s, name);
    uint64_t v = def_ms;
    return p && parse_duration_ms(p->value, &v) ? v : def_ms;
}

bool conf_has(const struct conf_section *s, const char *name)
{
    return find_pair(s, name) != NULL;
}

int conf_line(const struct conf_section *s, const char *name)
{
    const struct conf_pair *p = name ? find_pair(s, name) : NULL;
    return p ? p->line : s->line;
}

int conf_error(const struct conf_section *s, const char *name, struct err *err, int code,
               const char *fmt, ...)
{
    const struct conf_pair *p = name ? find_pair(s, name) : NULL;
    const char *file = p ? p->file : s->file;
    int line = p ? p->line : s->line;
    va_list ap;
    va_start(ap, fmt);
    int r = err_vset(err, code, fmt, ap);
    va_end(ap);
    if (line)
        err_prefix(err, "%s:%d", file, line);
    else
        err_prefix(err, "%s", file);
    return r;
}
