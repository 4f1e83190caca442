/* SPDX-License-Identifier: MIT
 * sftp_dir.c: names: removing, renaming, directories.
 *
 * SFTP servers say FAILURE for most refusals of the kernel (EEXIST, ENOTEMPTY, EISDIR, ENOSPC
 * ...): what it means is found out by looking, after the fact. */
#include "backends/sftp/sftp_int.h"

#include "base/name.h"

#define TEMPS_NS (5 * NS_PER_S) /* an upload that was given up is gone by then */
#define TEMPS_STEP_MS 10

/* What is at `path` now; flags 0: nothing, or it cannot be told. Keeps op->err. */
static struct wire_attr look(struct conn *c, struct op *op, const char *path)
{
    struct err was = op->err;
    struct wire_attr w = {.flags = 0};
    if (c->broken || far_lstat(c, op, path, path, &w) < 0)
        w = (struct wire_attr){.flags = 0};
    op->err = was;
    return w;
}

int sftp_explain_parent(struct conn *c, struct op *op, const char *path, const char *key, int r)
{
    if (r != -ENOENT || c->broken)
        return r;
    CLEANUP_FREE char *dir = sftp_parent(path);
    struct wire_attr w = look(c, op, dir);
    if (w.flags && !sftp_is_dir(&w) && !sftp_is_link(&w))
        return err_set(&op->err, ENOTDIR, "%s: what is above it is no directory", key);
    return r;
}

bool sftp_syncs_dirs(const struct conn *c)
{
    return (c->extensions & EXT_FSYNC) && !c->no_dir_sync;
}

/* What became of making a directory durable. */
static int dir_synced(struct conn *c, struct op *op, int r)
{
    if (r == 0)
        return 0;
    if (c->broken || r == -EINTR || r == -ETIMEDOUT) {
        op->err.retry = ERR_RETRY_UNKNOWN; /* it is there, but may not outlive a power loss */
        return r;
    }
    c->no_dir_sync = true; /* a server that does not do this to directories */
    err_clear(&op->err);
    return 0;
}

int sftp_sync_dir(struct conn *c, struct op *op, const char *dir, const char *key)
{
    return sftp_syncs_dirs(c) ? dir_synced(c, op, c->far->sync_dir(c, op, dir, key)) : 0;
}

/* ---- rename ---- */

/* The connection was lost with the rename on its way. 0: it has happened; else the loss. */
static int look_what_happened(struct sftp *s, struct op *op, struct conn **c, const char *from,
                              const char *to, const struct wire_attr *moved)
{
    struct err lost = op->err;
    sftp_give(s, *c, false);
    *c = NULL;
    int r = sftp_take(s, op, false, c);
    if (r == 0) {
        struct wire_attr a = look(*c, op, from), b = look(*c, op, to);
        struct version_id was = sftp_id_of(moved), is = sftp_id_of(&b);
        if (!a.flags && b.flags && versions_alike(&was, &is) && !(*c)->broken)
            return 0;
        if (a.flags)
            lost.retry = ERR_RETRY_SAFE; /* it has not */
    }
    op->err = lost;
    return -lost.code;
}

/* FAILURE: why? */
static int explain_rename(struct conn *c, struct op *op, const char *from, const char *to,
                          bool no_replace, const char *key)
{
    struct wire_attr a = look(c, op, from), b = look(c, op, to);
    size_t n = strlen(from);
    bool onto =
        b.flags && sftp_is_dir(&a) && !sftp_is_dir(&b); /* ENOTDIR comes as "no such file" */
    if (!status_is_failure(op) && !onto)
        return sftp_explain_parent(c, op, to, key, -op->err.code);
    if (b.flags && no_replace)
        return err_set(&op->err, EEXIST, "%s exists already", to);
    if (strncmp(from, to, n) == 0 && to[n] == '/')
        return err_set(&op->err, EINVAL, "rename %s: into itself", key);
    if (onto)
        return err_set(&op->err, ENOTDIR, "rename %s: %s is no directory", key, to);
    if (b.flags && !sftp_is_dir(&a) && sftp_is_dir(&b))
        return err_set(&op->err, EISDIR, "rename %s: %s is a directory", key, to);
    if (b.flags && sftp_is_dir(&b) && (c->extensions & EXT_POSIX_RENAME))
        return err_set(&op->err, ENOTEMPTY, "rename %s: %s is not empty", key, to);
    if (b.flags && !(c->extensions & EXT_POSIX_RENAME))
        return err_set(
            &op->err, ENOTSUP,
            "%s: sftp %s cannot replace in one step (it lacks posix-rename@openssh.com): "
            "remove what is there first",
            key, c->name);
    return -op->err.code;
}

