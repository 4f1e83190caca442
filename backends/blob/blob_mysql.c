/* SPDX-License-Identifier: MIT
 * blob_mysql.c: backend = mysql (MariaDB and MySQL): the driver over libmariadb, and the class.
 *
 * Statements are sent as text with their values in them (bytes in hex, so that no character set has a say), because
 * only then can sending and reading be told apart: between them the socket is polled, in slices, for the server's
 * answer, the op and the clock. A call that is cancelled, late or without an answer drops its connection. COMMIT is
 * the exception: once sent it is waited for (COMMIT_WAIT_MS), and when no answer comes the outcome is unknown. Rows
 * are taken one by one. Connecting is left to itself when nobody waits any more; it, and the rest of an answer that has
 * begun, are limited by the library's timeouts. */
#include "backends/blob/blob_int.h"

#include "base/clock.h"
#include "base/cleanup.h"
#include "base/crypto.h"
#include "base/lock.h"

#include <errno.h>
#include <mysql.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>

#define SLICE_MS 100
#define VALUES_MAX 12
#define PACKET_MIN (4LL * 1024 * 1024) /* a chunk in hex, and its statement */

struct my_conn {
    struct blob_conn base;
    MYSQL my;
};

static struct my_conn *my_of(struct blob_conn *c)
{
    return (struct my_conn *)c;
}

/* ---- errors ---- */

static const struct {
    unsigned number; /* the server's, from 2000 on the library's */
    int code;
    enum err_retry retry;
    bool broken;
} numbers[] = {
    {1062, EEXIST, ERR_RETRY_NEVER, false},      /* duplicate key */
    {1213, EBUSY, ERR_RETRY_SAFE, false},        /* deadlock */
    {1205, EBUSY, ERR_RETRY_SAFE, false},        /* lock wait timeout */
    {1020, EBUSY, ERR_RETRY_SAFE, false},        /* record has changed since last read */
    {1317, EBUSY, ERR_RETRY_SAFE, false},        /* interrupted by an administrator */
    {1040, EBUSY, ERR_RETRY_SAFE, true},         /* too many connections */
    {1203, EBUSY, ERR_RETRY_SAFE, true},         /* of this user */
    {1226, EBUSY, ERR_RETRY_SAFE, true},         /* resource limit of this user */
    {1114, ENOSPC, ERR_RETRY_NEVER, false},      /* the table is full */
    {1021, ENOSPC, ERR_RETRY_NEVER, false},      /* disk full */
    {1030, EIO, ERR_RETRY_NEVER, false},         /* storage engine */
    {1044, EACCES, ERR_RETRY_NEVER, true},       /* no such database for this user */
    {1045, EACCES, ERR_RETRY_NEVER, true},       /* password */
    {1698, EACCES, ERR_RETRY_NEVER, true},       /* unix_socket authentication */
    {1130, EACCES, ERR_RETRY_NEVER, true},       /* this host */
    {1142, EACCES, ERR_RETRY_NEVER, false},      /* no privilege on the table */
    {1143, EACCES, ERR_RETRY_NEVER, false},      /* on a column */
    {1290, EROFS, ERR_RETRY_NEVER, false},       /* --read-only */
    {1792, EROFS, ERR_RETRY_NEVER, false},       /* read-only transaction */
    {1053, EHOSTUNREACH, ERR_RETRY_SAFE, true},  /* shutting down */
    {1927, EHOSTUNREACH, ERR_RETRY_SAFE, true},  /* connection was killed */
    {1969, ETIMEDOUT, ERR_RETRY_SAFE, false},    /* max_statement_time */
    {2002, EHOSTUNREACH, ERR_RETRY_SAFE, true},  /* cannot connect */
    {2003, EHOSTUNREACH, ERR_RETRY_SAFE, true},
    {2005, EHOSTUNREACH, ERR_RETRY_SAFE, true},  /* unknown host */
    {2006, EHOSTUNREACH, ERR_RETRY_SAFE, true},  /* gone */
    {2012, EHOSTUNREACH, ERR_RETRY_SAFE, true},  /* handshake */
    {2013, EHOSTUNREACH, ERR_RETRY_SAFE, true},  /* lost */
    {2026, EIO, ERR_RETRY_NEVER, true},          /* TLS */
    {2055, EHOSTUNREACH, ERR_RETRY_SAFE, true},  /* lost */
};

