/* SPDX-License-Identifier: MIT
 * sftp_conn.c: the bytes of a connection, and packets as they come.
 *
 * Invariants
 *  1. out[out_at..out_len) is queued. libssh2 may hold a pointer into it (stuck), so out is never
 * moved or freed while the connection lives, and starts again at 0 only when it is empty.
 *  2. A libssh2 call that gave EAGAIN while it was sending is repeated before any other (stuck).
 *  3. Ids rise from dropped_below to next_id. A reply with an id below is nobody's any more; what is not waited for
 * just now is stashed, one reply to a request: what a server can fill memory with is bounded. */
#include "backends/sftp/sftp_shell.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/lock.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define IN_SIZE (2 * CONN_ROOM_MAX)
#define PACKET_MAX (CONN_ROOM_MAX + 1024)
#define WRITE_WINDOW_MIN (256U << 10)
#define WRITE_WINDOW_MAX (8U << 20)
#define WRITE_MIN (128U << 10)
#define NS_PER_BYTE 1 /* a server's, at its best */
#define SLICE_MS 100 /* how long a cancelled request may go unnoticed */

struct stashed {
    struct stashed *next;
    uint32_t id;
    uint8_t type;
    size_t len;
    uint8_t body[];
};

struct conn *conn_new(const char *name, size_t endpoint, unsigned stall_ms)
{
    struct conn *c = xcalloc(1, sizeof(*c));
    c->name = xstrdup(name);
    c->endpoint = endpoint;
    c->stall_ms = stall_ms;
    c->fd = -1;
    c->next_id = 1;
    c->out = xmalloc(CONN_OUT_SIZE);
    c->in = xmalloc(IN_SIZE);
    c->read_max = c->write_max = 32768;
    c->write_window = WRITE_WINDOW_MAX;
    return c;
}

/* Does anybody want the reply with this id? */
static bool is_awaited(const struct conn *c, uint32_t id)
{
    bool ahead = c->ahead.temp && (id == c->ahead.open || id == c->ahead.open_dir);
    return ahead || (int32_t)(id - c->dropped_below) >= 0;
}

static void sweep_stash(struct conn *c)
{
    for (struct stashed **at = &c->stash, *s; (s = *at) != NULL;) {
        if (is_awaited(c, s->id)) {
            at = &s->next;
            continue;
        }
        *at = s->next;
        free(s);
    }
    free(c->given);
    c->given = NULL;
}

void conn_ahead_clear(struct conn *c)
{
    free(c->ahead.dir);
    free(c->ahead.temp);
    c->ahead = (struct ahead){0};
}

static void drop_stash(struct conn *c)
{
    conn_ahead_clear(c);
    c->dropped_below = c->next_id;
    sweep_stash(c);
}

void conn_free(struct conn *c)
{
    if (!c)
        return;
    lock_assert_none_held();
    if (c->session && c->channel && !c->broken && c->stuck == STUCK_NOT)
        (void)libssh2_session_disconnect(c->session, "done");
    if (c->session)
        libssh2_session_set_blocking(c->session, 0);
    if (c->fd >= 0)
        (void)shutdown(c->fd, SHUT_RDWR); /* what is still to be sent fails at once: freeing never waits */
    if (c->channel)
        (void)libssh2_channel_free(c->channel);
    if (c->session)
        (void)libssh2_session_free(c->session);
    cleanup_fd_(&c->fd); /* not before: libssh2 would send to whoever has the number next */
    drop_stash(c);
    shell_free(c->shell);
    free(c->row.dir);
    free(c->name);
    free(c->out);
    free(c->in);
    free(c);
}

int conn_broken(struct conn *c, struct op *op, int code, const char *what)
{
    char *text = NULL;
    c->broken = true;
    if (c->session)
        (void)libssh2_session_last_error(c->session, &text, NULL, 0);
    int r = err_set(&op->err, code, "sftp %s: %s%s%s", c->name, what, text && *text ? ": " : "",
                    text && *text ? text : "");
    op->err.retry = c->changing ? ERR_RETRY_UNKNOWN : ERR_RETRY_SAFE;
    return r;
}

int conn_poll(struct conn *c, unsigned ms)
{
    int dirs = libssh2_session_block_directions(c->session);
    struct pollfd p = {.fd = c->fd, .events = POLLIN};
    if (dirs & LIBSSH2_SESSION_BLOCK_OUTBOUND)
        p.events |= POLLOUT;
    return poll(&p, 1, (int)ms) > 0;
}

/* ---- sending and receiving what is possible now ---- */

