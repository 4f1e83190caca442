/* SPDX-License-Identifier: MIT
 * t_job.c: the grammar of job files: what is read, and that every error names its line. */
#include "base/err.h"
#include "loader/job_parts.h"

#include "tests/unit/t.h"

#include <errno.h>

static struct job *good(const char *text)
{
    struct err err = ERR_INIT;
    struct job *job = NULL;

    if (job_parse("a/orders.job", text, &err, &job) < 0) {
        fprintf(stderr, "refused: %s\n%s\n", err_text(&err), text);
        exit(1);
    }
    return job;
}

/* The error must contain `want` (usually ":LINE: ..."). */
static void bad(const char *text, const char *want)
{
    struct err err = ERR_INIT;
    struct job *job = NULL;

    CHECK_INT(job_parse("orders.job", text, &err, &job), -EINVAL);
    CHECK(job == NULL);
    if (!strstr(err_text(&err), want)) {
        fprintf(stderr, "got  %s\nwant %s\nfor:\n%s\n", err_text(&err), want, text);
        exit(1);
    }
}

#define IMPORT "[from]\npath = lake/in/*.csv\n[to]\ndb = dw\ntable = orders\n"
#define EXPORT "[from]\ndb = dw\ntable = orders\n[to]\npath = lake/out.csv\n"

static void test_import_defaults(void)
{
    struct job *job = good(IMPORT);
    const struct job_op *op = &job->ops[0];

    CHECK_STR(job->name, "orders");
    CHECK_INT(job->n_ops, 1);
    CHECK_INT(job->retries, 8);
    CHECK_INT(job->parallel, 1);
    CHECK(!job->atomic_job);
    CHECK_INT(op->direction, JOB_IMPORT);
    CHECK_STR(op->label, "");
    CHECK_STR(op->paths.v[0], "lake/in/*.csv");
    CHECK_STR(op->db, "dw");
    CHECK_STR(op->table, "orders");
    CHECK_INT(op->mode, JOB_APPEND);
    CHECK_INT(op->on_error, JOB_ABORT);
    CHECK_INT(op->exclude.n, 4);
    CHECK_INT(op->format.null.n, 1);
    CHECK_STR(op->format.null.v[0], "");
    CHECK_INT(op->format.quote, '"');
    CHECK_INT(op->format.delimiter, 0);
    CHECK_INT(op->format.header, JOB_HEADER_MATCH);
    CHECK_INT((long long)op->format.max_row, 16 << 20);
    CHECK(op->columns_rest && op->ledger && !op->force && op->fail_when_empty);
    CHECK_INT(op->max_errors, -1);
    CHECK(op->max_errors_pct < 0);
    job_free(job);
}

static void test_import_all_keys(void)
{
    struct job *job = good(
        "[job]\nversion = 1\nname = nightly\ndescription = all of it\ntimeout = 5m\nparallel = 3\n"
        "[from]\npath = lake/a.csv, lake/b-*.csv\n  lake/c/\nexclude = *.bak\non_empty = ok\n"
        "[to]\ndb = dw\ntable = public.orders\nstrategy = replace\n"
        "[format]\ntype = tsv\ncompress = gzip\nencoding = UTF-8\ndelimiter = \\x1f\nquote = none\n"
        "escape = \\\\\nnull = \"\", NULL, \"a,b\"\nheader = 2\ncomment = hash\ntrim = yes\n"
        "ragged = reject\nmax_row = 1M\n"
        "[columns]\nid = #1\nsrc = @file\nkind = 'web'\nname = \"Full Name: x\"\n* = auto\n"
        "drop = junk, more\n"
        "[errors]\non_error = skip_row\nmax_errors = 0.5%\nretries = 2\n"
        "[dedupe]\nledger = no\nchanged = reload\nforce = yes\n");
    const struct job_op *op = &job->ops[0];

    CHECK_STR(job->name, "nightly");
    CHECK_INT((long long)job->timeout_ms, 300000);
    CHECK_INT(job->parallel, 3);
    CHECK_INT(job->retries, 2);
    CHECK_INT(op->paths.n, 3);
    CHECK_STR(op->paths.v[2], "lake/c/");
    CHECK_INT(op->exclude.n, 1);
    CHECK(!op->fail_when_empty);
    CHECK_INT(op->mode, JOB_REPLACE);
    CHECK_INT(op->format.type, JOB_FORMAT_TSV);
    CHECK_INT(op->format.compress, JOB_COMPRESS_GZIP);
    CHECK_INT(op->format.delimiter, 0x1f);
    CHECK_INT(op->format.quote, 0);
    CHECK_INT(op->format.escape, '\\');
    CHECK_INT(op->format.null.n, 3);
    CHECK_STR(op->format.null.v[2], "a,b");
    CHECK_INT(op->format.header_skip, 2);
    CHECK_INT(op->format.comment, '#');
    CHECK(op->format.trim);
    CHECK_INT(op->format.ragged, JOB_RAGGED_REJECT);
    CHECK_INT(op->n_columns, 4);
    CHECK_STR(op->columns[0].source, "#1");
    CHECK_STR(op->columns[3].name, "name");
    CHECK_STR(op->columns[3].source, "Full Name: x");
    CHECK(op->columns_rest);
    CHECK_INT(op->drop.n, 2);
    CHECK_INT(op->on_error, JOB_SKIP_ROW);
    CHECK_INT(op->max_errors, -1);
    CHECK(op->max_errors_pct > 0.49 && op->max_errors_pct < 0.51);
    CHECK(!op->ledger && op->force);
    CHECK_INT(op->changed, JOB_CHANGED_RELOAD);
    job_free(job);
}

