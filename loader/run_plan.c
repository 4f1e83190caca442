/* SPDX-License-Identifier: MIT
 * run_plan.c: the operations of a job become files and units of work. Lists stores; changes nothing. */
#include "loader/run_impl.h"

#include "base/cleanup.h"
#include "base/name.h"
#include "base/strmap.h"

#include <fnmatch.h>

static void add_file(struct run *run, size_t op, struct store *store, const char *key,
                     const char *path, const struct attr *attr)
{
    struct run_file *f;

    if ((run->n_files & (run->n_files - 1)) == 0) /* doubles at powers of two */
        run->files = xrealloc(run->files, (run->n_files ? run->n_files * 2 : 1) * sizeof(*f));
    f = &run->files[run->n_files++];
    *f = (struct run_file){.op = op, .store = store, .key = xstrdup(key), .path = xstrdup(path)};
    if (attr)
        attr_copy(&f->attr, attr);
}

static void cut_files(struct run *run, size_t n)
{
    for (size_t i = n; i < run->n_files; i++) {
        free(run->files[i].key);
        free(run->files[i].path);
        attr_done(&run->files[i].attr);
    }
    run->n_files = n;
}

void run_files_done(struct run *run)
{
    cut_files(run, 0);
    free(run->files);
    run->files = NULL;
}

/* Any name below the listed prefix that an exclude pattern matches: "_temporary/0/part-1" is out too.
 * Gives the pattern, or NULL. */
static const char *excluded_by(const struct job_op *op, const char *below)
{
    while (*below) {
        size_t len = strcspn(below, "/");
        CLEANUP_FREE char *name = xstrndup(below, len);

        for (size_t i = 0; i < op->exclude.n; i++)
            if (fnmatch(op->exclude.v[i], name, 0) == 0)
                return op->exclude.v[i];
        below += len + (below[len] == '/');
    }
    return NULL;
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const struct run_file *)a)->path, ((const struct run_file *)b)->path);
}

/* A store that tells no version of a file is made to: by reading it. Who loads a file must know which. */
static int read_version(struct run *run, struct store *store, const char *key, struct attr *a)
{
    char byte;
    struct read_req req = {.key = key, .iov = {.iov_base = &byte, .iov_len = 1}};
    struct read_res res = READ_RES_INIT;
    int r = 0;

    if (a->kind != ATTR_FILE || a->version[0])
        return 0;
    r = store_read(store, &run->op, &req, &res);
    if (r == 0 && res.attr.version[0]) {
        attr_done(a);
        attr_move(a, &res.attr);
    }
    read_res_done(&res);
    return r;
}

/* The facts of a listed file; listings of web servers tell names, and guesses. */
static int learn(struct run *run, struct store *store, const struct list_entry *e, struct attr *ret)
{
    int r = 0;

    if (e->attr.version[0]) {
        attr_copy(ret, &e->attr);
        return 0;
    }
    r = store_stat(store, &run->op, e->key, ret);
    return r == 0 ? read_version(run, store, e->key, ret) : r;
}

/* All files below `prefix` that match the pattern (NULL: all). `root` is "KEY/". */
static int list_files(struct run *run, size_t op, struct store *store, const char *prefix,
                      const char *pattern, const char *root, bool recursive)
{
    CLEANUP_FREE char *cursor = NULL;
    const struct job_op *what = &run->job->ops[op];
    size_t fixed = strlen(prefix);

    do {
        struct list_query q = {.prefix = prefix, .recursive = recursive, .cursor = cursor};
        struct list_page page = LIST_PAGE_INIT;
        int r = store_list(store, &run->op, &q, &page);

        if (r < 0)
            return r;
        for (size_t i = 0; i < page.count; i++) {
            const struct list_entry *e = &page.entries[i];
            CLEANUP_FREE char *path = NULL;
            const char *by;

            if (e->attr.kind != ATTR_FILE || strncmp(e->key, prefix, fixed) != 0 ||
                (pattern && !path_glob(pattern, e->key)))
                continue;
            path = xasprintf("%s%s", root, e->key);
            by = excluded_by(what, e->key + fixed);
            if (by && run->skipped)
                buf_addf(run->skipped, "    %s: excluded by %s\n", path, by);
            if (by)
                continue;
            struct attr attr = ATTR_INIT;
            r = learn(run, store, e, &attr);
            if (r == 0 && attr.kind == ATTR_FILE)
                add_file(run, op, store, e->key, path, &attr);
            attr_done(&attr);
            if (r < 0 && r != -ENOENT) { /* gone meanwhile: not one of them */
                list_page_done(&page);
                return r;
            }
        }
        free(cursor);
        cursor = take_ptr(&page.cursor);
        list_page_done(&page);
    } while (cursor);
    return 0;
}

