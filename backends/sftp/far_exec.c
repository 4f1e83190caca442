/* SPDX-License-Identifier: MIT
 * far_exec.c: the far side by commands: names and metadata. See sftp_far.h; the words are those of
 * exec_program.c. One line, and so one round trip, for each request. */
#include "backends/sftp/far_exec.h"

#include <string.h>

void commands_path(struct buf *line, const char *path)
{
    buf_addc(line, ' ');
    exec_quote_path(line, path, "");
}

void commands_attrs(struct buf *line, const struct wire_attr *owner, const struct wire_attr *rest,
                    bool atime)
{
    if (owner->flags & WIRE_OWNER)
        buf_addf(line, " %u:%u", owner->uid, owner->gid);
    else
        buf_adds(line, " -");
    if (rest->flags & WIRE_MODE)
        buf_addf(line, " %o", rest->mode & 07777);
    else
        buf_adds(line, " -");
    if ((rest->flags & WIRE_TIMES) && atime)
        buf_addf(line, " %u", rest->atime);
    else
        buf_adds(line, " -");
    if (rest->flags & WIRE_TIMES)
        buf_addf(line, " %u", rest->mtime);
    else
        buf_adds(line, " -");
}

/* Runs `words` and up to two paths; `out` may be NULL. */
static int command(struct conn *c, struct op *op, const char *words, const char *a, const char *b,
                   const char *what, const char *key, struct buf *out)
{
    struct shell_run run = SHELL_RUN_INIT;
    buf_adds(&run.line, words);
    if (a)
        commands_path(&run.line, a);
    if (b)
        commands_path(&run.line, b);
    buf_adds(&run.line, "; tell $s");
    int r = shell_run(c, op, &run, what, key);
    if (r == 0 && out)
        buf_add(out, run.out.data, run.out.len);
    shell_run_done(&run);
    return r;
}

static int commands_look(struct conn *c, struct op *op, const char *path, const char *key,
                         bool follow, struct wire_attr *ret)
{
    CLEANUP_BUF struct buf out = BUF_INIT;
    int r = command(c, op, follow ? "run stat -L -c \"$H\" --" : "run stat -c \"$H\" --", path,
                    NULL, "stat", key, &out);
    if (r < 0)
        return r;
    const char *text = buf_str(&out);
    return exec_attrs(text, text + out.len, ret) > 0 ? 0 : conn_bad_reply(c, op, "stat", key);
}

/* ---- directories ---- */

struct listing {
    struct conn *c;
    const char *dir, *key;
    far_name_fn *take;
    void *arg;
    struct buf rest; /* the beginning of a record */
};

static int take_records(void *arg, struct op *op, const char *bytes, size_t len)
{
    struct listing *l = arg;
    ssize_t n;
    buf_add(&l->rest, bytes, len);
    const char *at = l->rest.data, *end = at + l->rest.len;
    for (;;) {
        struct wire_attr w;
        const char *name;
        size_t name_len;
        n = exec_record(at, end, l->dir, &w, &name, &name_len);
        if (n <= 0)
            break;
        l->take(l->arg, name, name_len, &w);
        at += n;
    }
    if (n < 0)
        return conn_bad_reply(l->c, op, "list", l->key);
    size_t left = (size_t)(end - at);
    memmove(l->rest.data, at, left);
    buf_truncate(&l->rest, left);
    return 0;
}

static int commands_names(struct conn *c, struct op *op, const char *path, const char *key,
                          far_name_fn *take, void *arg)
{
    bool slash = path[strlen(path) - 1] == '/', bare = *path != '/' && *path != '.';
    CLEANUP_FREE char *dir = xasprintf("%s%s%s", bare ? "./" : "", path, slash ? "" : "/");
    struct listing l = {.c = c, .dir = dir, .key = key, .take = take, .arg = arg};
    struct shell_run run = SHELL_RUN_INIT;
    run.take = take_records;
    run.arg = &l;
    buf_adds(&run.line, "names");
    commands_path(&run.line, dir);
    buf_adds(&run.line, "; tell $s");
    int r = shell_run(c, op, &run, "list", key);
    if (r == 0 && l.rest.len > 0)
        r = conn_bad_reply(c, op, "list", key);
    shell_run_done(&run);
    buf_done(&l.rest);
    return r;
}

static int commands_make_dir(struct conn *c, struct op *op, const char *path, uint32_t mode,
                             const char *key)
{
    return command(c, op, mode == 0777 ? "run mkdir --" : "run mkdir -m 700 --", path, NULL, "make",
                   key, NULL);
}

static int commands_remove_dir(struct conn *c, struct op *op, const char *path, const char *key)
{
    return command(c, op, "run rmdir --", path, NULL, "remove", key, NULL);
}

static int commands_sync_dir(struct conn *c, struct op *op, const char *path, const char *key)
{
    return command(c, op, "run sync", path, NULL, "make durable", key, NULL);
}

/* ---- names ---- */