static void test_export(void)
{
    struct job *job = good("[from]\ndb = dw\nquery = select *\n  from orders\n  where a = '#b'\n"
                           "[to]\npath = lake/out.csv\noverwrite = fail\n");

    CHECK_INT(job->ops[0].direction, JOB_EXPORT);
    CHECK_STR(job->ops[0].query, "select *\nfrom orders\nwhere a = '#b'");
    CHECK_INT(job->ops[0].overwrite, JOB_OVERWRITE_FAIL);
    job_free(job);
    job = good(IMPORT "mode = upsert\nkey = id, day\n");
    CHECK_INT(job->ops[0].mode, JOB_UPSERT);
    CHECK_INT(job->ops[0].key.n, 2);
    job_free(job);
    job = good(EXPORT);
    CHECK_STR(job->ops[0].table, "orders");
    CHECK_INT(job->ops[0].overwrite, JOB_OVERWRITE_REPLACE);
    job_free(job);
}

static void test_labels(void)
{
    struct job *job = good("[job]\nparallel = 2\n[format]\ntrim = yes\ndelimiter = pipe\n"
                           "[from a]\npath = lake/a.csv\n[to a]\ndb = dw\ntable = ta\n"
                           "[from b]\npath = lake/b.csv\n[to b]\ndb = dw\ntable = tb\nmode = create\n"
                           "[format b]\ndelimiter = tab\n[errors a]\non_error = skip_file\n");

    CHECK_INT(job->n_ops, 2);
    CHECK_STR(job->ops[0].label, "a");
    CHECK_STR(job->ops[1].table, "tb");
    CHECK_INT(job->ops[0].format.delimiter, '|');
    CHECK_INT(job->ops[1].format.delimiter, '\t');
    CHECK(job->ops[1].format.trim);
    CHECK_INT(job->ops[0].on_error, JOB_SKIP_FILE);
    CHECK_INT(job->ops[1].on_error, JOB_ABORT);
    job_free(job);
    bad("[from a]\npath = lake/a\n[to b]\ndb = dw\ntable = t\n", ":1: [from a] has no [to a]");
    bad(IMPORT "[to b]\ndb = dw\ntable = t\n", ":6: [to b] has no [from b]");
    bad(IMPORT "[format x]\ntrim = yes\n", ":6: [format x]: there is no [from x]");
    bad(IMPORT "[errors x]\nretries = 1\n", ":6: ");
    bad("[job]\natomic = job\nparallel = 2\n" IMPORT, ":3: atomic = job runs in one transaction");
    bad("[job]\natomic = job\n" EXPORT, ":2: atomic = job is for imports only");
}

static void test_directions(void)
{
    bad("[from]\npath = a/b\n[to]\npath = c/d\n", ":4: path in both");
    bad("[from]\ndb = a\ntable = t\n[to]\ndb = b\n", ":5: db in both");
    bad("[from]\nexclude = x\n[to]\ndb = b\n", ":1: [from] needs path");
    bad("[from]\npath = a/b\n[to]\ntable = b\n", ":3: [to] needs db");
    bad("[from]\npath = a/b\n[to]\ndb = b\n", ":3: [to] needs a table");
    bad("[from]\ndb = a\n[to]\npath = b/c\n", ":1: [from] needs either table or query");
    bad("[from]\ndb = a\ntable = t\nquery = select 1\n[to]\npath = b/c\n", ":1: [from] needs either");
    bad("[from]\npath = a/b\ntable = t\n[to]\ndb = b\ntable = t\n", ":3: table does not belong");
    bad("[from]\ndb = a\ntable = t\n[to]\npath = b/c\nmode = append\n", ":6: mode does not belong");
    bad("[from]\ndb = a\ntable = t\n[to]\npath = b/{part}.csv\n", ":5: path = b/{part}.csv");
    bad("", "no [from] and [to]");
}

