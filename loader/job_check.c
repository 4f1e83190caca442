/* SPDX-License-Identifier: MIT
 * job_check.c: what one section of a job file cannot know, and what this version refuses.
 *
 * Nothing that is written in a job is silently left undone: a word of the grammar that is not done here
 * is refused by name with its line. */
#include "loader/job_parts.h"

#include "base/cleanup.h"

/* kind, key; key NULL = the whole section. */
static const struct {
    const char *kind, *key;
} later[] = {
    {"source", NULL},       {"schedule", NULL},      {"notify", NULL},      {"vars", NULL},
    {"watch", NULL},        {"partition", NULL},     {"pipe", NULL},        {"job", "memory"},
    {"job", "priority"},    {"job", "dry_run"},      {"from", "recurse"},   {"from", "order"},
    {"from", "ready"},      {"from", "newer"},       {"from", "max_files"}, {"from", "max_bytes"},
    {"from", "snapshot"},   {"from", "split"},       {"from", "fetch"},     {"format", "date_format"},
    {"format", "decimal"},  {"format", "level"},     {"format", "row_group"},
    {"to", "on_conflict"},  {"to", "create"},        {"to", "drift"},       {"to", "indexes"},
    {"to", "speed"},        {"to", "before"},        {"to", "after"},       {"to", "staging"},
    {"to", "max_rows"},     {"to", "max_size"},      {"to", "partition_by"}, {"to", "publish"},
    {"to", "success_marker"}, {"errors", "validate"}, {"errors", "reject"}, {"errors", "backoff"},
    {"dedupe", "key"},      {"dedupe", "retain"},
};

int job_refuse_later(const struct conf_section *s, struct err *err)
{
    for (size_t i = 0; i < ARRAY_LEN(later); i++) {
        if (strcmp(later[i].kind, s->kind) != 0)
            continue;
        if (!later[i].key)
            return conf_error(s, NULL, err, EINVAL, "[%s] is not supported in this version",
                              s->kind);
        for (size_t p = 0; p < s->n_pairs; p++)
            if (!strcmp(s->pairs[p].name, later[i].key))
                return conf_error(s, later[i].key, err, EINVAL,
                                  "%s in [%s] is not supported in this version", later[i].key,
                                  s->kind);
    }
    return 0;
}

/* Keys that belong to the other direction. */
static int refuse_keys(const struct conf_section *s, const char *const *keys, size_t n,
                       const char *direction, struct err *err)
{
    for (size_t i = 0; i < n; i++)
        if (conf_has(s, keys[i]))
            return conf_error(s, keys[i], err, EINVAL, "%s does not belong in [%s] of an %s",
                              keys[i], s->kind, direction);
    return 0;
}

static int check_import(const struct conf_section *from, const struct conf_section *to,
                        struct err *err)
{
    static const char *const not_from[] = {"table", "query"};
    static const char *const not_to[] = {"overwrite"};
    int r = refuse_keys(from, not_from, ARRAY_LEN(not_from), "import", err);

    if (r == 0)
        r = refuse_keys(to, not_to, ARRAY_LEN(not_to), "import", err);
    if (r == 0 && !conf_has(to, "table"))
        r = conf_error(to, NULL, err, EINVAL, "[to] needs a table");
    return r;
}

static int check_export(const struct conf_section *from, const struct conf_section *to,
                        struct err *err)
{
    static const char *const not_from[] = {"exclude", "on_empty"};
    static const char *const not_to[] = {"mode", "table", "key"};
    const char *path = conf_str(to, "path", "");
    int r = refuse_keys(from, not_from, ARRAY_LEN(not_from), "export", err);

    if (r == 0)
        r = refuse_keys(to, not_to, ARRAY_LEN(not_to), "export", err);
    if (r < 0)
        return r;
    if (conf_has(from, "table") == conf_has(from, "query"))
        return conf_error(from, NULL, err, EINVAL, "[from] needs either table or query");
    if (strpbrk(path, "*?[{") || (*path && path[strlen(path) - 1] == '/'))
        return conf_error(to, "path", err, EINVAL, "path = %s: an export needs one plain path "
                          "(patterns and {part} are not supported in this version)", path);
    return 0;
}

int job_check_op(const struct conf_section *from, const struct conf_section *to, struct job_op *op,
                 struct err *err)
{
    bool from_path = conf_has(from, "path"), from_db = conf_has(from, "db");
    bool to_path = conf_has(to, "path"), to_db = conf_has(to, "db");

    if (from_path && from_db)
        return conf_error(from, "db", err, EINVAL, "[from] has both path and db");
    if (to_path && to_db)
        return conf_error(to, "db", err, EINVAL, "[to] has both path and db");
    if (!from_path && !from_db)
        return conf_error(from, NULL, err, EINVAL,
                          "[from] needs path (an import) or db (an export)");
    if (!to_path && !to_db)
        return conf_error(to, NULL, err, EINVAL, "[to] needs %s", from_path ? "db" : "path");
    if (from_path && to_path)
        return conf_error(to, "path", err, EINVAL,
                          "path in both [from] and [to]: one side must be a db");
    if (from_db && to_db)
        return conf_error(to, "db", err, EINVAL,
                          "db in both [from] and [to]: one side must be a path");
    op->direction = from_path ? JOB_IMPORT : JOB_EXPORT;
    return from_path ? check_import(from, to, err) : check_export(from, to, err);
}

/* Every label is one of an operation. */
static int check_labels(const struct conf *conf, struct err *err)
{
    CONF_EACH(conf, s)
    {
        if (!strcmp(s->kind, "to") && !conf_find(conf, "from", s->name))
            return conf_error(s, NULL, err, EINVAL, "[to%s%s] has no [from%s%s]",
                              *s->name ? " " : "", s->name, *s->name ? " " : "", s->name);
        if (s->name[0] && strcmp(s->kind, "job") != 0 && !conf_find(conf, "from", s->name))
            return conf_error(s, NULL, err, EINVAL, "[%s %s]: there is no [from %s]", s->kind,
                              s->name, s->name);
    }
    return 0;
}

int job_check_all(const struct conf *conf, const struct job *job, struct err *err)
{
    const struct conf_section *s = conf_find(conf, "job", "");
    int r = check_labels(conf, err);

    if (r < 0)
        return r;
    if (job->n_ops == 0)
        return err_set(err, EINVAL, "%s:1: the job has no [from] and [to]", conf->file);
    if (!job->atomic_job)
        return 0;
    for (size_t i = 0; i < job->n_ops; i++) {
        if (job->ops[i].direction == JOB_EXPORT)
            return conf_error(s, "atomic", err, EINVAL, "atomic = job is for imports only");
        if (strcmp(job->ops[i].db, job->ops[0].db) != 0)
            return conf_error(s, "atomic", err, EINVAL,
                              "atomic = job: all operations must name the same db");
    }
    if (job->parallel > 1)
        return conf_error(s, "parallel", err, EINVAL,
                          "atomic = job runs in one transaction: parallel must be 1");
    return 0;
}
