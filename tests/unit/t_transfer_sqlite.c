/* SPDX-License-Identifier: MIT
 * t_transfer_sqlite.c: files of a memory store into SQLite and back: modes, names, bad rows,
 * rejects, the ledger, exports. */
#include "t.h"
#include "loader_t.h"

#include "base/cleanup.h"
#include "loader/ledger.h"

static struct store *store;
static struct database *db;
static unsigned runs;

/* Puts `text` at `key`, loads it; err text in t_op.err. */
static int load_res(const struct job_op *what, const char *key, const char *text,
                    struct transfer_result *res, struct err *e)
{
    struct attr a = t_put(store, key, text, strlen(text));
    struct t_load l = {.store = store, .db = db, .what = what, .key = key, .run = ++runs};
    char *clean = xasprintf("rm -rf %s/errors.tsv %s/rejects", t_dir, t_dir);

    attr_done(&a);
    CHECK_INT(system(clean), 0);
    free(clean);
    return t_import(&l, res, e);
}

static int load(const struct job_op *what, const char *key, const char *text)
{
    struct transfer_result res;
    struct err e;
    int r = load_res(what, key, text, &res, &e);

    if (r < 0)
        t_op.err = e;
    return r;
}

static void good(const struct job_op *what, const char *key, const char *text)
{
    if (load(what, key, text) < 0) {
        fprintf(stderr, "%s: %s\n", key, t_op.err.text);
        exit(1);
    }
}

static void bad(const struct job_op *what, const char *key, const char *text, const char *part)
{
    CHECK(load(what, key, text) < 0);
    if (!strstr(t_op.err.text, part)) {
        fprintf(stderr, "got '%s', want '%s'\n", t_op.err.text, part);
        exit(1);
    }
}

static void test_append(void)
{
    struct job_op what = t_job_op("a", JOB_APPEND);

    bad(&what, "a.csv", "id,name\n1,x\n",
        "table a does not exist in database db; use mode = create");
    t_sql(db, "CREATE TABLE a (id INTEGER NOT NULL, name TEXT, \"Big\" REAL)");
    good(&what, "a1.csv", "name,id\nAda,1\n\"Bob, the \"\"x\"\"\",2\n,3\n\"\",4\n");
    CHECK_VALUE(db, "SELECT group_concat(id || coalesce(name, '-') || typeof(id), ';') FROM a",
                "1Adainteger;2Bob, the \"x\"integer;3-integer;4integer");
    good(&what, "a2.csv", "ID,BIG\n5,1.5\n"); /* names in another case */
    CHECK_VALUE(db, "SELECT Big FROM a WHERE id = 5", "1.5");
    bad(&what, "a3.csv", "id,nam\n1,x\n", "column 'nam' of the file is not in table a");
    CHECK(strstr(t_op.err.text, "did you mean 'name'"));
    bad(&what, "a4.csv", "name\nx\n", "column 'id' of table a is NOT NULL");
    bad(&what, "a5.csv", "id,ID\n1,2\n", "two columns of the file are for column 'id'");
    what.drop = (struct job_list){(char *[]){T_STR("nam")}, 1};
    good(&what, "a3.csv", "id,nam\n6,x\n");
    CHECK_VALUE(db, "SELECT count(*) FROM a", "6");
    good(&what, "empty.csv", "");
    good(&what, "onlyheader.csv", "id,name\n");
    CHECK_VALUE(db, "SELECT count(*) FROM a", "6");
}

