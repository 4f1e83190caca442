/* SPDX-License-Identifier: MIT
 * job.c: the sections of a job file become a struct job. See job_parts.h for the other pieces.
 *
 * A section without a label ([format]) holds for every operation; a labelled one ([format a]) is laid
 * over it for operation a. [from] and [to] come in pairs of the same label, except that a plain [to]
 * or [from] beside labelled partners is refused (nobody could tell what it belongs to). */
#include "loader/job_parts.h"

#include "base/buf.h"
#include "base/cleanup.h"

static const struct conf_option job_options[] = {
    {"version", CONF_INT, "1", .help = "of the grammar", .min = 1, .max = 1},
    {"name", CONF_STRING, .help = "shown in the status; default: the file's name"},
    {"description", CONF_STRING, .help = "free text"},
    {"atomic", CONF_ENUM, "file", "file|job|batch", .help = "one transaction for each file, or for all"},
    {"timeout", CONF_DURATION, "0", .help = "the job is given up after this time"},
    {"parallel", CONF_INT, "1", .help = "files or operations at once", .min = 1, .max = 64},
};
static const struct conf_option from_options[] = {
    {"path", CONF_STRING, .help = "KEY/path, globs, a directory with a final /; a list"},
    {"exclude", CONF_STRING, "_*, .*, *.tmp, *.part", .help = "names left out; a list"},
    {"on_empty", CONF_ENUM, "fail", "fail|ok", .help = "when no file matches"},
    {"db", CONF_STRING, .help = "export: a [database NAME]"},
    {"table", CONF_STRING, .help = "export: the table"},
    {"query", CONF_STRING, .help = "export: an SQL query"},
};
static const struct conf_option to_options[] = {
    {"db", CONF_STRING, .help = "a [database NAME]"},
    {"table", CONF_STRING, .help = "the table"},
    {"mode", CONF_STRING, "append", .help = "append, truncate, replace, create or upsert"},
    {"strategy", CONF_STRING, .alias = "mode"},
    {"key", CONF_STRING, .help = "upsert: the columns that identify a row"},
    {"path", CONF_STRING, .help = "export: KEY/path of the object"},
    {"overwrite", CONF_ENUM, "replace", "fail|replace|skip", .help = "export: when it exists"},
};
static const struct conf_option format_options[] = {
    {"type", CONF_STRING, "auto", .help = "auto, csv, tsv or jsonl"},
    {"compress", CONF_ENUM, "auto", "auto|none|gzip|zstd"},
    {"encoding", CONF_STRING, "utf-8", .help = "utf-8"},
    {"delimiter", CONF_STRING, ",", .help = "one byte, or tab comma pipe semicolon space"},
    {"quote", CONF_STRING, "\"", .help = "one byte, or none"},
    {"escape", CONF_STRING, .help = "one byte; default: the quote doubled"},
    {"null", CONF_STRING, "\"\"", .help = "unquoted texts that mean NULL; a list"},
    {"header", CONF_STRING, "match", .help = "match, yes, no, or lines before the header"},
    {"comment", CONF_STRING, "none", .help = "lines that begin with this byte are left out"},
    {"trim", CONF_BOOL, "no", .help = "drop blanks around values"},
    {"ragged", CONF_ENUM, "fail", "fail|null|reject", .help = "rows with too few or many values"},
    {"max_row", CONF_SIZE, "16M", .help = "longest row"},
};
static const struct conf_option errors_options[] = {
    {"on_error", CONF_ENUM, "abort", "abort|skip_row|skip_file"},
    {"max_errors", CONF_STRING, .help = "a count, or a part of the rows as 0.1%"},
    {"retries", CONF_INT, "8", .help = "of transient errors", .min = 0, .max = 1000},
};
static const struct conf_option dedupe_options[] = {
    {"ledger", CONF_BOOL, "yes"},
    {"changed", CONF_ENUM, "fail", "reload|skip|fail", .help = "same path, other content"},
    {"force", CONF_BOOL, "no", .help = "load again what the ledger has"},
};

static const struct {
    const char *kind;
    const struct conf_option *options;
    size_t n;
} kinds[] = {
    {"job", job_options, ARRAY_LEN(job_options)},
    {"from", from_options, ARRAY_LEN(from_options)},
    {"to", to_options, ARRAY_LEN(to_options)},
    {"format", format_options, ARRAY_LEN(format_options)},
    {"errors", errors_options, ARRAY_LEN(errors_options)},
    {"dedupe", dedupe_options, ARRAY_LEN(dedupe_options)},
    {"columns", NULL, 0}, /* keys are column names */
};

