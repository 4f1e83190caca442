/* SPDX-License-Identifier: MIT
 * sftp_int.h: what the files of this folder share.
 *
 * Invariants
 *  1. A key reaches the server as root + "/" + key, and only when path_is_inside() says so.
 *  2. An object changes in one rename of a complete temporary file (TEMP_PREFIX) in the same
 * directory, except in sftp_patch(), which is in place and says so.
 *  3. A connection has one user at a time: between sftp_take and sftp_give.
 *  4. Changes of one key by this process exclude each other (claims); other processes can come
 * between. */
#ifndef QUAY_BACKENDS_SFTP_SFTP_INT_H
#define QUAY_BACKENDS_SFTP_SFTP_INT_H

#include "backends/claims.h"
#include "backends/dirs.h"
#include "backends/sftp/sftp.h"
#include "backends/sftp/sftp_far.h"
#include "backends/sftp/sftp_version.h"
#include "backends/temp_name.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/lock.h"
#include "base/pool.h"

#define ORPHANS 64
#define REST_NS (10 * NS_PER_S)

struct endpoint {
    char *host;
    unsigned port;
    char *name;        /* "host:port" */
    bool down;         /* did not answer: others are asked first (pool lock) */
    uint64_t tried_ns; /* when that was */
};

enum sftp_transfer { SFTP_BY_ANY = 0, SFTP_BY_SFTP, SFTP_BY_COMMANDS };

struct sftp_login { /* all strings may be NULL */
    char *user;
    char *key_file, *passphrase, *password;
    bool agent;
    char *agent_socket;
    char *known_hosts; /* NULL: ~/.ssh/known_hosts and /etc/ssh/ssh_known_hosts */
    bool pinned;
    uint8_t pin[32]; /* SHA-256 of the host key */
};

struct dir_item {
    char *name; /* as it sorts: of a directory with a final '/' */
    struct wire_attr attr;
};

struct dir_items {
    struct dir_item *v;
    size_t n, cap;
};

struct waiter { /* for a connection; on its thread's stack */
    bool transfer;
    struct waiter *next;
};

struct ahead_note { /* of a connection, in use or not: temporaries in a directory that somebody may rename */
    struct ahead_note *more;
    const struct conn *c;
    char *now, *next; /* what was opened ahead last: paths, there or not any more */
};

struct sftp {
    struct store store;
    struct endpoint *endpoints;
    size_t n_endpoints;
    struct sftp_login login;
    char *root; /* of the remote side; "." = the home directory; "/" = everything */
    unsigned connect_ms, stall_ms, max_connections;
    uint64_t fail_back_ns, keepalive_ns, idle_ns;
    bool read_only, create, auto_connect;
    enum sftp_transfer transfer;
    struct claims claims;
    struct versions versions;
    atomic_uint changes; /* made by this store */
    struct rests rests;  /* of struct dir_items */
    struct {
        struct lock lock;
        struct torn *first;
    } torn; /* sftp_upload.c */
    struct {
        struct lock lock;
        struct cond changed; /* for who waits for a connection */
        struct cond due;     /* for the keeper: it is to end, or there is something to remove */
        struct conn **idle; /* max_connections places; the last one was used last */
        size_t n_idle;
        struct waiter *waiting; /* in the order in which they came */
        unsigned open;      /* connections, idle or in use, or about to be made */
        unsigned transfers; /* of them used by transfers */
        uint64_t
            full_ns; /* until then no further connection is tried beside those that are there */
        uint64_t
            refused_ns; /* until then a refusal (login, host key) is given without asking again */
        struct err refusal;
        unsigned passwords; /* refused in a row: each makes the pause longer */
        bool password_good; /* taken since it was last refused; until then one at a time tries it */
        size_t best; /* connections to endpoints behind this one are closed when they are free */
        char *orphans[ORPHANS]; /* temporary files that could not be removed */
        size_t n_orphans;
        char **removing; /* orphans that the keeper has taken */
        size_t n_removing;
        struct ahead_note *notes;
        bool stopping, runs;
        struct op op; /* of the keeper */
    } pool;
    struct pool *keeper;
    struct pool_job keep;
};

static inline struct sftp *sftp_of(struct store *s)
{
    return (struct sftp *)s;
}

/* ---- sftp_ssh.c ---- */
/* Once for the process, by whoever is first: libssh2's own count is not safe against other threads.
 */
int ssh_start(void);
/* A logged-in connection to this endpoint whose far side (sftp_far.h) has started. EHOSTUNREACH:
 * nobody there. EACCES: the host key or the login was refused. */
int ssh_connect(struct sftp *s, struct op *op, size_t endpoint, struct conn **ret);

/* ---- sftp_pool.c ---- */
void sftp_pool_init(struct sftp *s);
void sftp_pool_done(struct sftp *s);
/* Transfers may not use the last connection, so that short requests find one. */
int sftp_take(struct sftp *s, struct op *op, bool transfer, struct conn **ret);
void sftp_give(struct sftp *s, struct conn *c, bool transfer);
/* The server has refused the password, or taken it. Gives how long nobody tries again. */
uint64_t sftp_note_password(struct sftp *s, bool refused);
/* A temporary file that is to be removed when there is a connection. */
void sftp_orphan(struct sftp *s, const char *path);
/* What idle connections have opened ahead is removed. */
void sftp_clear_ahead(struct sftp *s);
/* Before c opens `next` ahead while it renames `now`. */
void sftp_note_ahead(struct sftp *s, const struct conn *c, const char *now, const char *next);
/* A directory has been renamed, or may have been: orphans, and what is open ahead, are to be removed where they are now. */
void sftp_follow_temps(struct sftp *s, const char *from, const char *to);