static void test_ledger(void)
{
    struct job_op what = t_job_op("l", JOB_CREATE);
    struct transfer_result res;
    struct err e;
    struct t_load again = {.store = store, .db = db, .what = &what, .key = "l.csv", .run = 99};

    CHECK_INT(load_res(&what, "l.csv", "a\n1\n2\n", &res, &e), 0);
    CHECK(!res.already_loaded && res.rows_loaded == 2 && res.table_created);
    CHECK_STR(res.guarantee, "exactly once (ledger)");
    CHECK_INT(t_import(&again, &res, &e), 0);
    CHECK(res.already_loaded && res.rows_read == 0);
    what.mode = JOB_APPEND;
    CHECK_INT(t_import(&again, &res, &e), 0);
    CHECK(res.already_loaded);
    CHECK_INT(load_res(&what, "l.csv", "a\n1\n2\n3\n", &res, &e), -EEXIST);
    CHECK(strstr(e.text, "mem/l.csv has changed since it was loaded into l"));
    CHECK_VALUE(db, "SELECT count(*) FROM l", "2");
    what.changed = JOB_CHANGED_SKIP;
    CHECK_INT(t_import(&again, &res, &e), 0);
    CHECK(res.already_loaded);
    what.changed = JOB_CHANGED_RELOAD;
    CHECK_INT(t_import(&again, &res, &e), 0);
    CHECK_VALUE(db, "SELECT count(*) FROM l", "5");
    what.force = true;
    CHECK_INT(t_import(&again, &res, &e), 0);
    CHECK_VALUE(db, "SELECT count(*) FROM l", "8");
    what.force = false;
    what.ledger = false;
    CHECK_INT(t_import(&again, &res, &e), 0);
    CHECK_VALUE(db, "SELECT count(*) FROM l", "11");
    what.ledger = true;
    what.mode = JOB_TRUNCATE;
    CHECK_INT(t_import(&again, &res, &e), 0);
    CHECK_INT(t_import(&again, &res, &e), 0); /* truncate starts anew each time */
    CHECK_VALUE(db, "SELECT count(*) FROM l", "3");
    CHECK_VALUE(db, "SELECT count(*) FROM _quay_loads WHERE target = 'main.l'", "1");
    again.not_first = true; /* the second file of the same job is appended */
    again.key = "l2.csv";
    struct attr a = t_put(store, "l2.csv", "a\n9\n", 4);
    attr_done(&a);
    CHECK_INT(t_import(&again, &res, &e), 0);
    CHECK_VALUE(db, "SELECT count(*) FROM l", "4");
}

static void test_create(void)
{
    struct job_op what = t_job_op("c", JOB_CREATE);

    good(&what, "c.csv",
         "i,d,b,day,ts,zip,t,n,e\n1,1.5,true,2024-01-31,2024-01-31 "
         "10:00:00,007,x,12345678901234567890,\n"
         "-2,2,FALSE,2024-02-29,2024-01-31T10:00:00.5,1,,1,\n");
    CHECK_VALUE(db, "SELECT sql FROM sqlite_schema WHERE name = 'c'",
                "CREATE TABLE \"c\" (\"i\" INTEGER, \"d\" REAL, \"b\" BOOLEAN, \"day\" DATE, "
                "\"ts\" TIMESTAMP,"
                " \"zip\" TEXT, \"t\" TEXT, \"n\" TEXT, \"e\" TEXT)");
    CHECK_VALUE(db,
                "SELECT group_concat(i||'|'||d||'|'||b||'|'||day||'|'||zip||'|'||n, ';') FROM c",
                "1|1.5|1|2024-01-31|007|12345678901234567890;-2|2.0|0|2024-02-29|1|1");
    bad(&what, "c2.csv", "i,d\n5,x\n",
        "mem/c2.csv:2: column d: 'x' is not a number"); /* exists now */
    what.table = T_STR("c_no");
    what.format.header = JOB_HEADER_NO;
    good(&what, "c3.csv", "1,a\n2,b\n");
    CHECK_VALUE(db, "SELECT group_concat(c1 || c2) FROM c_no", "1a,2b");
    what = t_job_op("c4", JOB_CREATE);
    bad(&what, "c4.csv", "", "is empty: table c4 cannot be made of it");
    bad(&what, "c5.csv", "a,A\n1,2\n", "two columns are named 'A'");
    bad(&what, "c6.csv", "a,\n1,2\n", "column 2 has no name");
    CHECK_VALUE(db, "SELECT count(*) FROM sqlite_schema WHERE name = 'c4'", "0");
}

