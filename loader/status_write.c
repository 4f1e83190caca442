/* SPDX-License-Identifier: MIT
 * status_write.c: the files of a run's directory. Rendered under the lock, written without it. */
#include "loader/status_impl.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"

#include <inttypes.h>

#define LIVE_FILES_MAX 1000 /* above this status.json has files[] only at the end */
#define ERROR_BYTES 400     /* of an error in a TSV field */

const char *status_file_word(enum status_file_state state)
{
    static const char *const words[] = {
        [FILE_WAITING] = "waiting",   [FILE_RUNNING] = "running",
        [FILE_LOADED] = "loaded",     [FILE_REJECTS] = "loaded-with-rejects",
        [FILE_ALREADY] = "already-loaded", [FILE_SKIPPED] = "skipped",
        [FILE_FAILED] = "failed",     [FILE_UNDONE] = "rolled-back",
        [FILE_NOT_RUN] = "not-run"};

    return words[state];
}

/* ---- progress ---- */

struct live {
    uint64_t bytes, rows, loaded, rejects;
    const char *phase;
    const char *path; /* of one running file */
    size_t done;      /* files that ended */
};

static void sum_live_locked(const struct status *st, struct live *l)
{
    lock_assert_held(&st->lock);
    *l = (struct live){.bytes = st->bytes_done, .rows = st->totals.rows_read,
                       .loaded = st->totals.rows_loaded, .rejects = st->totals.rows_rejected, .phase = st->state};
    for (unsigned i = 0; i < STATUS_SLOTS_MAX; i++) {
        struct transfer_progress *p = st->live[i].progress;

        if (!p)
            continue;
        l->bytes += atomic_load_explicit(&p->bytes_done, memory_order_relaxed);
        l->rows += atomic_load_explicit(&p->rows_read, memory_order_relaxed);
        l->loaded += atomic_load_explicit(&p->rows_loaded, memory_order_relaxed);
        l->rejects += atomic_load_explicit(&p->rows_rejected, memory_order_relaxed);
        l->path = st->files[st->live[i].file].path;
        if (!strcmp(st->state, "running") && atomic_load(&p->phase))
            l->phase = atomic_load(&p->phase);
    }
    for (size_t i = 0; i < st->n_files; i++)
        l->done += st->files[i].state >= FILE_LOADED;
}

static void add_speed(const struct status *st, const struct live *l, struct buf *b)
{
    double s = st->running_ns ? (double)(clock_now_ns() - st->running_ns) / (double)NS_PER_S : 0;
    double per_s = s > 0.2 ? (double)l->bytes / s : 0;

    if (per_s < 1)
        return;
    buf_addc(b, ' ');
    text_bytes(b, (uint64_t)per_s);
    buf_adds(b, "/s");
    if (st->bytes_total > l->bytes && per_s > 0) {
        buf_adds(b, " eta ");
        text_seconds(b, (double)(st->bytes_total - l->bytes) / per_s);
    }
}

/* running 42.1% 1.31 GiB/3.11 GiB 18,204,113 rows 0 rejects 212 MiB/s eta 8 s file 3/7 lake/in/p3.csv */
static void render_progress_locked(const struct status *st, struct buf *b)
{
    struct live l;
    uint64_t now = clock_now_ns();

    sum_live_locked(st, &l);
    buf_adds(b, l.phase);
    if (!strcmp(st->state, "retrying") && st->retry_of)
        buf_addf(b, " in %llu s, %u/%u",
                 st->retry_at_ns > now ? (st->retry_at_ns - now + NS_PER_S - 1) / NS_PER_S : 0ULL,
                 st->retry_attempt, st->retry_of);
    if (st->n_files) {
        if (st->bytes_total) {
            double pct = 100.0 * (double)l.bytes / (double)st->bytes_total;

            buf_addf(b, " %.1f%% ", pct > 100 ? 100.0 : pct);
            text_bytes(b, l.bytes);
            buf_addc(b, '/');
            text_bytes(b, st->bytes_total);
        }
        buf_addc(b, ' ');
        text_count(b, l.rows);
        buf_adds(b, " rows ");
        text_count(b, l.rejects);
        buf_adds(b, " rejects");
        if (st->rc < 0)
            add_speed(st, &l, b);
        buf_addf(b, " file %zu/%zu", l.done + (l.path != NULL), st->n_files);
        if (l.path) {
            buf_addc(b, ' ');
            text_tsv(b, l.path, 256);
        }
    }
    buf_addc(b, '\n');
}

/* ---- status.json ---- */

