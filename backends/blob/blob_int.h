/* SPDX-License-Identifier: MIT
 * blob_int.h: what the files of this folder share. Code map:
 *   blob.c         opening, options, the tables: found, made, their version checked
 *   blob_pool.c    connections, transactions
 *   blob_sql.c     every statement, once for all databases; rows to attributes
 *   blob_read.c    stat, read, list
 *   blob_write.c   put, remove, directories, metadata     blob_move.c  copy and rename
 *   blob_patch.c   ranges in place     blob_upload.c  multipart, staging, sweeping
 *   blob_server.c  what databases on a server share: options, secrets, the end of a transaction
 *   blob_sqlite.c, blob_postgres.c, blob_mysql.c   a driver each: connect, run a statement, commit
 *
 * Tables, of `table = files`
 *   files          a row for each object, and for each directory that was made (its path ends in '/'). The etag
 *                  is new with each content: 128 random bits
 *   files_content  refs: how many rows of `files` have it; state 0 staged, 1 published, 2 to be purged. Of what is
 *                  staged, the path, the attributes and the time at which a part came last
 *   files_part     a content is its parts by `start`; (content, number)
 *   files_chunk    a part is its chunks of BLOB_CHUNK bytes; (content, part, pos), pos from the part's beginning
 *   files_meta     the version of all this
 *
 * Invariants: (1) an object appears, changes and goes in one transaction that has its row locked, so conditions are
 * exact; (2) a read is one statement, so it sees one version, and it asks for the version; (3) what is staged
 * belongs to nobody until the transaction that publishes it: it may be lost and repeated; (4) no more than one
 * chunk of payload is in memory for each call. */
#ifndef QUAY_BACKENDS_BLOB_BLOB_INT_H
#define QUAY_BACKENDS_BLOB_BLOB_INT_H

#include "backends/blob/blob.h"
#include "base/cleanup.h"
#include "base/lock.h"

#define BLOB_CHUNK ((uint64_t)1024 * 1024)
#define BLOB_PART_MAX ((uint64_t)1024 * 1024 * 1024)

/* ---- values and statements ---- */

enum blob_type { BLOB_NULL = 1, BLOB_INT, BLOB_TEXT, BLOB_BYTES };

struct blob_value {
    enum blob_type type;
    int64_t i;
    const void *p; /* borrowed; of a row: until the row function returns */
    size_t n;
};

struct blob_value blob_i64(int64_t v);
struct blob_value blob_text(const char *s);
struct blob_value blob_bytes(const void *p, size_t n);
struct blob_value blob_path(const char *key); /* without its NUL */

enum blob_sql { /* the texts are in blob_sql.c */
    SQL_NONE = 0,
    SQL_HAS_TABLE,
    SQL_GET_META,
    SQL_SET_META,
    SQL_FIND,
    SQL_FIND_LOCK,
    SQL_STAT,
    SQL_LIST,
    SQL_READ,
    SQL_INSERT,
    SQL_UPDATE,
    SQL_DELETE,
    SQL_MOVE,
    SQL_MOVE_TREE,
    SQL_CONTENT_NEW,
    SQL_CONTENT_REFS,
    SQL_CONTENT_TOUCH,
    SQL_CONTENT_STAGED,
    SQL_CONTENT_REF,
    SQL_CONTENT_UNREF,
    SQL_CONTENT_EXPIRE,
    SQL_CONTENT_DELETE,
    SQL_CONTENT_SWEEP,
    SQL_PARTS,
    SQL_PART_NEW,
    SQL_PART_SET,
    SQL_PART_START,
    SQL_PART_DELETE,
    SQL_PARTS_DELETE,
    SQL_PARTS_CLONE,
    SQL_CHUNK_GET,
    SQL_CHUNK_NEW,
    SQL_CHUNK_SET,
    SQL_CHUNKS_DELETE,
    SQL_CHUNKS_DELETE_FROM,
    SQL_CHUNKS_CLONE,
    SQL_COUNT
};

/* Called for each row; non-zero (with op->err set) ends the statement and is what run returns. */
typedef int blob_row_fn(void *arg, struct op *op, const struct blob_value *row);