/* A sample that says integer, and a later row that does not: all rows are kept, as text. */
static void test_create_widened(void)
{
    struct job_op what = t_job_op("w", JOB_CREATE);
    CLEANUP_BUF struct buf text = BUF_INIT;

    buf_adds(&text, "a,b\n");
    while (text.len < 3u << 20)
        buf_addf(&text, "%d,some more text to make it long\n", 1000 + (int)text.len);
    buf_adds(&text, "n/a,x\n");
    good(&what, "w.csv", text.data);
    CHECK_VALUE(db, "SELECT group_concat(sql) FROM sqlite_schema WHERE name = 'w'",
                "CREATE TABLE \"w\" (\"a\" TEXT, \"b\" TEXT)");
    CHECK_VALUE(db, "SELECT a FROM w WHERE b = 'x'", "n/a");
    /* JSON lines: a key that comes late. */
    what.table = T_STR("wj");
    buf_reset(&text);
    while (text.len < 3u << 20)
        buf_addf(&text, "{\"a\":%d}\n", (int)text.len);
    buf_adds(&text, "{\"a\":1,\"late\":[1]}\n");
    good(&what, "w.jsonl", text.data);
    CHECK_VALUE(db, "SELECT late FROM wj WHERE late IS NOT NULL", "[1]");
}

static void test_replace(void)
{
    struct job_op what = t_job_op("r", JOB_REPLACE);

    good(&what, "r.csv", "a,b\n1,x\n");
    good(&what, "r.csv", "b,a\ny,2\nz,3\n"); /* the columns fit */
    CHECK_VALUE(db, "SELECT group_concat(a || b) FROM r", "2y,3z");
    CHECK_VALUE(db, "SELECT sql FROM sqlite_schema WHERE name = 'r'",
                "CREATE TABLE \"r\" (\"a\" INTEGER, \"b\" TEXT)");
    good(&what, "r.csv", "new\n2024-01-01\n"); /* they do not */
    CHECK_VALUE(db, "SELECT sql || (SELECT new FROM r) FROM sqlite_schema WHERE name = 'r'",
                "CREATE TABLE \"r\" (\"new\" DATE)2024-01-01");
    /* A failed job leaves the table as it was. */
    bad(&what, "r.csv", "a,b\n1,x\n2\n", "mem/r.csv:3: the row has 1 column, not 2");
    CHECK_VALUE(db, "SELECT group_concat(new) FROM r", "2024-01-01");
    what.mode = JOB_TRUNCATE;
    bad(&what, "r2.csv", "new\n\xFF\n", "mem/r2.csv:2: column new: invalid UTF-8");
    CHECK_VALUE(db, "SELECT group_concat(new) FROM r", "2024-01-01");
    CHECK_VALUE(db, "SELECT count(*) FROM _quay_loads WHERE target = 'main.r'", "1");
}

static void test_upsert(void)
{
    struct job_op what = t_job_op("u", JOB_UPSERT);

    t_sql(db, "CREATE TABLE u (k INTEGER PRIMARY KEY, v TEXT, w TEXT DEFAULT 'd')");
    bad(&what, "u.csv", "k,v\n1,a\n", "mode = upsert needs key");
    what.key = (struct job_list){(char *[]){T_STR("K")}, 1};
    good(&what, "u.csv", "k,v\n1,a\n2,b\n1,c\n");
    CHECK_VALUE(db, "SELECT group_concat(k || v || w) FROM u", "1cd,2bd");
    good(&what, "u.csv", "k,v\n2,B\n3,C\n"); /* a changed file is what upsert is for */
    CHECK_VALUE(db, "SELECT group_concat(k || v) FROM u", "1c,2B,3C");
}

static void check_rejects(const char *name, const char *want_bad, const char *want_errors)
{
    CLEANUP_FREE char *file = xasprintf("rejects/%s", name);
    CLEANUP_FREE char *rejects = t_file(file);
    CLEANUP_FREE char *errors = t_file("errors.tsv");

    CHECK_STR(rejects, want_bad);
    CHECK_STR(errors, want_errors);
}

