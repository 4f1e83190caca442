/* SPDX-License-Identifier: MIT
 * t_transfer_postgres.c: the engine against a real PostgreSQL:
 * QUAY_PG_DSN=postgresql://user@host/db (host and port in the DSN; works in a schema of its own and
 * drops it). Fails when it is not set. */
#include "t.h"
#include "loader_t.h"
#include "pg_proxy.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/url.h"
#include "loader/ledger.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>

static struct store *store;
static struct database *db;
static const char *dsn;
static char schema[40];
static unsigned runs;

static struct database *connect_to(const char *where, struct conf **conf)
{
    struct database *d = NULL;
    struct err e = ERR_INIT;

    *conf = conf_new("test.conf");
    struct conf_section *s = conf_add_section(*conf, "database", "pg");
    conf_set(s, "driver", "postgres");
    conf_set(s, "dsn", where);
    conf_set(s, "schema", schema);
    conf_set(s, "connect_timeout", "5s");
    if (database_open(s, &e, &d) < 0) {
        fprintf(stderr, "%s\n", e.text);
        exit(1);
    }
    return d;
}

static int load_res(const struct job_op *what, const char *key, const char *text, size_t len,
                    struct transfer_result *res, struct err *e)
{
    struct attr a = t_put(store, key, text, len);
    struct t_load l = {.store = store, .db = db, .what = what, .key = key, .run = ++runs};
    char *clean = xasprintf("rm -rf %s/errors.tsv %s/rejects", t_dir, t_dir);

    attr_done(&a);
    CHECK_INT(system(clean), 0);
    free(clean);
    return t_import(&l, res, e);
}

static struct transfer_result good(const struct job_op *what, const char *key, const char *text)
{
    struct transfer_result res;
    struct err e;

    if (load_res(what, key, text, strlen(text), &res, &e) < 0) {
        fprintf(stderr, "%s: %s\n", key, e.text);
        exit(1);
    }
    return res;
}

static struct err bad(const struct job_op *what, const char *key, const char *text,
                      const char *part)
{
    struct transfer_result res;
    struct err e;

    CHECK(load_res(what, key, text, strlen(text), &res, &e) < 0);
    if (!strstr(e.text, part)) {
        fprintf(stderr, "got '%s', want '%s'\n", e.text, part);
        exit(1);
    }
    return e;
}

static void test_pass(void)
{
    struct job_op what = t_job_op("p", JOB_APPEND);
    struct transfer_result res;

    t_sql(db, "CREATE TABLE p (id int NOT NULL, name text, x float8)");
    res = good(&what, "p1.csv", "name,id\r\n\"a\r\n\"\"b\"\"\",1\r\n,2\r\n\"\",3\r\n");
    CHECK_STR(res.method, "copy");
    CHECK_INT(res.rows_read, 3);
    CHECK_INT(res.rows_loaded, 3);
    CHECK_VALUE(db, "SELECT string_agg(id || coalesce(name, '<null>'), ';' ORDER BY id) FROM p",
                "1a\r\n\"b\";2<null>;3");
    what.format.null = (struct job_list){(char *[]){T_STR("NA")}, 1};
    res = good(&what, "p2.tsv", "ID\tNAME\n4\tNA\n5\t\"N\tA\"\n6\t\n");
    CHECK_STR(res.method, "copy");
    CHECK_VALUE(db,
                "SELECT string_agg(coalesce(name, '<null>'), ';' ORDER BY id) FROM p WHERE id > 3",
                "<null>;N\tA;");
}

static void test_dot(void)
{
    struct job_op what = t_job_op("dot", JOB_CREATE);
    struct transfer_result res = good(&what, "dot.csv", "v\na\n\\.\nb\n");

    CHECK_STR(res.method, "copy+parse");
    CHECK_VALUE(db, "SELECT string_agg(v, '|') FROM dot", "a|\\.|b");
    what = t_job_op("dot", JOB_TRUNCATE);
    res = good(&what, "dot2.csv", "v\n\\.\n\"tab\tback\\slash\n\"\nx");
    CHECK_VALUE(db, "SELECT string_agg(v, '|') FROM dot", "\\.|tab\tback\\slash\n|x");
}

