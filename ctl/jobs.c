/* SPDX-License-Identifier: MIT
 * jobs.c: `quayctl jobs`, `wait`, `cancel` and `retry`: looking at the spool and talking to quayload. */
#include "base/cleanup.h"
#include "base/date.h"
#include "base/rpc.h"
#include "ctl/ctl.h"
#include "ctl/wait.h"
#include "loader/spool.h"
#include "loader/text.h"

#include <dirent.h>
#include <fcntl.h>
#include <getopt.h>
#include <sys/stat.h>

#define JOBS_SHOWN 25

struct row {
    char *name, *run_id, *state, *detail;
    struct timespec when;
    json_t *status; /* status.json, or NULL */
};

struct rows {
    struct row *v;
    size_t n;
};

static struct row *add_row(struct rows *rows, const char *name, const char *state)
{
    rows->v = xrealloc(rows->v, (rows->n + 1) * sizeof(*rows->v));
    rows->v[rows->n] = (struct row){.name = xstrdup(name), .state = xstrdup(state)};
    return &rows->v[rows->n++];
}

static void rows_done(struct rows *rows)
{
    for (size_t i = 0; i < rows->n; i++) {
        free(rows->v[i].name);
        free(rows->v[i].run_id);
        free(rows->v[i].state);
        free(rows->v[i].detail);
        json_decref(rows->v[i].status);
    }
    free(rows->v);
}

static json_t *read_json(const char *dir)
{
    CLEANUP_FREE char *path = xasprintf("%s/status.json", dir);
    json_error_t where;

    return json_load_file(path, 0, &where);
}

static const char *text_of(const json_t *o, const char *key, const char *def)
{
    const char *s = json_string_value(json_object_get(o, key));

    return s ? s : def;
}

/* A run's directory: run/NAME or done/NAME.RUNID. */
static void add_run(struct rows *rows, const char *spool, const char *place, const char *entry,
                    struct timespec when)
{
    CLEANUP_FREE char *dir = xasprintf("%s/%s/%s", spool, place, entry);
    json_t *status = read_json(dir);
    struct row *row = add_row(rows, text_of(status, "name", entry),
                              text_of(status, "state", place));

    row->run_id = xstrdup(text_of(status, "run_id", ""));
    row->when = when;
    (void)date_parse_iso(text_of(status, "started", ""), &row->when);
    row->status = status;
    if (!strcmp(place, "run")) {
        CLEANUP_BUF struct buf line = BUF_INIT;
        CLEANUP_FREE char *path = xasprintf("%s/progress", dir);

        (void)spool_file_read(path, 4096, &line);
        buf_truncate(&line, strcspn(buf_str(&line), "\n"));
        row->detail = xstrdup(buf_str(&line));
    } else {
        row->detail = xstrdup(text_of(status, "error", ""));
    }
}