/* > 0: bytes went; 0: not now; -1: the connection is gone. */
static int send_some(struct conn *c)
{
    if (c->out_at == c->out_len || c->stuck == STUCK_READ)
        return 0;
    ssize_t n =
        libssh2_channel_write(c->channel, (char *)c->out + c->out_at, c->out_len - c->out_at);
    c->stuck = STUCK_NOT;
    if (n == LIBSSH2_ERROR_EAGAIN) {
        if (libssh2_session_block_directions(c->session) & LIBSSH2_SESSION_BLOCK_OUTBOUND)
            c->stuck = STUCK_WRITE;
        return 0;
    }
    if (n < 0)
        return -1;
    c->out_at += (size_t)n;
    c->moved += (size_t)n;
    if (c->out_at == c->out_len)
        c->out_at = c->out_len = 0;
    return n > 0;
}

static int receive_some(struct conn *c)
{
    if (c->stuck == STUCK_WRITE)
        return 0;
    if (c->in_at == c->in_len) {
        c->in_at = c->in_len = 0;
    } else if (IN_SIZE - c->in_len < PACKET_MAX / 2) {
        memmove(c->in, c->in + c->in_at, c->in_len - c->in_at);
        c->in_len -= c->in_at;
        c->in_at = 0;
    }
    if (c->in_len == IN_SIZE)
        return 0;
    ssize_t n = libssh2_channel_read(c->channel, (char *)c->in + c->in_len, IN_SIZE - c->in_len);
    c->stuck = STUCK_NOT;
    if (n == LIBSSH2_ERROR_EAGAIN) {
        if (libssh2_session_block_directions(c->session) & LIBSSH2_SESSION_BLOCK_OUTBOUND)
            c->stuck = STUCK_READ;
        return 0;
    }
    if (n < 0 || (n == 0 && libssh2_channel_eof(c->channel)))
        return -1;
    c->in_len += (size_t)n;
    c->moved += (size_t)n;
    return n > 0;
}

/* Waits until something moved. 0, or -errno. */
int conn_move(struct conn *c, struct op *op)
{
    uint64_t start = clock_now_ns();
    lock_assert_none_held();
    for (;;) {
        if (c->broken)
            return conn_broken(c, op, EIO, "the connection is lost");
        int sent = send_some(c), received = sent < 0 ? -1 : receive_some(c);
        if (received < 0)
            return conn_broken(c, op, EIO, "the connection is lost");
        if (received)
            op_moved(op);
        else if (sent)
            op_sent(op);
        if (sent || received)
            return 0;
        int r = op_check(op);
        if (r == -ETIMEDOUT)
            return conn_broken(c, op, ETIMEDOUT, "no answer in time");
        if (r < 0)
            return r;
        if (c->stall_ms && clock_now_ns() - start > c->stall_ms * NS_PER_MS)
            return conn_broken(c, op, ETIMEDOUT, "no byte moved for too long");
        uint64_t left =
            op->deadline_ns ? (op->deadline_ns - clock_now_ns()) / NS_PER_MS + 1 : SLICE_MS;
        (void)conn_poll(c, left < SLICE_MS ? (unsigned)left : SLICE_MS);
    }
}

int conn_room(struct conn *c, struct op *op, size_t n)
{
    while (CONN_OUT_SIZE - c->out_len < n + CONN_SMALL) {
        int r = conn_move(c, op);
        if (r < 0)
            return r;
    }
    return 0;
}

/* ---- packets ---- */

static uint32_t get_u32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* A whole packet in `in`? 1: *ret is it, 0: not yet, -1: this is no SFTP. */
static int next_packet(struct conn *c, struct reply *ret)
{
    size_t have = c->in_len - c->in_at;
    const uint8_t *p = c->in + c->in_at;
    if (have < 4)
        return 0;
    uint32_t len = get_u32(p);
    if (len < 5 || len > PACKET_MAX)
        return -1;
    if (have < 4 + (size_t)len)
        return 0;
    *ret = (struct reply){.type = p[4], .id = get_u32(p + 5), .at = p + 9, .end = p + 4 + len};
    c->in_at += 4 + (size_t)len;
    return 1;
}

/* Keeps a reply for who will wait for it. -1: it answers what was not asked, or was answered before. */
static int stash(struct conn *c, const struct reply *r)
{
    size_t len = (size_t)(r->end - r->at);
    if ((int32_t)(r->id - c->next_id) >= 0)
        return -1;
    if (!is_awaited(c, r->id))
        return 0;
    for (const struct stashed *s = c->stash; s; s = s->next)
        if (s->id == r->id)
            return -1;
    struct stashed *s = xmalloc(sizeof(*s) + len);
    *s = (struct stashed){.next = c->stash, .id = r->id, .type = r->type, .len = len};
    memcpy(s->body, r->at, len);
    c->stash = s;
    return 0;
}

/* The reply with this id, when it came before. */
static bool unstash(struct conn *c, uint32_t id, struct reply *ret)
{
    for (struct stashed **at = &c->stash; *at; at = &(*at)->next) {
        struct stashed *s = *at;
        if (s->id != id)
            continue;
        *at = s->next;
        *ret = (struct reply){.id = id, .type = s->type, .at = s->body, .end = s->body + s->len};
        c->given = s;
        return true;
    }
    return false;
}