static void many(struct buf *b, int rows, int bad_row, const char *bad_text)
{
    buf_adds(b, "id,name\n");
    for (int i = 1; i <= rows; i++) {
        if (i == bad_row)
            buf_adds(b, bad_text);
        else
            buf_addf(b, "%d,\"name\n%d\"\n", i, i);
    }
}

/* The server's COPY counts otherwise; the line must be that of the file. */
static void test_exact_line(void)
{
    struct job_op what = t_job_op("ex", JOB_APPEND);
    CLEANUP_BUF struct buf text = BUF_INIT;

    t_sql(db, "CREATE TABLE ex (id int UNIQUE, name text CHECK (name <> 'no'))");
    many(&text, 20000, 12345, "12x,bad\n");
    struct err e =
        bad(&what, "ex1.csv", text.data, "mem/ex1.csv:24690: column id: invalid input syntax");
    CHECK_STR(e.remote, "22P02");
    CHECK_INT(e.status, 1);
    CHECK_INT(e.retry, ERR_RETRY_NEVER);
    CLEANUP_FREE char *rejects = t_file("rejects/ex1.csv.bad");
    CHECK_STR(rejects, "id,name\n12x,bad\n");
    CLEANUP_FREE char *errors = t_file("errors.tsv");
    CHECK(strstr(errors, "mem/ex1.csv\t24690\t"));
    CHECK(strstr(errors,
                 "\t1\tid\tvalue\t22P02\tinvalid input syntax for type integer: \"12x\"\t12x\n"));
    buf_reset(&text);
    many(&text, 20000, 19999, "5,dup\n");
    e = bad(&what, "ex2.csv", text.data, "mem/ex2.csv:39998: duplicate key");
    CHECK_STR(e.remote, "23505");
    buf_reset(&text);
    many(&text, 9000, 7, "7\n");
    bad(&what, "ex3.csv", text.data, "mem/ex3.csv:14: the row has 1 column, not 2");
    buf_reset(&text);
    many(&text, 9000, 6000, "7,\"x\n");
    bad(&what, "ex4.csv", text.data, "mem/ex4.csv:");
    buf_reset(&text);
    many(&text, 9000, 8, "8,\xC3(\n");
    bad(&what, "ex5.csv", text.data, "mem/ex5.csv:16: column name: invalid UTF-8");
    CHECK_VALUE(db, "SELECT count(*) FROM ex", "0");
    CHECK_VALUE(db, "SELECT count(*) FROM _quay_loads WHERE target LIKE '%.ex'", "0");
}

static void test_skip_rows(void)
{
    struct job_op what = t_job_op("sk", JOB_APPEND);
    CLEANUP_BUF struct buf text = BUF_INIT;
    struct transfer_result res;
    int wanted = 0;

    t_sql(db, "CREATE TABLE parent (id int PRIMARY KEY)");
    t_sql(db, "INSERT INTO parent SELECT generate_series(1, 1000)");
    t_sql(db,
          "CREATE TABLE sk (id int PRIMARY KEY, p int NOT NULL REFERENCES parent, v varchar(5))");
    buf_adds(&text, "id,p,v\n");
    for (int i = 1; i <= 12000; i++) {
        if (i % 1000 == 10)
            buf_addf(&text, "%d,2000,fk\n", i); /* the server blames no row */
        else if (i % 1000 == 20)
            buf_addf(&text, "%d,,null\n", i);
        else if (i % 1000 == 30)
            buf_addf(&text, "%d,1,toolong\n", i);
        else if (i % 1000 == 40)
            buf_addf(&text, "5,1,dup\n");
        else if (i % 1000 == 50)
            buf_addf(&text, "%d\n", i);
        else if (i % 1000 == 60)
            buf_addf(&text, "%d,1x,\n", i);
        else
            buf_addf(&text, "%d,%d,\n", i, 1 + i % 1000), wanted++;
    }
    what.on_error = JOB_SKIP_ROW;
    res = good(&what, "sk.csv", text.data);
    CHECK_STR(res.method, "copy+parse");
    CHECK_INT(res.rows_read, 12000);
    CHECK_INT(res.rows_loaded, wanted);
    CHECK_INT(res.rows_rejected, 12000 - wanted);
    char *want = xasprintf("%d", wanted);
    CHECK_VALUE(db, "SELECT count(*) FROM sk", want);
    free(want);
    CLEANUP_FREE char *reasons = t_file("rejects/sk.csv.bad.err");
    CHECK(strstr(reasons, "# mem/sk.csv\n11\tforeign_key\t"));
    CHECK(strstr(reasons, "\n21\tnull\t") && strstr(reasons, "\n31\tvalue\t"));
    CHECK(strstr(reasons, "\n41\tduplicate\t") && strstr(reasons, "\n51\tcolumns\t"));
    CLEANUP_FREE char *rejects = t_file("rejects/sk.csv.bad");
    CHECK(strncmp(rejects, "id,p,v\n10,2000,fk\n20,,null\n30,1,toolong\n5,1,dup\n50\n60,1x,\n1010,",
                  63) == 0);
}