/* The caller's `transfer` place goes with the connection: one that is lost here was given back as
 * none. */
int sftp_move(struct sftp *s, struct op *op, struct conn **c, struct far_move *m,
              const struct wire_attr *moved)
{
    const char *dir = m->dir;
    if (!sftp_syncs_dirs(*c))
        m->dir = NULL;
    conn_changing(*c, true);
    int r = (*c)->far->rename(*c, op, m);
    conn_changing(*c, false);
    if (m->moved)
        return dir_synced(*c, op, r);
    if (!(*c)->broken)
        return explain_rename(*c, op, m->from, m->to, m->no_replace, m->key);
    r = look_what_happened(s, op, c, m->from, m->to, moved);
    m->moved = r == 0;
    return m->moved && dir ? sftp_sync_dir(*c, op, dir, m->key) : r;
}

static int rename_claimed(struct sftp *s, struct op *op, struct conn **c, const char *from_key,
                          const char *to_key, const char *from, const char *to, bool no_replace)
{
    struct wire_attr a, b;
    int r = far_lstat(*c, op, from, from_key, &a);
    if (r < 0)
        return r;
    if (strcmp(from, to) == 0)
        return no_replace ? err_set(&op->err, EEXIST, "%s exists already", to_key) : 0;
    if (sftp_is_dir(&a)) {
        sftp_ahead_drop(s, *c);
        sftp_clear_ahead(s);
    }
    b = look(*c, op, to);
    if (no_replace && b.flags)
        return err_set(&op->err, EEXIST, "%s exists already", to_key);
    CLEANUP_FREE char *dir = sftp_parent(to), *old = sftp_parent(from);
    struct far_move m = {
        .from = from, .to = to, .key = from_key, .no_replace = no_replace, .dir = dir};
    versions_change(&s->versions, to_key);
    r = sftp_move(s, op, c, &m, &a);
    versions_unchanged(&s->versions, to_key);
    if (sftp_is_dir(&a) && (m.moved || (r < 0 && op->err.retry == ERR_RETRY_UNKNOWN)))
        sftp_follow_temps(s, from, to);
    struct version_id replaced = sftp_id_of(&b), moved = sftp_id_of(&a);
    if (m.moved && !sftp_is_dir(&a))
        versions_moved(&s->versions, from_key, to_key, &replaced, &moved);
    return r == 0 && strcmp(dir, old) != 0 ? sftp_sync_dir(*c, op, old, from_key) : r;
}

int sftp_rename(struct store *store, struct op *op, const char *from_key, const char *to_key,
                bool no_replace)
{
    struct sftp *s = sftp_of(store);
    CLEANUP_FREE char *from = NULL, *to = NULL;
    struct conn *c = NULL;
    int r = sftp_path(s, op, from_key, &from);
    if (r == 0)
        r = sftp_path(s, op, to_key, &to);
    if (r == 0)
        r = claims_take_both(&s->claims, op, from_key, to_key);
    if (r < 0)
        return r;
    r = sftp_take(s, op, false, &c);
    if (r == 0) {
        r = rename_claimed(s, op, &c, from_key, to_key, from, to, no_replace);
        if (c)
            sftp_give(s, c, false);
    }
    claims_release_both(&s->claims, from_key, to_key);
    return r;
}

/* ---- remove ---- */

/* A file that could not be removed for `code`: a directory, most likely. Gives an errno. */
static int explain_remove(struct conn *c, struct op *op, const char *path, int code)
{
    if (code != EIO && code != EACCES)
        return code;
    struct wire_attr w = look(c, op, path);
    return sftp_is_dir(&w) ? EISDIR : code;
}