/* Text of any bytes as a JSON string: what is not UTF-8 becomes U+FFFD. */
static json_t *any_string(const char *s)
{
    json_t *j;
    CLEANUP_BUF struct buf b = BUF_INIT;

    if (!s)
        return json_null();
    j = json_string(s);
    if (j)
        return j;
    for (; *s; s++) {
        if ((unsigned char)*s < 128)
            buf_addc(&b, *s);
        else
            buf_adds(&b, "\xEF\xBF\xBD");
    }
    return json_string(buf_str(&b));
}

static json_t *time_string(struct timespec t)
{
    CLEANUP_BUF struct buf b = BUF_INIT;

    text_time(&b, t);
    return json_string(buf_str(&b));
}

static void put(json_t *o, const char *key, json_t *value)
{
    (void)json_object_set_new(o, key, value);
}

static void put_counts(json_t *o, uint64_t read, uint64_t loaded, uint64_t rejected,
                       uint64_t skipped, uint64_t bytes)
{
    put(o, "rows_read", json_integer((json_int_t)read));
    put(o, "rows_loaded", json_integer((json_int_t)loaded));
    put(o, "rows_rejected", json_integer((json_int_t)rejected));
    put(o, "rows_skipped", json_integer((json_int_t)skipped));
    put(o, "bytes", json_integer((json_int_t)bytes));
}

static json_t *file_json(const struct status_file *f)
{
    json_t *o = json_object();
    const struct transfer_result *r = &f->result;

    put(o, "path", any_string(f->path));
    put(o, "operation", json_integer((json_int_t)f->op));
    put(o, "status", json_string(status_file_word(f->state)));
    put(o, "size", json_integer((json_int_t)f->size));
    put(o, "version", any_string(f->version));
    put_counts(o, r->rows_read, r->rows_loaded, r->rows_rejected, r->rows_skipped, r->bytes);
    put(o, "method", any_string(r->method));
    put(o, "seconds", json_real(f->seconds));
    put(o, "error", any_string(f->error));
    return o;
}

static json_t *op_json(const struct status *st, size_t i)
{
    static const char *const modes[] = {[JOB_APPEND] = "append", [JOB_TRUNCATE] = "truncate",
                                        [JOB_REPLACE] = "replace", [JOB_CREATE] = "create",
                                        [JOB_UPSERT] = "upsert"};
    const struct job_op *op = &st->job->ops[i];
    bool import = op->direction == JOB_IMPORT;
    json_t *o = json_object();
    struct status_totals t;

    status_op_totals_locked(st, i, &t);
    put(o, "label", any_string(op->label));
    put(o, "direction", json_string(import ? "import" : "export"));
    put(o, "db", any_string(op->db));
    put(o, "table", any_string(op->table));
    put(o, "mode", import ? json_string(modes[op->mode]) : json_null());
    put(o, "success", st->rc < 0 ? json_null() : json_boolean(st->ops[i].rc == 0 && st->rc != RC_CANCELLED));
    put(o, "rc", json_integer(st->ops[i].rc));
    put_counts(o, t.rows_read, t.rows_loaded, t.rows_rejected, t.rows_skipped, t.bytes);
    put(o, "error", any_string(st->ops[i].error));
    return o;
}

static json_t *json_locked(const struct status *st)
{
    json_t *o = json_object(), *list = json_array();
    const struct status_totals *t = &st->totals;
    bool ended = st->rc >= 0;
    struct live l;

    lock_assert_held(&st->lock);
    put(o, "name", any_string(st->name));
    put(o, "run_id", json_string(st->run_id));
    put(o, "state", json_string(st->state));
    put(o, "success", ended ? json_boolean(st->rc == RC_OK || st->rc == RC_REJECTS) : json_null());
    put(o, "rc", ended ? json_integer(st->rc) : json_null());
    put(o, "started", time_string(st->started));
    put(o, "finished", ended ? time_string(st->finished) : json_null());
    put(o, "seconds", json_real(ended ? st->seconds
                                      : (double)(clock_now_ns() - st->started_ns) / (double)NS_PER_S));
    sum_live_locked(st, &l);
    put_counts(o, l.rows, l.loaded, l.rejects, t->rows_skipped, ended ? t->bytes : l.bytes);
    put(o, "bytes_total", json_integer((json_int_t)st->bytes_total));
    put(o, "method", any_string(st->method));
    put(o, "guarantee", any_string(st->guarantee[0] ? st->guarantee : NULL));
    put(o, "error", any_string(st->error));
    for (size_t i = 0; i < st->n_warnings; i++)
        (void)json_array_append_new(list, any_string(st->warnings[i]));
    put(o, "warnings", list);
    list = json_array();
    for (size_t i = 0; st->job && i < st->n_ops; i++)
        (void)json_array_append_new(list, op_json(st, i));
    put(o, "operations", list);
    put(o, "n_files", json_integer((json_int_t)st->n_files));
    list = json_array();
    for (size_t i = 0; (ended || st->n_files <= LIVE_FILES_MAX) && i < st->n_files; i++)
        (void)json_array_append_new(list, file_json(&st->files[i]));
    put(o, "files", list);
    return o;
}

