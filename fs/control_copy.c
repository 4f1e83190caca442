/* SPDX-License-Identifier: MIT
 * control_copy.c: a copy within a key or between two of one service, by request: the store copies, and the kernel forgets what it knew of
 * the new name (that it was absent, or the file that was replaced). */
#include "fs/control.h"

#include <string.h>

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
    if (rc < 0) {
        *err = op.err;
        return rc;
    }
    *ret = json_pack("{s:I, s:s}", "size", (json_int_t)a.size, "version", a.version);
    return 0;
}