#define ERRORS_HEAD "file\tline\tbyte_off\tcol_no\tcol_name\tcode\tsqlstate\tmessage\tvalue\n"

static void test_bad_rows(void)
{
    struct job_op what = t_job_op("b", JOB_APPEND);
    struct transfer_result res;
    struct err e;
    static const char text[] =
        "id,name,x\r\n1,ok,1.5\r\n12abc,bad,2\r\n3,\"two\nlines\",3\r\n4,short\r\n"
        "1,dup,4\r\n5,a\xFFz,5\r\n6,fine,6\r\n";

    t_sql(db, "CREATE TABLE b (id INTEGER UNIQUE, name TEXT NOT NULL, x REAL)");
    bad(&what, "in/b.csv", text, "mem/in/b.csv:3: column id: '12abc' is not an integer");
    CHECK_INT(t_op.err.status, 1);
    check_rejects("b.csv.bad", "id,name,x\r\n12abc,bad,2\r\n",
                  ERRORS_HEAD
                  "mem/in/b.csv\t3\t21\t1\tid\tvalue\tSQLITE_MISMATCH\t'12abc' is not an "
                  "integer (INTEGER)\t12abc\n");
    CHECK_VALUE(db, "SELECT count(*) FROM b", "0");
    what.on_error = JOB_SKIP_ROW;
    CHECK_INT(load_res(&what, "in/b.csv", text, &res, &e), 0);
    CHECK_INT(res.rows_read, 7);
    CHECK_INT(res.rows_loaded, 3);
    CHECK_INT(res.rows_rejected, 4);
    CHECK(strstr(res.first_error.text, "mem/in/b.csv:3:"));
    CHECK_VALUE(db, "SELECT group_concat(id || name, ';') FROM b", "1ok;3two\nlines;6fine");
    CLEANUP_FREE char *rejects = t_file("rejects/b.csv.bad");
    CHECK_STR(rejects, "id,name,x\r\n12abc,bad,2\r\n4,short\r\n1,dup,4\r\n5,a\xFFz,5\r\n");
    CLEANUP_FREE char *reasons = t_file("rejects/b.csv.bad.err");
    CHECK_STR(reasons, "# mem/in/b.csv\n3\tvalue\t'12abc' is not an integer (INTEGER)\n"
                       "6\tcolumns\tthe row has 2 columns, not 3\n"
                       "7\tduplicate\tUNIQUE constraint failed: b.id\n8\tutf8\tinvalid UTF-8\n");
    CHECK_VALUE(db,
                "SELECT rows_read || ',' || rows_loaded || ',' || rows_rejected FROM _quay_loads"
                " WHERE target = 'main.b'",
                "7,3,4");
}

static void test_limits(void)
{
    struct job_op what = t_job_op("lim", JOB_APPEND);
    struct transfer_result res;
    struct err e;

    t_sql(db, "CREATE TABLE lim (a INTEGER)");
    what.on_error = JOB_SKIP_ROW;
    what.max_errors = 1;
    CHECK_INT(load_res(&what, "lim1.csv", "a\nx\n1\ny\n2\n", &res, &e), -EBADMSG);
    CHECK(strstr(e.text, "2 rows are bad, more than max_errors = 1: first mem/lim1.csv:2:"));
    CHECK_INT(res.rows_loaded, 0);
    check_rejects(
        "lim1.csv.bad", "a\nx\ny\n",
        ERRORS_HEAD
        "mem/lim1.csv\t2\t2\t1\ta\tvalue\tSQLITE_MISMATCH\t'x' is not an integer (INTEGER)\tx\n"
        "mem/lim1.csv\t4\t6\t1\ta\tvalue\tSQLITE_MISMATCH\t'y' is not an integer (INTEGER)\ty\n");
    what.max_errors = 2;
    CHECK_INT(load_res(&what, "lim1.csv", "a\nx\n1\ny\n2\n", &res, &e), 0);
    what.max_errors = -1;
    what.max_errors_pct = 10;
    CHECK_INT(load_res(&what, "lim2.csv", "a\nx\n1\n2\n3\n", &res, &e), -EBADMSG);
    CHECK(strstr(e.text, "1 of 4 rows are bad, more than max_errors = 10%"));
    what.max_errors_pct = 25;
    CHECK_INT(load_res(&what, "lim2.csv", "a\nx\n1\n2\n3\n", &res, &e), 0);
    CHECK_VALUE(db, "SELECT count(*) FROM lim", "5");
    what = t_job_op("lim", JOB_APPEND);
    what.on_error = JOB_SKIP_FILE;
    CHECK_INT(load_res(&what, "lim3.csv", "a\n7\nx\n8\n", &res, &e), 0);
    CHECK(res.file_skipped && res.rows_loaded == 0 && res.rows_read == 2 &&
          res.rows_rejected == 1 && res.rows_skipped == 1);
    CHECK_VALUE(db, "SELECT count(*) FROM lim", "5");
}

