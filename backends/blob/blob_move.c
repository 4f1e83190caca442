/* SPDX-License-Identifier: MIT
 * blob_move.c: copy and rename within the database. A copy is another reference to the same content; a rename
 * changes the paths of rows, of a directory those of all that is below it by one statement. */
#include "backends/blob/blob_int.h"

#include "base/name.h"

#include <errno.h>
#include <string.h>

/* Both rows, locked in the order of their paths, so that two such calls do not wait for each other. */
static int find_both(struct blob_conn *c, struct op *op, const char *from, const char *to,
                     struct blob_file *ret_from, struct blob_file *ret_to)
{
    bool first = strcmp(from, to) < 0;
    int r = blob_find(c, op, first ? from : to, true, first ? ret_from : ret_to);
    return r < 0 ? r : blob_find(c, op, first ? to : from, true, first ? ret_to : ret_from);
}

/* ---- copy ---- */

struct copying {
    const char *from, *version, *to;
    const struct precond *pre;
    struct attr attr;
    int64_t left;
};

static int copy_change(struct blob_conn *c, struct op *op, void *arg)
{
    struct copying *cp = arg;
    CLEANUP_BLOB_FILE struct blob_file from = BLOB_FILE_INIT, to = BLOB_FILE_INIT;
    int r = find_both(c, op, cp->from, cp->to, &from, &to);
    if (r == 0 && (!from.found || from.content == 0))
        r = blob_not_there(c, op, cp->from);
    if (r < 0)
        return r;
    if (cp->version && cp->version[0] && strcmp(cp->version, from.attr.version) != 0)
        return err_set(&op->err, ESTALE, "'%s' has changed", cp->from);
    attr_done(&cp->attr);
    attr_move(&cp->attr, &from.attr);
    cp->attr.known &= ~(unsigned)ATTR_META;
    blob_new_version(&cp->attr);
    return blob_publish(c, op, cp->to, cp->pre, &cp->attr, from.content, &cp->left);
}

int blob_copy(struct store *s, struct op *op, const char *from, const char *from_version,
              const char *to, const struct precond *pre, struct attr *ret)
{
    struct blob *b = blob_of(s);
    struct copying cp = {.from = from, .version = from_version, .to = to, .pre = pre};
    int r = blob_change(b, op, copy_change, &cp);
    r = blob_confirm(b, op, to, cp.attr.version, r);
    if (r == 0) {
        cp.attr.known |= ATTR_META;
        attr_move(ret, &cp.attr);
        blob_purge(b, cp.left);
    }
    attr_done(&cp.attr);
    return r;
}

/* ---- rename ---- */

struct moving {
    const char *from, *to;
    bool no_replace;
    int64_t left;
    char *was_at, *is_at; /* paths of a row by which a lost answer is found out */
};

/* Is there anything at or below this directory? Its first row. */
static int look_dir(struct blob_conn *c, struct op *op, const char *dir, bool below,
                    struct blob_file *ret)
{
    size_t n;
    CLEANUP_FREE char *end = blob_prefix_end(dir, &n);
    CLEANUP_FREE char *from = xasprintf("%s%s", dir, below ? "\x01" : "");
    return blob_first_in(c, op, from, end, n, ret);
}

static int move_file(struct blob_conn *c, struct op *op, struct moving *m, struct blob_file *to)
{
    CLEANUP_FREE char *dir = path_dir_prefix(m->to);
    CLEANUP_BLOB_FILE struct blob_file in_the_way = BLOB_FILE_INIT;
    if (to->found && m->no_replace)
        return err_set(&op->err, EEXIST, "'%s' exists already", m->to);
    if (strcmp(m->from, m->to) == 0)
        return 0;
    int r = to->found ? 0 : look_dir(c, op, dir, false, &in_the_way);
    if (r == 0 && in_the_way.found)
        return err_set(&op->err, m->no_replace ? EEXIST : EISDIR, "'%s' is a directory", m->to);
    if (r == 0 && to->found)
        r = BLOB_RUN(c, op, SQL_DELETE, NULL, NULL, NULL, blob_path(m->to));
    if (r == 0 && to->found)
        r = blob_unref(c, op, to, &m->left);
    if (r == 0)
        r = BLOB_RUN(c, op, SQL_MOVE, NULL, NULL, NULL, blob_path(m->to), blob_path(m->from));
    m->was_at = xstrdup(m->from);
    m->is_at = xstrdup(m->to);
    return r;
}