static int remove_on(struct sftp *s, struct conn *c, struct op *op, const char *path,
                     const char *key, const char *if_match)
{
    struct wire_attr w = {.flags = 0};
    int r = 0;
    if (if_match) {
        r = far_lstat(c, op, path, key, &w);
        struct version_id id = sftp_id_of(&w);
        if (r == 0 && sftp_is_dir(&w))
            r = err_set(&op->err, EISDIR, "%s is a directory", key);
        if (r == 0 && !versions_match(&s->versions, key, if_match, &id))
            r = err_set(&op->err, ESTALE, "%s has changed", key);
    }
    if (r < 0)
        return r;
    conn_changing(c, true);
    r = far_remove(c, op, path, key);
    conn_changing(c, false);
    bool dir = r < 0 && !c->broken && explain_remove(c, op, path, -r) == EISDIR;
    return dir ? err_set(&op->err, EISDIR, "%s is a directory", key) : r;
}

int sftp_remove(struct store *store, struct op *op, const char *key, const char *if_match)
{
    struct sftp *s = sftp_of(store);
    CLEANUP_FREE char *path = NULL;
    struct conn *c;
    int r = sftp_path(s, op, key, &path);
    if (r == 0)
        r = claims_take(&s->claims, op, key);
    if (r < 0)
        return r;
    r = sftp_take(s, op, false, &c);
    if (r == 0) {
        r = remove_on(s, c, op, path, key, if_match);
        sftp_give(s, c, false);
    }
    claims_release(&s->claims, key);
    return r;
}

static int remove_batch(struct sftp *s, struct conn *c, struct op *op, const char *const *keys,
                        size_t n, struct remove_result *results)
{
    char *paths[FAR_REMOVES_MAX] = {0};
    for (size_t i = 0; i < n; i++)
        results[i].code = -sftp_path(s, op, keys[i], &paths[i]);
    conn_changing(c, true);
    int r = c->far->remove(c, op, (const char *const *)paths, keys, n, results);
    conn_changing(c, false);
    for (size_t i = 0; i < n; i++) {
        if (r == 0 && paths[i])
            results[i].code = explain_remove(c, op, paths[i], results[i].code);
        free(paths[i]);
    }
    return r;
}

int sftp_remove_many(struct store *store, struct op *op, const char *const *keys, size_t n,
                     struct remove_result *results)
{
    struct sftp *s = sftp_of(store);
    struct conn *c;
    int r = sftp_take(s, op, false, &c);
    if (r < 0)
        return r;
    for (size_t i = 0; i < n && r == 0; i += FAR_REMOVES_MAX) {
        size_t count = n - i < FAR_REMOVES_MAX ? n - i : FAR_REMOVES_MAX;
        r = remove_batch(s, c, op, keys + i, count, results + i);
    }
    sftp_give(s, c, false);
    if (r == 0)
        err_clear(&op->err);
    return r;
}

/* ---- directories ---- */

static int make_dir_on(struct conn *c, struct op *op, const char *path, const char *key,
                       const struct attr *attr)
{
    bool private = attr->known & ATTR_HAS_MODE;
    struct wire_attr now = {.flags = 0};
    conn_changing(c, true);
    int r = c->far->make_dir(c, op, path, private ? 0700 : 0777, key);
    conn_changing(c, false);
    if (r < 0) {
        struct wire_attr there = look(c, op, path);
        return there.flags && status_is_failure(op)
                   ? err_set(&op->err, EEXIST, "%s exists already", key)
                   : sftp_explain_parent(c, op, path, key, r);
    }
    if (attr->known & (ATTR_HAS_UID | ATTR_HAS_GID))
        now = look(c, op, path);
    struct wire_attr owner = sftp_owner_of(attr, &now), rest = sftp_rest_of(attr, &now);
    if (owner.flags) { /* refused: it stays ours, as with a put */
        r = c->far->set(c, op, path, key, false, &owner, "make");
        r = r < 0 && (c->broken || r == -EINTR) ? r : 0;
    }
    if (r == 0 && rest.flags)
        r = c->far->set(c, op, path, key, false, &rest, "make");
    if (r < 0 && !c->broken) {
        struct err was = op->err;
        (void)c->far->remove_dir(c, op, path, key);
        op->err = was;
    }
    return r;
}

int sftp_make_dir(struct store *store, struct op *op, const char *key, const struct attr *attr)
{
    struct sftp *s = sftp_of(store);
    CLEANUP_FREE char *path = NULL;
    struct conn *c;
    int r = sftp_path(s, op, key, &path);
    if (r == 0)
        r = sftp_take(s, op, false, &c);
    if (r < 0)
        return r;
    r = make_dir_on(c, op, path, key, attr);
    sftp_give(s, c, false);
    return r;
}

