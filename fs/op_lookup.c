/* SPDX-License-Identifier: MIT
 * op_lookup.c: names to inodes. The root holds the keys, .load and .quay; below a key the volume
 * answers, at once where it knows. An absent name is a negative entry for as long as the key's ttl. */
#include "base/name.h"
#include "fs/ops.h"
#include "fs/request.h"
#include "fs/version.h"
#include "fs/view.h"

#include <string.h>

static void reply_virtual(struct request *r, struct inode *i)
{
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    fs_virtual_attr(r->fs, i, &a);
    request_reply_entry(r, i, &a);
}

static void reply_negative(struct request *r, const char *path)
{
    struct fuse_entry_param e = {.entry_timeout = fs_valid_s(r->inode->key, path)};
    if (e.entry_timeout <= 0) {
        request_reply_err(r, -ENOENT);
        return;
    }
    fuse_req_t req = request_take_reply(r);
    fuse_reply_entry(req, &e);
    request_free(r);
}

static void reply_found(struct request *r, const char *segment, bool shadow, const struct attr *a)
{
    struct inode_spec spec = {.kind = INODE_OBJECT,
                              .key = r->inode->key,
                              .name = r->name,
                              .segment = segment,
                              .shadow = shadow};
    struct inode *i = version_enter(r->fs, r->inode, &spec);
    request_reply_entry(r, i, a);
}

static void do_lookup(struct request *r)
{
    CLEANUP_FREE char *path = NULL;
    CLEANUP_FREE char *segment = NULL;
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    bool shadow = false;
    int rc = request_child(r, r->inode, r->name, &path, &segment, &shadow);
    if (rc == 0)
        rc = volume_stat(request_volume(r), &r->op, path, shadow ? VOLUME_STAT_DIR : 0, &a);
    if (rc == -ENOENT && path)
        reply_negative(r, path);
    else if (rc < 0)
        request_reply_err(r, rc);
    else
        reply_found(r, segment, shadow, &a);
}

/* True when the cache could answer and did. */
static bool lookup_at_once(struct request *r)
{
    struct volume *v = r->inode->key->volume;
    char segment[NAME_MAX_BYTES + 1];
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    if (!v || strlen(r->name) > NAME_MAX_BYTES)
        return false;
    enum name_form form = name_decode(r->name, segment);
    if (form == NAME_LONG)
        return false;
    CLEANUP_FREE char *path = inode_child_path(r->fs->inodes, r->inode, segment);
    if (!path)
        return false;
    int rc = volume_peek(v, path, form == NAME_SHADOW ? VOLUME_STAT_DIR : 0, &a);
    if (rc == -EAGAIN)
        return false;
    if (rc < 0)
        reply_negative(r, path);
    else
        reply_found(r, segment, form == NAME_SHADOW, &a);
    return true;
}

static bool lookup_in_root(struct request *r)
{
    struct inode *i = fs_key_inode(r->fs, r->name);
    struct inode_spec spec = {.kind = INODE_VIEW_DIR, .name = r->name, .segment = ""};
    if (!i && strcmp(r->name, FS_QUAY_DIR) == 0)
        i = inode_enter(r->fs->inodes, r->inode, &spec);
    if (i)
        reply_virtual(r, i);
    else
        request_reply_err(r, -ENOENT);
    return true;
}

static bool lookup_in_view(struct request *r)
{
    struct inode_spec spec = {
        .kind = INODE_VIEW_FILE, .view = view_find(r->name), .name = r->name, .segment = ""};
    if (spec.view < 0)
        request_reply_err(r, -ENOENT);
    else
        reply_virtual(r, inode_enter(r->fs->inodes, r->inode, &spec));
    return true;
}

void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct request *r = request_new(req, "lookup", parent, do_lookup);
    if (!r)
        return;
    r->name = xstrdup(name);
    bool done = false;
    if (r->inode->kind == INODE_ROOT)
        done = lookup_in_root(r);
    else if (r->inode->kind == INODE_VIEW_DIR)
        done = lookup_in_view(r);
    else if (r->inode->key)
        done = lookup_at_once(r);
    if (!done)
        request_submit(r, 0);
}

void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
    inode_forget(fs_of(req)->inodes, ino, nlookup);
    fuse_reply_none(req);
}

void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
    struct inode_table *t = fs_of(req)->inodes;
    for (size_t n = 0; n < count; n++)
        inode_forget(t, forgets[n].ino, forgets[n].nlookup);
    fuse_reply_none(req);
}
