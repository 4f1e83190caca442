/* SPDX-License-Identifier: MIT
 * far_exec_io.c: the far side by commands: the bytes of files. See sftp_far.h; the words are those
 * of exec_program.c. */
#include "backends/sftp/far_exec.h"

#include <limits.h>
#include <string.h>

#define PATCHES_MAX 64 /* ranges in one line */

/* ---- reading ---- */

struct reading {
    struct conn *c;
    struct far_read *f;
    struct buf head; /* the line of attributes, until it is whole */
    bool known;      /* f->before is */
};

/* The first line: what is there. 1: it is whole, *used of the bytes belong to it. */
static int take_head(struct reading *rd, struct op *op, const char *bytes, size_t len, size_t *used)
{
    const char *end = memchr(bytes, '\n', len);
    *used = end ? (size_t)(end - bytes) + 1 : len;
    buf_add(&rd->head, bytes, *used);
    if (!end && rd->head.len < 1024)
        return 0;
    const char *text = buf_str(&rd->head);
    if (!end || exec_attrs(text, text + rd->head.len, &rd->f->before) <= 0)
        return conn_bad_reply(rd->c, op, "read", rd->f->req->key);
    rd->known = true;
    int r = rd->f->judge(rd->f->arg, op, &rd->f->before);
    return r < 0 ? r : 1;
}

static int take_data(void *arg, struct op *op, const char *bytes, size_t len)
{
    struct reading *rd = arg;
    struct far_read *f = rd->f;
    const struct read_req *req = f->req;
    size_t used = 0;
    int r = rd->known ? 1 : take_head(rd, op, bytes, len, &used);
    if (r <= 0)
        return r;
    bytes += used;
    len -= used;
    if (sftp_is_link(&f->before)) {
        if (f->target.len + len > PATH_MAX || memchr(bytes, '\0', len))
            return conn_bad_reply(rd->c, op, "read", req->key);
        buf_add(&f->target, bytes, len);
        return 0;
    }
    if (len > req->iov.iov_len - f->got)
        return conn_bad_reply(rd->c, op, "read", req->key);
    if (len == 0)
        return 0;
    memcpy((char *)req->iov.iov_base + f->got, bytes, len);
    f->got += len;
    /* More than `before` has: a write came between; that is judged at the end, nothing is shown. */
    if (f->got <= far_there(&f->before, req) && req->on_data && req->on_data(req->on_data_arg, f->got) != 0)
        return err_set(&op->err, EINTR, "read %s: stopped by the reader", req->key);
    return 0;
}

int commands_read(struct conn *c, struct op *op, struct far_read *f)
{
    const struct read_req *req = f->req;
    struct reading rd = {.c = c, .f = f};
    struct shell_run run = SHELL_RUN_INIT;
    run.take = take_data;
    run.arg = &rd;
    buf_adds(&run.line, "rd");
    commands_path(&run.line, f->path);
    buf_addf(&run.line, " %llu %zu; tell $s", (unsigned long long)req->offset, req->iov.iov_len);
    f->got = 0;
    int r = shell_run(c, op, &run, "read", req->key);
    if (r == 0 && !rd.known)
        r = conn_bad_reply(c, op, "read", req->key);
    f->wanted = far_there(&f->before, req);
    /* Nothing behind it: the file went meanwhile, `after` is like nothing. */
    if (r == 0 && exec_attrs(run.extra, run.extra + strlen(run.extra), &f->after) <= 0)
        f->after = (struct wire_attr){.flags = 0};
    shell_run_done(&run);
    buf_done(&rd.head);
    return r;
}

/* ---- writing ---- */

static int result_attrs(struct conn *c, struct op *op, const struct shell_run *run,
                        const char *what, const char *key, struct wire_attr *ret)
{
    if (exec_attrs(run->extra, run->extra + strlen(run->extra), ret) > 0)
        return 0;
    return err_set(&op->err, EIO, "%s %s: sftp %s: it went away meanwhile", what, key, c->name);
}

