/* SPDX-License-Identifier: MIT
 * sftp_shell.c: see sftp_shell.h.
 *
 * Invariants
 *  1. busy: a line was sent whose trailer has not come. Nothing else is sent then but its bytes.
 *  2. Of what was received, the last bytes that could be the beginning of a trailer are kept back.
 *  3. spent: what the shell reads next is not a line; nothing is sent any more. */
#include "backends/sftp/sftp_shell.h"

#include "backends/sftp/exec_text.h"
#include "base/cleanup.h"
#include "base/clock.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#define SECRET 32
#define MARK (1 + SECRET + 1) /* "\nSECRET " */
#define REASON 60
#define TEXT 300
#define EXTRA 200
#define TRAILER (MARK + 3 + 1 + REASON + 1 + TEXT + 1 + EXTRA + 1)
#define PIECE (256U * 1024)
#define OUT_MAX (64U * 1024)
#define DROP_MAX (512U * 1024) /* output that nobody wants: beyond, the connection is closed */

struct shell {
    char mark[MARK + 1];
    bool busy, spent;
};

struct running { /* one line under way */
    struct conn *c;
    struct op *op;
    struct shell_run *run;
    size_t piece;  /* of run->pieces, being sent */
    uint64_t sent; /* bytes of it */
    int failed;    /* of take; the output is dropped from then on */
    size_t dropped;
    unsigned status;
    char reason[REASON + 1], text[TEXT + 1];
};

void shell_free(struct shell *sh)
{
    free(sh);
}

void shell_run_done(struct shell_run *run)
{
    buf_done(&run->line);
    buf_done(&run->out);
}

/* ---- receiving ---- */

static void give(struct running *ru, const char *bytes, size_t len)
{
    struct shell_run *run = ru->run;
    if (len == 0)
        return;
    if (ru->failed < 0)
        ru->dropped += len;
    else if (run->take)
        ru->failed = run->take(run->arg, ru->op, bytes, len);
    else if (run->out.len + len <= OUT_MAX)
        buf_add(&run->out, bytes, len);
    else
        ru->failed = err_set(&ru->op->err, EIO, "a command's answer is too long");
}

/* A field of the trailer: without the spaces behind it, and in one line. */
static void field(char *to, const char *from, size_t len)
{
    while (len > 0 && from[len - 1] == ' ')
        len--;
    for (size_t i = 0; i < len; i++)
        to[i] = iscntrl((unsigned char)from[i]) ? ' ' : from[i];
    to[len] = '\0';
}

static bool read_trailer(struct running *ru, const char *at)
{
    const char *p = at + MARK;
    for (size_t i = 0; i < 3; i++)
        if (!isdigit((unsigned char)p[i]))
            return false;
    ru->status = (unsigned)((p[0] - '0') * 100 + (p[1] - '0') * 10 + (p[2] - '0'));
    field(ru->reason, p + 4, REASON);
    field(ru->text, p + 4 + REASON + 1, TEXT);
    field(ru->run->extra, p + 4 + REASON + 1 + TEXT + 1, EXTRA);
    return at[TRAILER - 1] == '\n';
}

/* Gives what has come. 1: the trailer was behind it; 0: not yet; < 0. */
static int receive(struct running *ru)
{
    struct conn *c = ru->c;
    const char *at = (const char *)c->in + c->in_at;
    size_t have = c->in_len - c->in_at;
    const char *mark = have >= MARK ? memmem(at, have, c->shell->mark, MARK) : NULL;
    size_t plain = mark ? (size_t)(mark - at) : have >= MARK ? have - MARK + 1 : 0;
    give(ru, at, plain);
    c->in_at += plain;
    if (!mark || have - plain < TRAILER)
        return 0;
    if (!read_trailer(ru, mark))
        return conn_broken(c, ru->op, EIO, "the shell's answer makes no sense");
    c->in_at += TRAILER;
    return 1;
}

/* ---- sending ---- */

static bool all_sent(const struct running *ru)
{
    return ru->piece == ru->run->n_pieces;
}

/* Queues the next bytes. 1: done so; 0: there are none, or no room now. */
static int queue_some(struct running *ru)
{
    struct conn *c = ru->c;
    while (!all_sent(ru) && ru->sent == ru->run->pieces[ru->piece].length) {
        ru->piece++;
        ru->sent = 0;
    }
    if (all_sent(ru) || CONN_OUT_SIZE - c->out_len < PIECE + CONN_SMALL)
        return 0;
    const struct patch_range *p = &ru->run->pieces[ru->piece];
    uint64_t left = p->length - ru->sent;
    size_t n = left < PIECE ? (size_t)left : PIECE;
    int r = ru->run->src->read_at(ru->run->src, p->offset + ru->sent, c->out + c->out_len, n);
    if (r < 0)
        return err_set(&ru->op->err, -r, "reading the data: %s", strerror(-r));
    c->out_len += n;
    ru->sent += n;
    return 1;
}