static int read_place(struct rows *rows, const char *spool, const char *place)
{
    CLEANUP_FREE char *path = xasprintf("%s/%s", spool, place);
    DIR *dir = opendir(path);
    struct dirent *e;

    if (!dir)
        return -errno;
    while ((e = readdir(dir))) {
        struct stat st;

        if (spool_ignores(e->d_name) ||
            fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        if (!strcmp(place, "new")) {
            char name[SPOOL_NAME_MAX + 1];

            spool_name(e->d_name, name);
            add_row(rows, name, "queued")->when = st.st_mtim;
        } else if (S_ISDIR(st.st_mode)) {
            add_run(rows, spool, place, e->d_name, st.st_mtim);
        }
    }
    (void)closedir(dir);
    return 0;
}

static int newest_first(const void *a, const void *b)
{
    const struct row *x = a, *y = b;

    if (x->when.tv_sec != y->when.tv_sec)
        return x->when.tv_sec > y->when.tv_sec ? -1 : 1;
    if (x->when.tv_nsec != y->when.tv_nsec)
        return x->when.tv_nsec > y->when.tv_nsec ? -1 : 1;
    return strcmp(x->name, y->name);
}

static void print_row(const struct row *row)
{
    CLEANUP_BUF struct buf rows = BUF_INIT, when = BUF_INIT, took = BUF_INIT;
    const json_t *loaded = json_object_get(row->status, "rows_loaded");
    const json_t *seconds = json_object_get(row->status, "seconds");

    text_time(&when, row->when);
    when.data[10] = ' ';
    buf_truncate(&when, 19);
    if (loaded)
        text_count(&rows, (uint64_t)json_integer_value(loaded));
    if (seconds)
        text_seconds(&took, json_number_value(seconds));
    printf("%-32s %-17s %14s %12s  %s  %s\n", row->name, row->state, buf_str(&rows), buf_str(&took),
           buf_str(&when), row->detail ? row->detail : "");
}

static void print_json(const struct rows *rows, size_t n)
{
    json_t *list = json_array();
    char *text;

    for (size_t i = 0; i < n; i++) {
        const struct row *row = &rows->v[i];
        json_t *o = row->status ? json_incref(row->status) : json_object();

        if (!row->status) {
            (void)json_object_set_new(o, "name", json_string(row->name));
            (void)json_object_set_new(o, "state", json_string(row->state));
        }
        (void)json_array_append_new(list, o);
    }
    text = json_dumps(list, JSON_INDENT(2));
    printf("%s\n", text ? text : "[]");
    free(text);
    json_decref(list);
}

static int list_jobs(const char *spool, bool json, size_t limit)
{
    static const char *const places[] = {"new", "run", "done", "failed"};
    struct rows rows = {0};
    int r = 0;

    for (size_t i = 0; r == 0 && i < ARRAY_LEN(places); i++)
        r = read_place(&rows, spool, places[i]);
    if (r < 0) {
        rows_done(&rows);
        return ctl_message(CTL_FAILED, "spool %s: %s%s", spool, strerror(-r),
                           r == -ENOENT ? " (no quayload has worked on it yet)" : "");
    }
    if (rows.n)
        qsort(rows.v, rows.n, sizeof(*rows.v), newest_first);
    if (limit > rows.n)
        limit = rows.n;
    if (json) {
        print_json(&rows, limit);
    } else {
        printf("%-32s %-17s %14s %12s  %-19s  %s\n", "NAME", "STATE", "ROWS", "TIME", "STARTED (UTC)",
               "");
        for (size_t i = 0; i < limit; i++)
            print_row(&rows.v[i]);
        if (limit < rows.n)
            printf("(%zu more: --all)\n", rows.n - limit);
    }
    rows_done(&rows);
    return CTL_OK;
}

static int jobs_run(struct ctl *ctl, int argc, char **argv)
{
    static const struct option known[] = {{"all", no_argument, NULL, 'a'},
                                          {"json", no_argument, NULL, 'j'},
                                          {NULL, 0, NULL, 0}};
    bool json = false, all = false;
    int c, status;

    while ((c = getopt_long(argc, argv, "a", known, NULL)) != -1) {
        if (c == 'a')
            all = true;
        else if (c == 'j')
            json = true;
        else
            return ctl_usage("jobs", NULL);
    }
    if (optind < argc)
        return ctl_usage("jobs", "unexpected argument '%s'", argv[optind]);
    if ((status = ctl_need_config(ctl)) != 0)
        return status;
    status = list_jobs(ctl->settings.loader.spool, json, all ? SIZE_MAX : JOBS_SHOWN);
    if (status == CTL_OK)
        (void)wait_need_loader(ctl->settings.loader.spool, ctl->config_path); /* says so */
    return status;
}

/* Options of wait, cancel and retry, and their one NAME. */
static int one_name(struct ctl *ctl, int argc, char **argv, struct wait_how *how, bool *wait,
                    const char **ret)
{
    static const struct option known[] = {{"json", no_argument, NULL, 'j'},
                                          {"quiet", no_argument, NULL, 'Q'},
                                          {"wait", no_argument, NULL, 'w'},
                                          {NULL, 0, NULL, 0}};
    int c;

    while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
        if (c == 'j' && how)
            how->json = true;
        else if (c == 'Q' && how)
            how->quiet = true;
        else if (c == 'w' && wait)
            *wait = true;
        else if (c == '?')
            return ctl_usage(argv[0], NULL);
        else
            return ctl_usage(argv[0], "that option does not belong to %s", argv[0]);
    }
    if (argc - optind != 1)
        return ctl_usage(argv[0], "one NAME is needed");
    *ret = argv[optind];
    return ctl_need_config(ctl);
}

static int wait_command(struct ctl *ctl, int argc, char **argv)
{
    struct wait_how how = {0};
    const char *name, *spool;
    CLEANUP_FREE char *dir = NULL, *run = NULL, *waiting = NULL;
    struct wait w;
    int status = one_name(ctl, argc, argv, &how, NULL, &name);

    if (status)
        return status;
    spool = ctl->settings.loader.spool;
    run = xasprintf("%s/run/%s", spool, name);
    waiting = xasprintf("%s/new/%s.job", spool, name);
    /* jobs move from new/ to run/ to a result: looked at in that order, none slips through */
    wait_prepare(&w, spool, name);
    if (access(waiting, F_OK) == 0 || access(run, F_OK) == 0) {
        status = wait_run(&w, &how);
        wait_done(&w);
        return status;
    }
    wait_done(&w);
    dir = wait_newest(spool, name, NULL); /* it has ended already */
    if (dir)
        return wait_print(dir, name, &how);
    return ctl_message(CTL_FAILED, "%s: no job of that name in %s", name, spool);
}