/* An indented line continues the value above it. One that reads like a key of the section was meant as
 * a key: nobody should find out from a wrong load. A " ;" cuts a value off: not within a query. */
static int check_lines(const struct conf_section *s, const struct conf_option *options, size_t n,
                       struct err *err)
{
    for (size_t i = 0; i < s->n_pairs; i++) {
        const struct conf_pair *p = &s->pairs[i];
        const char *line = strchr(p->value, '\n');

        if (p->commented && (!strcmp(p->name, "query") || !strcmp(s->kind, "columns")))
            return conf_error(s, p->name, err, EINVAL, "%s: a ';' after a blank begins a comment, "
                              "which cuts the value off; leave it out", p->name);
        for (; line && strcmp(p->name, "query") != 0; line = strchr(line + 1, '\n')) {
            size_t len = strcspn(line + 1, " \t=\n");

            if (line[1 + len + strspn(line + 1 + len, " \t")] != '=')
                continue;
            for (size_t o = 0; o < n; o++)
                if (strlen(options[o].name) == len && !strncmp(options[o].name, line + 1, len))
                    return conf_error(s, p->name, err, EINVAL, "%s: the indented line '%s = ...' "
                                      "continues this value; keys begin at the left margin",
                                      p->name, options[o].name);
        }
    }
    return 0;
}

int job_check_kinds(const struct conf *conf, struct err *err)
{
    const char *names[ARRAY_LEN(kinds)];

    for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
        names[i] = kinds[i].kind;
    CONF_EACH(conf, s)
    {
        size_t k = 0;
        int r = job_refuse_later(s, err);

        if (r < 0)
            return r;
        while (k < ARRAY_LEN(kinds) && strcmp(kinds[k].kind, s->kind) != 0)
            k++;
        if (k == ARRAY_LEN(kinds)) {
            const char *near = nearest_name(s->kind, names, ARRAY_LEN(names));

            return conf_error(s, NULL, err, EINVAL, "unknown section [%s]%s%s%s", s->kind,
                              near ? ": did you mean [" : "", near ? near : "", near ? "]?" : "");
        }
        if (!strcmp(s->kind, "job") && s->name[0])
            return conf_error(s, NULL, err, EINVAL, "[job] takes no label");
        if (s->env[0])
            return conf_error(s, NULL, err, EINVAL, "[%s %s@%s]: a job has no environments", s->kind,
                              s->name, s->env);
        if ((r = check_lines(s, kinds[k].options, kinds[k].n, err)) < 0)
            return r;
        if (kinds[k].options &&
            (r = conf_check(s, &kinds[k].options, &kinds[k].n, 1, err)) < 0)
            return r;
    }
    return 0;
}

static int bad_value(const struct conf_section *s, const char *key, const char *want,
                     struct err *err)
{
    return conf_error(s, key, err, EINVAL, "%s = %s: %s", key, conf_str(s, key, ""), want);
}

/* Replaces *list by the value of key, where it is given. */
static int get_list(const struct conf_section *s, const char *key, struct job_list *list,
                    struct err *err)
{
    const char *text = conf_str(s, key, NULL), *why = NULL;

    if (!text)
        return 0;
    job_list_done(list);
    if (!*text && !strcmp(key, "null")) {
        job_list_add(list, "", 0);
        return 0;
    }
    if (!*text && !strcmp(key, "exclude"))
        return 0;
    return job_value_list(text, list, &why) ? 0 : bad_value(s, key, why, err);
}

static int get_char(const struct conf_section *s, const char *key, char *ret, struct err *err)
{
    const char *text = conf_str(s, key, NULL);

    if (!text || job_value_char(text, ret))
        return 0;
    return bad_value(s, key, "must be one byte, \\t, \\xNN (ASCII), tab, comma, pipe, semicolon, "
                     "space or none", err);
}