static void test_faults(void)
{
    struct job_op what = t_job_op("f", JOB_APPEND);

    t_sql(db, "CREATE TABLE f (a TEXT, b TEXT)");
    bad(&what, "f1.csv", "a,b\n1,2\n3,\"x\n4,5\n",
        "mem/f1.csv:3: a quote is opened here and never closed");
    check_rejects("f1.csv.bad", "a,b\n3,\"x\n4,5\n",
                  ERRORS_HEAD
                  "mem/f1.csv\t3\t8\t0\t\tquote\t\ta quote is opened here and never closed\t\n");
    bad(&what, "f2.csv", "a,\"b\n1,2\n", "mem/f2.csv:1: a quote is opened here");
    what.format.max_row = 1000;
    CLEANUP_BUF struct buf text = BUF_INIT;
    buf_adds(&text, "a,b\n1,");
    for (int i = 0; i < 5000; i++)
        buf_addc(&text, 'x');
    buf_adds(&text, "\n");
    bad(&what, "f3.csv", text.data, "mem/f3.csv:2: the row is longer than max_row");
    what = t_job_op("f", JOB_APPEND);
    what.format.ragged = JOB_RAGGED_NULL;
    good(&what, "f4.csv", "a,b\n1\n2,3\n\n");
    bad(&what, "f5.csv", "a,b\n1,2,3\n", "the row has 3 columns, not 2");
    what.format.ragged = JOB_RAGGED_REJECT;
    good(&what, "f6.csv", "a,b\n1\n4,5\n");
    CHECK_VALUE(db, "SELECT group_concat(a || coalesce(b, '-')) FROM f", "1-,23,45");
    what = t_job_op("f", JOB_APPEND);
    bad(&what, "f7.parquet", "PAR1xxxx", "Parquet is not read");
    bad(&what, "f8", "\x01\x02\0", "neither its name nor its content tells");
    good(&what, "f9", "a\tb\n6\t7\n"); /* by content: TSV */
    CHECK_VALUE(db, "SELECT b FROM f WHERE a = '6'", "7");
}