struct temps { /* in a directory that shows nothing */
    const char *path;
    bool shown;   /* something else is there */
    bool others;  /* that, or what may be in use elsewhere */
    bool ours;    /* being removed, or to be renamed */
    struct buf left; /* paths, each with its NUL */
    char upload[TEMP_NAME_MAX]; /* "": none; else one that has to be ended by who knows it */
};

static void take_temp(void *arg, const char *bytes, size_t len, const struct wire_attr *w)
{
    struct temps *t = arg;
    CLEANUP_FREE char *name = xstrndup(bytes, len);
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return;
    enum temp_owner owner = temp_name_owner(name);
    bool upload = temp_name_is_upload(name) && !sftp_is_left(name, w);
    t->shown |= !temp_name_is(name);
    if (upload)
        snprintf(t->upload, sizeof(t->upload), "%s", name);
    if (owner == TEMP_OURS || (upload && owner == TEMP_LEFT)) { /* that one may be ours by now */
        t->ours = true;
    } else if (temp_name_is(name) && sftp_is_left(name, w)) {
        buf_addf(&t->left, "%s/%s", t->path, name);
        buf_addc(&t->left, '\0');
    } else {
        t->others = true;
    }
}

enum { GOES = 1, GONE }; /* what holds a directory: it goes away; it is not there any more */

/* Removes what killed processes have left in a directory with nothing else. GOES: it may be empty now, or when
 * ours are gone; GONE: it is empty, the last of ours has gone since. op->err: what it was, or more of it. */
static int clear_temps(struct conn *c, struct op *op, const char *path)
{
    struct err was = op->err;
    struct temps t = {.path = path, .left = BUF_INIT};
    int r = c->far->names(c, op, path, path, take_temp, &t);
    bool more = r == 0 && !t.others, any = t.ours || t.left.len > 0;
    for (size_t at = 0; more && at < t.left.len; at += strlen(t.left.data + at) + 1)
        (void)far_remove(c, op, t.left.data + at, path);
    buf_done(&t.left);
    op->err = was;
    if (r == 0 && t.upload[0] && !t.shown)
        err_set(&op->err, ENOTEMPTY, "%s is not empty: %s there is an upload that this quayfs, an earlier or another one has "
                                     "not ended (see README.md of sftp, Writing)", path, t.upload);
    return !more ? 0 : any ? GOES : GONE;
}

/* GOES, GONE: try again. */
static int remove_dir_once(struct sftp *s, struct op *op, const char *path, const char *key)
{
    struct conn *c;
    sftp_clear_ahead(s);
    int r = sftp_take(s, op, false, &c);
    if (r < 0)
        return r;
    conn_changing(c, true);
    r = c->far->remove_dir(c, op, path, key);
    conn_changing(c, false);
    struct wire_attr w = {.flags = 0};
    bool why = r < 0 && !c->broken && op->err.status != SSH_FX_PERMISSION_DENIED;
    if (why)
        w = look(c, op, path);
    if (why && w.flags && !sftp_is_dir(&w))
        r = err_set(&op->err, ENOTDIR, "%s is no directory", key);
    else if (why && sftp_is_dir(&w) && status_is_failure(op))
        r = err_set(&op->err, ENOTEMPTY, "%s is not empty", key);
    int held = r == -ENOTEMPTY && !c->broken ? clear_temps(c, op, path) : 0;
    if (held)
        r = held;
    sftp_give(s, c, false);
    return r;
}

/* Temporary files are not shown: they are not to hold a directory that looks empty. */
int sftp_remove_dir(struct store *store, struct op *op, const char *key)
{
    struct sftp *s = sftp_of(store);
    CLEANUP_FREE char *path = NULL;
    uint64_t until = clock_now_ns() + TEMPS_NS;
    int r = sftp_path(s, op, key, &path);
    if (r < 0)
        return r;
    for (unsigned gone = 0; (r = remove_dir_once(s, op, path, key)) > 0;) {
        if (clock_now_ns() > until || (r == GONE && gone++ > 0))
            return -op->err.code; /* not empty */
        struct err was = op->err;
        r = op_sleep(op, TEMPS_STEP_MS);
        if (r < 0)
            return r;
        op->err = was;
    }
    if (r == 0)
        err_clear(&op->err);
    return r;
}