struct blob;
struct blob_conn { /* first member of a driver's own */
    struct blob *b;
    bool broken;         /* of no use any more */
    bool writer;         /* has the place of the one writer */
    unsigned generation; /* of the pool, when it was made */
    struct blob_conn *next;
};

struct blob_driver {
    const char *quote;           /* of a name: " or ` */
    const char *lock;            /* what makes a SELECT lock its row */
    const char *move;            /* a path with another beginning: of two parameters, bytes and position */
    const char *slice;           /* part of a chunk: of three parameters, first, end, first */
    const char *chunks;          /* joins the chunks `c` of the parts `p`: of two parameters, end and first;
                                    NULL: as blob_sql.c has it */
    const char *has_table;       /* statement: one row where the table named by the parameter is */
    const char *const *schema;   /* statements that make the tables; ended by NULL */
    bool numbered;               /* parameters are $1, $2, ... */
    bool one_writer;             /* one transaction at a time for all connections */
    int (*connect)(struct blob *b, struct op *op, struct blob_conn **ret);
    void (*disconnect)(struct blob_conn *c);
    /* `text` NULL: that of b->sql[id], which may be kept prepared. */
    int (*run)(struct blob_conn *c, struct op *op, enum blob_sql id, const char *text,
               const struct blob_value *params, size_t n, blob_row_fn *row, void *arg,
               int64_t *ret_changes);
    int (*begin)(struct blob_conn *c, struct op *op);
    /* Failed with ERR_RETRY_UNKNOWN: it may have been done. Else nothing has happened. */
    int (*commit)(struct blob_conn *c, struct op *op);
    void (*rollback)(struct blob_conn *c);
};

struct blob {
    struct store store;
    const struct blob_driver *d;
    void *own;      /* the driver's options */
    char *table;
    char *sql[SQL_COUNT];
    bool create;    /* the tables may be made */
    bool read_only;
    uint64_t expiry_ms; /* of uploads that nobody goes on with */
    unsigned max_connections;
    struct {
        struct lock lock;
        struct cond changed;
        struct blob_conn *idle;
        unsigned open;       /* connections, idle ones too */
        bool writing;
        bool ready;          /* the tables are there and of our version */
        unsigned generation; /* counts the connections that broke: older ones are not trusted */
        uint64_t next_sweep_ns;
    } sync;
};

static inline struct blob *blob_of(struct store *s)
{
    return (struct blob *)s;
}

/* ---- blob_sql.c ---- */
/* {} is the table, {_x} the table files_x, {lock} {move} {slice} {chunks} the driver's. */
char *blob_sql_expand(const struct blob_driver *d, const char *table, const char *text);
void blob_sql_prepare(struct blob *b);
int blob_run(struct blob_conn *c, struct op *op, enum blob_sql id, const struct blob_value *params,
             size_t n, blob_row_fn *row, void *arg, int64_t *ret_changes);
#define BLOB_RUN(c, op, id, row, arg, ret_changes, ...)                                            \
    blob_run((c), (op), (id), (const struct blob_value[]){__VA_ARGS__},                            \
             ARRAY_LEN(((const struct blob_value[]){__VA_ARGS__})), (row), (arg), (ret_changes))

struct blob_file { /* a row of `files` */
    bool found;
    char *path;
    int64_t content; /* 0: a directory */
    struct attr attr;
};
#define BLOB_FILE_INIT ((struct blob_file){0})
#define CLEANUP_BLOB_FILE __attribute__((cleanup(blob_file_done)))
void blob_file_done(struct blob_file *f);
/* Of the columns path, kind, size, etag, content, meta. */
int blob_file_take(struct op *op, const struct blob_value *row, struct blob_file *ret);
blob_row_fn blob_file_row; /* arg: struct blob_file * (empty) */
blob_row_fn blob_int_row;  /* arg: int64_t *, the first column */
/* The row under `path`; ret->found. */
int blob_find(struct blob_conn *c, struct op *op, const char *path, bool lock,
              struct blob_file *ret);
int blob_insert(struct blob_conn *c, struct op *op, const char *path, const struct attr *a,
                int64_t content);
int blob_update(struct blob_conn *c, struct op *op, const char *path, const struct attr *a,
                int64_t content);