static void test_formats(void)
{
    struct job_op what = t_job_op("o", JOB_APPEND);

    t_sql(db, "CREATE TABLE o (a TEXT, b INTEGER, f TEXT, l INTEGER, k TEXT)");
    what.format.delimiter = ';';
    what.format.quote = what.format.escape = '\'';
    what.format.null = (struct job_list){(char *[]){T_STR("NA"), T_STR("-")}, 2};
    what.format.comment = '#';
    what.format.trim = true;
    what.format.header_skip = 1;
    good(&what, "o.csv", "junk line\na;b\n# c;d\n 'x;y' ; 5\nNA;-\n'NA';6\n");
    CHECK_VALUE(db,
                "SELECT group_concat(coalesce(a, '<null>') || coalesce(b, '<null>'), '|') FROM o",
                "x;y5|<null><null>|NA6");
    what = t_job_op("o", JOB_APPEND);
    struct job_column columns[] = {{T_STR("a"), T_STR("second")},
                                   {T_STR("f"), T_STR("@file")},
                                   {T_STR("l"), T_STR("@line")},
                                   {T_STR("k"), T_STR("'const'")},
                                   {T_STR("b"), T_STR("#1")}};
    what.columns = columns;
    what.n_columns = 5;
    t_sql(db, "DELETE FROM o");
    good(&what, "o2.csv", "first,second,third\n1,x,ignored\n2,y,\n");
    CHECK_VALUE(db, "SELECT group_concat(a || b || f || l || k, '|') FROM o",
                "x1mem/o2.csv2const|y2mem/o2.csv3const");
    what.columns_rest = true;
    bad(&what, "o3.csv", "first,second,third\n1,x,y\n",
        "column 'third' of the file is not in table o");
    what = t_job_op("o", JOB_APPEND);
    what.format.header = JOB_HEADER_YES;
    bad(&what, "o4.csv", "b,a,f,l,k\n1,x,,,\n", "names are in another order");
    good(&what, "o5.csv", "A1,B1,F1,L1,K1\nz,1,,,\n");
    bad(&what, "o6.csv", "A1,B1\nz,1\n", "the rows have 2 columns, table o has 5");
    good(&what, "o7.tsv", "a\tb\tf\tl\tk\n\"q\tq\"\t1\t\t\t\n");
    CHECK_VALUE(db, "SELECT a FROM o WHERE a LIKE 'q%'", "q\tq");
}

static void test_jsonl(void)
{
    struct job_op what = t_job_op("j", JOB_APPEND);

    t_sql(db, "CREATE TABLE j (id INTEGER PRIMARY KEY, n NUMERIC, t TEXT, b BOOLEAN, x TEXT "
              "DEFAULT 'def')");
    good(&what, "j.jsonl",
         "{\"t\":\"a\\u00e9\",\"n\":9007199254740993,\"b\":true}\n\n"
         "{\"N\":1.25,\"t\":{\"k\":[1, 2]},\"b\":null}\n{\"t\":0.10000000000000000001}\n");
    CHECK_VALUE(
        db,
        "SELECT group_concat(id||':'||coalesce(n,'-')||':'||t||':'||coalesce(b,'-')||':'||x, ' ') "
        "FROM j",
        "1:9007199254740993:a\xC3\xA9:1:def 2:1.25:{\"k\":[1, 2]}:-:def "
        "3:-:0.10000000000000000001:-:def");
    bad(&what, "j2.jsonl", "{\"t\":1,\"zz\":2}\n",
        "mem/j2.jsonl:1: key 'zz' is not a column of table j");
    bad(&what, "j3.jsonl", "{\"t\":1}\n{\"t\":1,\"T\":2}\n",
        "mem/j3.jsonl:2: key 't' is there twice");
    bad(&what, "j4.jsonl", "{\"t\":1}\n{\"t\":\n", "mem/j4.jsonl:2:");
    bad(&what, "j5.jsonl", "{\"n\":0.1000000000000000000000001}\n",
        "has more digits than SQLite keeps");
    /* A key for a column with a default that the sample did not have. */
    CLEANUP_BUF struct buf text = BUF_INIT;
    while (text.len < 2u << 20)
        buf_addf(&text, "{\"t\":\"row %d\"}\n", (int)text.len);
    buf_adds(&text, "{\"t\":\"last\",\"x\":\"given\"}\n");
    good(&what, "j6.jsonl", text.data);
    CHECK_VALUE(db, "SELECT x FROM j WHERE t = 'last'", "given");
}