static void test_errors_name_the_line(void)
{
    bad("[from]\npath = a/b\n[too]\ndb = x\n", ":3: unknown section [too]: did you mean [to]?");
    bad("[from]\npaht = a/b\n[to]\ndb = x\ntable = t\n", ":2:");
    bad("[from]\npaht = a/b\n[to]\ndb = x\ntable = t\n", "did you mean 'path'");
    bad("[from]\npath = a/b\npath = c\n[to]\ndb = x\ntable = t\n", ":3:");
    bad("[job]\ntimeout = 5 parsecs\n" IMPORT, ":2:");
    bad("[job]\nparallel = 0\n" IMPORT, ":2:");
    bad("[job]\nversion = 2\n" IMPORT, ":2:");
    bad(IMPORT "[format]\ntype = csw\n", ":7: type = csw: must be auto, csv, tsv or jsonl");
    bad(IMPORT "[format]\ndelimiter = ab\n", ":7: delimiter = ab");
    bad(IMPORT "[format]\ndelimiter = \\n\n", ":7: delimiter");
    bad(IMPORT "[format]\ndelimiter = quote\n", ":7: delimiter and quote are the same");
    bad(IMPORT "[format]\nnull = \"a\n", ":7: null = \"a: the double quote is not closed");
    bad(IMPORT "[format]\nmax_row = 3 XB\n", ":7:");
    bad(IMPORT "[format]\nheader = maybe\n", ":7: header = maybe");
    bad(IMPORT "[format]\nencoding = latin1\n", ":7: encoding = latin1: is not supported");
    bad(IMPORT "[errors]\nmax_errors = 5\n", ":7: max_errors needs on_error");
    bad(IMPORT "[errors]\non_error = skip_row\nmax_errors = 101%\n", ":8:");
    bad(IMPORT "[columns]\na = #0\n", ":7: column a = #0");
    bad(IMPORT "[columns]\na = @today\n", ":7: column a = @today: known are @file");
    bad(IMPORT "[columns]\na = 'x\n", ":7: column a = 'x: the quote is not closed");
    bad("[from]\npath = ,\n[to]\ndb = x\ntable = t\n", ":2: path = ,: empty item");
    bad("[from]\npath = a/b\n[to]\ndb = x\n  table = t\n", "the indented line 'table = ...'");
    bad("[from]\ndb = x\nquery = select ' ;'\n[to]\npath = a/b\n", ":3: query: a ';'");
    bad("nonsense\n", ":1:");
}

static void test_later_is_refused(void)
{
    bad(IMPORT "[schedule]\nwatch = yes\n", ":6: [schedule] is not supported in this version");
    bad(IMPORT "[notify]\nurl = http://x\n", ":6: [notify] is not supported");
    bad(IMPORT "[watch]\n", "[watch] is not supported");
    bad(IMPORT "[format]\ntype = parquet\n", ":7: type = parquet: is not supported in this version");
    bad(IMPORT "mode = upsert\n", ":6: mode = upsert needs key");
    bad(IMPORT "key = id\n", ":6: key goes with mode = upsert only");
    bad(IMPORT "mode = sideways\n", ":6: mode = sideways: must be append");
    bad(EXPORT "max_size = 1G\n", ":6: max_size in [to] is not supported");
    bad("[job]\ndry_run = yes\n" IMPORT, ":2: dry_run in [job] is not supported");
    bad(IMPORT "[columns]\na = b : int\n", ":7: column a = b : int: types, defaults");
    bad(IMPORT "[columns]\na = sql(now())\n", ":7: column a");
    bad(IMPORT "[dedupe]\nkey = content\n", ":7: key in [dedupe] is not supported");
}

static void test_size(void)
{
    char *text = malloc(JOB_MAX_BYTES + 100);
    size_t at = 0;

    CHECK(text != NULL);
    while (at < JOB_MAX_BYTES + 1) {
        memcpy(text + at, "# pad\n", 6);
        at += 6;
    }
    text[at] = 0;
    bad(text, "larger than 64 KiB");
    free(text);
}

static void test_values(void)
{
    const char *why = NULL;
    struct job_list l = {0};
    int64_t n;
    double pct;
    char c;

    CHECK(job_value_list("a,b , \"c d\"\n e", &l, &why));
    CHECK_INT(l.n, 4);
    CHECK_STR(l.v[1], "b");
    CHECK_STR(l.v[2], "c d");
    job_list_done(&l);
    CHECK(!job_value_list("a,,b", &l, &why));
    CHECK(!job_value_list("\"a\" b", &l, &why));
    CHECK(!job_value_list("\"\\q\"", &l, &why));
    CHECK(job_value_char("tab", &c) && c == '\t');
    CHECK(job_value_char("\\x01", &c) && c == 1);
    CHECK(job_value_char(";", &c) && c == ';');
    CHECK(job_value_char("\" \"", &c) && c == ' ');
    CHECK(!job_value_char("\\xff", &c));
    CHECK(!job_value_char("", &c));
    CHECK(job_value_limit("12", &n, &pct) && n == 12 && pct < 0);
    CHECK(job_value_limit("0.1%", &n, &pct) && n == -1 && pct > 0.09);
    CHECK(!job_value_limit("-1", &n, &pct));
    CHECK(!job_value_limit("x%", &n, &pct));
    CHECK(!job_value_limit("", &n, &pct));
}

int main(void)
{
    RUN(test_import_defaults);
    RUN(test_import_all_keys);
    RUN(test_export);
    RUN(test_labels);
    RUN(test_directions);
    RUN(test_errors_name_the_line);
    RUN(test_later_is_refused);
    RUN(test_size);
    RUN(test_values);
    return t_done();
}