/* What may be where a directory goes: nothing, or an empty directory, whose marker it replaces. */
static int clear_target(struct blob_conn *c, struct op *op, const struct moving *m,
                        const struct blob_file *to, const char *dir)
{
    CLEANUP_BLOB_FILE struct blob_file any = BLOB_FILE_INIT, inside = BLOB_FILE_INIT;
    if (to->found)
        return err_set(&op->err, m->no_replace ? EEXIST : ENOTDIR, "'%s' is not a directory", m->to);
    int r = look_dir(c, op, dir, false, &any);
    if (r == 0 && any.found && m->no_replace)
        return err_set(&op->err, EEXIST, "'%s' exists already", m->to);
    if (r == 0)
        r = look_dir(c, op, dir, true, &inside);
    if (r == 0 && inside.found)
        return err_set(&op->err, ENOTEMPTY, "'%s' is not empty", m->to);
    if (r == 0 && any.found)
        r = BLOB_RUN(c, op, SQL_DELETE, NULL, NULL, NULL, blob_path(dir));
    return r;
}

static int move_dir(struct blob_conn *c, struct op *op, struct moving *m, const struct blob_file *to)
{
    CLEANUP_FREE char *from_dir = path_dir_prefix(m->from), *to_dir = path_dir_prefix(m->to);
    CLEANUP_BLOB_FILE struct blob_file first = BLOB_FILE_INIT;
    size_t end_len, from_len = strlen(from_dir);
    CLEANUP_FREE char *end = blob_prefix_end(from_dir, &end_len);
    int r = look_dir(c, op, from_dir, false, &first);
    if (r == 0 && !first.found)
        return err_set(&op->err, ENOENT, "'%s' is not there", m->from);
    if (r < 0 || strcmp(from_dir, to_dir) == 0)
        return r;
    if (strncmp(to_dir, from_dir, from_len) == 0)
        return err_set(&op->err, EINVAL, "'%s' is below '%s'", m->to, m->from);
    r = clear_target(c, op, m, to, to_dir);
    if (r == 0)
        r = BLOB_RUN(c, op, SQL_MOVE_TREE, NULL, NULL, NULL, blob_path(to_dir),
                     blob_i64((int64_t)from_len + 1), blob_path(from_dir), blob_bytes(end, end_len));
    m->was_at = xstrdup(first.path);
    m->is_at = xasprintf("%s%s", to_dir, first.path + from_len);
    return r;
}

static int rename_change(struct blob_conn *c, struct op *op, void *arg)
{
    struct moving *m = arg;
    CLEANUP_BLOB_FILE struct blob_file from = BLOB_FILE_INIT, to = BLOB_FILE_INIT;
    int r = find_both(c, op, m->from, m->to, &from, &to);
    if (r < 0)
        return r;
    if (path_is_unnamed(m->to))
        blob_file_done(&to); /* a marker */
    return from.found && !path_is_unnamed(m->from) ? move_file(c, op, m, &to)
                                                   : move_dir(c, op, m, &to);
}

/* The answer was lost: the row is where it was to go, and no more where it was? */
static int confirm_move(struct blob *b, struct op *op, const struct moving *m, int r)
{
    CLEANUP_BLOB_FILE struct blob_file was = BLOB_FILE_INIT, is = BLOB_FILE_INIT;
    struct blob_conn *c = NULL;
    struct op look;
    if (r == 0 || op->err.retry != ERR_RETRY_UNKNOWN || !m->was_at)
        return r;
    op_init(&look, op->name, 10000);
    int found = blob_get(b, &look, false, &c);
    if (found < 0)
        return r;
    found = blob_find(c, &look, m->was_at, false, &was);
    if (found == 0)
        found = blob_find(c, &look, m->is_at, false, &is);
    blob_give(c);
    return found == 0 && is.found && !was.found ? 0 : r;
}

int blob_rename(struct store *s, struct op *op, const char *from, const char *to, bool no_replace)
{
    struct blob *b = blob_of(s);
    struct moving m = {.from = from, .to = to, .no_replace = no_replace};
    int r = confirm_move(b, op, &m, blob_change(b, op, rename_change, &m));
    if (r == 0)
        blob_purge(b, m.left);
    free(m.was_at);
    free(m.is_at);
    return r;
}