static void test_values(void)
{
    struct job_op what = t_job_op("v", JOB_APPEND);
    static const char *const refused[] = {
        "i\n12.5\n", "i\n9223372036854775808\n",    "i\n0x10\n",  "r\nabc\n", "r\n1e999\n",
        "r\nnan\n",  "n\n1.23456789012345678901\n", "b\nmaybe\n", "d\n007\n", "x\n\\x1\n"};

    t_sql(db, "CREATE TABLE v (i INTEGER, r REAL, n NUMERIC, b BOOLEAN, d DATE, x BLOB, t TEXT)");
    for (size_t k = 0; k < ARRAY_LEN(refused); k++)
        bad(&what, "v.csv", refused[k], "mem/v.csv:2: column ");
    good(&what, "v.csv",
         "i,r,n,b,d,x,t\n 12 ,1,0.1,t,2024-01-01,\\x00ff,007\n12.0,1e3,5,0,,raw, 12\n");
    CHECK_VALUE(
        db,
        "SELECT "
        "group_concat(typeof(i)||i||typeof(r)||r||typeof(n)||n||typeof(b)||b||coalesce(d,'-')"
        "||typeof(x)||length(x)||t, ' ') FROM v",
        "integer12real1.0real0.1integer12024-01-01blob2007 "
        "integer12real1000.0integer5integer0-text3 12");
}

static void test_export(void)
{
    struct job_op in = t_job_op("e", JOB_CREATE), what = t_job_op("e", JOB_APPEND);
    struct transfer_result res;
    struct err e;
    static const char csv[] = "i,d,b,t\n1,0.1,true,\"a,\"\"b\"\"\nc\"\n2,1e+100,false,\n,,,\"\"\n";

    good(&in, "e.csv", csv);
    what.direction = JOB_EXPORT;
    CHECK_INT(t_export(store, db, &what, "out/e.csv", &res, &e), 0);
    CHECK_INT(res.rows_read, 3);
    CLEANUP_FREE char *back = t_get(store, "out/e.csv");
    CHECK_STR(back, csv);
    CHECK_INT(t_export(store, db, &what, "out/e.jsonl", &res, &e), 0);
    CLEANUP_FREE char *lines = t_get(store, "out/e.jsonl");
    CHECK_STR(lines, "{\"i\":1,\"d\":0.1,\"b\":true,\"t\":\"a,\\\"b\\\"\\nc\"}\n"
                     "{\"i\":2,\"d\":1e+100,\"b\":false,\"t\":null}\n{\"i\":null,\"d\":null,\"b\":"
                     "null,\"t\":\"\"}\n");
    what.table = NULL;
    what.query = T_STR("SELECT i, x'00ff' AS x FROM e WHERE i > 1; ");
    CHECK_INT(t_export(store, db, &what, "out/q.tsv.gz", &res, &e), 0);
    in = t_job_op("q", JOB_CREATE);
    struct t_load l = {.store = store, .db = db, .what = &in, .key = "out/q.tsv.gz", .run = ++runs};
    CHECK_INT(t_import(&l, &res, &e), 0);
    CHECK_VALUE(db, "SELECT i || x FROM q", "2\\x00ff");
    what.query = T_STR("DELETE FROM e");
    CHECK_INT(t_export(store, db, &what, "out/d.csv", &res, &e), -EINVAL);
    what.query = T_STR("SELECT 1; SELECT 2");
    CHECK_INT(t_export(store, db, &what, "out/d.csv", &res, &e), -EINVAL);
    what.query = T_STR("SELECT * FROM nowhere");
    CHECK_INT(t_export(store, db, &what, "out/d.csv", &res, &e), -ENOENT);
    what.query = T_STR("SELECT 1");
    CHECK_INT(t_export(store, db, &what, "out/d.bin", &res, &e), -EINVAL);
    struct attr a = ATTR_INIT;
    CHECK_INT(store_stat(store, &t_op, "out/d.csv", &a), -ENOENT); /* nothing is visible */
    what.overwrite = JOB_OVERWRITE_FAIL;
    CHECK_INT(t_export(store, db, &what, "out/e.csv", &res, &e), -EEXIST);
    what.overwrite = JOB_OVERWRITE_SKIP;
    CHECK_INT(t_export(store, db, &what, "out/e.csv", &res, &e), 0);
    CHECK(res.already_loaded);
    CLEANUP_FREE char *kept = t_get(store, "out/e.csv");
    CHECK_STR(kept, csv);
}

