/* SPDX-License-Identifier: MIT
 * memory_save.c: see memory_save.h. */
#include "backends/memory/memory_save.h"

#include "base/cleanup.h"
#include "base/sqldb.h"
#include "base/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <strings.h>

#define SAVE_FORM 1
#define TODO "Start that quayfs again, or give persist another file"

struct mem_save {
    char *path;
    struct sqldb *db;
    struct sqlstmt *put, *set, *drop;
};

const char *mem_save_refusal(const char *path)
{
    static const char *const others[] = {".json", ".jsonl", ".pickle", ".pkl"};
    size_t len = strlen(path);
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        size_t n = strlen(others[i]);
        if (len > n && strcasecmp(path + len - n, others[i]) == 0)
            return "the file is an SQLite database, since JSON and pickle do not hold bytes: call it NAME.sqlite";
    }
    return NULL;
}

/* What was said, with the file; what is not the object's but the file's is EIO. */
static int fail(const struct mem_save *sv, struct op *op, int r)
{
    if (r == -EBUSY)
        return err_set(&op->err, EIO, "persist = %s: another program has it open", sv->path);
    bool named = strncmp(err_text(&op->err), sv->path, strlen(sv->path)) == 0;
    if (named)
        err_prefix(&op->err, "persist");
    else
        err_prefix(&op->err, "persist = %s", sv->path);
    if (r != -EUCLEAN && r != -EEXIST && r != -ENOENT)
        return r;
    op->err.code = EIO;
    return -EIO;
}

static int prepare(struct mem_save *sv, struct err *err)
{
    int r = sqldb_exec(sv->db, err,
                       "PRAGMA locking_mode=EXCLUSIVE; CREATE TABLE IF NOT EXISTS quay_object"
                       "(key TEXT PRIMARY KEY, attr TEXT NOT NULL, content BLOB)");
    if (r == 0)
        r = sqldb_prepare(sv->db, "INSERT OR REPLACE INTO quay_object VALUES (?, ?, ?)", err, &sv->put);
    if (r == 0)
        r = sqldb_prepare(sv->db, "UPDATE quay_object SET attr = ?2 WHERE key = ?1", err, &sv->set);
    if (r == 0)
        r = sqldb_prepare(sv->db, "DELETE FROM quay_object WHERE key = ?", err, &sv->drop);
    return r;
}

int mem_save_begin(const char *path, struct op *op, struct mem_save **ret)
{
    struct mem_save *sv = xcalloc(1, sizeof(*sv));
    sv->path = xstrdup(path);
    int fd = sys_openat(AT_FDCWD, path, O_CREAT | O_EXCL | O_RDWR, 0600); /* nobody else's to read */
    if (fd >= 0)
        close(fd);
    int r = sqldb_open(path, SQLDB_WAL_FULL, &op->err, &sv->db);
    if (r == 0)
        r = sqldb_claim_form(sv->db, path, SAVE_FORM, TODO, &op->err);
    if (r == 0)
        r = prepare(sv, &op->err);
    if (r == 0)
        r = sqldb_begin(sv->db, &op->err); /* takes the lock that is kept */
    if (r == 0)
        r = sqldb_commit(sv->db, &op->err);
    if (r < 0) {
        r = fail(sv, op, r);
        mem_save_end(sv);
        return r;
    }
    *ret = sv;
    return 0;
}

void mem_save_end(struct mem_save *sv)
{
    if (!sv)
        return;
    sqldb_close(sv->db);
    free(sv->path);
    free(sv);
}

/* ---- loading ---- */

static int load_row(struct op *op, struct sqlstmt *st, struct tree *tree, uint64_t *bytes)
{
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    struct mem_data *data = NULL;
    const char *key = sqldb_text(st, 0);
    bool is_dir = sqldb_type(st, 2) == SQLDB_NULL;
    size_t n = 0;
    if (!attr_from_json(sqldb_text(st, 1), &a) || (a.kind == ATTR_DIR) != is_dir)
        return err_set(&op->err, EIO, "what it has of '%s' makes no sense", key);
    if (!is_dir) {
        const void *p = sqldb_blob(st, 2, &n);
        data = data_new(n);
        if (!data)
            return err_set(&op->err, ENOMEM, "no memory for the %zu bytes of '%s'", n, key);
        if (n > 0)
            memcpy(data->bytes, p, n);
    }
    object_unref(tree_set(tree, key, mem_object_new(&a, data)));
    *bytes += n;
    return 0;
}

int mem_save_load(struct mem_save *sv, struct op *op, struct tree *tree, uint64_t *ret_bytes)
{
    struct sqlstmt *st = NULL;
    int r = sqldb_prepare(sv->db, "SELECT key, attr, content FROM quay_object", &op->err, &st);
    if (r < 0)
        return fail(sv, op, r);
    *ret_bytes = 0;
    while ((r = sqldb_step(st, &op->err)) == 1) {
        r = op_check(op);
        if (r == 0)
            r = load_row(op, st, tree, ret_bytes);
        if (r < 0)
            break;
    }
    sqldb_finalize(st);
    return r < 0 ? fail(sv, op, r) : 0;
}

/* ---- saving ---- */

static int write_one(struct mem_save *sv, struct err *err, const struct mem_change *c)
{
    struct sqlstmt *st = !c->o ? sv->drop : c->same_data ? sv->set : sv->put;
    sqldb_bind_text(st, 1, c->key);
    if (c->o) {
        CLEANUP_FREE char *attr = attr_to_json(&c->o->attr);
        sqldb_bind_text(st, 2, attr);
        if (st == sv->put && c->o->data)
            sqldb_bind_blob(st, 3, c->o->data->bytes, c->o->data->size);
    }
    return sqldb_run(st, err);
}

int mem_save_write(struct mem_save *sv, struct op *op, const struct mem_change *changes, size_t n)
{
    int r = sqldb_begin(sv->db, &op->err);
    if (r < 0)
        return fail(sv, op, r);
    for (size_t i = 0; i < n && r == 0; i++)
        r = write_one(sv, &op->err, &changes[i]);
    if (r == 0)
        r = sqldb_commit(sv->db, &op->err);
    if (r == 0)
        return 0;
    r = fail(sv, op, r);
    sqldb_rollback(sv->db);
    return r;
}