/* The keys that begin with `prefix` are those in [prefix, *ret): malloc'd. */
char *blob_prefix_end(const char *prefix, size_t *ret_len);
/* A row whose path is in [from, end) (end NULL: no end), or none. */
int blob_first_in(struct blob_conn *c, struct op *op, const char *from, const char *end,
                  size_t end_len, struct blob_file *ret);

/* ---- blob_pool.c ---- */
/* Waits for a connection; the tables are ready. `write`: for changes. */
int blob_get(struct blob *b, struct op *op, bool write, struct blob_conn **ret);
void blob_give(struct blob_conn *c);
void blob_pool_close(struct blob *b);
typedef int blob_change_fn(struct blob_conn *c, struct op *op, void *arg);
/* All or nothing. -EHOSTUNREACH with ERR_RETRY_UNKNOWN: the answer to the commit was lost. */
int blob_change(struct blob *b, struct op *op, blob_change_fn *fn, void *arg);
/* One statement as a change of its own. */
int blob_alone(struct blob *b, struct op *op, enum blob_sql id, const struct blob_value *params,
               size_t n, int64_t *ret_changes);
#define BLOB_ALONE(b, op, id, ret_changes, ...)                                                    \
    blob_alone((b), (op), (id), (const struct blob_value[]){__VA_ARGS__},                          \
               ARRAY_LEN(((const struct blob_value[]){__VA_ARGS__})), (ret_changes))

/* ---- blob.c ---- */
#define BLOB_COMMON_OPTIONS                                                                        \
    {.name = "layout",                                                                             \
     .type = CONF_ENUM,                                                                            \
     .values = "blob",                                                                             \
     .def = "blob",                                                                                \
     .help = "How files are kept: blob = as rows of a table"},                                     \
        {.name = "table",                                                                          \
         .type = CONF_STRING,                                                                      \
         .def = "files",                                                                           \
         .help = "The table; four more have names that begin with it"},                            \
        {.name = "create_if_missing",                                                              \
         .type = CONF_BOOL,                                                                        \
         .def = "yes",                                                                             \
         .help = "Make the tables when they are not there"},                                       \
        {.name = "upload_expiry",                                                                  \
         .type = CONF_DURATION,                                                                    \
         .def = "1d",                                                                              \
         .help = "Uploads that nobody has gone on with for so long are removed (at least 1h)"},    \
        {.name = "max_connections",                                                                \
         .type = CONF_INT,                                                                         \
         .def = "8",                                                                               \
         .min = 2,                                                                                 \
         .max = 100,                                                                               \
         .help = "Connections of this store at once"}
/* A store without its driver's options; `own` is set later. */
int blob_new(const struct conf_section *section, struct err *err, const struct store_class *cls,
             const struct blob_driver *d, struct blob **ret);
void blob_free(struct blob *b); /* all but `own` */
/* Looks for the tables, makes them; by the connection that is just made. */
int blob_check_tables(struct blob_conn *c, struct op *op);

/* ---- blob_server.c ---- */
struct blob_server { /* `own` of a store on a server; NULL: not given */
    char *dsn, *host, *port, *dbname, *user, *password, *schema, *tls, *ca_file, *socket;
    uint64_t connect_ms, timeout_ms; /* 0: none */
};
#define BLOB_POSTGRES_N_OPTIONS 16
#define BLOB_MYSQL_N_OPTIONS 15
extern const struct conf_option blob_postgres_options[BLOB_POSTGRES_N_OPTIONS];
extern const struct conf_option blob_mysql_options[BLOB_MYSQL_N_OPTIONS];
int blob_server_open(const struct conf_section *section, struct err *err,
                     const struct store_class *cls, const struct blob_driver *d, struct store **ret);
void blob_server_place(const struct store *s, struct buf *ret_service, struct buf *ret_path);
void blob_server_close(struct store *s);
/* A statement without parameters and rows. */
int blob_server_text(struct blob_conn *c, struct op *op, const char *text);
/* The slots commit and rollback. A COMMIT that was sent is waited for, whatever the op says; without an answer the
 * outcome is unknown. */
#define COMMIT_WAIT_MS 30000
#define ROLLBACK_WAIT_MS 5000
int blob_server_commit(struct blob_conn *c, struct op *op);
void blob_server_rollback(struct blob_conn *c);