int conn_wait(struct conn *c, struct op *op, uint32_t id, struct reply *ret)
{
    free(c->given);
    c->given = NULL;
    if (unstash(c, id, ret))
        return 0;
    for (;;) {
        struct reply got;
        int r = next_packet(c, &got);
        if (r > 0 && got.id == id) {
            *ret = got;
            return 0;
        }
        if (r < 0 || (r > 0 && stash(c, &got) < 0))
            return conn_broken(c, op, EIO, "the server does not speak SFTP");
        if (r == 0) {
            r = conn_move(c, op);
            if (r < 0)
                return r;
        }
    }
}

bool conn_rest(struct conn *c)
{
    if (c->broken || c->opening > (c->ahead.temp ? 2 : 0))
        return false;
    c->dropped_below = c->next_id;
    sweep_stash(c);
    while (send_some(c) > 0) { /* what closes handles is not to wait for the next user */
    }
    c->used_ns = clock_now_ns();
    return true;
}

int conn_pump(struct conn *c)
{
    return send_some(c) < 0 ? -1 : receive_some(c);
}

void conn_reset(struct conn *c)
{
    drop_stash(c);
    c->out_at = c->out_len = c->in_at = c->in_len = 0;
    c->stuck = STUCK_NOT;
    c->next_id = 1;
    c->dropped_below = c->opening = 0;
    c->broken = false;
}

bool conn_is_alive(struct conn *c)
{
    struct reply got;
    for (int n = 1; n > 0;) {
        n = conn_pump(c);
        if (n < 0)
            return false;
        while (next_packet(c, &got) > 0)
            if (stash(c, &got) < 0)
                return false;
    }
    return !c->broken;
}

/* ---- the first packets ---- */

static void note_extension(struct conn *c, const char *name, size_t len)
{
    static const struct {
        const char *name;
        uint32_t bit;
    } known[] = {
        {"posix-rename@openssh.com", EXT_POSIX_RENAME},
        {"fsync@openssh.com", EXT_FSYNC},
        {"statvfs@openssh.com", EXT_STATVFS},
        {"lsetstat@openssh.com", EXT_LSETSTAT},
        {"limits@openssh.com", EXT_LIMITS},
        {"copy-data", EXT_COPY_DATA},
    };
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (strlen(known[i].name) == len && memcmp(known[i].name, name, len) == 0)
            c->extensions |= known[i].bit;
}

static uint32_t at_most(uint64_t n, uint32_t most)
{
    return n == 0 || n > most ? most : (uint32_t)n;
}

/* As much on its way as the way there takes, but not more: sshd keeps what its SFTP server has not read yet, in
 * buffers that are copied as they grow. */
static void size_writes(struct conn *c, uint64_t round_trip_ns)
{
    uint64_t window = round_trip_ns / NS_PER_BYTE;
    window = window < WRITE_WINDOW_MIN ? WRITE_WINDOW_MIN : window;
    c->write_window = window > WRITE_WINDOW_MAX ? WRITE_WINDOW_MAX : (uint32_t)window;
    uint32_t most = c->write_window / 4 < WRITE_MIN ? WRITE_MIN : c->write_window / 4;
    c->write_max = c->write_max > most ? most : c->write_max;
}

static int ask_limits(struct conn *c, struct op *op)
{
    struct reply rep;
    uint64_t packet, read, write, handles, asked = clock_now_ns();
    int r = conn_wait(c, op, conn_limits_req(c), &rep);
    if (r < 0)
        return r;
    uint64_t round_trip = clock_now_ns() - asked;
    if (rep.type == SSH_FXP_EXTENDED_REPLY && reply_u64(&rep, &packet) && reply_u64(&rep, &read) &&
        reply_u64(&rep, &write) && reply_u64(&rep, &handles)) {
        c->read_max = at_most(read, 256 * 1024 - 1024);
        c->write_max = at_most(write, 256 * 1024 - 1024);
        size_writes(c, round_trip);
    }
    return 0;
}

int conn_init(struct conn *c, struct op *op)
{
    static const uint8_t hello[] = {0, 0, 0, 5, SSH_FXP_INIT, 0, 0, 0, 3};
    struct reply rep;
    const char *name, *data;
    size_t name_len, data_len;
    memcpy(c->out, hello, sizeof(hello));
    c->out_len = sizeof(hello);
    /* The answer has a version where all others have an id. */
    int r;
    while ((r = next_packet(c, &rep)) == 0) {
        r = conn_move(c, op);
        if (r < 0)
            return r;
    }
    if (r < 0 || rep.type != SSH_FXP_VERSION || rep.id < 3)
        return conn_broken(c, op, EIO, "the server does not speak SFTP version 3");
    while (reply_bytes(&rep, &name, &name_len) && reply_bytes(&rep, &data, &data_len))
        note_extension(c, name, name_len);
    return c->extensions & EXT_LIMITS ? ask_limits(c, op) : 0;
}