static void test_create(void)
{
    struct job_op what = t_job_op("cr", JOB_CREATE);
    CLEANUP_BUF struct buf text = BUF_INIT;
    struct transfer_result res;

    res = good(&what, "cr.csv",
               "i,d,n,b,day,ts,tz,t\n1,0.5,12345678901234567890,true,2024-02-29,"
               "2024-01-01 10:00:00,2024-01-01T10:00:00Z,x\n");
    CHECK(res.table_created);
    CHECK_VALUE(
        db,
        "SELECT string_agg(format_type(atttypid, atttypmod), ',' ORDER BY attnum) FROM pg_attribute"
        " WHERE attrelid = 'cr'::regclass AND attnum > 0",
        "bigint,double precision,numeric,boolean,date,timestamp without time zone,"
        "timestamp with time zone,text");
    buf_adds(&text, "a,b\n");
    while (text.len < 2u << 20)
        buf_addf(&text, "%d,filler filler filler\n", (int)text.len);
    buf_adds(&text, "n/a,x\n");
    what.table = T_STR("cr2");
    res = good(&what, "cr2.csv", text.data);
    CHECK_STR(res.method, "copy");
    CHECK_VALUE(db, "SELECT a FROM cr2 WHERE b = 'x'", "n/a");
    what.table = T_STR("cr3");
    res =
        good(&what, "cr3.jsonl",
             "{\"a\":1,\"b\":{\"z\":[1.10]},\"c\":0.1}\n{\"a\":2,\"c\":12345678901234567890.5}\n");
    CHECK_VALUE(db,
                "SELECT string_agg(a || '/' || coalesce(b::text, '-') || '/' || c, ' ') FROM cr3",
                "1/{\"z\":[1.10]}/0.1 2/-/12345678901234567890.5");
}

static void test_replace(void)
{
    struct job_op what = t_job_op("re", JOB_REPLACE);

    (void)good(&what, "re.csv", "a,b\n1,x\n");
    t_sql(db, "CREATE INDEX re_a ON re (a)");
    (void)good(&what, "re.csv", "a,b\n2,y\n3,z\n");
    CHECK_VALUE(db,
                "SELECT count(*) || '' || (SELECT count(*) FROM pg_indexes WHERE indexname = "
                "'re_a') FROM re",
                "21");
    bad(&what, "re.csv", "a,b\n2,y\n3,z\n1x,a\n", "mem/re.csv:4: column a:");
    CHECK_VALUE(db, "SELECT count(*) FROM re", "2");
    (void)good(&what, "re.csv", "c\nq\n");
    CHECK_VALUE(db, "SELECT c FROM re", "q");
    bad(&what, "re.csv", "d,e\n1\n", "mem/re.csv:2: the row has 1 column, not 2");
    CHECK_VALUE(db, "SELECT c FROM re", "q");
    t_sql(db, "CREATE TABLE tr (a int PRIMARY KEY)");
    t_sql(db, "CREATE TABLE tr_child (a int REFERENCES tr)");
    what = t_job_op("tr", JOB_TRUNCATE);
    (void)good(&what, "tr.csv", "a\n1\n"); /* TRUNCATE is refused there: DELETE */
    (void)good(&what, "tr.csv", "a\n2\n");
    CHECK_VALUE(db, "SELECT string_agg(a::text, ',') FROM tr", "2");
}

