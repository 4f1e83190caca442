/* SPDX-License-Identifier: MIT
 * load.c: `quayctl load`, `export` and `batch`: write a job into the spool and wait for its result.
 *
 * load and export have one option table: each option is a key of the job (quayload(5)), or says what to
 * do with it. */
#include "base/cleanup.h"
#include "base/clock.h"
#include "ctl/ctl.h"
#include "ctl/job_text.h"
#include "ctl/wait.h"
#include "loader/spool.h"
#include "loader/status.h"

#include <getopt.h>

#define CHECK_WAIT_MS 130000

/* Options that are keys of the job: --long, section, key, and whether they add to a list. */
static const struct key_option {
    const char *name;
    char letter;
    const char *section, *key;
    bool list, flag;
} key_options[] = {
    {"mode", 'm', "to", "mode", false, false},
    {"key", 'k', "to", "key", true, false},
    {"format", 'f', "format", "type", false, false},
    {"compress", 0, "format", "compress", false, false},
    {"delimiter", 'd', "format", "delimiter", false, false},
    {"header", 0, "format", "header", false, false},
    {"null", 0, "format", "null", true, false},
    {"exclude", 0, "from", "exclude", true, false},
    {"on-error", 0, "errors", "on_error", false, false},
    {"max-errors", 0, "errors", "max_errors", false, false},
    {"retries", 0, "errors", "retries", false, false},
    {"changed", 0, "dedupe", "changed", false, false},
    {"force", 0, "dedupe", "force", false, true},
    {"atomic", 0, "job", "atomic", false, false},
    {"parallel", 'p', "job", "parallel", false, false},
    {"timeout", 0, "job", "timeout", false, false},
    {"overwrite", 0, "to", "overwrite", false, false},
    {"query", 'q', "from", "query", false, false},
};

enum { OPT_KEY = 256, OPT_SET = 400, OPT_COLUMN, OPT_NAME, OPT_WAIT, OPT_NO_WAIT, OPT_CHECK,
       OPT_PRINT, OPT_JSON, OPT_QUIET };

struct request {
    const char *command;
    struct job_text text;
    char name[SPOOL_NAME_MAX + 1];
    struct wait_how how;
    bool no_wait, check, print;
};

static int set_column(struct request *rq, const char *arg)
{
    const char *eq = strchr(arg, '=');
    CLEANUP_FREE char *column = NULL;

    if (!eq || eq == arg)
        return ctl_usage(rq->command, "--column %s: must be COLUMN=SOURCE", arg);
    column = xstrndup(arg, (size_t)(eq - arg));
    job_text_set(&rq->text, "columns", column, eq + 1);
    return 0;
}

static int take_option(struct request *rq, int c, const char *arg)
{
    struct err err = ERR_INIT;

    switch (c) {
    case OPT_SET:
        return job_text_set_option(&rq->text, arg, &err) < 0 ? ctl_usage(rq->command, "%s",
                                                                         err_text(&err)) : 0;
    case OPT_COLUMN:
        return set_column(rq, arg);
    case OPT_NAME:
        spool_name(arg, rq->name);
        if (strcmp(rq->name, arg) != 0)
            return ctl_usage(rq->command, "--name %s: cannot be a job's name", arg);
        return 0;
    case OPT_WAIT:
        rq->no_wait = false;
        return 0;
    case OPT_NO_WAIT:
        rq->no_wait = true;
        return 0;
    case OPT_CHECK:
        rq->check = true;
        return 0;
    case OPT_PRINT:
        rq->print = true;
        return 0;
    case OPT_JSON:
        rq->how.json = true;
        return 0;
    case OPT_QUIET:
        rq->how.quiet = true;
        return 0;
    default:
        return ctl_usage(rq->command, NULL);
    }
}

static int key_option(struct request *rq, int c, const char *arg)
{
    for (size_t i = 0; i < ARRAY_LEN(key_options); i++) {
        const struct key_option *k = &key_options[i];

        if (c != (int)(OPT_KEY + i) && (!k->letter || c != k->letter))
            continue;
        if (k->list)
            job_text_add(&rq->text, k->section, k->key, arg);
        else
            job_text_set(&rq->text, k->section, k->key, k->flag ? "yes" : arg);
        return 0;
    }
    return take_option(rq, c, arg);
}