/* ---- sftp_ahead.c ---- */
/* A file is being put into dir. The temporary that c has opened ahead for it (malloc'd; far_make takes the rest), or
 * NULL; one that does not fit is removed. */
char *sftp_ahead_take(struct sftp *s, struct conn *c, const char *dir, bool hidden);
/* Another one is likely to follow (counts this one). */
bool sftp_ahead_wanted(struct conn *c, const char *dir);
/* Removes what c has opened ahead, by c or another connection. */
void sftp_ahead_drop(struct sftp *s, struct conn *c);
bool sftp_ahead_is_old(const struct conn *c); /* or there is none: false */

/* ---- sftp.c ---- */
/* Malloc'd path on the server; -EACCES for keys that are none. */
int sftp_path(struct sftp *s, struct op *op, const char *key, char **ret);
char *sftp_parent(const char *path);

/* ---- sftp_meta.c ---- */
void sftp_attr_of(struct sftp *s, const char *key, const struct wire_attr *w, struct attr *ret);
struct version_id sftp_id_of(const struct wire_attr *w);
bool sftp_is_dir(const struct wire_attr *w);
bool sftp_is_link(const struct wire_attr *w);
/* -EACCES for what is neither file, directory nor symbolic link. */
int sftp_check_kind(struct op *op, const struct wire_attr *w, const char *key);
/* What to send for `change`: the owner by itself, since it may be refused. `now` fills in the other
 * half of pairs that the protocol joins. */
struct wire_attr sftp_owner_of(const struct attr *change, const struct wire_attr *now);
struct wire_attr sftp_rest_of(const struct attr *change, const struct wire_attr *now);
int sftp_no_xattrs(struct op *op, const struct attr *a, const char *key);
int sftp_set_meta(struct store *s, struct op *op, const char *key, const char *if_match,
                  const struct attr *change, struct attr *ret);

/* ---- sftp_read.c ---- */
int sftp_read(struct store *s, struct op *op, const struct read_req *req, struct read_res *ret);

/* ---- sftp_write.c ---- */
struct put { /* a temporary file that is made and becomes an object */
    struct sftp *s;
    struct op *op;
    struct conn *c; /* NULL: there is none any more */
    const struct put_req *req;
    const char *path;           /* of the object */
    const char *temp;
    bool transfer;              /* c counts as a transfer's */
    bool made;                  /* the temporary may be there */
    bool ahead;                 /* it was opened ahead */
    const char *dir;            /* that of path; NULL: it is not going to be renamed now */
    const char *next;           /* NULL, or the temporary of the file that is likely to follow */
    struct handle held;         /* of dir, on c; empty: none */
    struct wire_attr made_attr; /* what the new object is */
    struct wire_attr old;       /* what it replaces; flags 0: nothing */
};

/* The path of a new temporary file beside `path`. */
char *sftp_temp_path(const char *path, const char *temp_name);
/* Looks at the target, judges it by the precondition and makes the temporary. */
int sftp_put_make(struct put *p);
/* Only looks and judges. */
int sftp_put_look(struct put *p);
/* Claims the target and gives it the temporary, which is complete. p->c may be another one afterwards. */
int sftp_put_commit(struct put *p);
/* A failure: the temporary is removed, by the keeper if it must. */
void sftp_put_drop(struct put *p);
/* FAILURE may be a full disk: looks. */
int sftp_explain_write(struct conn *c, struct op *op, const char *key, int r);
struct attr sftp_with_mtime(const struct attr *attr); /* borrows */
int sftp_put(struct store *s, struct op *op, const struct put_req *req, struct attr *ret);
int sftp_patch(struct store *s, struct op *op, const struct patch_req *req, struct attr *ret);

/* ---- sftp_upload.c ---- */
int sftp_upload_begin(struct store *s, struct op *op, const struct upload_req *req, char **ret_id);
int sftp_upload_part(struct store *s, struct op *op, const char *key, const char *id,
                     const struct source *src, struct store_part *part);
int sftp_upload_finish(struct store *s, struct op *op, const char *key, const char *id,
                       const struct store_part *parts, size_t n, const struct precond *pre,
                       struct attr *ret);
int sftp_upload_abort(struct store *s, struct op *op, const char *key, const char *id);
void sftp_torn_done(struct sftp *s);

/* ---- sftp_dir.c ---- */
/* rename of what is *moved, atomically over what is there unless no_replace, and the durability of
 * the new name where the server can. When the connection is lost meanwhile, another one looks what
 * has become of it; *c may be another one afterwards, or NULL. */
int sftp_move(struct sftp *s, struct op *op, struct conn **c, struct far_move *m,
              const struct wire_attr *moved);
bool sftp_syncs_dirs(const struct conn *c);
/* Makes the names in a directory durable where the server can. */
int sftp_sync_dir(struct conn *c, struct op *op, const char *dir, const char *key);
/* -ENOENT of a request that makes `path`: -ENOTDIR when its parent is a file. */
int sftp_explain_parent(struct conn *c, struct op *op, const char *path, const char *key, int r);
int sftp_remove(struct store *s, struct op *op, const char *key, const char *if_match);
int sftp_remove_many(struct store *s, struct op *op, const char *const *keys, size_t n,
                     struct remove_result *results);
int sftp_rename(struct store *s, struct op *op, const char *from, const char *to, bool no_replace);
int sftp_make_dir(struct store *s, struct op *op, const char *key, const struct attr *attr);
int sftp_remove_dir(struct store *s, struct op *op, const char *key);

/* ---- sftp_list.c ---- */
void sftp_items_free(void *items);
/* Is this temporary file nobody's any more (temp_name_is_left)? */
bool sftp_is_left(const char *name, const struct wire_attr *w);
int sftp_list(struct store *s, struct op *op, const struct list_query *q, struct list_page *ret);

#endif