static int commands_rename(struct conn *c, struct op *op, struct far_move *m)
{
    CLEANUP_FREE char *above = sftp_parent(m->to), *was_above = sftp_parent(m->from);
    struct shell_run run = SHELL_RUN_INIT;
    bool same_dir = strcmp(above, was_above) == 0;
    if (!same_dir) { /* mv would copy from one file system to another */
        buf_adds(&run.line, "if isn");
        commands_path(&run.line, m->from);
        buf_adds(&run.line, " && isn");
        commands_path(&run.line, above);
        buf_adds(&run.line, " && ! xd");
        commands_path(&run.line, m->from);
        commands_path(&run.line, above);
        buf_adds(&run.line, "; then e=': Invalid cross-device link' s=1; else ");
    }
    buf_adds(&run.line, m->no_replace ? "mvn" : "mvr");
    commands_path(&run.line, m->from);
    commands_path(&run.line, m->to);
    buf_adds(&run.line, same_dir ? "; tell $s" : "; fi; tell $s");
    int r = shell_run(c, op, &run, "rename", m->key);
    shell_run_done(&run);
    m->moved = r == 0;
    return r == 0 && m->dir ? commands_sync_dir(c, op, m->dir, m->key) : r;
}

#define RESULT 64 /* bytes of the line about a file */

static void note_result(struct conn *c, struct op *op, const char *line, const char *key,
                        struct remove_result *ret)
{
    char reason[RESULT] = "";
    unsigned status = (unsigned)strtoul(line, NULL, 10);
    size_t n = RESULT - 5;
    while (n > 0 && line[4 + n - 1] == ' ')
        n--;
    memcpy(reason, line + 4, n);
    ret->code = status == 0 ? 0 : exec_errno(status, reason);
    if (status != 0)
        (void)err_set(&op->err, ret->code, "remove %s: sftp %s: %s", key, c->name, reason);
    if (ret->code == EIO)
        op->err.status = SSH_FX_FAILURE;
}

static int commands_remove(struct conn *c, struct op *op, const char *const *paths,
                           const char *const *keys, size_t n, struct remove_result *results)
{
    struct shell_run run = SHELL_RUN_INIT;
    size_t asked = 0, at = 0;
    int r = 0;
    buf_adds(&run.line, "rms");
    for (size_t i = 0; i < n; i++) {
        if (paths[i])
            commands_path(&run.line, paths[i]);
        asked += paths[i] != NULL;
    }
    buf_adds(&run.line, "; tell $s");
    if (asked)
        r = shell_run(c, op, &run, "remove", keys[0]);
    if (r == 0 && run.out.len != asked * RESULT)
        r = conn_bad_reply(c, op, "remove", keys[0]);
    for (size_t i = 0; i < n && r == 0; i++)
        if (paths[i])
            note_result(c, op, run.out.data + RESULT * at++, keys[i], &results[i]);
    shell_run_done(&run);
    return r;
}

static int commands_symlink(struct conn *c, struct op *op, const char *target, const char *path,
                            const char *key)
{
    CLEANUP_BUF struct buf words = BUF_INIT;
    buf_adds(&words, "run ln -sT -- ");
    exec_quote(&words, target, "");
    return command(c, op, buf_str(&words), path, NULL, "put", key, NULL);
}

/* ---- metadata ---- */

static int commands_set(struct conn *c, struct op *op, const char *path, const char *key,
                        bool is_link, const struct wire_attr *a, const char *what)
{
    struct shell_run run = SHELL_RUN_INIT;
    (void)is_link; /* chown -h and touch -h do not follow; modes of links are not asked for */
    buf_adds(&run.line, "p=");
    exec_quote_path(&run.line, path, "");
    buf_adds(&run.line, "; if isn \"$p\"; then st");
    commands_attrs(&run.line, a, a, true);
    buf_adds(&run.line, "; else e=': No such file or directory' s=1; fi; tell $s");
    int r = shell_run(c, op, &run, what, key);
    shell_run_done(&run);
    return r;
}

static int commands_space(struct conn *c, struct op *op, const char *path, struct store_space *ret)
{
    CLEANUP_BUF struct buf out = BUF_INIT;
    unsigned long long size, blocks, free_blocks, avail, files, files_free;
    int r =
        command(c, op, "run stat -f -c '%S %b %f %a %c %d' --", path, NULL, "statfs", path, &out);
    if (r < 0)
        return r;
    if (sscanf(buf_str(&out), "%20llu %20llu %20llu %20llu %20llu %20llu", &size, &blocks,
               &free_blocks, &avail, &files, &files_free) != 6)
        return conn_bad_reply(c, op, "statfs", path);
    *ret = (struct store_space){
        .total = size * blocks,
        .free = size * free_blocks,
        .avail = size * avail,
        .files = files,
        .files_free = files_free,
    };
    return 0;
}

const struct far far_exec = {
    .how = "commands",
    .start = shell_start,
    .rest = shell_rest,
    .is_alive = shell_is_alive,
    .look = commands_look,
    .names = commands_names,
    .read = commands_read,
    .make = commands_make,
    .patch = commands_patch,
    .symlink = commands_symlink,
    .set = commands_set,
    .rename = commands_rename,
    .remove = commands_remove,
    .make_dir = commands_make_dir,
    .remove_dir = commands_remove_dir,
    .sync_dir = commands_sync_dir,
    .space = commands_space,
};