static void test_upsert(void)
{
    struct job_op what = t_job_op("up", JOB_UPSERT);
    struct transfer_result res;

    t_sql(db, "CREATE TABLE up (k int, g int, v text, w text DEFAULT 'd', UNIQUE (k, g))");
    what.key = (struct job_list){(char *[]){T_STR("k"), T_STR("g")}, 2};
    res = good(&what, "up.csv", "k,g,v\n1,1,a\n2,1,b\n1,1,c\n,1,n1\n,1,n2\n");
    CHECK_STR(res.method, "copy");
    CHECK_VALUE(db,
                "SELECT string_agg(coalesce(k::text, '-') || v || w, ',' ORDER BY k, v) FROM up",
                "1cd,2bd,-n1d,-n2d");
    res = good(
        &what, "up.jsonl",
        "{\"k\":2,\"g\":1,\"v\":\"B\",\"w\":\"W\"}\n{\"k\":3,\"g\":1,\"v\":\"C\",\"w\":null}\n");
    CHECK_STR(res.method, "copy+parse");
    CHECK_VALUE(
        db,
        "SELECT string_agg(k || v || coalesce(w, '-'), ',' ORDER BY k) FROM up WHERE k IS NOT NULL",
        "1cd,2BW,3C-");
    what.on_error = JOB_SKIP_ROW;
    res = good(&what, "up2.csv", "k,g,v\n5,1,x\n6y,1,x\n7,1,x\n");
    CHECK_INT(res.rows_rejected, 1);
    CHECK_VALUE(db, "SELECT count(*) FROM up WHERE k IN (5, 7)", "2");
}

static void test_ledger(void)
{
    struct job_op what = t_job_op("le", JOB_CREATE);
    struct transfer_result res = good(&what, "le.csv", "a\n1\n");
    struct t_load again = {.store = store, .db = db, .what = &what, .key = "le.csv", .run = 9999};
    struct err e;

    CHECK_INT(t_import(&again, &res, &e), 0);
    CHECK(res.already_loaded);
    what.mode = JOB_APPEND;
    CLEANUP_FREE char *full = xasprintf("%s.le", schema); /* the same table */
    what.table = full;
    CHECK_INT(t_import(&again, &res, &e), 0);
    CHECK(res.already_loaded);
    bad(&what, "le.csv", "a\n1\n2\n", "has changed since it was loaded");
    what.force = true;
    (void)good(&what, "le.csv", "a\n1\n2\n");
    CHECK_VALUE(db, "SELECT count(*) FROM le", "3");
}

struct racer {
    pthread_t thread;
    unsigned run;
    bool already;
    uint64_t loaded;
};

static void *race(void *arg)
{
    struct racer *me = arg;
    struct conf *conf;
    struct database *mine = connect_to(dsn, &conf);
    struct job_op what = t_job_op("ra", JOB_APPEND);
    struct job job = {.name = T_STR("r")};
    struct op op;
    struct transfer_result res;
    struct err e = ERR_INIT;
    struct attr a = ATTR_INIT;
    char run[20];

    op_init(&op, "race", 0);
    CHECK_INT(store_stat(store, &op, "ra.csv", &a), 0);
    (void)snprintf(run, sizeof(run), "race%u", me->run);
    struct transfer_import req = {.op = &op,
                                  .job = &job,
                                  .what = &what,
                                  .db = mine,
                                  .store = store,
                                  .key = "ra.csv",
                                  .path = "mem/ra.csv",
                                  .attr = a,
                                  .run_id = run,
                                  .run_dir = t_dir,
                                  .first_in_table = true};
    int r = transfer_import(&req, &res, &e);
    if (r < 0)
        fprintf(stderr, "race: %s\n", e.text);
    CHECK_INT(r, 0);
    me->already = res.already_loaded;
    me->loaded = res.rows_loaded;
    attr_done(&a);
    database_close(mine);
    conf_free(conf);
    return NULL;
}