/* ---- slots ---- */
int blob_stat(struct store *s, struct op *op, const char *key, struct attr *ret);
int blob_list(struct store *s, struct op *op, const struct list_query *q, struct list_page *ret);
int blob_read(struct store *s, struct op *op, const struct read_req *req, struct read_res *ret);
int blob_put(struct store *s, struct op *op, const struct put_req *req, struct attr *ret);
int blob_patch(struct store *s, struct op *op, const struct patch_req *req, struct attr *ret);
int blob_remove(struct store *s, struct op *op, const char *key, const char *if_match);
int blob_remove_many(struct store *s, struct op *op, const char *const *keys, size_t n,
                     struct remove_result *results);
int blob_copy(struct store *s, struct op *op, const char *from, const char *from_version,
              const char *to, const struct precond *pre, struct attr *ret);
int blob_rename(struct store *s, struct op *op, const char *from, const char *to, bool no_replace);
int blob_set_meta(struct store *s, struct op *op, const char *key, const char *if_match,
                  const struct attr *change, struct attr *ret);
int blob_make_dir(struct store *s, struct op *op, const char *key, const struct attr *attr);
int blob_remove_dir(struct store *s, struct op *op, const char *key);
int blob_upload_begin(struct store *s, struct op *op, const struct upload_req *req, char **ret_id);
int blob_upload_part(struct store *s, struct op *op, const char *key, const char *id,
                     const struct source *src, struct store_part *part);
int blob_upload_finish(struct store *s, struct op *op, const char *key, const char *id,
                       const struct store_part *parts, size_t n, const struct precond *pre,
                       struct attr *ret);
int blob_upload_abort(struct store *s, struct op *op, const char *key, const char *id);
#define BLOB_SLOTS                                                                                 \
    .stat = blob_stat, .list = blob_list, .read = blob_read, .put = blob_put, .patch = blob_patch, \
    .upload_begin = blob_upload_begin, .upload_part = blob_upload_part,                            \
    .upload_finish = blob_upload_finish, .upload_abort = blob_upload_abort, .remove = blob_remove, \
    .remove_many = blob_remove_many, .copy = blob_copy, .rename = blob_rename,                     \
    .set_meta = blob_set_meta, .make_dir = blob_make_dir, .remove_dir = blob_remove_dir

/* ---- between the slots ---- */
/* Fails as a store does where no object is: -EISDIR for a directory, else -ENOENT. */
int blob_not_there(struct blob_conn *c, struct op *op, const char *key);
int blob_check_pre(struct op *op, const char *key, const struct precond *pre,
                   const struct blob_file *now);
void blob_new_attr(struct attr *to, const struct attr *from, enum attr_kind kind);
void blob_new_version(struct attr *a);
/* One reference to what f has less. What nobody has any more goes with this change, or (large) is left to
 * blob_purge after it: *ret_left (else 0). */
int blob_unref(struct blob_conn *c, struct op *op, const struct blob_file *f, int64_t *ret_left);
/* Makes the row of `key` this content; what was there goes. Within a change. */
int blob_publish(struct blob_conn *c, struct op *op, const char *key, const struct precond *pre,
                 const struct attr *a, int64_t content, int64_t *ret_left);
/* After a change whose answer was lost: is what it made there (etag, path)? Then 0, else as it was. */
int blob_confirm(struct blob *b, struct op *op, const char *path, const char *etag, int r);
int64_t blob_new_id(void);
int64_t blob_now_ms(void);
/* Stages `src` as part `number` of a content that is there. etag may be NULL. */
int blob_stage(struct blob *b, struct op *op, int64_t content, unsigned number,
               const struct source *src, char etag[ATTR_VERSION_MAX]);
int blob_stage_begin(struct blob *b, struct op *op, const char *key, const struct attr *attr,
                     int64_t *ret_content);
/* Removes the rows of a content whose state is 2. Errors are nobody's: the sweeper comes again. */
void blob_purge(struct blob *b, int64_t content);
void blob_drop_staged(struct blob *b, int64_t content);
void blob_sweep(struct blob *b); /* now and then */

#endif