static int parse_request(struct request *rq, int argc, char **argv)
{
    static const struct option others[] = {
        {"set", required_argument, NULL, OPT_SET},    {"column", required_argument, NULL, OPT_COLUMN},
        {"name", required_argument, NULL, OPT_NAME},  {"wait", no_argument, NULL, OPT_WAIT},
        {"no-wait", no_argument, NULL, OPT_NO_WAIT},  {"check", no_argument, NULL, OPT_CHECK},
        {"print", no_argument, NULL, OPT_PRINT},      {"json", no_argument, NULL, OPT_JSON},
        {"quiet", no_argument, NULL, OPT_QUIET},      {NULL, 0, NULL, 0}};
    struct option known[ARRAY_LEN(key_options) + ARRAY_LEN(others)];
    int c, r;

    for (size_t i = 0; i < ARRAY_LEN(key_options); i++)
        known[i] = (struct option){key_options[i].name,
                                   key_options[i].flag ? no_argument : required_argument, NULL,
                                   (int)(OPT_KEY + i)};
    memcpy(known + ARRAY_LEN(key_options), others, sizeof(others));
    rq->command = argv[0];
    while ((c = getopt_long(argc, argv, "m:k:f:d:p:q:", known, NULL)) != -1)
        if ((r = key_option(rq, c, optarg)) != 0)
            return r;
    return 0;
}

/* "dw.public.orders" -> db dw, table public.orders */
static int set_target(struct request *rq, const char *section, const char *arg)
{
    const char *dot = strchr(arg, '.');
    CLEANUP_FREE char *db = NULL;

    if (!dot || dot == arg || !dot[1])
        return ctl_usage(rq->command, "'%s' is not DATABASE.TABLE", arg);
    db = xstrndup(arg, (size_t)(dot - arg));
    job_text_set(&rq->text, section, "db", db);
    job_text_set(&rq->text, section, "table", dot + 1);
    return 0;
}

static void default_name(struct request *rq, const char *what)
{
    char random[7];
    CLEANUP_FREE char *name = NULL;

    if (rq->name[0])
        return;
    random_hex(random, 6);
    name = xasprintf("%s-%.80s-%s", rq->command, what, random);
    spool_name(name, rq->name);
}

/* check/NAME.job -> check/NAME.out, printed; the rc is in its last line. */
static int run_check(struct ctl *ctl, struct request *rq, const struct buf *text)
{
    const char *spool = ctl->settings.loader.spool;
    CLEANUP_FREE char *job = xasprintf("%s/check/%s.job", spool, rq->name);
    CLEANUP_FREE char *out = xasprintf("%s/check/%s.out", spool, rq->name);
    CLEANUP_BUF struct buf report = BUF_INIT;
    uint64_t end = clock_now_ns() + CHECK_WAIT_MS * NS_PER_MS;
    const char *rc;
    int r;

    r = spool_file_write(job, text->data, text->len, false);
    if (r < 0)
        return ctl_message(CTL_FAILED, "%s: %s", job, strerror(-r));
    while (spool_file_read(out, 1 << 20, &report) < 0) {
        pid_t pid;

        if (clock_now_ns() > end || spool_owner(spool, &pid) != 0)
            return ctl_message(CTL_UNREACHABLE, "no answer from quayload; the report will be in %s",
                               out);
        clock_sleep_ms(50);
    }
    (void)unlink(out);
    fputs(buf_str(&report), stdout);
    rc = strstr(buf_str(&report), "\nresult: ");
    rc = rc ? strstr(rc, "(rc ") : NULL;
    return rc && rc[4] >= '0' && rc[4] <= '7' ? rc[4] - '0' : CTL_FAILED;
}

static int submit(struct ctl *ctl, const char *name, const char *text, size_t len,
                  const struct wait_how *how, bool no_wait)
{
    const char *spool = ctl->settings.loader.spool;
    struct err err = ERR_INIT;
    struct wait w;
    pid_t pid;
    int status;

    if (!no_wait && (status = wait_need_loader(spool, ctl->config_path)) != 0)
        return status;
    wait_prepare(&w, spool, name);
    if (spool_submit(spool, name, text, len, &err) < 0) {
        status = ctl_fail(&err, CTL_FAILED);
    } else if (no_wait) {
        if (!how->quiet)
            printf("%s\n", name);
        if (spool_owner(spool, &pid) != 0)
            (void)ctl_message(0, "no quayload works on spool %s: the job waits until one is started "
                              "(quayload -c %s)", spool, ctl->config_path);
        status = CTL_OK;
    } else {
        status = wait_run(&w, how);
    }
    wait_done(&w);
    return status;
}