static int get_text(const struct conf_section *s, const char *key, char **ret, struct err *err)
{
    const char *text = conf_str(s, key, NULL), *why = NULL;
    char *value = NULL;

    if (!text)
        return 0;
    if (!job_value_text(text, &value, &why))
        return bad_value(s, key, why, err);
    if (!*value) {
        free(value);
        return bad_value(s, key, "must not be empty", err);
    }
    free(*ret);
    *ret = value;
    return 0;
}

/* 0 and *ret when the word is one of the "a|b|c" in order (1, 2, 3), untouched when key is absent. */
static void get_word(const struct conf_section *s, const char *key, const char *words, int first,
                     int *ret)
{
    const char *text = conf_str(s, key, NULL);
    size_t len = text ? strlen(text) : 0;
    int i = first;

    for (const char *w = words; text && *w; i++) {
        size_t n = strcspn(w, "|");

        if (n == len && !strncasecmp(w, text, n))
            *ret = i;
        w += n + (w[n] == '|');
    }
}

static int get_type(const struct conf_section *s, struct job_format_options *f, struct err *err)
{
    const char *text = conf_str(s, "type", "auto");
    int type = -1;

    if (!conf_has(s, "type"))
        return 0;
    get_word(s, "type", "auto|csv|tsv|jsonl", JOB_FORMAT_AUTO, &type);
    get_word(s, "type", "ndjson", JOB_FORMAT_JSONL, &type);
    get_word(s, "type", "json", JOB_FORMAT_JSONL, &type); /* an array is refused when it is read */
    if (type >= 0) {
        f->type = (enum job_format)type;
        return 0;
    }
    get_word(s, "type", "parquet|arrow|avro|orc|xlsx", 100, &type);
    if (type >= 0)
        return conf_error(s, "type", err, EINVAL,
                          "type = %s: is not supported in this version (auto, csv, tsv, jsonl)", text);
    return bad_value(s, "type", "must be auto, csv, tsv or jsonl", err);
}

static int get_header(const struct conf_section *s, struct job_format_options *f, struct err *err)
{
    const char *text = conf_str(s, "header", NULL);
    int64_t lines;
    bool yes;

    if (!text)
        return 0;
    f->header_skip = 0;
    if (!strcasecmp(text, "match")) {
        f->header = JOB_HEADER_MATCH;
    } else if (parse_int(text, &lines)) {
        if (lines < 0 || lines > 1000)
            return bad_value(s, "header", "must be match, yes, no, or 0..1000 lines", err);
        f->header = JOB_HEADER_MATCH;
        f->header_skip = (unsigned)lines;
    } else if (parse_bool(text, &yes)) {
        f->header = yes ? JOB_HEADER_YES : JOB_HEADER_NO;
    } else {
        return bad_value(s, "header", "must be match, yes, no, or a number of lines", err);
    }
    return 0;
}

static int read_format(const struct conf_section *s, struct job_op *op, struct err *err)
{
    struct job_format_options *f = &op->format;
    int compress = (int)f->compress, ragged = (int)f->ragged, r;

    if ((r = get_type(s, f, err)) < 0 || (r = get_char(s, "delimiter", &f->delimiter, err)) < 0 ||
        (r = get_char(s, "quote", &f->quote, err)) < 0 ||
        (r = get_char(s, "escape", &f->escape, err)) < 0 ||
        (r = get_char(s, "comment", &f->comment, err)) < 0 ||
        (r = get_list(s, "null", &f->null, err)) < 0 || (r = get_header(s, f, err)) < 0)
        return r;
    get_word(s, "compress", "auto|none|gzip|zstd", JOB_COMPRESS_AUTO, &compress);
    get_word(s, "ragged", "fail|null|reject", JOB_RAGGED_FAIL, &ragged);
    f->compress = (enum job_compress)compress;
    f->ragged = (enum job_ragged)ragged;
    f->trim = conf_bool(s, "trim", f->trim);
    f->max_row = conf_size(s, "max_row", f->max_row);
    if (conf_has(s, "encoding") && strcasecmp(conf_str(s, "encoding", ""), "utf-8") != 0 &&
        strcasecmp(conf_str(s, "encoding", ""), "utf8") != 0)
        return bad_value(s, "encoding", "is not supported in this version (utf-8)", err);
    if (conf_has(s, "delimiter") && (f->delimiter == 0 || f->delimiter == '\n'))
        return bad_value(s, "delimiter", "must be one byte", err);
    if (f->quote && f->delimiter == f->quote)
        return conf_error(s, "delimiter", err, EINVAL, "delimiter and quote are the same byte");
    if (f->max_row < 1024 || f->max_row > (uint64_t)1 << 30)
        return bad_value(s, "max_row", "must be between 1K and 1G", err);
    return 0;
}