/* Several files in one transaction; one that is skipped leaves the others. */
static void test_in_transaction(void)
{
    struct job_op what = t_job_op("m", JOB_APPEND);
    struct job job = {.name = T_STR("m"), .atomic_job = true};
    static const char *const keys[] = {"m1.csv", "m2.csv", "m3.csv"};
    static const char *const texts[] = {"a\n1\n", "a\n2\nx\n", "a\n3\n"};
    struct transfer_result res;
    struct err e = ERR_INIT;
    struct transfer_import req = {.op = &t_op,
                                  .job = &job,
                                  .what = &what,
                                  .db = db,
                                  .store = store,
                                  .run_id = "tx",
                                  .run_dir = t_dir,
                                  .in_transaction = true};

    t_sql(db, "CREATE TABLE m (a INTEGER)");
    what.on_error = JOB_SKIP_FILE;
    CHECK_INT(transfer_prepare(&req, &e), 0);
    CHECK_INT(database_begin(db, &t_op, DB_BEGIN_WRITE), 0);
    for (int i = 0; i < 3; i++) {
        req.attr = t_put(store, keys[i], texts[i], strlen(texts[i]));
        req.key = req.path = keys[i];
        CHECK_INT(transfer_import(&req, &res, &e), 0);
        CHECK(res.file_skipped == (i == 1));
        attr_done(&req.attr);
    }
    CHECK_INT(transfer_commit(&req, &e), 0);
    CHECK_VALUE(db, "SELECT group_concat(a) FROM m", "1,3");
    CHECK_VALUE(db, "SELECT group_concat(path) FROM _quay_loads WHERE target = 'main.m'",
                "m1.csv,m3.csv");
}

static void test_explain(void)
{
    struct job_op what = t_job_op("x", JOB_CREATE);
    struct job job = {.name = T_STR("x")};
    struct err e = ERR_INIT;
    CLEANUP_BUF struct buf report = BUF_INIT;
    struct attr a = t_put(store, "x.csv", "a,b\n1,x\n", 8);
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
    CHECK(strstr(report.data, "format: csv, compression: none"));
    CHECK(strstr(report.data,
                 "would create: CREATE TABLE \"main\".\"x\" (\"a\" INTEGER, \"b\" TEXT);"));
    CHECK(strstr(report.data, "method: insert"));
    CHECK_VALUE(db, "SELECT count(*) FROM sqlite_schema WHERE name = 'x'", "0");
    what.mode = JOB_APPEND;
    CHECK_INT(transfer_explain(&req, &report, &e), -ENOENT);
    attr_done(&a);
}

static void test_cancel(void)
{
    struct job_op what = t_job_op("cc", JOB_CREATE);
    struct job job = {.name = T_STR("x")};
    struct transfer_result res;
    struct err e = ERR_INIT;
    struct op op;
    struct attr a = t_put(store, "cc.csv", "a\n1\n", 4);
    struct transfer_import req = {.op = &op,
                                  .job = &job,
                                  .what = &what,
                                  .db = db,
                                  .store = store,
                                  .key = "cc.csv",
                                  .path = "mem/cc.csv",
                                  .attr = a,
                                  .run_id = "x",
                                  .run_dir = t_dir};

    op_init(&op, "load", 0);
    op_cancel(&op);
    CHECK_INT(transfer_import(&req, &res, &e), -EINTR);
    CHECK_INT(e.status, 0);
    attr_done(&a);
}

int main(void)
{
    struct conf *conf, *db_conf;

    t_begin();
    char *path = xasprintf("%s/t.db", t_dir);
    store = t_store(&conf);
    db = t_database("sqlite", "path", path, &db_conf);
    RUN(test_append);
    RUN(test_ledger);
    RUN(test_create);
    RUN(test_create_widened);
    RUN(test_replace);
    RUN(test_upsert);
    RUN(test_bad_rows);
    RUN(test_limits);
    RUN(test_faults);
    RUN(test_formats);
    RUN(test_jsonl);
    RUN(test_values);
    RUN(test_export);
    RUN(test_in_transaction);
    RUN(test_explain);
    RUN(test_cancel);
    database_close(db);
    store_close(store);
    conf_free(conf);
    conf_free(db_conf);
    free(path);
    t_end();
    return t_done();
}