static int finish_request(struct ctl *ctl, struct request *rq, const char *what)
{
    CLEANUP_BUF struct buf text = BUF_INIT;
    struct err err = ERR_INIT;
    int status;

    default_name(rq, what);
    if (job_text_render(&rq->text, rq->name, &text, &err) < 0)
        return ctl_fail(&err, RC_JOB);
    if (rq->print) {
        fputs(buf_str(&text), stdout);
        return CTL_OK;
    }
    if ((status = ctl_need_config(ctl)) != 0)
        return status;
    if (rq->check) {
        status = wait_need_loader(ctl->settings.loader.spool, ctl->config_path);
        return status ? status : run_check(ctl, rq, &text);
    }
    return submit(ctl, rq->name, text.data, text.len, &rq->how, rq->no_wait);
}

static int load_run(struct ctl *ctl, int argc, char **argv)
{
    struct request rq = {.text = JOB_TEXT_INIT};
    int status = parse_request(&rq, argc, argv);

    if (status == 0 && argc - optind < 2)
        status = ctl_usage("load", "DATABASE.TABLE and at least one PATH are needed");
    if (status == 0)
        status = set_target(&rq, "to", argv[optind]);
    for (int i = optind + 1; status == 0 && i < argc; i++)
        job_text_add(&rq.text, "from", "path", argv[i]);
    if (status == 0)
        status = finish_request(ctl, &rq, argv[optind]);
    job_text_done(&rq.text);
    return status;
}

static int export_run(struct ctl *ctl, int argc, char **argv)
{
    struct request rq = {.text = JOB_TEXT_INIT};
    int status = parse_request(&rq, argc, argv);
    bool query = false;

    for (size_t i = 0; i < rq.text.n; i++)
        query |= !strcmp(rq.text.rows[i].key, "query");
    if (status == 0 && argc - optind != 2)
        status = ctl_usage("export", query ? "DATABASE and PATH are needed"
                                           : "DATABASE.TABLE (or DATABASE and --query) and PATH are "
                                             "needed");
    if (status == 0 && query)
        job_text_set(&rq.text, "from", "db", argv[optind]);
    else if (status == 0)
        status = set_target(&rq, "from", argv[optind]);
    if (status == 0) {
        job_text_add(&rq.text, "to", "path", argv[optind + 1]);
        status = finish_request(ctl, &rq, argv[optind]);
    }
    job_text_done(&rq.text);
    return status;
}

/* Job files as they are; the worst return code. */
static int batch_run(struct ctl *ctl, int argc, char **argv)
{
    struct request rq = {.text = JOB_TEXT_INIT};
    int status = parse_request(&rq, argc, argv), worst = 0;

    if (status == 0 && (rq.text.n || rq.print || rq.check))
        status = ctl_usage("batch", "only --wait, --no-wait, --json and --quiet go with job files");
    if (status == 0 && optind >= argc)
        status = ctl_usage("batch", "at least one FILE is needed");
    if (status == 0)
        status = ctl_need_config(ctl);
    job_text_done(&rq.text);
    for (int i = optind; status == 0 && i < argc; i++) {
        CLEANUP_BUF struct buf text = BUF_INIT;
        const char *slash = strrchr(argv[i], '/');
        char name[SPOOL_NAME_MAX + 1];
        int r = spool_file_read(argv[i], 64 * 1024, &text), one;

        spool_name(slash ? slash + 1 : argv[i], name);
        if (r < 0)
            one = ctl_message(CTL_FAILED, "%s: %s", argv[i], strerror(-r));
        else
            one = submit(ctl, name, buf_str(&text), text.len, &rq.how, rq.no_wait);
        if (one > worst)
            worst = one;
    }
    return status ? status : worst;
}