/* Where connecting ended (err.h). */
static const char *failed_step(unsigned number)
{
    switch (number) {
    case 2005:
        return "DNS";
    case 2002:
    case 2003:
        return "connect";
    case 2026:
        return "TLS";
    case 1045:
    case 1698:
    case 1130:
        return "login";
    case 1049:
        return "database";
    default:
        return NULL;
    }
}

static int fail(struct my_conn *c, struct op *op)
{
    unsigned number = mysql_errno(&c->my);
    size_t i = 0;
    while (i < ARRAY_LEN(numbers) && numbers[i].number != number)
        i++;
    bool known = i < ARRAY_LEN(numbers);
    int r = err_set(&op->err, known ? numbers[i].code : EIO, "MySQL: %s", mysql_error(&c->my));
    op->err.retry = known ? numbers[i].retry : ERR_RETRY_NEVER;
    op->err.status = (int)number;
    const char *step = failed_step(number);
    snprintf(op->err.remote, sizeof(op->err.remote), "%s", step ? step : mysql_sqlstate(&c->my));
    c->base.broken |= known ? numbers[i].broken : number >= 2000 && number < 3000;
    return r;
}

/* ---- statements ---- */

static void add_value(struct buf *b, struct my_conn *c, const struct blob_value *v)
{
    if (v->type == BLOB_INT) {
        buf_addf(b, "%lld", (long long)v->i);
    } else if (v->type == BLOB_TEXT) { /* ASCII, all of it */
        buf_addc(b, '\'');
        b->len += mysql_real_escape_string(&c->my, buf_reserve(b, 2 * v->n + 1), v->p, v->n);
        buf_addc(b, '\'');
    } else {
        buf_adds(b, "X'");
        hex_encode(v->p, v->n, buf_reserve(b, 2 * v->n + 1));
        b->len += 2 * v->n;
        buf_addc(b, '\'');
    }
}

static void add_statement(struct buf *b, struct my_conn *c, const char *text,
                          const struct blob_value *params)
{
    for (size_t n = 0; *text; text++) {
        if (*text == '?')
            add_value(b, c, &params[n++]);
        else
            buf_addc(b, *text);
    }
}

/* Until the server begins to answer. */
static int wait_for(struct my_conn *c, struct op *op)
{
    const struct blob_server *o = c->base.b->own;
    struct pollfd p = {.fd = (int)mysql_get_socket(&c->my), .events = POLLIN};
    uint64_t begun = clock_now_ns();
    int r;
    while ((r = op_check(op)) == 0) {
        if (o->timeout_ms && clock_now_ns() - begun > o->timeout_ms * NS_PER_MS) {
            r = err_set(&op->err, ETIMEDOUT, "MySQL: no answer for %llu ms (timeout)",
                        (unsigned long long)o->timeout_ms);
            op->err.retry = ERR_RETRY_SAFE;
            break;
        }
        if (poll(&p, 1, SLICE_MS) > 0)
            return 0;
    }
    c->base.broken = true;
    return r;
}

static void take_row(MYSQL_RES *res, MYSQL_ROW from, struct blob_value *row)
{
    unsigned n = mysql_num_fields(res);
    const unsigned long *lengths = mysql_fetch_lengths(res);
    for (unsigned i = 0; i < n && i < VALUES_MAX; i++) {
        enum enum_field_types type = mysql_fetch_field_direct(res, i)->type;
        row[i] = blob_bytes(from[i], from[i] ? lengths[i] : 0);
        if (!from[i])
            row[i].type = BLOB_NULL;
        else if (type == MYSQL_TYPE_LONGLONG || type == MYSQL_TYPE_LONG || type == MYSQL_TYPE_NEWDECIMAL)
            row[i] = blob_i64(strtoll(from[i], NULL, 10));
    }
}