/* A plain path: exactly that object. -ENOENT is left to on_empty. */
static int plan_plain(struct run *run, size_t op, const struct location *at, struct err *err)
{
    struct attr attr = ATTR_INIT;
    int r = store_stat(at->store, &run->op, at->key, &attr);

    if (r == -ENOENT) {
        status_log(run->status, "%s: not found", at->path);
        return 0;
    }
    if (r == 0)
        r = read_version(run, at->store, at->key, &attr);
    if (r < 0) {
        *err = run->op.err;
        attr_done(&attr);
        return err_prefix(err, "%s", at->path);
    }
    if (attr.kind == ATTR_FILE)
        add_file(run, op, at->store, at->key, at->path, &attr);
    else
        r = err_set(err, EISDIR, "%s: is a directory; write %s/ to load all files in it", at->path,
                    at->path);
    attr_done(&attr);
    return r;
}

static int plan_pattern(struct run *run, size_t op, const struct location *at, struct err *err)
{
    CLEANUP_FREE char *root = xstrndup(at->path, strlen(at->path) - strlen(at->key));
    size_t len = strlen(at->key), fixed, from = run->n_files;
    bool dir = len == 0 || at->key[len - 1] == '/';
    CLEANUP_FREE char *prefix = NULL;
    int r;

    if (!dir && !strpbrk(at->key, "*?["))
        return plan_plain(run, op, at, err);
    /* "in/ *.csv" lists in/ alone; "in/ **" and "in/2026-*" + "/x" need everything below */
    fixed = dir && !strpbrk(at->key, "*?[") ? len : path_glob_fixed(at->key);
    prefix = xstrndup(at->key, fixed);
    r = list_files(run, op, at->store, prefix, fixed == len ? NULL : at->key, root,
                   fixed == len || strchr(at->key + fixed, '/') || strstr(at->key + fixed, "**"));
    if (r == -ENOENT) /* no such directory: nothing matches */
        return 0;
    if (r < 0) {
        *err = run->op.err;
        return err_prefix(err, "%s", at->path);
    }
    if (run->n_files > from)
        qsort(run->files + from, run->n_files - from, sizeof(*run->files), by_path);
    return 0;
}

/* The same file named by two patterns is one file: the later one goes. */
static void drop_duplicates(struct run *run, size_t from)
{
    struct strmap seen = STRMAP_INIT;
    size_t to = from;

    for (size_t i = from; i < run->n_files; i++) {
        struct run_file *f = &run->files[i];

        if (strmap_get(&seen, f->path)) {
            free(f->key);
            free(f->path);
            attr_done(&f->attr);
            continue;
        }
        strmap_put(&seen, f->path, run);
        if (to != i)
            run->files[to] = *f;
        to++;
    }
    run->n_files = to;
    strmap_done(&seen);
}

static int locate(struct run *run, const char *path, struct err *err, struct location *ret)
{
    int r = stores_locate(run->env->stores, path, err, ret);

    if (r == 0 && ret->by_uri)
        status_warn(run->status, "deprecated: %s: write %s", path, ret->path);
    return r;
}

static int check_files(struct run *run, size_t op, size_t from, struct err *err)
{
    for (size_t i = from; i < run->n_files; i++) {
        int r = policy_check(run->env->policy, &run->job->ops[op], run->files[i].path, err);

        if (r < 0)
            return r;
    }
    return 0;
}

static int plan_import(struct run *run, size_t op, int *ret_rc, struct err *err)
{
    const struct job_op *what = &run->job->ops[op];
    size_t from = run->n_files;
    int r;

    for (size_t i = 0; i < what->paths.n; i++) {
        struct location at = {0};

        r = locate(run, what->paths.v[i], err, &at);
        if (r < 0) {
            *ret_rc = r == -EINVAL ? RC_JOB : RC_CONNECT;
            return r;
        }
        r = plan_pattern(run, op, &at, err);
        location_done(&at);
        if (r < 0) {
            *ret_rc = r == -EISDIR ? RC_DATA : run_rc(err);
            return r;
        }
    }
    drop_duplicates(run, from);
    r = check_files(run, op, from, err);
    if (r < 0) {
        *ret_rc = RC_POLICY;
        return r;
    }
    if (run->n_files > from)
        return 0;
    if (!what->fail_when_empty) {
        status_warn(run->status, "no file matches %s: nothing was done", what->paths.v[0]);
        return 0;
    }
    *ret_rc = RC_DATA;
    return err_set(err, ENOENT, "no file matches %s%s (on_empty = ok allows that)", what->paths.v[0],
                   what->paths.n > 1 ? ", ..." : "");
}

