/* SPDX-License-Identifier: MIT
 * job_text.c: builds the text of a job file; see job_text.h. */
#include "ctl/job_text.h"

#include "base/cleanup.h"
#include "loader/job.h"

static struct job_text_row *find(const struct job_text *t, const char *section, const char *key)
{
    for (size_t i = 0; i < t->n; i++)
        if (!strcmp(t->rows[i].section, section) && !strcmp(t->rows[i].key, key))
            return &t->rows[i];
    return NULL;
}

void job_text_set(struct job_text *t, const char *section, const char *key, const char *value)
{
    struct job_text_row *row = find(t, section, key);

    if (row) {
        free(row->value);
        row->value = xstrdup(value);
        return;
    }
    t->rows = xrealloc(t->rows, (t->n + 1) * sizeof(*t->rows));
    t->rows[t->n++] = (struct job_text_row){xstrdup(section), xstrdup(key), xstrdup(value)};
}

static void add_quoted(struct buf *b, const char *s)
{
    buf_addc(b, '"');
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;

        if (c == '"' || c == '\\')
            buf_addf(b, "\\%c", c);
        else if (c < ' ' || c == 127)
            buf_addf(b, "\\x%02x", c);
        else
            buf_addc(b, (char)c);
    }
    buf_addc(b, '"');
}

void job_text_add(struct job_text *t, const char *section, const char *key, const char *item)
{
    struct job_text_row *row = find(t, section, key);
    CLEANUP_BUF struct buf b = BUF_INIT;
    size_t len = strlen(item);

    if (row)
        buf_addf(&b, "%s, ", row->value);
    if (!len || strpbrk(item, ",\"\n\r\t") || item[0] == ' ' || item[len - 1] == ' ')
        add_quoted(&b, item);
    else
        buf_adds(&b, item);
    job_text_set(t, section, key, buf_str(&b));
}

int job_text_set_option(struct job_text *t, const char *option, struct err *err)
{
    const char *eq = strchr(option, '='), *dot = strchr(option, '.');
    CLEANUP_FREE char *section = NULL, *key = NULL;

    if (!eq || !dot || dot > eq || dot == option || dot + 1 == eq)
        return err_set(err, EINVAL, "--set %s: must be SECTION.KEY=VALUE", option);
    section = xstrndup(option, (size_t)(dot - option));
    key = xstrndup(dot + 1, (size_t)(eq - dot - 1));
    job_text_set(t, section, key, eq + 1);
    return 0;
}

/* A value's lines after the first are indented, which the INI reader joins again. */
static int render_value(const struct job_text_row *row, struct buf *b, struct err *err)
{
    if (strstr(row->value, " ;") || strstr(row->value, "\t;"))
        return err_set(err, EINVAL, "%s: a ';' after a blank cannot be written in a job file",
                       row->key);
    buf_addf(b, "%s = ", row->key);
    for (const char *p = row->value; *p; p++) {
        buf_addc(b, *p);
        if (*p == '\n')
            buf_adds(b, "    ");
    }
    buf_addc(b, '\n');
    return 0;
}

int job_text_render(const struct job_text *t, const char *name, struct buf *ret, struct err *err)
{
    static const char *const order[] = {"job", "from", "to", "format", "columns", "errors", "dedupe"};
    CLEANUP_FREE char *file = xasprintf("%s.job", name);
    CLEANUP_BUF struct buf b = BUF_INIT;
    struct job *job = NULL;
    size_t written = 0;
    int r = 0;

    for (size_t s = 0; r == 0 && s < ARRAY_LEN(order); s++) {
        bool begun = false;

        for (size_t i = 0; r == 0 && i < t->n; i++) {
            if (strcmp(t->rows[i].section, order[s]) != 0)
                continue;
            if (!begun)
                buf_addf(&b, "[%s]\n", order[s]);
            begun = true;
            written++;
            r = render_value(&t->rows[i], &b, err);
        }
    }
    if (r == 0 && written < t->n)
        r = err_set(err, EINVAL, "--set: there is no such section (job, from, to, format, columns, "
                    "errors, dedupe)");
    if (r == 0)
        r = job_parse(file, buf_str(&b), err, &job);
    job_free(job);
    if (r == 0)
        buf_add(ret, buf_str(&b), b.len);
    return r;
}

void job_text_done(struct job_text *t)
{
    for (size_t i = 0; i < t->n; i++) {
        free(t->rows[i].section);
        free(t->rows[i].key);
        free(t->rows[i].value);
    }
    free(t->rows);
    *t = JOB_TEXT_INIT;
}