json_t *status_json(struct status *st)
{
    LOCK_SCOPE(&st->lock);
    return json_locked(st);
}

/* ---- files.tsv, history, summary ---- */

static void render_files_locked(const struct status *st, struct buf *b)
{
    buf_adds(b, "file\toperation\tsize\tversion\tstatus\trows_read\trows_loaded\trows_rejected\t"
                "rows_skipped\tmethod\tseconds\terror\n");
    for (size_t i = 0; i < st->n_files; i++) {
        const struct status_file *f = &st->files[i];
        const struct transfer_result *r = &f->result;

        text_tsv(b, f->path, 4096);
        buf_addf(b, "\t%zu\t%" PRIu64 "\t", f->op, f->size);
        text_tsv(b, f->version, 128);
        buf_addf(b, "\t%s\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\t%s\t%.3f\t",
                 status_file_word(f->state), r->rows_read, r->rows_loaded, r->rows_rejected,
                 r->rows_skipped, r->method ? r->method : "", f->seconds);
        text_tsv(b, f->error ? f->error : "", ERROR_BYTES);
        buf_addc(b, '\n');
    }
}

void status_history(struct status *st, struct buf *b)
{
    LOCK_SCOPE(&st->lock);
    for (size_t i = 0; i < st->n_files || (i == 0 && st->n_files == 0); i++) {
        static const struct status_file none = {.path = NULL};
        const struct status_file *f = st->n_files ? &st->files[i] : &none;
        const struct transfer_result *r = &f->result;
        const char *error = f->error ? f->error : st->n_files ? "" : st->error ? st->error : "";

        text_time(b, st->finished);
        buf_addf(b, "\t%s\t", st->run_id);
        text_tsv(b, st->name, SPOOL_NAME_MAX);
        buf_addc(b, '\t');
        text_tsv(b, f->path ? f->path : "", 4096);
        buf_addc(b, '\t');
        text_tsv(b, f->version ? f->version : "", 128);
        buf_addf(b, "\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\t%" PRIu64 "\t%s\t",
                 f->size, r->rows_read, r->rows_loaded, r->rows_rejected, r->rows_skipped,
                 f->path ? status_file_word(f->state) : st->state);
        text_tsv(b, error, ERROR_BYTES);
        buf_addc(b, '\n');
    }
}

/* From the first file's begin to the last one's end; the whole run where there is one operation. */
static double op_seconds(const struct status *st, size_t op)
{
    uint64_t from = 0, to = 0;

    for (size_t i = 0; i < st->n_files && st->n_ops > 1; i++) {
        const struct status_file *f = &st->files[i];

        if (f->op != op || !f->began_ns || !f->ended_ns)
            continue;
        if (!from || f->began_ns < from)
            from = f->began_ns;
        if (f->ended_ns > to)
            to = f->ended_ns;
    }
    return st->n_ops > 1 ? (double)(to - from) / (double)NS_PER_S : st->seconds;
}

/* "336,776 rows loaded into flights in 3.2 s (copy)" */
static void add_op_line(const struct status *st, size_t i, struct buf *b)
{
    const struct job_op *op = &st->job->ops[i];
    uint64_t rows = 0, rejected = 0;
    size_t files = 0, already = 0;

    for (size_t f = 0; f < st->n_files; f++) {
        if (st->files[f].op != i)
            continue;
        files++;
        already += st->files[f].state == FILE_ALREADY;
        rejected += st->files[f].result.rows_rejected;
        rows += op->direction == JOB_IMPORT ? st->files[f].result.rows_loaded
                                            : st->files[f].result.rows_read;
    }
    text_count(b, rows);
    if (op->direction == JOB_IMPORT)
        buf_addf(b, " rows loaded into %s", op->table);
    else
        buf_addf(b, " rows exported to %s", op->paths.n ? op->paths.v[0] : "?");
    buf_adds(b, " in ");
    text_seconds(b, op_seconds(st, i));
    if (st->method)
        buf_addf(b, " (%s)", st->method);
    if (rejected) {
        buf_adds(b, ", ");
        text_count(b, rejected);
        buf_adds(b, " rejected");
    }
    if (already && op->direction == JOB_IMPORT)
        buf_addf(b, ", %zu of %zu files were loaded before", already, files);
    if (st->ops[i].rc)
        buf_addf(b, ": failed: %s", st->ops[i].error);
    buf_addc(b, '\n');
}