/* All rows; after a failure the rest is read and forgotten. */
static int take_rows(struct my_conn *c, struct op *op, blob_row_fn *fn, void *arg)
{
    struct blob_value row[VALUES_MAX];
    struct err first = ERR_INIT;
    MYSQL_RES *res = mysql_use_result(&c->my);
    MYSQL_ROW from;
    int r = 0;
    if (!res)
        return mysql_errno(&c->my) ? fail(c, op) : 0;
    while ((from = mysql_fetch_row(res)) != NULL) {
        if (r < 0 || !fn)
            continue;
        take_row(res, from, row);
        r = fn(arg, op, row);
        if (r < 0)
            first = op->err;
    }
    if (mysql_errno(&c->my))
        r = fail(c, op);
    else if (r < 0)
        op->err = first;
    mysql_free_result(res);
    return r;
}

static int my_run(struct blob_conn *base, struct op *op, enum blob_sql id, const char *text,
                  const struct blob_value *params, size_t n, blob_row_fn *row, void *arg,
                  int64_t *ret_changes)
{
    (void)n;
    struct my_conn *c = my_of(base);
    CLEANUP_BUF struct buf sql = BUF_INIT;
    add_statement(&sql, c, text ? text : base->b->sql[id], params);
    if (mysql_send_query(&c->my, sql.data, sql.len) != 0)
        return fail(c, op);
    int r = wait_for(c, op);
    if (r < 0)
        return r;
    if (mysql_read_query_result(&c->my) != 0)
        return fail(c, op);
    if (mysql_field_count(&c->my) > 0)
        return take_rows(c, op, row, arg);
    *ret_changes = (int64_t)mysql_affected_rows(&c->my);
    return 0;
}

static int my_begin(struct blob_conn *c, struct op *op)
{
    return blob_server_text(c, op, "START TRANSACTION");
}

/* ---- connecting ---- */

static bool is_here(const struct blob_server *o)
{
    return o->socket || !o->host || strcmp(o->host, "localhost") == 0 || strcmp(o->host, "::1") == 0 ||
           strncmp(o->host, "127.", 4) == 0;
}

static unsigned seconds(uint64_t ms)
{
    return ms ? (unsigned)((ms + 999) / 1000) : 0;
}

static void set_options(struct my_conn *c, const struct blob_server *o)
{
    const char *tls = o->tls ? o->tls : "auto";
    bool verify = strcmp(tls, "verify") == 0;
    my_bool enforce = verify || strcmp(tls, "require") == 0 || (strcmp(tls, "auto") == 0 && !is_here(o));
    my_bool check = verify;
    unsigned connect_s = seconds(o->connect_ms), timeout_s = seconds(o->timeout_ms);
    unsigned long packet = 64UL * 1024 * 1024;
    (void)mysql_options(&c->my, MYSQL_SET_CHARSET_NAME, "utf8mb4");
    (void)mysql_options(&c->my, MYSQL_OPT_MAX_ALLOWED_PACKET, &packet);
    if (connect_s)
        (void)mysql_options(&c->my, MYSQL_OPT_CONNECT_TIMEOUT, &connect_s);
    if (timeout_s) {
        (void)mysql_options(&c->my, MYSQL_OPT_READ_TIMEOUT, &timeout_s);
        (void)mysql_options(&c->my, MYSQL_OPT_WRITE_TIMEOUT, &timeout_s);
    }
    if (o->ca_file)
        (void)mysql_options(&c->my, MYSQL_OPT_SSL_CA, o->ca_file);
    (void)mysql_options(&c->my, MYSQL_OPT_SSL_ENFORCE, &enforce);
    (void)mysql_options(&c->my, MYSQL_OPT_SSL_VERIFY_SERVER_CERT, &check);
}