static int read_errors(const struct conf_section *s, struct job *job, struct job_op *op,
                       struct err *err)
{
    const char *limit = conf_str(s, "max_errors", NULL);
    int on_error = (int)op->on_error;

    get_word(s, "on_error", "abort|skip_row|skip_file", JOB_ABORT, &on_error);
    op->on_error = (enum job_on_error)on_error;
    if (limit && !job_value_limit(limit, &op->max_errors, &op->max_errors_pct))
        return bad_value(s, "max_errors", "must be a count or a percentage (100 or 0.1%)", err);
    if (limit && op->on_error == JOB_ABORT)
        return conf_error(s, "max_errors", err, EINVAL,
                          "max_errors needs on_error = skip_row or skip_file");
    if (s->name[0] && conf_has(s, "retries"))
        return conf_error(s, "retries", err, EINVAL,
                          "retries belongs in [errors] without a label: it holds for the job");
    job->retries = (unsigned)conf_int(s, "retries", job->retries);
    return 0;
}

static void read_dedupe(const struct conf_section *s, struct job_op *op)
{
    int changed = (int)op->changed;

    op->ledger = conf_bool(s, "ledger", op->ledger);
    op->force = conf_bool(s, "force", op->force);
    get_word(s, "changed", "fail|reload|skip", JOB_CHANGED_FAIL, &changed);
    op->changed = (enum job_changed)changed;
}

/* A source may carry what this version does not do: "x : int", "x ?0", "x !required", sql(...). */
static bool source_is_later(const char *text)
{
    size_t len = strlen(text);

    if (text[0] == '"' || text[0] == '\'')
        return false;
    if (!strncasecmp(text, "sql(", 4))
        return true;
    for (size_t i = 1; i + 1 < len; i++)
        if (text[i - 1] == ' ' && (text[i] == '?' || text[i] == '!' ||
                                   (text[i] == ':' && text[i + 1] == ' ')))
            return true;
    return false;
}

static int check_source(const struct conf_section *s, const struct conf_pair *p, struct err *err)
{
    static const char *const specials[] = {"@file", "@line", "@run", "@loaded_at"};
    const char *v = p->value;
    size_t len = strlen(v);
    int64_t n;

    if (!*v)
        return conf_error(s, p->name, err, EINVAL, "column %s has no source", p->name);
    if (source_is_later(v))
        return conf_error(s, p->name, err, EINVAL, "column %s = %s: types, defaults and sql() are "
                          "not supported in this version (a header name with such "
                          "characters goes in double quotes)", p->name, v);
    if (v[0] == '\'' && (len < 2 || v[len - 1] != '\''))
        return conf_error(s, p->name, err, EINVAL, "column %s = %s: the quote is not closed",
                          p->name, v);
    if (v[0] == '#' && (!parse_int(v + 1, &n) || n < 1 || n > 100000))
        return conf_error(s, p->name, err, EINVAL, "column %s = %s: #N counts from 1", p->name, v);
    if (v[0] != '@')
        return 0;
    for (size_t i = 0; i < ARRAY_LEN(specials); i++)
        if (!strcmp(v, specials[i]))
            return 0;
    return conf_error(s, p->name, err, EINVAL,
                      "column %s = %s: known are @file, @line, @run and @loaded_at", p->name, v);
}

static int add_column(const struct conf_section *s, const struct conf_pair *p, struct job_op *op,
                      struct err *err)
{
    const char *why = NULL;
    char *source = NULL;
    int r = check_source(s, p, err);

    if (r < 0)
        return r;
    if (!job_value_text(p->value, &source, &why))
        return conf_error(s, p->name, err, EINVAL, "column %s: %s", p->name, why);
    if (p->value[0] == '"' && strchr("#@'", source[0])) {
        free(source);
        return conf_error(s, p->name, err, EINVAL, "column %s = %s: a header name that begins with "
                          "# @ or ' is not supported in this version", p->name, p->value);
    }
    for (size_t i = 0; i < op->n_columns; i++)
        if (!strcmp(op->columns[i].name, p->name)) { /* [columns a] over [columns] */
            free(op->columns[i].source);
            op->columns[i].source = source;
            return 0;
        }
    op->columns = xrealloc(op->columns, (op->n_columns + 1) * sizeof(*op->columns));
    op->columns[op->n_columns++] = (struct job_column){xstrdup(p->name), source};
    return 0;
}

