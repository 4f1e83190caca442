/* SPDX-License-Identifier: MIT
 * policy.c: the rules of [loader] allow; see policy.h. */
#include "loader/policy.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/conf.h"
#include "base/name.h"

#include <fnmatch.h>

#define MODE_EXPORT (1u << 10)
#define MODE_QUERY (1u << 11)
#define MODE_LOAD (1u << JOB_APPEND | 1u << JOB_TRUNCATE | 1u << JOB_REPLACE | 1u << JOB_CREATE | \
                   1u << JOB_UPSERT)
#define MODE_ALL (MODE_LOAD | MODE_EXPORT | MODE_QUERY)

struct rule {
    char *db, *table, *path; /* NULL table, path: any */
    unsigned modes;
};

struct policy {
    struct rule *rules;
    size_t n;
    bool everything;
};

static const struct {
    const char *word;
    unsigned modes;
} words[] = {{"append", 1u << JOB_APPEND}, {"truncate", 1u << JOB_TRUNCATE},
             {"replace", 1u << JOB_REPLACE}, {"create", 1u << JOB_CREATE},
             {"upsert", 1u << JOB_UPSERT}, {"load", MODE_LOAD},
             {"export", MODE_EXPORT}, {"query", MODE_QUERY}, {"all", MODE_ALL}};

static int parse_modes(char *text, const char *rule, struct err *err, unsigned *ret)
{
    const char *names[ARRAY_LEN(words)];
    char *word;

    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        names[i] = words[i].word;
    while ((word = strsep(&text, "+"))) {
        const char *near;
        size_t i = 0;

        while (i < ARRAY_LEN(words) && strcmp(words[i].word, word) != 0)
            i++;
        if (i < ARRAY_LEN(words)) {
            *ret |= words[i].modes;
            continue;
        }
        near = nearest_name(word, names, ARRAY_LEN(names));
        return err_set(err, EINVAL, "[loader] allow: '%s': unknown mode '%s'%s%s%s", rule, word,
                       near ? ": did you mean '" : "", near ? near : "", near ? "'?" : "");
    }
    return 0;
}

static void rule_done(struct rule *r)
{
    free(r->db);
    free(r->table);
    free(r->path);
}

static int parse_rule(const char *text, struct err *err, struct rule *ret)
{
    CLEANUP_FREE char *copy = xstrdup(text);
    char *path = strchr(copy, '@'), *modes, *table;
    struct rule rule = {.modes = 0};
    int r = 0;

    if (path)
        *path++ = 0;
    modes = strchr(copy, ':');
    if (modes)
        *modes++ = 0;
    table = strchr(copy, '.');
    if (table)
        *table++ = 0;
    if (!*copy || (table && !*table) || (modes && !*modes) || (path && !*path))
        return err_set(err, EINVAL, "[loader] allow: '%s': must be DB[.TABLE][:MODE+MODE][@PATH]",
                       text);
    if (modes)
        r = parse_modes(modes, text, err, &rule.modes);
    else
        rule.modes = MODE_ALL;
    if (r < 0)
        return r;
    rule.db = xstrdup(copy);
    rule.table = table ? xstrdup(table) : NULL;
    rule.path = path ? xstrdup(path) : NULL;
    *ret = rule;
    return 0;
}

int policy_parse(const char *text, struct err *err, struct policy **ret)
{
    struct policy *p = xcalloc(1, sizeof(*p));
    CLEANUP_FREE char *copy = text ? xstrdup(text) : NULL;
    char *rest = copy, *word;

    p->everything = text == NULL;
    while (rest && (word = strsep(&rest, " \t\r\n,"))) {
        struct rule rule;
        int r;

        if (!*word)
            continue;
        r = parse_rule(word, err, &rule);
        if (r < 0) {
            policy_free(p);
            return r;
        }
        p->rules = xrealloc(p->rules, (p->n + 1) * sizeof(*p->rules));
        p->rules[p->n++] = rule;
    }
    *ret = p;
    return 0;
}

void policy_free(struct policy *p)
{
    if (!p)
        return;
    for (size_t i = 0; i < p->n; i++)
        rule_done(&p->rules[i]);
    free(p->rules);
    free(p);
}

static bool matches(const struct rule *rule, const struct job_op *op, unsigned mode,
                    const char *path)
{
    if (!(rule->modes & mode) || fnmatch(rule->db, op->db, 0) != 0)
        return false;
    /* a query names no table: only a rule that is not about tables can allow it */
    if (rule->table && (!op->table || fnmatch(rule->table, op->table, 0) != 0))
        return false;
    return !rule->path || !path || path_glob(rule->path, path);
}

int policy_check(const struct policy *p, const struct job_op *op, const char *path,
                 struct err *err)
{
    static const char *const modes[] = {[JOB_APPEND] = "append", [JOB_TRUNCATE] = "truncate",
                                        [JOB_REPLACE] = "replace", [JOB_CREATE] = "create",
                                        [JOB_UPSERT] = "upsert"};
    bool import = op->direction == JOB_IMPORT;
    unsigned mode = import ? 1u << op->mode : op->query ? MODE_QUERY : MODE_EXPORT;

    if (p->everything)
        return 0;
    for (size_t i = 0; i < p->n; i++)
        if (matches(&p->rules[i], op, mode, path))
            return 0;
    return err_set(err, EACCES, "refused by policy: no rule of [loader] allow permits %s %s %s%s%s%s%s",
                   import ? modes[op->mode] : op->query ? "query" : "export",
                   import ? "into" : "of", op->db, op->table ? "." : "",
                   op->table ? op->table : "", path ? (import ? " from " : " to ") : "",
                   path ? path : "");
}
