/* SPDX-License-Identifier: MIT
 * loader_t.h: what the tests of the loader's engine share: a memory store, a scratch directory,
 * jobs with default options, databases. Include after t.h. */
#ifndef QUAY_TESTS_LOADER_T_H
#define QUAY_TESTS_LOADER_T_H

#include "backends/memory/memory.h"
#include "base/buf.h"
#include "loader/transfer.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* A literal for a field that is a char *: never written, never freed. */
#define T_STR(s) ((char *)(uintptr_t)(s))

static struct op t_op;
static char t_dir[64] = "/tmp/quay-t-XXXXXX";

static inline void t_begin(void)
{
    op_init(&t_op, "test", 0);
    if (!mkdtemp(t_dir))
        exit(2);
}

static inline void t_end(void)
{
    char *cmd = xasprintf("rm -rf '%s'", t_dir);

    if (system(cmd) != 0)
        fprintf(stderr, "could not remove %s\n", t_dir);
    free(cmd);
}

static inline struct store *t_store(struct conf **ret_conf)
{
    struct store *s = NULL;
    struct err e = ERR_INIT;

    *ret_conf = conf_new("test.conf");
    struct conf_section *section = conf_add_section(*ret_conf, "store", "mem");
    CHECK_INT(memory_class.open(section, NULL, &e, &s), 0);
    return s;
}

static inline struct attr t_put(struct store *s, const char *key, const void *data, size_t len)
{
    struct attr attr = {.kind = ATTR_FILE}, done = ATTR_INIT;
    struct source_mem src = source_mem(data, len);
    struct put_req req = {.key = key, .src = &src.base, .attr = &attr};

    CHECK_INT(store_put(s, &t_op, &req, &done), 0);
    return done;
}

/* The whole object as malloc'd text. */
static inline char *t_get(struct store *s, const char *key)
{
    struct attr a = ATTR_INIT;
    struct read_res res = READ_RES_INIT;

    CHECK_INT(store_stat(s, &t_op, key, &a), 0);
    char *data = xcalloc(1, a.size + 1);
    struct read_req req = {.key = key, .iov = {data, a.size}};
    if (a.size)
        CHECK_INT(store_read(s, &t_op, &req, &res), 0);
    read_res_done(&res);
    attr_done(&a);
    return data;
}

/* A file of t_dir as malloc'd text; "" when it is not there. */
static inline char *t_file(const char *name)
{
    char *path = xasprintf("%s/%s", t_dir, name);
    FILE *f = fopen(path, "r");
    char *text = xcalloc(1, 1 << 20);

    if (f) {
        size_t n = fread(text, 1, (1 << 20) - 1, f);
        text[n] = '\0';
        (void)fclose(f);
    }
    free(path);
    return text;
}

static inline struct database *t_database(const char *driver, const char *option, const char *value,
                                          struct conf **ret_conf)
{
    struct database *db = NULL;
    struct err e = ERR_INIT;

    *ret_conf = conf_new("test.conf");
    struct conf_section *section = conf_add_section(*ret_conf, "database", "db");
    conf_set(section, "driver", driver);
    conf_set(section, option, value);
    if (database_open(section, &e, &db) < 0) {
        fprintf(stderr, "%s\n", e.text);
        exit(1);
    }
    return db;
}

static inline struct job_op t_job_op(const char *table, enum job_mode mode)
{
    static char none[1];
    static char *null_text[] = {none};
    struct job_op what = {.label = T_STR(""),
                          .direction = JOB_IMPORT,
                          .db = T_STR("db"),
                          .mode = mode,
                          .overwrite = JOB_OVERWRITE_REPLACE,
                          .on_error = JOB_ABORT,
                          .max_errors = -1,
                          .max_errors_pct = -1,
                          .ledger = true,
                          .changed = JOB_CHANGED_FAIL};

    what.table = T_STR(table);
    what.format = (struct job_format_options){.quote = '"',
                                              .escape = '"',
                                              .null = {null_text, 1},
                                              .header = JOB_HEADER_MATCH,
                                              .max_row = 1 << 20};
    return what;
}

/* One value of a query, malloc'd; "NULL" for NULL. */
static inline char *t_value(struct database *db, const char *sql)
{
    struct db_rows rows = DB_ROWS_INIT;

    CHECK_INT(database_connect(db, &t_op), 0);
    if (database_exec(db, &t_op, sql, NULL, 0, &rows) < 0) {
        fprintf(stderr, "%s: %s\n", sql, t_op.err.text);
        exit(1);
    }
    char *v = xstrdup(rows.n && rows.v[0][0] ? rows.v[0][0] : "NULL");
    db_rows_done(&rows);
    return v;
}

#define CHECK_VALUE(db, sql, want)                                                                 \
    do {                                                                                           \
        char *v_ = t_value(db, sql);                                                               \
        CHECK_STR(v_, want);                                                                       \
        free(v_);                                                                                  \
    } while (0)

static inline void t_sql(struct database *db, const char *sql)
{
    char *v = t_value(db, sql);

    free(v);
}

struct t_load {
    struct store *store;
    struct database *db;
    const struct job_op *what;
    const char *key;
    bool not_first;
    unsigned run;
};

/* One import; the result in *res, the error in *e. */
static inline int t_import(const struct t_load *l, struct transfer_result *res, struct err *e)
{
    struct job job = {.name = T_STR("t"), .retries = 0, .parallel = 1};
    char run_id[32], path[256];
    struct attr a = ATTR_INIT;

    CHECK_INT(store_stat(l->store, &t_op, l->key, &a), 0);
    (void)snprintf(run_id, sizeof(run_id), "run%u", l->run);
    (void)snprintf(path, sizeof(path), "mem/%s", l->key);
    struct transfer_import req = {.op = &t_op,
                                  .job = &job,
                                  .what = l->what,
                                  .db = l->db,
                                  .store = l->store,
                                  .key = l->key,
                                  .path = path,
                                  .attr = a,
                                  .run_id = run_id,
                                  .run_dir = t_dir,
                                  .first_in_table = !l->not_first};
    *e = ERR_INIT;
    int r = transfer_import(&req, res, e);
    attr_done(&a);
    return r;
}

static inline int t_export(struct store *s, struct database *db, const struct job_op *what,
                           const char *key, struct transfer_result *res, struct err *e)
{
    struct job job = {.name = T_STR("t")};
    char path[256];

    (void)snprintf(path, sizeof(path), "mem/%s", key);
    struct transfer_export req = {.op = &t_op,
                                  .job = &job,
                                  .what = what,
                                  .db = db,
                                  .store = s,
                                  .key = key,
                                  .path = path,
                                  .run_id = "x",
                                  .run_dir = t_dir};
    *e = ERR_INIT;
    return transfer_export(&req, res, e);
}

#endif
