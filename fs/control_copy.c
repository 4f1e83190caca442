/* SPDX-License-Identifier: MIT
 * control_copy.c: a copy within a key or between two of one service, by request: the store copies, and the kernel forgets what it knew of
 * the new name (that it was absent, or the file that was replaced). And whether two places are one object. */
#include "fs/control.h"

#include "backends/same.h"
#include "base/url.h"

#include <string.h>

/* One of the two that "same" is asked about. */
struct side {
    struct fs_key *k;      /* NULL: a file of this machine */
    struct buf path;
    struct stat st;
    struct same_place place;
};

static void side_done(struct side *s)
{
    if (s->k)
        fs_key_leave(s->k);
    buf_done(&s->path);
}

static int take_file(json_t *stat, struct side *s)
{
    json_int_t ino, size, mtime, mtime_ns, ctime, ctime_ns, mode;
    if (!stat)
        return 0;
    if (json_unpack(stat, "[I,I,I,I,I,I,I]", &ino, &mode, &size, &mtime, &mtime_ns, &ctime, &ctime_ns) != 0)
        return -EINVAL;
    s->st = (struct stat){.st_ino = (ino_t)ino, .st_mode = (mode_t)mode, .st_size = size,
                          .st_mtim = {mtime, mtime_ns}, .st_ctim = {ctime, ctime_ns}};
    s->place.st = &s->st;
    return 0;
}

/* {key, path} or {path, stat?} */
static int side_take(struct fs *fs, const json_t *o, struct err *err, struct side *s)
{
    const char *key = json_string_value(json_object_get(o, "key"));
    const char *path = json_string_value(json_object_get(o, "path"));
    if (!path || !url_decode(&s->path, path, strlen(path)) || take_file(json_object_get(o, "stat"), s) < 0)
        return err_set(err, EINVAL, "same needs from and to, each with a path");
    s->place.path = buf_str(&s->path);
    if (!key)
        return 0;
    s->k = fs_key_get(fs, key);
    if (!s->k)
        return err_set(err, ENOENT, "No storage backend registered for key: '%s'", key);
    if (!s->k->volume)
        return err_set(err, EIO, "key '%s' is not available: %s", key, s->k->error);
    s->place.store = volume_store(s->k->volume);
    return 0;
}

/* What is staged of the source, and so not to be seen at the target even if that is the same, is stored first. */
static int look_at_both(const struct side *from, const struct side *to, struct err *err)
{
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    struct op op;
    int rc = 0;
    op_init(&op, "same", 0);
    op.durable = true;
    if (from->k && *from->place.path && store_stat(from->place.store, &op, from->place.path, &a) == -ENOENT) {
        err_clear(&op.err);
        rc = volume_sync(from->k->volume, &op);
    }
    if (rc == 0)
        rc = same_by_look(&op, &from->place, &to->place);
    if (rc < 0)
        *err = op.err;
    return rc;
}

int cmd_same(struct call *c, struct err *err, json_t **ret)
{
    static const char *const names[] = {"apart", "one", "below", "above"};
    struct side from = {0}, to = {0};
    enum same_names rel = SAME_APART;
    bool sure = true;
    int rc = side_take(c->fs, json_object_get(c->args, "from"), err, &from);
    if (rc == 0)
        rc = side_take(c->fs, json_object_get(c->args, "to"), err, &to);
    if (rc == 0)
        rel = same_by_name(&from.place, &to.place, &sure);
    if (rc == 0 && !sure && json_is_true(json_object_get(c->args, "look"))) {
        rc = look_at_both(&from, &to, err);
        rel = rc == 1 ? SAME_ONE : SAME_APART;
        sure = true;
    }
    side_done(&from);
    side_done(&to);
    if (rc < 0)
        return rc;
    *ret = json_pack("{s:s, s:b}", "names", names[rel], "sure", (int)sure);
    return 0;
}

/* `shown`: the new name from the key's directory, as ls shows it. */
static void forget_name(struct fs *fs, const char *key, const char *shown)
{
    CLEANUP_FREE char *path = xasprintf("%s/%s", key, shown);
    struct inode_numbers n = inode_numbers_of(fs->inodes, path);
    const char *name = strrchr(path, '/') + 1;
    if (!fs->session || fuse_session_exited(fs->session))
        return;
    if (n.self)
        (void)fuse_lowlevel_notify_inval_inode(fs->session, n.self, 0, 0);
    if (n.dir)
        (void)fuse_lowlevel_notify_inval_entry(fs->session, n.dir, name, strlen(name));
}

/* From another key, when the arguments name one. */
static int copy(struct call *c, struct op *op, const char *from, const char *to, unsigned flags, struct attr *ret)
{
    const char *name = json_string_value(json_object_get(c->args, "from_key"));
    if (!name || strcmp(name, c->key) == 0)
        return volume_copy(c->k->volume, op, from, to, flags, ret);
    struct fs_key *source = fs_key_get(c->fs, name);
    if (!source)
        return err_set(&op->err, ENOENT, "No storage backend registered for key: '%s'", name);
    int rc = source->volume ? volume_copy_from(c->k->volume, op, source->volume, from, to, flags, ret)
                            : err_set(&op->err, EIO, "key '%s' is not available: %s", name, source->error);
    fs_key_leave(source);
    return rc;
}

int cmd_copy(struct call *c, struct err *err, json_t **ret)
{
    const char *from = json_string_value(json_object_get(c->args, "from"));
    const char *to = json_string_value(json_object_get(c->args, "to"));
    const char *shown = json_string_value(json_object_get(c->args, "shown"));
    unsigned flags =
        json_is_true(json_object_get(c->args, "replace")) ? 0 : VOLUME_RENAME_NO_REPLACE;
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    struct op op;
    if (!from || !to || !shown)
        return err_set(err, EINVAL, "copy needs from, to and shown");
    op_init(&op, "copy", 0);
    int rc = copy(c, &op, from, to, flags, &a);
    if (rc != -EXDEV)
        forget_name(c->fs, c->key, shown);
    if (rc < 0 && strcmp(op.err.remote, STORE_SAME_FILE) == 0) { /* told from other EINVALs, after which the mount copies */
        *ret = json_pack("{s:b, s:s}", "same", 1, "text", err_text(&op.err));
        return 0;
    }
    if (rc < 0) {
        *err = op.err;
        return rc;
    }
    *ret = json_pack("{s:I, s:s}", "size", (json_int_t)a.size, "version", a.version);
    return 0;
}
