/* SPDX-License-Identifier: MIT
 * sftp_far.c: see sftp_far.h: what the two ways share. */
#include "backends/sftp/sftp_far.h"

#include <errno.h>

int far_judge(struct op *op, int r, struct wire_attr *w, far_judge_fn *judge, void *arg)
{
    if (r < 0 && r != -ENOENT)
        return r;
    if (r == -ENOENT) {
        err_clear(&op->err);
        *w = (struct wire_attr){.flags = 0};
    }
    return judge(arg, op, w);
}

int far_begin_patch(struct conn *c, struct op *op, int r, struct far_patch *p)
{
    if (r == 0)
        r = p->judge(p->arg, op, &p->before);
    if (r < 0)
        return r;
    p->begun = true;
    if (!p->hidden)
        conn_changing(c, true);
    return 0;
}

size_t far_there(const struct wire_attr *w, const struct read_req *req)
{
    uint64_t there = w->size > req->offset ? w->size - req->offset : 0;
    return there < req->iov.iov_len ? (size_t)there : req->iov.iov_len;
}

int far_remove(struct conn *c, struct op *op, const char *path, const char *key)
{
    struct remove_result result = {.code = 0};
    int r = c->far->remove(c, op, &path, &key, 1, &result);
    return r < 0 ? r : -result.code;
}
