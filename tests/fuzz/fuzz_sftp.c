/* SPDX-License-Identifier: MIT
 * Every packet of an SFTP server. The input: a line of operations (drive.h), then the answers in the order of the
 * requests: the type of the packet, two bytes of length, the body behind the id. Type 0: the body is sent as it is,
 * in place of a packet. SSH is left out: what libssh2's channel gives is what the input says.
 * With the letter 'x' first, a shell's answers to commands: each ended by the byte 0x1e, a line "STATUS TAB REASON TAB
 * TEXT TAB EXTRA" for the trailer, then what the command printed; or '!' and bytes that come as they are. */
#include "tests/fuzz/drive.h"

#include "backends/sftp/sftp_far.h"
#include "backends/sftp/sftp_int.h"

#include <errno.h>
#include <stdlib.h>

#define END_OF_ANSWER 0x1e
#define SECRET 32

static struct {
    const uint8_t *at, *end;
    struct buf out;       /* what the client has sent, not looked at yet */
    struct buf in;        /* what it has not read yet */
    size_t in_at;
    bool shell;
    char secret[SECRET + 1];
} server;

static uint32_t u32_at(const char *p)
{
    const uint8_t *b = (const uint8_t *)p;
    return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

static void put_u32(struct buf *b, uint32_t v)
{
    const uint8_t bytes[] = {(uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v};
    buf_add(b, (const char *)bytes, sizeof(bytes));
}

/* Answers one request; false when the input is at its end. */
static bool answer(uint32_t id)
{
    if (server.end - server.at < 3)
        return false;
    uint8_t type = server.at[0];
    size_t len = (size_t)server.at[1] << 8 | server.at[2], left = (size_t)(server.end - server.at - 3);
    len = len < left ? len : left;
    const char *body = (const char *)server.at + 3;
    server.at += 3 + len;
    if (type) {
        put_u32(&server.in, (uint32_t)len + 5);
        buf_addc(&server.in, (char)type);
        put_u32(&server.in, id);
    }
    buf_add(&server.in, body, len);
    return true;
}

static bool answer_requests(void)
{
    size_t at = 0;
    bool more = true;
    while (more && server.out.len - at >= 9 && server.out.len - at >= 4 + u32_at(server.out.data + at)) {
        const char *p = server.out.data + at;
        at += 4 + u32_at(p);
        more = answer(u32_at(p + 5));
    }
    if (at) {
        memmove(server.out.data, server.out.data + at, server.out.len - at);
        server.out.len -= at;
    }
    return more;
}

/* ---- a shell's answers ---- */

/* The client tells it in its first line. */
static void learn_secret(void)
{
    if (server.out.len >= 2 + SECRET && memcmp(server.out.data, "K=", 2) == 0)
        memcpy(server.secret, server.out.data + 2, SECRET);
    buf_reset(&server.out);
}

/* The next field of the line, which it is taken from. */
static const char *next_field(char **line)
{
    const char *field = strsep(line, "\t");
    return field ? field : "";
}

static void answer_command(void)
{
    if (server.at == server.end)
        return;
    const uint8_t *stop = memchr(server.at, END_OF_ANSWER, (size_t)(server.end - server.at));
    stop = stop ? stop : server.end;
    CLEANUP_FREE char *text = fuzz_text(server.at, (size_t)(stop - server.at));
    if (*text == '!') {
        buf_add(&server.in, server.at + 1, (size_t)(stop - server.at - 1));
    } else {
        size_t head = strcspn(text, "\n");
        const uint8_t *output = server.at + head + (text[head] == '\n');
        text[head] = '\0';
        char *line = text;
        unsigned status = (unsigned)strtoul(next_field(&line), NULL, 10) % 1000;
        const char *reason = next_field(&line), *said = next_field(&line), *extra = next_field(&line);
        if (output < stop)
            buf_add(&server.in, output, (size_t)(stop - output));
        buf_addf(&server.in, "\n%s %03u %-60.60s %-300.300s %-200.200s\n", server.secret, status, reason, said, extra);
    }
    server.at = stop < server.end ? stop + 1 : server.end;
}

/* ---- the channel ---- */

ssize_t __wrap_libssh2_channel_write_ex(LIBSSH2_CHANNEL *c, int stream, const char *buf, size_t n);
ssize_t __wrap_libssh2_channel_write_ex(LIBSSH2_CHANNEL *c, int stream, const char *buf, size_t n)
{
    (void)c;
    (void)stream;
    buf_add(&server.out, buf, n);
    return (ssize_t)n;
}

ssize_t __wrap_libssh2_channel_read_ex(LIBSSH2_CHANNEL *c, int stream, char *buf, size_t n);
ssize_t __wrap_libssh2_channel_read_ex(LIBSSH2_CHANNEL *c, int stream, char *buf, size_t n)
{
    (void)c;
    (void)stream;
    if (server.in_at == server.in.len) {
        server.in_at = server.in.len = 0;
        if (server.shell) {
            learn_secret();
            answer_command();
        } else {
            (void)answer_requests();
        }
    }
    size_t left = server.in.len - server.in_at;
    if (left == 0)
        return LIBSSH2_ERROR_SOCKET_DISCONNECT;
    n = left < n ? left : n;
    memcpy(buf, server.in.data + server.in_at, n);
    server.in_at += n;
    return (ssize_t)n;
}

int __wrap_libssh2_session_block_directions(LIBSSH2_SESSION *s);
int __wrap_libssh2_session_block_directions(LIBSSH2_SESSION *s)
{
    (void)s;
    return 0;
}

int __wrap_sftp_take(struct sftp *s, struct op *op, bool transfer, struct conn **ret);
int __wrap_sftp_take(struct sftp *s, struct op *op, bool transfer, struct conn **ret)
{
    struct conn *c = conn_new("fuzz:22", 0, 0);
    (void)transfer;
    c->root = s->root;
    buf_reset(&server.in);
    buf_reset(&server.out);
    server.in_at = 0;
    c->far = server.shell ? &far_exec : &far_sftp;
    int r = c->far->start(c, op);
    if (r < 0)
        conn_free(c);
    else
        *ret = c;
    return r;
}

void __wrap_sftp_give(struct sftp *s, struct conn *c, bool transfer);
void __wrap_sftp_give(struct sftp *s, struct conn *c, bool transfer)
{
    (void)transfer;
    if (c && c->touched)
        atomic_fetch_add(&s->changes, 1);
    conn_free(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *nl = size ? memchr(data, '\n', size) : NULL;
    if (!nl || nl - data > DRIVE_MAX)
        return -1;
    struct store *s = drive_open(&sftp_class, "endpoints = 127.0.0.1:1\nuser = u\nbase_path = /srv\nagent = no\n"
                                              "key_file = /nonexistent\n");
    server.at = nl + 1;
    server.end = data + size;
    server.shell = data[0] == 'x';
    drive(s, (const char *)data, (size_t)(nl - data));
    store_close(s);
    buf_done(&server.in);
    buf_done(&server.out);
    server.in = server.out = BUF_INIT;
    return 0;
}