/* Two loaders with the same file at the same moment: its rows are there once. */
static void test_race(void)
{
    CLEANUP_BUF struct buf text = BUF_INIT;
    struct racer racers[4] = {{0}};
    int loaded = 0;

    t_sql(db, "CREATE TABLE ra (id int, name text)");
    t_sql(db, "DROP TABLE _quay_loads"); /* they also race to make the ledger */
    many(&text, 20000, 0, "");
    struct attr a = t_put(store, "ra.csv", text.data, text.len);
    attr_done(&a);
    for (unsigned i = 0; i < 4; i++) {
        racers[i].run = i;
        CHECK_INT(pthread_create(&racers[i].thread, NULL, race, &racers[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        CHECK_INT(pthread_join(racers[i].thread, NULL), 0);
        loaded += !racers[i].already;
    }
    CHECK_INT(loaded, 1);
    CHECK_VALUE(db, "SELECT count(*) FROM ra", "20000");
}

static void test_export(void)
{
    struct job_op what = t_job_op("xp", JOB_APPEND);
    struct transfer_result res;
    struct err e;
    static const char csv[] =
        "i,d,b,t\n1,0.1,t,\"a,\"\"b\"\"\nc\"\n2,1e+100,f,\n,,,\"\"\n3,NaN,,\\x\n";

    t_sql(db, "CREATE TABLE xp (i bigint, d float8, b boolean, t text)");
    (void)good(&what, "xp.csv", csv);
    what.direction = JOB_EXPORT;
    CHECK_INT(t_export(store, db, &what, "out/xp.csv", &res, &e), 0);
    CHECK_INT(res.rows_read, 4);
    CHECK_STR(res.method, "copy");
    CLEANUP_FREE char *back = t_get(store, "out/xp.csv");
    CHECK_STR(back, csv);
    CHECK_INT(t_export(store, db, &what, "out/xp.jsonl", &res, &e), 0);
    CLEANUP_FREE char *lines = t_get(store, "out/xp.jsonl");
    CHECK_STR(lines, "{\"i\":1,\"d\":0.1,\"b\":true,\"t\":\"a,\\\"b\\\"\\nc\"}\n"
                     "{\"i\":2,\"d\":1e+100,\"b\":false,\"t\":null}\n{\"i\":null,\"d\":null,\"b\":"
                     "null,\"t\":\"\"}\n"
                     "{\"i\":3,\"d\":\"NaN\",\"b\":null,\"t\":\"\\\\x\"}\n");
    what.table = NULL;
    what.query = T_STR("SELECT '{\"a\":\n1}'::json AS j, 5 AS n -- comment\n;\n");
    CHECK_INT(t_export(store, db, &what, "out/q.jsonl.zst", &res, &e), 0);
    struct job_op in = t_job_op("xq", JOB_CREATE);
    struct t_load l = {
        .store = store, .db = db, .what = &in, .key = "out/q.jsonl.zst", .run = ++runs};
    CHECK_INT(t_import(&l, &res, &e), 0);
    CHECK_VALUE(db, "SELECT j::text || n FROM xq", "{\"a\": 1}5");
    what.query = T_STR("DELETE FROM xp RETURNING *");
    CHECK(t_export(store, db, &what, "out/no.csv", &res, &e) < 0);
    what.query = T_STR("SELECT 1 / (5 - generate_series(1, 10)) AS x");
    CHECK(t_export(store, db, &what, "out/no.csv", &res, &e) < 0); /* fails in the middle */
    CHECK_STR(e.remote, "22012");
    struct attr a = ATTR_INIT;
    CHECK_INT(store_stat(store, &t_op, "out/no.csv", &a), -ENOENT);
    CHECK_VALUE(db, "SELECT count(*) FROM xp", "4");
}

/* An error is noticed while there is still much to send. */
static void test_early_error(void)
{
    struct db_table t = DB_TABLE_INIT;
    struct db_csv csv = {.delimiter = ',', .quote = '"', .escape = '"', .null = ""};
    char *block = xmalloc(1 << 16);
    int r = 0, blocks = 0;

    t_sql(db, "CREATE TABLE ee (a int)");
    CHECK_INT(database_begin(db, &t_op, DB_BEGIN_WRITE), 0);
    CHECK_INT(database_describe(db, &t_op, "ee", &t), 0);
    const struct db_column *column = &t.columns[0];
    struct db_load spec = {.table = &t, .columns = &column, .n_columns = 1, .csv = &csv};
    CHECK_INT(database_load_begin(db, &t_op, &spec), 0);
    memset(block, '\n', 1 << 16);
    memcpy(block, "x\n", 2);
    for (; r == 0 && blocks < 10000; blocks++)
        r = database_load_bytes(db, &t_op, block, 1 << 16);
    CHECK_INT(r, -EBADMSG);
    CHECK(blocks < 2000);
    CHECK_INT(db->bad.row, 1);
    CHECK_STR(db->bad.column, "a");
    CHECK(db->bad.type);
    database_load_abort(db);
    database_abort(db);
    CHECK_VALUE(db, "SELECT count(*) FROM ee", "0");
    db_table_done(&t);
    free(block);
}

static void *cancel_soon(void *arg)
{
    clock_sleep_ms(300);
    op_cancel(arg);
    return NULL;
}

static void test_cancel(void)
{
    struct op op;
    pthread_t thread;

    op_init(&op, "q", 0);
    CHECK_INT(database_connect(db, &t_op), 0);
    CHECK_INT(pthread_create(&thread, NULL, cancel_soon, &op), 0);
    uint64_t start = clock_now_ns();
    CHECK_INT(database_exec(db, &op, "SELECT pg_sleep(20)", NULL, 0, NULL), -EINTR);
    CHECK(clock_now_ns() - start < 15 * NS_PER_S);
    CHECK_INT(pthread_join(thread, NULL), 0);
    database_abort(db);
    CHECK_INT(database_connect(db, &t_op), 0);
    CHECK_VALUE(db,
                "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND "
                "state = 'active'",
                "0");
}

static void *cancel_server(void *arg)
{
    clock_sleep_ms(300);
    database_cancel(arg);
    return NULL;
}

static void test_errors(void)
{
    struct conf *conf;
    struct database *d = connect_to("postgresql://127.0.0.1:1/x", &conf);
    pthread_t thread;

    CHECK_INT(database_connect(d, &t_op), -EHOSTUNREACH);
    CHECK_INT(t_op.err.status, 2);
    CHECK_INT(t_op.err.retry, ERR_RETRY_SAFE);
    database_close(d);
    conf_free(conf);
    CLEANUP_FREE char *missing = xasprintf("%s", dsn);
    char *slash = strrchr(missing, '/');
    CHECK(slash && slash > missing + 13);
    *slash = '\0';
    CLEANUP_FREE char *nowhere = xasprintf("%s/no_such_database", missing);
    d = connect_to(nowhere, &conf);
    CHECK_INT(database_connect(d, &t_op), -ENOENT);
    CHECK_STR(t_op.err.remote, "3D000");
    CHECK_INT(t_op.err.status, 2);
    database_close(d);
    conf_free(conf);
    CHECK_INT(database_connect(db, &t_op), 0);
    CHECK_INT(database_exec(db, &t_op, "SELECT * FROM nowhere", NULL, 0, NULL), -ENOENT);
    CHECK_INT(database_exec(db, &t_op, "SELEC", NULL, 0, NULL), -EINVAL);
    CHECK_STR(t_op.err.remote, "42601");
    CHECK_INT(pthread_create(&thread, NULL, cancel_server, db), 0);
    CHECK_INT(database_exec(db, &t_op, "SELECT pg_sleep(20)", NULL, 0, NULL), -ECANCELED);
    CHECK_INT(pthread_join(thread, NULL), 0);
    int r =
        database_exec(db, &t_op, "SELECT pg_terminate_backend(pg_backend_pid())", NULL, 0, NULL);
    CHECK(r == -ECONNRESET || r == -EAGAIN);
    CHECK_INT(t_op.err.retry, ERR_RETRY_SAFE);
    CHECK_INT(t_op.err.status, 2);
    CHECK_INT(database_connect(db, &t_op), 0);
    CHECK_VALUE(db, "SELECT 1", "1");
}


static int load_through(struct proxy *p, const struct job_op *what, const char *key, struct err *e)
{
    struct transfer_result res;
    struct conf *conf;
    struct url u;

    proxy_start(p, dsn);
    CHECK(url_parse(dsn, &u));
    char *where =
        xasprintf("postgresql://%s@127.0.0.1:%d%s?sslmode=disable", u.user, p->port, u.path);
    url_done(&u);
    struct database *d = connect_to(where, &conf);
    struct attr a = t_put(store, key, "a\n1\n2\n", 6);
    struct t_load l = {.store = store, .db = d, .what = what, .key = key, .run = ++runs};
    attr_done(&a);
    int r = t_import(&l, &res, e);
    database_close(d);
    p->stop = true;
    CHECK_INT(pthread_join(p->thread, NULL), 0);
    (void)close(p->listener);
    CHECK_INT(p->lost, 1);
    conf_free(conf);
    free(where);
    return r;
}

static void test_lost_commit(void)
{
    struct job_op what = t_job_op("lc", JOB_APPEND);
    struct proxy done = {.forward = true}, not_done = {.forward = false},
                 unknown = {.refuse = true};
    struct err e;

    t_sql(db, "CREATE TABLE lc (a int)");
    CHECK_INT(load_through(&done, &what, "lc1.csv", &e), 0); /* the ledger says: it was */
    CHECK_VALUE(db, "SELECT count(*) FROM lc", "2");
    CHECK_INT(load_through(&not_done, &what, "lc2.csv", &e), -EAGAIN);
    CHECK_INT(e.retry, ERR_RETRY_SAFE);
    CHECK_VALUE(db, "SELECT count(*) FROM lc", "2");
    CHECK_INT(load_through(&unknown, &what, "lc3.csv", &e), -ECONNRESET);
    CHECK_INT(e.status, 7);
    CHECK_INT(e.retry, ERR_RETRY_UNKNOWN);
    what.ledger = false;
    struct proxy blind = {.forward = true};
    CHECK_INT(load_through(&blind, &what, "lc4.csv", &e), -ECONNRESET);
    CHECK_INT(e.status, 7);
    CHECK(strstr(e.text, "there is no ledger to ask"));
}

static void test_explain(void)
{
    struct job_op what = t_job_op("p", JOB_APPEND);
    struct job job = {.name = T_STR("x")};
    struct err e = ERR_INIT;
    CLEANUP_BUF struct buf report = BUF_INIT;
    struct attr a = t_put(store, "x.csv", "name,id\nx,1\n", 12);
    struct transfer_import req = {.op = &t_op,
                                  .job = &job,
                                  .what = &what,
                                  .db = db,
                                  .store = store,
                                  .key = "x.csv",
                                  .path = "mem/x.csv",
                                  .attr = a,
                                  .run_id = "x",
                                  .run_dir = t_dir};

    CHECK_INT(transfer_explain(&req, &report, &e), 0);
    CHECK(strstr(report.data, "method: copy (bytes are passed on"));
    CHECK(strstr(report.data, "id (integer, not null) <- id"));
    attr_done(&a);
}

int main(void)
{
    struct conf *conf, *db_conf;

    dsn = getenv("QUAY_PG_DSN");
    if (!dsn) {
        fprintf(stderr, "QUAY_PG_DSN is not set\n");
        return 1;
    }
    t_begin();
    store = t_store(&conf);
    (void)snprintf(schema, sizeof(schema), "quay_t_%d", (int)getpid());
    db = connect_to(dsn, &db_conf);
    char *make = xasprintf("CREATE SCHEMA %s", schema),
         *drop = xasprintf("DROP SCHEMA %s CASCADE", schema);
    t_sql(db, make);
    RUN(test_pass);
    RUN(test_dot);
    RUN(test_exact_line);
    RUN(test_skip_rows);
    RUN(test_create);
    RUN(test_replace);
    RUN(test_upsert);
    RUN(test_ledger);
    RUN(test_race);
    RUN(test_export);
    RUN(test_early_error);
    RUN(test_cancel);
    RUN(test_errors);
    RUN(test_lost_commit);
    RUN(test_explain);
    t_sql(db, drop);
    database_close(db);
    store_close(store);
    conf_free(conf);
    conf_free(db_conf);
    free(make);
    free(drop);
    t_end();
    return t_done();
}