static int setup(struct my_conn *c, struct op *op)
{
    static const char *const settings[] = {
        "SET SESSION sql_mode = 'STRICT_ALL_TABLES'",
        "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
        "SET SESSION innodb_lock_wait_timeout = 20",
        "SET SESSION autocommit = 1",
    };
    int64_t packet = 0, changes;
    int r = 0;
    for (size_t i = 0; i < ARRAY_LEN(settings) && r == 0; i++)
        r = blob_server_text(&c->base, op, settings[i]);
    if (r == 0)
        r = my_run(&c->base, op, SQL_NONE, "SELECT CAST(@@max_allowed_packet AS SIGNED)", NULL, 0,
                   blob_int_row, &packet, &changes);
    if (r == 0 && packet < PACKET_MIN)
        r = err_set(&op->err, EIO,
                    "MySQL: the server's max_allowed_packet is %lld bytes: set it to at least %lld",
                    (long long)packet, PACKET_MIN);
    return r;
}

static void my_disconnect(struct blob_conn *base)
{
    struct my_conn *c = my_of(base);
    mysql_close(&c->my);
    free(c);
}

/* The library connects without a word in between: a thread of its own does that, and is left to itself when the caller
 * does not want to wait any more. Whoever lets go last frees it. */
struct connecting {
    struct lock lock;
    struct cond cond;
    unsigned refs;
    bool done, connected;
    struct my_conn *c;
    char *host, *user, *password, *dbname, *socket;
    unsigned port;
};

static void connecting_put(struct connecting *k)
{
    lock_acquire(&k->lock);
    bool last = --k->refs == 0;
    lock_release(&k->lock);
    if (!last)
        return;
    if (k->c)
        my_disconnect(&k->c->base);
    free(k->host);
    free(k->user);
    secret_free(k->password);
    free(k->dbname);
    free(k->socket);
    cond_done(&k->cond);
    lock_done(&k->lock);
    free(k);
}

static void *connect_main(void *arg)
{
    struct connecting *k = arg;
    bool connected = mysql_real_connect(&k->c->my, k->host, k->user, k->password, k->dbname, k->port, k->socket,
                                        CLIENT_FOUND_ROWS) != NULL;
    lock_acquire(&k->lock);
    k->connected = connected;
    k->done = true;
    cond_broadcast(&k->cond);
    lock_release(&k->lock);
    connecting_put(k);
    mysql_thread_end();
    return NULL;
}

static struct connecting *connecting_new(struct blob *b)
{
    const struct blob_server *o = b->own;
    struct connecting *k = xcalloc(1, sizeof(*k));
    lock_init(&k->lock, LOCK_RANK_LEAF, "connect");
    cond_init(&k->cond);
    k->refs = 1;
    k->c = xcalloc(1, sizeof(*k->c));
    k->c->base.b = b;
    (void)mysql_init(&k->c->my);
    set_options(k->c, o);
    /* 127.0.0.1 and not "localhost", which libmariadb takes for the socket */
    k->host = xstrdup(o->socket ? "localhost" : o->host ? o->host : "127.0.0.1");
    k->user = o->user ? xstrdup(o->user) : NULL;
    k->password = o->password ? xstrdup(o->password) : NULL;
    k->dbname = o->dbname ? xstrdup(o->dbname) : NULL;
    k->socket = o->socket ? xstrdup(o->socket) : NULL;
    k->port = o->port ? (unsigned)strtoul(o->port, NULL, 10) : 0;
    return k;
}

static int connect_start(struct connecting *k, struct op *op)
{
    pthread_t id;
    k->refs++;
    int r = pthread_create(&id, NULL, connect_main, k);
    if (r == 0)
        return pthread_detach(id);
    k->refs--;
    return err_set(&op->err, r, "MySQL: no thread to connect: %s", strerror(r));
}

/* 0: *ret is connected, or has failed to. */
static int connect_wait(struct connecting *k, struct op *op, struct my_conn **ret, bool *ret_connected)
{
    LOCK_SCOPE(&k->lock);
    while (!k->done) {
        int r = op_check(op);
        if (r < 0)
            return r;
        (void)cond_wait_until(&k->cond, &k->lock, clock_now_ns() + SLICE_MS * NS_PER_MS);
    }
    *ret = take_ptr(&k->c);
    *ret_connected = k->connected;
    return 0;
}

