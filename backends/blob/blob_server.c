/* SPDX-License-Identifier: MIT
 * blob_server.c: what the stores on a database server have in common: options, secrets, opening, commit. Nothing of a
 * client library is here, so a class whose library was not there at build time has its options all the same. */
#include "backends/blob/blob_int.h"

#include <errno.h>
#include <string.h>

#define SERVER_OPTIONS                                                                             \
    {.name = "host", .type = CONF_STRING, .help = "Name or address of the server"},                \
        {.name = "port", .type = CONF_INT, .min = 1, .max = 65535, .help = "Its port"},            \
        {.name = "dbname", .type = CONF_STRING, .help = "The database on it"},                     \
        {.name = "database", .type = CONF_STRING, .alias = "dbname", .help = "Same as dbname"},    \
        {.name = "user", .type = CONF_STRING, .help = "Who we are there"},                         \
        {.name = "password", .type = CONF_SECRET, .help = "Or password_file"},                     \
        {.name = "connect_timeout",                                                                \
         .type = CONF_DURATION,                                                                    \
         .def = "10s",                                                                             \
         .help = "No connection within this time: the server is away"},                            \
        {.name = "ca_file",                                                                        \
         .type = CONF_PATH,                                                                        \
         .help = "The certificates that the server's must be signed by"}

const struct conf_option blob_postgres_options[BLOB_POSTGRES_N_OPTIONS] = {
    {.name = "dsn",
     .type = CONF_SECRET,
     .help = "A connection string or URI of libpq; host, dbname, ... win over what it says"},
    {.name = "schema", .type = CONF_STRING, .help = "Where the tables are; default: the search_path"},
    {.name = "sslmode",
     .type = CONF_ENUM,
     .values = "disable|allow|prefer|require|verify-ca|verify-full",
     .help = "As libpq has it; default prefer"},
    SERVER_OPTIONS,
    BLOB_COMMON_OPTIONS,
};
_Static_assert(ARRAY_LEN(blob_postgres_options) == BLOB_POSTGRES_N_OPTIONS, "count them");

const struct conf_option blob_mysql_options[BLOB_MYSQL_N_OPTIONS] = {
    {.name = "socket", .type = CONF_PATH, .help = "A server on this machine, by its socket"},
    {.name = "tls",
     .type = CONF_ENUM,
     .def = "auto",
     .values = "auto|no|require|verify",
     .help = "auto: require it of another machine; verify: the certificate and its name too"},
    SERVER_OPTIONS,
    BLOB_COMMON_OPTIONS,
};
_Static_assert(ARRAY_LEN(blob_mysql_options) == BLOB_MYSQL_N_OPTIONS, "count them");

static char *option(const struct conf_section *section, const char *name)
{
    const char *v = conf_str(section, name, NULL);
    return v && *v ? xstrdup(v) : NULL;
}

static void server_free(struct blob_server *o)
{
    secret_free(o->dsn);
    secret_free(o->password);
    free(o->host);
    free(o->port);
    free(o->dbname);
    free(o->user);
    free(o->schema);
    free(o->tls);
    free(o->ca_file);
    free(o->socket);
    free(o);
}

static int secrets(const struct conf_section *section, struct err *err, struct blob_server *o)
{
    int r = conf_secret(section, "dsn", err, &o->dsn);
    if (r == 0 || r == -ENOENT)
        r = conf_secret(section, "password", err, &o->password);
    return r == -ENOENT ? 0 : r;
}

int blob_server_open(const struct conf_section *section, struct err *err,
                     const struct store_class *cls, const struct blob_driver *d, struct store **ret)
{
    struct blob *b = NULL;
    if (conf_has(section, "uri"))
        return conf_error(section, "uri", err, EINVAL,
                          "backend = %s takes host, port, dbname, user and no uri", cls->name);
    struct blob_server *o = xcalloc(1, sizeof(*o));
    o->host = option(section, "host");
    o->port = option(section, "port");
    o->dbname = option(section, "dbname");
    o->user = option(section, "user");
    o->schema = option(section, "schema");
    o->socket = option(section, "socket");
    o->ca_file = option(section, "ca_file");
    o->tls = option(section, strcmp(cls->name, "mysql") == 0 ? "tls" : "sslmode");
    o->connect_ms = conf_ms(section, "connect_timeout", 10000);
    o->timeout_ms = conf_ms(section, "timeout", 30000);
    int r = secrets(section, err, o);
    if (r == 0)
        r = blob_new(section, err, cls, d, &b);
    if (r < 0) {
        server_free(o);
        return r;
    }
    b->own = o;
    b->store.base_uri = xasprintf("%s://%s%s%s/%s", cls->name, o->host ? o->host : "",
                                  o->port ? ":" : "", o->port ? o->port : "", o->dbname ? o->dbname : "");
    *ret = &b->store;
    return 0;
}

void blob_server_place(const struct store *s, struct buf *ret_service, struct buf *ret_path)
{
    const struct blob *b = (const struct blob *)s;
    const struct blob_server *o = b->own;
    const char *const where[] = {o->host, o->port, o->socket, o->dsn, o->user}, *const what[] = {o->dbname, o->schema, b->table};
    for (size_t i = 0; i < ARRAY_LEN(where); i++)
        buf_addf(ret_service, "%s|", where[i] ? where[i] : "");
    for (size_t i = 0; i < ARRAY_LEN(what); i++)
        buf_addf(ret_path, "/%s", what[i] ? what[i] : "");
}

void blob_server_close(struct store *s)
{
    struct blob *b = blob_of(s);
    struct blob_server *o = b->own;
    blob_free(b);
    server_free(o);
}

int blob_server_text(struct blob_conn *c, struct op *op, const char *text)
{
    int64_t changes;
    return c->b->d->run(c, op, SQL_NONE, text, NULL, 0, NULL, NULL, &changes);
}

int blob_server_commit(struct blob_conn *c, struct op *op)
{
    struct op own;
    op_init(&own, op->name, COMMIT_WAIT_MS);
    int r = blob_server_text(c, &own, "COMMIT");
    if (r < 0) {
        op->err = own.err;
        if (c->broken)
            op->err.retry = ERR_RETRY_UNKNOWN;
    }
    return r;
}

void blob_server_rollback(struct blob_conn *c)
{
    struct op own;
    op_init(&own, "rollback", ROLLBACK_WAIT_MS);
    if (blob_server_text(c, &own, "ROLLBACK") < 0)
        c->broken = true;
}