static int read_columns(const struct conf_section *s, struct job_op *op, struct err *err)
{
    for (size_t i = 0; i < s->n_pairs; i++) {
        const struct conf_pair *p = &s->pairs[i];
        int r = 0;

        if (!strcmp(p->name, "*")) {
            if (strcasecmp(p->value, "auto") != 0)
                r = conf_error(s, "*", err, EINVAL, "* = %s: must be auto", p->value);
            op->columns_rest = true;
        } else if (!strcmp(p->name, "drop")) {
            r = get_list(s, "drop", &op->drop, err);
        } else {
            r = add_column(s, p, op, err);
        }
        if (r < 0)
            return r;
    }
    return 0;
}

static int read_mode(const struct conf_section *to, struct job_op *op, struct err *err)
{
    int mode = 0;

    op->mode = JOB_APPEND;
    if (!conf_has(to, "mode"))
        return 0;
    get_word(to, "mode", "append|truncate|replace|create|upsert", JOB_APPEND, &mode);
    if (mode == 0)
        return bad_value(to, "mode", "must be append, truncate, replace, create or upsert", err);
    op->mode = (enum job_mode)mode;
    return 0;
}

static int read_sides(const struct conf_section *from, const struct conf_section *to,
                      struct job_op *op, struct err *err)
{
    int overwrite = JOB_OVERWRITE_REPLACE, r = job_check_op(from, to, op, err);
    const struct conf_section *object, *db;

    if (r < 0)
        return r;
    object = op->direction == JOB_IMPORT ? from : to;
    db = op->direction == JOB_IMPORT ? to : from;
    if ((r = get_list(object, "path", &op->paths, err)) < 0 ||
        (r = get_list(from, "exclude", &op->exclude, err)) < 0 ||
        (r = get_text(db, "db", &op->db, err)) < 0 ||
        (r = get_text(db, "table", &op->table, err)) < 0 ||
        (r = get_text(db, "query", &op->query, err)) < 0 || (r = read_mode(to, op, err)) < 0 ||
        (r = get_list(to, "key", &op->key, err)) < 0)
        return r;
    if (op->mode == JOB_UPSERT && op->key.n == 0)
        return conf_error(to, "mode", err, EINVAL, "mode = upsert needs key = the columns that "
                          "identify a row");
    if (op->mode != JOB_UPSERT && op->key.n)
        return conf_error(to, "key", err, EINVAL, "key goes with mode = upsert only");
    if (op->direction == JOB_EXPORT && op->paths.n != 1)
        return conf_error(to, "path", err, EINVAL, "an export has one path");
    op->fail_when_empty = strcasecmp(conf_str(from, "on_empty", "fail"), "ok") != 0;
    get_word(to, "overwrite", "fail|replace|skip", JOB_OVERWRITE_FAIL, &overwrite);
    op->overwrite = (enum job_overwrite)overwrite;
    return 0;
}

static void op_defaults(struct job_op *op, const char *label)
{
    static const char *const exclude[] = {"_*", ".*", "*.tmp", "*.part"};

    *op = (struct job_op){.label = xstrdup(label),
                          .fail_when_empty = true,
                          .mode = JOB_APPEND,
                          .overwrite = JOB_OVERWRITE_REPLACE,
                          .on_error = JOB_ABORT,
                          .max_errors = -1,
                          .max_errors_pct = -1,
                          .ledger = true,
                          .changed = JOB_CHANGED_FAIL,
                          .format = {.quote = '"', .header = JOB_HEADER_MATCH,
                                     .max_row = 16 << 20}};
    for (size_t i = 0; i < ARRAY_LEN(exclude); i++)
        job_list_add(&op->exclude, exclude[i], strlen(exclude[i]));
    job_list_add(&op->format.null, "", 0);
}