static int my_connect(struct blob *b, struct op *op, struct blob_conn **ret)
{
    struct connecting *k = connecting_new(b);
    struct my_conn *c = NULL;
    bool connected = false;
    int r = connect_start(k, op);
    if (r == 0)
        r = connect_wait(k, op, &c, &connected);
    connecting_put(k);
    if (r == 0 && !connected)
        r = fail(c, op);
    if (r == 0)
        r = setup(c, op);
    if (r == 0)
        *ret = &c->base;
    else if (c)
        my_disconnect(&c->base);
    return r;
}

#define ENGINE " ENGINE = InnoDB ROW_FORMAT = DYNAMIC"

/* IF NOT EXISTS: each is a transaction of its own here, and a first start that was killed is gone on with. */
static const char *const my_schema[] = {
    "CREATE TABLE IF NOT EXISTS {_content} (id BIGINT PRIMARY KEY, refs BIGINT NOT NULL,"
    " state BIGINT NOT NULL, path VARBINARY(1024) NOT NULL, meta MEDIUMBLOB NOT NULL,"
    " touched BIGINT NOT NULL, KEY dead (state, touched))" ENGINE,
    "CREATE TABLE IF NOT EXISTS {_part} (content BIGINT NOT NULL, number BIGINT NOT NULL,"
    " start BIGINT NOT NULL, size BIGINT NOT NULL, etag VARBINARY(128) NOT NULL,"
    " PRIMARY KEY (content, number), KEY by_start (content, start))" ENGINE,
    /* by_pos has the chunks without their bytes: a range is found there */
    "CREATE TABLE IF NOT EXISTS {_chunk} (content BIGINT NOT NULL, part BIGINT NOT NULL,"
    " pos BIGINT NOT NULL, data MEDIUMBLOB NOT NULL, PRIMARY KEY (content, part, pos),"
    " KEY by_pos (content, part, pos))" ENGINE,
    "CREATE TABLE IF NOT EXISTS {_meta} (name VARBINARY(64) PRIMARY KEY, value VARBINARY(255) NOT NULL)" ENGINE,
    "CREATE TABLE IF NOT EXISTS {} (path VARBINARY(1024) PRIMARY KEY, kind BIGINT NOT NULL,"
    " size BIGINT NOT NULL, mtime BIGINT NOT NULL, etag VARBINARY(128) NOT NULL,"
    " content BIGINT NOT NULL, meta MEDIUMBLOB NOT NULL)" ENGINE,
    NULL,
};

static const struct blob_driver my_driver = {
    .quote = "`",
    .lock = " FOR UPDATE",
    .move = "CONCAT(?, SUBSTR(path, ?))",
    .slice = "SUBSTR(c.data, 1 + GREATEST(0, ? - p.start - c.pos), ? - GREATEST(p.start + c.pos, ?))",
    .chunks = "LEFT JOIN {_chunk} k FORCE INDEX (by_pos) ON k.content = p.content AND k.part = p.number"
              " AND k.pos < ? - p.start AND k.pos > ? - p.start"
              " LEFT JOIN {_chunk} c ON c.content = k.content AND c.part = k.part AND c.pos = k.pos",
    .has_table = "SELECT 1 FROM information_schema.tables WHERE table_schema = DATABASE()"
                 " AND table_name = ?",
    .schema = my_schema,
    .connect = my_connect,
    .disconnect = my_disconnect,
    .run = my_run,
    .begin = my_begin,
    .commit = blob_server_commit,
    .rollback = blob_server_rollback,
};

static int my_open(const struct conf_section *section, struct stats *stats, struct err *err,
                   struct store **ret)
{
    (void)stats;
    if (!conf_has(section, "dbname"))
        return conf_error(section, NULL, err, EINVAL, "backend = mysql needs dbname");
    (void)mysql_library_init(0, NULL, NULL); /* here no other thread can be in it */
    return blob_server_open(section, err, &blob_mysql_class, &my_driver, ret);
}

const struct store_class blob_mysql_class = {
    .abi = STORE_ABI,
    .name = "mysql",
    .summary = "files as BLOBs in MariaDB or MySQL",
    .options = blob_mysql_options,
    .n_options = BLOB_MYSQL_N_OPTIONS,
    .open = my_open,
    .close = blob_server_close,
    .place = blob_server_place,
    BLOB_SLOTS,
};