/* Until the trailer is there. */
static int exchange(struct running *ru)
{
    for (;;) {
        int r = receive(ru);
        if (r != 0)
            return r < 0 ? r : 0;
        if (ru->dropped > DROP_MAX)
            return ru->failed;
        r = op_check(ru->op);
        if (r == 0)
            r = queue_some(ru);
        if (r < 0)
            return r;
        if (r == 1 && conn_pump(ru->c) >= 0)
            continue;
        r = conn_move(ru->c, ru->op);
        if (r < 0)
            return r;
    }
}

static int judge(struct running *ru, const char *what, const char *key)
{
    struct op *op = ru->op;
    if (ru->failed < 0)
        return ru->failed;
    if (ru->status == 0)
        return 0;
    int code = exec_errno(ru->status % 500, ru->reason);
    int r = err_set(&op->err, code, "%s %s: sftp %s: %s", what, key, ru->c->name,
                    ru->text[0] ? ru->text : "the command failed");
    op->err.status = code == EIO ? SSH_FX_FAILURE : 0;
    return r;
}

int shell_run(struct conn *c, struct op *op, struct shell_run *run, const char *what,
              const char *key)
{
    struct running ru = {.c = c, .op = op, .run = run};
    struct shell *sh = c->shell;
    if (c->broken || sh->busy || sh->spent)
        return conn_broken(c, op, EIO, "the shell there is of no more use");
    if (run->line.len + MARK > CONN_ROOM_MAX)
        return err_set(&op->err, ENAMETOOLONG, "%s %s: too much for one command", what, key);
    sh->busy = true;
    int r = conn_room(c, op, run->line.len + MARK);
    if (r < 0)
        return r;
    memcpy(c->out + c->out_len, sh->mark + 1, MARK - 1);
    memcpy(c->out + c->out_len + MARK - 1, run->line.data, run->line.len);
    c->out_len += MARK - 1 + run->line.len;
    c->out[c->out_len++] = '\n';
    r = exchange(&ru);
    if (r < 0) {
        err_prefix(&op->err, "%s %s", what, key);
        return r;
    }
    sh->busy = ru.dropped > DROP_MAX;
    (void)queue_some(&ru); /* notes an end that has been reached */
    sh->spent = ru.status >= 500 || !all_sent(&ru);
    return judge(&ru, what, key);
}

/* ---- life ---- */

bool shell_rest(struct conn *c)
{
    if (c->broken || c->shell->busy || c->shell->spent)
        return false;
    return conn_rest(c);
}

bool shell_is_alive(struct conn *c)
{
    for (int n = 1; n > 0;) {
        n = conn_pump(c);
        if (n < 0)
            return false;
    }
    return !c->broken && c->in_at == c->in_len;
}

/* What came before the program's first word: of a server that runs no commands, why. */
static int no_shell(struct conn *c, struct op *op, struct shell_run *first)
{
    char text[101] = "";
    if (op->err.code == EINTR || op->err.code == ETIMEDOUT)
        return -op->err.code;
    buf_add(&first->out, c->in + c->in_at, c->in_len - c->in_at); /* what was kept back */
    size_t n = strcspn(buf_str(&first->out), "\n");
    field(text, buf_str(&first->out), n < 100 ? n : 100);
    int r = err_set(&op->err, EIO, "sftp %s: the server runs no commands%s%s", c->name,
                    text[0] ? ": " : "", text);
    op->err.retry = ERR_RETRY_NEVER;
    return r;
}

int shell_start(struct conn *c, struct op *op)
{
    struct shell_run run = SHELL_RUN_INIT;
    struct running ru = {.c = c, .op = op, .run = &run};
    size_t len = strlen(shell_program);
    struct shell *sh = c->shell = xcalloc(1, sizeof(*sh));
    char secret[SECRET + 1];
    random_hex(secret, SECRET);
    snprintf(sh->mark, sizeof(sh->mark), "\n%s ", secret);
    int n = snprintf((char *)c->out + c->out_len, CONN_SMALL, "K=%s\n", secret);
    c->out_len += (size_t)n;
    memcpy(c->out + c->out_len, shell_program, len);
    c->out_len += len;
    int r = exchange(&ru);
    if (r < 0)
        r = no_shell(c, op, &run);
    else if (run.extra[0] && run.extra[1]) {
        r = err_set(&op->err, EIO, "sftp %s: for commands the server needs%s (GNU or BusyBox)",
                    c->name, run.extra + 1);
        op->err.retry = ERR_RETRY_NEVER;
    }
    c->extensions = EXT_POSIX_RENAME | EXT_STATVFS | EXT_LSETSTAT;
    if (run.extra[0] == '1')
        c->extensions |= EXT_FSYNC;
    shell_run_done(&run);
    return r;
}