static void render_summary_locked(const struct status *st, struct buf *b)
{
    if (st->rc == RC_OK || st->rc == RC_REJECTS || st->n_ops > 1) {
        for (size_t i = 0; st->job && i < st->n_ops; i++)
            add_op_line(st, i, b);
        if (!st->job)
            buf_addf(b, "%s\n", st->state);
    }
    if (st->rc != RC_OK && st->rc != RC_REJECTS)
        buf_addf(b, "%s (rc %d): %s\n", st->state, st->rc, st->error ? st->error : "");
    if (st->rc != RC_OK && st->rc != RC_REJECTS && st->totals.rows_loaded) {
        text_count(b, st->totals.rows_loaded);
        buf_adds(b, " rows were committed before that and stay (files.tsv)\n");
    }
    for (size_t i = 0; i < st->n_warnings; i++)
        buf_addf(b, "warning: %s\n", st->warnings[i]);
    if (st->totals.rows_rejected)
        buf_adds(b, "rejected rows: errors.tsv says why, rejects/ has them as they were\n");
}

/* ---- writing ---- */

struct pages {
    struct buf state, progress, json, files, summary;
    bool with_files;
};

static void pages_done(struct pages *p)
{
    buf_done(&p->state);
    buf_done(&p->progress);
    buf_done(&p->json);
    buf_done(&p->files);
    buf_done(&p->summary);
}

static void render_locked(struct status *st, struct pages *p)
{
    json_t *o = json_locked(st);
    char *text = json_dumps(o, JSON_INDENT(2) | JSON_REAL_PRECISION(6));

    buf_addf(&p->state, "%s\n", st->state);
    render_progress_locked(st, &p->progress);
    buf_addf(&p->json, "%s\n", text ? text : "{}");
    free(text);
    json_decref(o);
    p->with_files = st->rc >= 0 || (st->dirty && st->n_files <= LIVE_FILES_MAX);
    if (p->with_files)
        render_files_locked(st, &p->files);
    if (st->rc >= 0)
        render_summary_locked(st, &p->summary);
    st->dirty = false;
}

static int write_page(struct status *st, const char *file, const struct buf *b, bool durable)
{
    CLEANUP_FREE char *path = xasprintf("%s/%s", st->dir, file);

    return spool_file_write(path, buf_str(b), b->len, durable);
}

static int write_pages(struct status *st, const struct pages *p, bool final)
{
    int r = p->with_files ? write_page(st, "files.tsv", &p->files, final) : 0, more;

    if (final) {
        CLEANUP_BUF struct buf rc = BUF_INIT;

        buf_addf(&rc, "%d\n", st->rc);
        if ((more = write_page(st, "summary", &p->summary, true)) < 0 ||
            (more = write_page(st, "rc", &rc, true)) < 0)
            r = more;
    }
    if ((more = write_page(st, "progress", &p->progress, false)) < 0 ||
        (more = write_page(st, "status.json", &p->json, final)) < 0 ||
        (more = write_page(st, "state", &p->state, final)) < 0)
        r = more;
    return r;
}

static void write_all(struct status *st, bool final)
{
    struct pages p = {0};
    bool complain;
    int r;

    lock_acquire(&st->lock);
    while (st->writing)
        cond_wait(&st->written, &st->lock);
    st->writing = true;
    render_locked(st, &p);
    lock_release(&st->lock);
    r = write_pages(st, &p, final);
    pages_done(&p);
    lock_acquire(&st->lock);
    st->writing = false;
    complain = r < 0 && !st->complained;
    st->complained |= complain;
    cond_broadcast(&st->written);
    lock_release(&st->lock);
    if (complain)
        log_warn("loader", "%s: writing the status failed: %s", st->dir, strerror(-r));
}

void status_tick(struct status *st)
{
    write_all(st, false);
}

static const char *final_state(int rc)
{
    switch (rc) {
    case RC_OK:
        return "done";
    case RC_REJECTS:
        return "done-with-rejects";
    case RC_CANCELLED:
        return "cancelled";
    default:
        return "failed";
    }
}

int status_end(struct status *st, int rc, const struct err *err)
{
    lock_acquire(&st->lock);
    for (size_t i = 0; i < st->n_files; i++)
        if (rc == RC_OK && (st->files[i].result.rows_rejected || st->files[i].result.file_skipped))
            rc = RC_REJECTS;
    st->rc = rc;
    st->state = final_state(rc);
    st->seconds = (double)(clock_now_ns() - st->started_ns) / (double)NS_PER_S;
    st->finished = clock_wall();
    if (err && err->code)
        st->error = xstrdup(err_text(err));
    for (size_t i = 0; i < st->n_files; i++)
        if (st->files[i].state == FILE_WAITING || st->files[i].state == FILE_RUNNING)
            st->files[i].state = FILE_NOT_RUN;
    lock_release(&st->lock);
    write_all(st, true);
    return rc;
}
