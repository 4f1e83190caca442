/* SPDX-License-Identifier: MIT
 * op_xattr.c: extended attributes. user.* are the object's; user.etag and user.quay.* are made here and
 * read-only; all other namespaces are EOPNOTSUPP at once (the kernel asks for security.capability before
 * every write). */
#include "fs/ops.h"
#include "fs/request.h"

#include <string.h>
#include <sys/xattr.h>

#define SIGNED_URL_S 3600 /* of user.quay.signed_url */

static bool is_user(const char *name)
{
    return strncmp(name, "user.", 5) == 0;
}

static bool is_virtual(const char *name)
{
    return strcmp(name, "user.etag") == 0 || strncmp(name, "user.quay.", 10) == 0;
}

static struct request *xattr_request(fuse_req_t req, const char *op, fuse_ino_t ino,
                                     const char *name, void (*run)(struct request *))
{
    struct request *r = request_new(req, op, ino, run);
    if (!r)
        return NULL;
    if (name && !is_user(name)) {
        request_reply_err(r, -EOPNOTSUPP);
        return NULL;
    }
    if (!r->inode->key || !r->inode->key->volume) {
        request_reply_err(r, name ? -ENODATA : -EOPNOTSUPP);
        return NULL;
    }
    if (r->inode->shadow) { /* the path means the object beside it */
        request_reply_err(r, -EOPNOTSUPP);
        return NULL;
    }
    if (name)
        r->name2 = xstrdup(name);
    return r;
}

static void reply_value(struct request *r, const struct buf *b)
{
    fuse_req_t req = request_take_reply(r);
    if (r->size == 0)
        fuse_reply_xattr(req, b->len);
    else if (b->len > r->size)
        fuse_reply_err(req, ERANGE);
    else
        fuse_reply_buf(req, buf_str(b), b->len);
    request_free(r);
}

static int virtual_value(struct request *r, const char *path, struct buf *b)
{
    const char *name = r->name2;
    struct fs_key *k = r->inode->key;
    const char *uri = volume_store(k->volume)->base_uri;
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    if (strcmp(name, "user.quay.key") == 0) {
        buf_adds(b, k->name);
    } else if (strcmp(name, "user.quay.backend_type") == 0) {
        buf_adds(b, k->backend);
    } else if (strcmp(name, "user.quay.base_uri") == 0) {
        buf_adds(b, uri);
    } else if (strcmp(name, "user.quay.uri") == 0) {
        buf_addf(b, "%s%s%s", uri, *path ? "/" : "", path);
    } else if (strcmp(name, "user.quay.signed_url") == 0) {
        struct sign_req sign = {.key = path, .expires_s = SIGNED_URL_S};
        return store_sign(volume_store(k->volume), &r->op, &sign, b);
    } else if (strcmp(name, "user.etag") == 0) {
        int rc = volume_stat(k->volume, &r->op, path, 0, &a);
        if (rc < 0)
            return rc;
        if (!*a.version)
            return -ENODATA;
        buf_adds(b, a.version);
    } else {
        return -ENODATA;
    }
    return 0;
}

static void do_getxattr(struct request *r)
{
    CLEANUP_FREE char *path = inode_path(r->fs->inodes, r->inode);
    CLEANUP_BUF struct buf b = BUF_INIT;
    int rc = -ENOENT;
    if (path && is_virtual(r->name2))
        rc = virtual_value(r, path, &b);
    else if (path)
        rc = volume_get_xattr(request_volume(r), &r->op, path, r->name2, &b);
    if (rc < 0)
        request_reply_err(r, rc);
    else
        reply_value(r, &b);
}

void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
    if (!is_user(name)) {
        fuse_reply_err(req, EOPNOTSUPP);
        return;
    }
    struct request *r = xattr_request(req, "getxattr", ino, name, do_getxattr);
    if (!r)
        return;
    r->size = size;
    request_submit(r, 0);
}

static void do_setxattr(struct request *r)
{
    CLEANUP_FREE char *path = inode_path(r->fs->inodes, r->inode);
    unsigned flags = 0;
    if (r->number & XATTR_CREATE)
        flags |= VOLUME_XATTR_CREATE;
    if (r->number & XATTR_REPLACE)
        flags |= VOLUME_XATTR_REPLACE;
    int rc = path ? volume_set_xattr(request_volume(r), &r->op, path, r->name2, r->data, r->size,
                                     flags)
                  : -ENOENT;
    request_reply_err(r, rc);
}

void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size,
                 int flags)
{
    struct request *r = xattr_request(req, "setxattr", ino, name, do_setxattr);
    if (!r)
        return;
    if (is_virtual(name)) {
        request_reply_err(r, -EPERM);
        return;
    }
    r->data = xmalloc(size ? size : 1);
    memcpy(r->data, value, size);
    r->size = size;
    r->number = (unsigned)flags;
    request_submit(r, 0);
}

static void do_listxattr(struct request *r)
{
    CLEANUP_FREE char *path = inode_path(r->fs->inodes, r->inode);
    CLEANUP_BUF struct buf b = BUF_INIT;
    int rc = path ? volume_list_xattr(request_volume(r), &r->op, path, &b) : -ENOENT;
    if (rc < 0)
        request_reply_err(r, rc);
    else
        reply_value(r, &b);
}

void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
    struct request *r = xattr_request(req, "listxattr", ino, NULL, do_listxattr);
    if (!r)
        return;
    r->size = size;
    request_submit(r, 0);
}

static void do_removexattr(struct request *r)
{
    CLEANUP_FREE char *path = inode_path(r->fs->inodes, r->inode);
    int rc = path ? volume_remove_xattr(request_volume(r), &r->op, path, r->name2) : -ENOENT;
    request_reply_err(r, rc);
}

void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
    struct request *r = xattr_request(req, "removexattr", ino, name, do_removexattr);
    if (!r)
        return;
    if (is_virtual(name))
        request_reply_err(r, -EPERM);
    else
        request_submit(r, 0);
}
