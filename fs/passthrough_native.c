/* SPDX-License-Identifier: MIT
 * passthrough_native.c: libfuse >= 3.17 has words for it. */
#include "fs/passthrough.h"

int passthrough_wire_attach(struct fs *fs, struct passthrough_wire **ret)
{
    (void)fs;
    *ret = NULL;
    return 0;
}

void passthrough_wire_free(struct passthrough_wire *w)
{
    (void)w;
}

bool passthrough_wire_init(struct passthrough_wire *w, struct fuse_conn_info *conn, unsigned depth)
{
    (void)w;
    if (!(conn->capable & FUSE_CAP_PASSTHROUGH))
        return false;
    conn->want |= FUSE_CAP_PASSTHROUGH;
    conn->max_backing_stack_depth = depth - 1; /* libfuse adds this layer */
    return true;
}

int passthrough_wire_open(struct passthrough_wire *w, fuse_req_t req, struct fuse_file_info *fi,
                          int backing)
{
    (void)w;
    fi->backing_id = backing;
    return fuse_reply_open(req, fi);
}
