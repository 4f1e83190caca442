/* SPDX-License-Identifier: MIT
 * spawn.c: see spawn.h. */
#include "base/spawn.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define ERRORS_MAX 4096 /* of stderr: the rest is read and forgotten */
#define STEP_MS 50      /* a cancelled op is noticed so late */

extern char **environ;

/* ---- words ---- */

/* One word from *line on, which is not blank; false: a quote is open at the end. */
static bool take_word(const char **line, struct buf *word)
{
    char quote = 0;
    const char *p = *line;
    for (; *p && (quote || !strchr(" \t\r\n", *p)); p++) {
        if (quote == 0 && (*p == '"' || *p == '\''))
            quote = *p;
        else if (quote && *p == quote)
            quote = 0;
        else if (*p != '\\' || quote == '\'' || (quote == '"' && !(p[1] && strchr("\"\\", p[1]))))
            buf_addc(word, *p);
        else if (p[1])
            buf_addc(word, *++p);
        else
            return false;
    }
    *line = p;
    return !quote;
}

char **spawn_words(const char *line, struct err *err)
{
    char **words = NULL;
    size_t n = 0;
    for (;;) {
        struct buf word = BUF_INIT;
        line += strspn(line, " \t\r\n");
        words = xrealloc(words, (n + 2) * sizeof(*words));
        words[n] = words[n + 1] = NULL;
        if (!*line && n > 0)
            return words;
        bool good = *line && take_word(&line, &word);
        words[n++] = word.data ? buf_take(&word) : xstrdup("");
        if (good)
            continue;
        (void)err_set(err, EINVAL, n == 1 && !words[0][0] ? "the command is empty" : "a quote is not closed");
        spawn_words_free(words);
        return NULL;
    }
}

void spawn_words_free(char **words)
{
    for (size_t i = 0; words && words[i]; i++)
        free(words[i]);
    free(words);
}

/* ---- running ---- */

struct child {
    pid_t pid;
    int out, errors; /* ours to read; -1: at their end */
};

static void close_fd(int *fd)
{
    if (*fd >= 0)
        (void)close(*fd);
    *fd = -1;
}

static int start(char *const *argv, int out, int errors, pid_t *ret)
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attr;
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    (void)posix_spawn_file_actions_init(&files);
    (void)posix_spawnattr_init(&attr);
    (void)posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    (void)posix_spawnattr_setsigmask(&attr, &none);
    (void)posix_spawnattr_setsigdefault(&attr, &all);
    int r = posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    if (r == 0)
        r = posix_spawn_file_actions_adddup2(&files, out, STDOUT_FILENO);
    if (r == 0)
        r = posix_spawn_file_actions_adddup2(&files, errors, STDERR_FILENO);
    if (r == 0)
        r = posix_spawn_file_actions_addclosefrom_np(&files, STDERR_FILENO + 1);
    if (r == 0)
        r = posix_spawnp(ret, argv[0], &files, &attr, argv, environ);
    (void)posix_spawn_file_actions_destroy(&files);
    (void)posix_spawnattr_destroy(&attr);
    return -r;
}

static int begin(char *const *argv, struct op *op, struct child *ret)
{
    int out[2] = {-1, -1}, errors[2] = {-1, -1};
    int r = pipe2(out, O_CLOEXEC) < 0 || pipe2(errors, O_CLOEXEC) < 0 ? -errno : 0;
    if (r == 0)
        r = start(argv, out[1], errors[1], &ret->pid);
    close_fd(&out[1]);
    close_fd(&errors[1]);
    if (r < 0) {
        close_fd(&out[0]);
        close_fd(&errors[0]);
        return err_set(&op->err, -r, "cannot run %s: %s", argv[0], strerror(-r));
    }
    ret->out = out[0];
    ret->errors = errors[0];
    return 0;
}

/* What there is to read; `max` bytes are kept. */
static void take(int *fd, size_t max, struct buf *b)
{
    char piece[4096];
    ssize_t n = read(*fd, piece, sizeof(piece));
    if (n <= 0 && !(n < 0 && (errno == EINTR || errno == EAGAIN)))
        close_fd(fd);
    if (n > 0 && b->len < max)
        buf_add(b, piece, (size_t)n < max - b->len ? (size_t)n : max - b->len);
    explicit_bzero(piece, sizeof(piece));
}

static int collect(struct child *c, uint64_t end_ns, struct op *op, struct spawn_result *ret)
{
    while (c->out >= 0 || c->errors >= 0) {
        struct pollfd wait[] = {{.fd = c->out, .events = POLLIN}, {.fd = c->errors, .events = POLLIN}};
        int r = op_check(op);
        if (r < 0)
            return r;
        if (clock_now_ns() >= end_ns)
            return err_set(&op->err, ETIMEDOUT, "it did not end in time");
        if (ret->out.len >= SPAWN_OUTPUT_MAX)
            return err_set(&op->err, EMSGSIZE, "it wrote more than %u bytes", SPAWN_OUTPUT_MAX);
        (void)poll(wait, ARRAY_LEN(wait), STEP_MS);
        if (wait[0].revents)
            take(&c->out, SPAWN_OUTPUT_MAX, &ret->out);
        if (wait[1].revents)
            take(&c->errors, ERRORS_MAX, &ret->errors);
    }
    return 0;
}

/* Its outputs are closed: it ends now, or it is ended. */
static int wait_for(const struct child *c, uint64_t end_ns, struct op *op, int *ret_status)
{
    for (;;) {
        pid_t got = waitpid(c->pid, ret_status, WNOHANG);
        if (got == c->pid)
            return 0;
        if (got < 0 && errno != EINTR)
            return err_set(&op->err, errno, "waitpid: %s", strerror(errno));
        int r = op_check(op);
        if (r < 0)
            return r;
        if (clock_now_ns() >= end_ns)
            return err_set(&op->err, ETIMEDOUT, "it did not end in time");
        (void)poll(NULL, 0, 2);
    }
}

int spawn_capture(char *const *argv, unsigned timeout_ms, struct op *op, struct spawn_result *ret)
{
    struct child c = {.out = -1, .errors = -1};
    uint64_t end_ns = clock_now_ns() + timeout_ms * NS_PER_MS;
    lock_assert_none_held();
    int r = begin(argv, op, &c);
    if (r < 0)
        return r;
    (void)buf_reserve(&ret->out, SPAWN_OUTPUT_MAX); /* it never moves: nothing of it stays elsewhere */
    r = collect(&c, end_ns, op, ret);
    if (r == 0)
        r = wait_for(&c, end_ns, op, &ret->status);
    close_fd(&c.out);
    close_fd(&c.errors);
    if (r < 0) {
        (void)kill(-c.pid, SIGKILL);
        (void)waitpid(c.pid, &ret->status, 0);
    }
    return r;
}

static void wipe(struct buf *b)
{
    if (b->data)
        explicit_bzero(b->data, b->len);
    buf_done(b);
}

void spawn_result_done(struct spawn_result *r)
{
    wipe(&r->out);
    wipe(&r->errors);
}