#define RESULT_OPTIONS                                                                             \
    "      --name NAME         name of the job (default: made of the table)\n"        \
    "      --wait              wait for the result (the default)\n"                                \
    "      --no-wait           print the job's name and return\n"                                  \
    "      --check             say what would be done; change nothing\n"                           \
    "      --print             print the job file; submit nothing\n"                               \
    "      --json              print the result as JSON (status.json)\n"                           \
    "      --quiet             print errors only\n"                                                \
    "      --set SECTION.KEY=VALUE  any other key of a job file (quayload(5))\n"                   \
    "  -h, --help              show this help and exit\n"                                          \
    "\n"                                                                                           \
    "Exit status: the job's return code: 0 done, 1 data or SQL, 2 cannot connect (or no quayload\n" \
    "runs), 3 loaded with rejects, 4 bad job, 5 cancelled, 6 refused by policy, 7 outcome unknown;\n" \
    "64 bad usage.\n"

const struct ctl_command ctl_load_command = {
    .name = "load",
    .summary = "load files into a table",
    .usage = "Usage: quayctl load [options] DATABASE.TABLE PATH...\n"
             "\n"
             "Loads objects into a table through quayload. PATH is KEY/path, a pattern (*, ?, [..], **)\n"
             "or a directory with a final slash. What was loaded before is not loaded twice.\n"
             "\n"
             "  -m, --mode MODE         append (default), truncate, replace, create or upsert\n"
             "  -k, --key COLUMN        upsert: a column that identifies a row (may be repeated)\n"
             "  -f, --format TYPE       auto (default), csv, tsv or jsonl\n"
             "      --compress TYPE     auto (default), none, gzip or zstd\n"
             "  -d, --delimiter CHAR    one byte, or tab, comma, pipe, semicolon, space\n"
             "      --header HOW        match (default), yes, no, or lines before the header\n"
             "      --null TEXT         unquoted text that means NULL (may be repeated)\n"
             "      --column COL=SOURCE where a column comes from: a header name, #N, @file, @line,\n"
             "                          @run, @loaded_at, 'constant' (may be repeated)\n"
             "      --exclude PATTERN   names to leave out (may be repeated)\n"
             "      --on-error HOW      abort (default), skip_row or skip_file\n"
             "      --max-errors N      give up after N rejected rows, or N% of them\n"
             "      --retries N         of transient errors (default 8)\n"
             "      --changed HOW       a file that changed since it was loaded: fail (default),\n"
             "                          reload or skip\n"
             "      --force             load again what was loaded before\n"
             "      --atomic HOW        one transaction for each file (default), or job for all\n"
             "  -p, --parallel N        files at once\n"
             "      --timeout TIME      give up after this time (30s, 5m)\n" RESULT_OPTIONS,
    .run = load_run,
};

const struct ctl_command ctl_export = {
    .name = "export",
    .summary = "write a table or query to an object",
    .usage = "Usage: quayctl export [options] DATABASE.TABLE PATH\n"
             "       quayctl export [options] --query SQL DATABASE PATH\n"
             "\n"
             "Writes a table, or the rows of a query, to the object KEY/path through quayload. The\n"
             "object appears whole or not at all.\n"
             "\n"
             "  -q, --query SQL         a query instead of a table\n"
             "  -f, --format TYPE       auto (by the name; default), csv, tsv or jsonl\n"
             "      --compress TYPE     auto (by the name; default), none, gzip or zstd\n"
             "  -d, --delimiter CHAR    one byte, or tab, comma, pipe, semicolon, space\n"
             "      --header HOW        yes or no\n"
             "      --null TEXT         text written for NULL\n"
             "      --overwrite HOW     replace (default), fail or skip, when the object exists\n"
             "      --retries N         of transient errors (default 8)\n"
             "      --timeout TIME      give up after this time (30s, 5m)\n" RESULT_OPTIONS,
    .run = export_run,
};

const struct ctl_command ctl_batch = {
    .name = "batch",
    .summary = "run job files",
    .usage = "Usage: quayctl batch [options] FILE...\n"
             "\n"
             "Submits job files (quayload(5)) one after the other and prints their results. A job file\n"
             "with labelled sections ([from a] [to a] [from b] [to b]) holds several operations.\n"
             "\n"
             "      --wait              wait for each result (the default)\n"
             "      --no-wait           print the jobs' names and return\n"
             "      --json              print the results as JSON (status.json)\n"
             "      --quiet             print errors only\n"
             "  -h, --help              show this help and exit\n"
             "\n"
             "Exit status: the worst return code of the jobs (quayload(5)); 64 bad usage.\n",
    .run = batch_run,
};