/* Asks the loader; -ENOENT, -ECONNREFUSED ... when there is none. */
static int ask(const char *spool, const char *cmd, const char *name, struct err *err)
{
    CLEANUP_FREE char *path = xasprintf("%s/quayload.sock", spool);
    json_t *args = json_pack("{s:s}", "name", name), *result = NULL;
    int r = args ? rpc_call(path, cmd, args, NULL, NULL, err, &result)
                 : err_set(err, EINVAL, "a name must be UTF-8");

    json_decref(args);
    json_decref(result);
    return r;
}

static int cancel_run(struct ctl *ctl, int argc, char **argv)
{
    CLEANUP_FREE char *waiting = NULL;
    struct err err = ERR_INIT;
    const char *name, *spool;
    pid_t pid;
    int status = one_name(ctl, argc, argv, NULL, NULL, &name);

    if (status)
        return status;
    spool = ctl->settings.loader.spool;
    waiting = xasprintf("%s/new/%s.job", spool, name);
    if (spool_owner(spool, &pid) == 0) {
        if (ask(spool, "cancel", name, &err) < 0)
            return ctl_fail(&err, CTL_FAILED);
        printf("%s: cancelling\n", name);
        return CTL_OK;
    }
    if (unlink(waiting) == 0) {
        printf("%s: withdrawn\n", name);
        return CTL_OK;
    }
    status = wait_need_loader(spool, ctl->config_path);
    return status ? status : CTL_FAILED;
}

static int retry_run(struct ctl *ctl, int argc, char **argv)
{
    char job[SPOOL_NAME_MAX + 1], run_id[SPOOL_RUN_ID_MAX];
    struct wait_how how = {0};
    struct err err = ERR_INIT;
    const char *name, *spool;
    bool wait = false;
    struct wait w;
    int status = one_name(ctl, argc, argv, &how, &wait, &name);

    if (status)
        return status;
    spool = ctl->settings.loader.spool;
    if (wait && (status = wait_need_loader(spool, ctl->config_path)) != 0)
        return status;
    if (!spool_split(name, job, run_id))
        spool_name(name, job);
    wait_prepare(&w, spool, job);
    if (spool_retry(spool, name, &err) < 0)
        status = ctl_fail(&err, CTL_FAILED);
    else if (wait)
        status = wait_run(&w, &how);
    else if (!how.quiet)
        printf("%s: submitted again\n", job);
    wait_done(&w);
    if (!wait && status == CTL_OK)
        (void)wait_need_loader(spool, ctl->config_path); /* says so */
    return status;
}

const struct ctl_command ctl_jobs = {
    .name = "jobs",
    .summary = "list jobs, newest first",
    .usage = "Usage: quayctl jobs [options]\n"
             "\n"
             "Lists the jobs that wait, run and have ended, newest first.\n"
             "\n"
             "  -a, --all               all of them (default: the newest 25)\n"
             "      --json              as JSON (status.json of each)\n"
             "  -h, --help              show this help and exit\n",
    .run = jobs_run,
};

const struct ctl_command ctl_wait = {
    .name = "wait",
    .summary = "wait for a job and print its result",
    .usage = "Usage: quayctl wait [options] NAME\n"
             "\n"
             "Waits until the job has ended and prints its result; prints the newest result when it has\n"
             "ended already. NAME may be NAME.RUNID.\n"
             "\n"
             "      --json              print the result as JSON (status.json)\n"
             "      --quiet             print errors only\n"
             "  -h, --help              show this help and exit\n"
             "\n"
             "Exit status: the job's return code (quayload(5)); 64 bad usage.\n",
    .run = wait_command,
};

const struct ctl_command ctl_cancel = {
    .name = "cancel",
    .summary = "end a waiting or running job",
    .usage = "Usage: quayctl cancel NAME\n"
             "\n"
             "Ends a job. What it has not committed is rolled back; its result is in failed/ with the\n"
             "state cancelled.\n"
             "\n"
             "  -h, --help              show this help and exit\n",
    .run = cancel_run,
};

const struct ctl_command ctl_retry = {
    .name = "retry",
    .summary = "run a failed job again",
    .usage = "Usage: quayctl retry [options] NAME\n"
             "\n"
             "Submits the job of the newest failed run of NAME (or of NAME.RUNID) again. Files that were\n"
             "loaded are not loaded twice.\n"
             "\n"
             "      --wait              wait for the result; the exit status is the job's return code\n"
             "      --json              with --wait: print the result as JSON (status.json)\n"
             "      --quiet             print errors only\n"
             "  -h, --help              show this help and exit\n",
    .run = retry_run,
};