int commands_make(struct conn *c, struct op *op, struct far_make *m)
{
    struct wire_attr old = {.flags = 0};
    const struct wire_attr nothing = {.flags = 0};
    const struct patch_range all = {.offset = 0, .length = m->src->size};
    struct shell_run run = SHELL_RUN_INIT;
    int r = far_judge(op, far_lstat(c, op, m->path, m->key, &old), &old, m->judge, m->arg);
    if (r < 0)
        return r;
    struct wire_attr owner = sftp_owner_of(m->attr, &nothing),
                     rest = sftp_rest_of(m->attr, &nothing);
    buf_adds(&run.line, "mk");
    commands_path(&run.line, m->temp);
    buf_addf(&run.line, " %llu %s", (unsigned long long)all.length,
             m->attr->known & ATTR_HAS_MODE ? "077" : "\"$(umask)\"");
    commands_attrs(&run.line, &owner, &rest, m->attr->known & ATTR_HAS_ATIME);
    run.src = m->src;
    run.pieces = &all;
    run.n_pieces = 1;
    m->made = true;
    r = shell_run(c, op, &run, "put", m->key);
    if (r == -ENOENT || r == -EEXIST)
        m->made = false;
    if (r == 0)
        r = result_attrs(c, op, &run, "put", m->key, &m->attrs);
    shell_run_done(&run);
    return r;
}

/* As many ranges as one line takes, from first on: gives how many. They are written through one
 * descriptor, whose place is moved relatively: so they must rise. */
static size_t add_ranges(struct buf *line, const struct patch_range *v, size_t n, uint64_t *bytes)
{
    CLEANUP_BUF struct buf words = BUF_INIT;
    uint64_t at = 0;
    size_t i = 0;
    *bytes = 0;
    for (; i < n && i < PATCHES_MAX && v[i].offset >= at; i++) {
        buf_addf(&words, " %llu %llu", (unsigned long long)(v[i].offset - at),
                 (unsigned long long)v[i].length);
        at = v[i].offset + v[i].length;
        *bytes += v[i].length;
    }
    buf_addf(line, " %llu%s", (unsigned long long)*bytes, buf_str(&words));
    return i;
}

/* Some ranges, and with the last of them what follows. Gives how many, or -errno. */
static ssize_t patch_some(struct conn *c, struct op *op, struct far_patch *p, size_t first)
{
    const struct patch_req *req = p->req;
    struct shell_run run = SHELL_RUN_INIT;
    const struct wire_attr *was = &p->before;
    uint64_t bytes;
    buf_adds(&run.line, "pt");
    commands_path(&run.line, p->path);
    if (first == 0 && !p->hidden)
        buf_addf(&run.line, " '%%i %%s %%Y' '%llu %llu %u'", (unsigned long long)was->inode,
                 (unsigned long long)was->size, was->mtime);
    else
        buf_addf(&run.line, " %%i %llu", (unsigned long long)was->inode);
    size_t n = add_ranges(&run.line, req->ranges + first, req->n_ranges - first, &bytes);
    run.src = req->src;
    run.pieces = req->ranges + first;
    run.n_pieces = n;
    buf_adds(&run.line, " && { ");
    bool last = first + n == req->n_ranges;
    if (p->bytes_only)
        buf_adds(&run.line, "[ -z \"$Y\" ] || run sync \"$p\"; ");
    else if (last) {
        struct wire_attr owner = sftp_owner_of(p->attr, was), rest = sftp_rest_of(p->attr, was);
        buf_addf(&run.line, "run truncate -s %llu \"$p\"; [ $s != 0 ] || fin",
                 (unsigned long long)req->new_size);
        commands_attrs(&run.line, &owner, &rest, p->attr->known & ATTR_HAS_ATIME);
        buf_adds(&run.line, "; ");
    }
    buf_adds(&run.line, "tell $s; }");
    int r = shell_run(c, op, &run, "patch", req->key);
    if (r == -ESTALE && first == 0)
        p->begun = false; /* refused before the first byte */
    if (r == 0 && last && !p->bytes_only)
        r = result_attrs(c, op, &run, "patch", req->key, &p->after);
    shell_run_done(&run);
    return r < 0 ? r : (ssize_t)n;
}

int commands_patch(struct conn *c, struct op *op, struct far_patch *p)
{
    size_t done = 0;
    int r = 0;
    if (!p->bytes_only)
        r = far_begin_patch(c, op, far_lstat(c, op, p->path, p->req->key, &p->before), p);
    if (r < 0)
        return r;
    do {
        ssize_t n = patch_some(c, op, p, done);
        if (n < 0)
            return (int)n;
        done += (size_t)n;
    } while (done < p->req->n_ranges);
    return 0;
}