static int plan_export(struct run *run, size_t op, int *ret_rc, struct err *err)
{
    struct location at = {0};
    int r = locate(run, run->job->ops[op].paths.v[0], err, &at);

    if (r < 0) {
        *ret_rc = r == -EINVAL ? RC_JOB : RC_CONNECT;
        return r;
    }
    if (!*at.key) {
        *ret_rc = RC_JOB;
        r = err_set(err, EINVAL, "%s: names a key, not an object in it", at.path);
    }
    if (r == 0 && (r = policy_check(run->env->policy, &run->job->ops[op], at.path, err)) < 0)
        *ret_rc = RC_POLICY;
    if (r == 0)
        add_file(run, op, at.store, at.key, at.path, NULL);
    location_done(&at);
    return r;
}

int run_find_database(struct run_env *env, const char *name, struct err *err,
                      struct conf_section **ret)
{
    struct conf_section *found = conf_find(env->conf, "database", name);
    CLEANUP_FREE const char **names = NULL;
    const char *near;
    size_t n = 0;

    if (found) {
        *ret = found;
        return 0;
    }
    CONF_EACH(env->conf, s)
    {
        if (strcmp(s->kind, "database") != 0)
            continue;
        names = xrealloc(names, (n + 1) * sizeof(*names));
        names[n++] = s->name;
    }
    near = n ? nearest_name(name, names, n) : NULL;
    return err_set(err, EINVAL, "there is no [database %s] in the configuration%s%s%s", name,
                   near ? ": did you mean '" : "", near ? near : "", near ? "'?" : "");
}

int run_plan_op(struct run *run, size_t op, int *ret_rc, struct err *err)
{
    const struct job_op *what = &run->job->ops[op];
    struct conf_section *section;
    int r = policy_check(run->env->policy, what, NULL, err);

    if (r < 0) {
        *ret_rc = RC_POLICY;
        return r;
    }
    r = run_find_database(run->env, what->db, err, &section);
    if (r < 0) {
        *ret_rc = RC_JOB;
        return r;
    }
    return what->direction == JOB_IMPORT ? plan_import(run, op, ret_rc, err)
                                         : plan_export(run, op, ret_rc, err);
}

static void add_unit(struct run *run, size_t first, size_t n, bool one_transaction)
{
    if (n == 0)
        return;
    run->units = xrealloc(run->units, (run->n_units + 1) * sizeof(*run->units));
    run->units[run->n_units++] = (struct run_unit){first, n, one_transaction && n > 1};
}

static void make_units(struct run *run)
{
    if (run->job->atomic_job) {
        add_unit(run, 0, run->n_files, true);
        return;
    }
    for (size_t i = 0, n; i < run->n_files; i += n) {
        const struct job_op *what = &run->job->ops[run->files[i].op];

        for (n = 1; i + n < run->n_files && run->files[i + n].op == run->files[i].op; n++)
            ;
        if (what->direction == JOB_IMPORT && (what->mode == JOB_APPEND || what->mode == JOB_UPSERT))
            n = 1;
        add_unit(run, i, n, true);
    }
}

/* Two operations into one table, one of which clears it, must not run at once. */
static bool tables_conflict(const struct job *job)
{
    for (size_t i = 0; i < job->n_ops; i++)
        for (size_t k = 0; k < job->n_ops; k++) {
            const struct job_op *a = &job->ops[i], *b = &job->ops[k];

            if (i != k && a->table && b->table && !strcmp(a->db, b->db) &&
                !strcmp(a->table, b->table) && a->direction == JOB_IMPORT &&
                (a->mode != JOB_APPEND || b->direction == JOB_EXPORT))
                return true;
        }
    return false;
}

void run_plan(struct run *run)
{
    bool failed = false;

    for (size_t i = 0; i < run->job->n_ops; i++) {
        struct err err = ERR_INIT;
        size_t from = run->n_files;
        int rc = RC_DATA;

        if (run_plan_op(run, i, &rc, &err) < 0) {
            cut_files(run, from);
            run_fail_op(run, i, rc, &err);
            failed = true;
            continue;
        }
        for (size_t f = from; f < run->n_files; f++)
            run->files[f].status = status_add_file(run->status, i, run->files[f].path,
                                                   run->files[f].attr.size,
                                                   run->files[f].attr.version);
    }
    if (failed && run->job->atomic_job)
        return; /* all or nothing: nothing */
    make_units(run);
    run->n_slots = run->job->parallel;
    if (run->n_slots > 1 && tables_conflict(run->job)) {
        status_warn(run->status, "parallel = %u was ignored: operations share a table", run->n_slots);
        run->n_slots = 1;
    }
    if (run->n_slots > run->n_units)
        run->n_slots = run->n_units ? (unsigned)run->n_units : 1;
}