/* The section for all operations, then the one with this label. */
static int read_shared(const struct conf *conf, struct job *job, struct job_op *op, struct err *err)
{
    for (int labelled = 0; labelled <= 1; labelled++) {
        const char *label = labelled ? op->label : "";

        if (labelled && !*label)
            break;
        CONF_EACH(conf, s)
        {
            int r = 0;

            if (strcmp(s->name, label) != 0)
                continue;
            if (!strcmp(s->kind, "format"))
                r = read_format(s, op, err);
            else if (!strcmp(s->kind, "columns"))
                r = read_columns(s, op, err);
            else if (!strcmp(s->kind, "errors"))
                r = read_errors(s, job, op, err);
            else if (!strcmp(s->kind, "dedupe"))
                read_dedupe(s, op);
            if (r < 0)
                return r;
        }
    }
    if (op->n_columns == 0)
        op->columns_rest = true;
    return 0;
}

static int read_ops(const struct conf *conf, struct job *job, struct err *err)
{
    CONF_EACH(conf, s)
    {
        const struct conf_section *to;
        struct job_op *op;
        int r;

        if (strcmp(s->kind, "from") != 0)
            continue;
        to = conf_find(conf, "to", s->name);
        if (!to)
            return conf_error(s, NULL, err, EINVAL, "[from%s%s] has no [to%s%s]", *s->name ? " " : "",
                              s->name, *s->name ? " " : "", s->name);
        if (job->n_ops == JOB_MAX_OPS)
            return conf_error(s, NULL, err, EINVAL, "more than %d operations", JOB_MAX_OPS);
        job->ops = xrealloc(job->ops, (job->n_ops + 1) * sizeof(*job->ops));
        op = &job->ops[job->n_ops++];
        op_defaults(op, s->name);
        if ((r = read_sides(s, to, op, err)) < 0 || (r = read_shared(conf, job, op, err)) < 0)
            return r;
    }
    return 0;
}

static char *name_of_file(const char *file)
{
    const char *slash = strrchr(file, '/'), *base = slash ? slash + 1 : file;
    size_t len = strlen(base);

    if (len > 4 && !strcmp(base + len - 4, ".job"))
        len -= 4;
    return xstrndup(base, len);
}

static int read_job(const struct conf *conf, const char *file, struct job *job, struct err *err)
{
    const struct conf_section *s = conf_find(conf, "job", "");
    int r;

    job->name = name_of_file(file);
    job->retries = 8;
    job->parallel = 1;
    if (!s)
        return 0;
    if ((r = get_text(s, "name", &job->name, err)) < 0)
        return r;
    if (conf_has(s, "description"))
        job->description = xstrdup(conf_str(s, "description", ""));
    job->atomic_job = !strcasecmp(conf_str(s, "atomic", "file"), "job") ||
                      !strcasecmp(conf_str(s, "atomic", "file"), "batch");
    job->timeout_ms = conf_ms(s, "timeout", 0);
    job->parallel = (unsigned)conf_int(s, "parallel", 1);
    return 0;
}

int job_parse(const char *file, const char *text, struct err *err, struct job **ret)
{
    struct conf *conf = NULL;
    struct job *job;
    int r;

    if (strlen(text) > JOB_MAX_BYTES)
        return err_set(err, EINVAL, "%s: larger than 64 KiB", file);
    r = conf_parse(file, text, err, &conf);
    if (r < 0)
        return r;
    job = xcalloc(1, sizeof(*job));
    r = job_check_kinds(conf, err);
    if (r == 0)
        r = read_job(conf, file, job, err);
    if (r == 0)
        r = read_ops(conf, job, err);
    if (r == 0)
        r = job_check_all(conf, job, err);
    conf_free(conf);
    if (r < 0) {
        job_free(job);
        return r;
    }
    *ret = job;
    return 0;
}

static void op_done(struct job_op *op)
{
    free(op->label);
    free(op->db);
    free(op->table);
    free(op->query);
    job_list_done(&op->paths);
    job_list_done(&op->exclude);
    job_list_done(&op->key);
    job_list_done(&op->drop);
    job_list_done(&op->format.null);
    for (size_t i = 0; i < op->n_columns; i++) {
        free(op->columns[i].name);
        free(op->columns[i].source);
    }
    free(op->columns);
}

void job_free(struct job *job)
{
    if (!job)
        return;
    for (size_t i = 0; i < job->n_ops; i++)
        op_done(&job->ops[i]);
    free(job->ops);
    free(job->name);
    free(job->description);
    job_list_done(&job->warnings);
    free(job);
}
