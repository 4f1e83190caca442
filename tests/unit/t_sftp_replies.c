/* SPDX-License-Identifier: MIT
 * t_sftp_replies.c: whose a reply is (sftp_conn.h), and the end of a connection. A server may send what nobody has asked
 * for: it ends the connection, and keeps no memory. It did: such a reply was stashed for ever. */
#include "backends/sftp/sftp_conn.h"
#include "tests/unit/t.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

static struct {
    uint8_t bytes[256];
    size_t len;
} server;

ssize_t __wrap_libssh2_channel_write_ex(LIBSSH2_CHANNEL *c, int stream, const char *buf, size_t n);
ssize_t __wrap_libssh2_channel_write_ex(LIBSSH2_CHANNEL *c, int stream, const char *buf, size_t n)
{
    (void)c;
    (void)stream;
    (void)buf;
    return (ssize_t)n;
}

ssize_t __wrap_libssh2_channel_read_ex(LIBSSH2_CHANNEL *c, int stream, char *buf, size_t n);
ssize_t __wrap_libssh2_channel_read_ex(LIBSSH2_CHANNEL *c, int stream, char *buf, size_t n)
{
    (void)c;
    (void)stream;
    if (server.len == 0)
        return LIBSSH2_ERROR_SOCKET_DISCONNECT;
    CHECK(server.len <= n);
    memcpy(buf, server.bytes, server.len);
    n = server.len;
    server.len = 0;
    return (ssize_t)n;
}

/* libssh2 says goodbye. */
int __wrap_libssh2_channel_free(LIBSSH2_CHANNEL *c);
int __wrap_libssh2_channel_free(LIBSSH2_CHANNEL *c)
{
    const int *fd = (const int *)(const void *)c;
    CHECK_INT(send(*fd, "bye", 3, MSG_NOSIGNAL), -1);
    CHECK_INT(errno, EPIPE);
    return 0;
}

/* An SSH_FXP_STATUS of the draft, section 7: id, code, no text. */
static void says(uint32_t id, uint8_t code)
{
    const uint8_t packet[] = {0, 0, 0, 9, SSH_FXP_STATUS, 0, 0, 0, (uint8_t)id, 0, 0, 0, code};
    memcpy(server.bytes + server.len, packet, sizeof(packet));
    server.len += sizeof(packet);
}

static int wait_for(struct conn *c, uint32_t id, struct reply *ret)
{
    struct op op;
    op_init(&op, "t", 0);
    return conn_wait(c, &op, id, ret);
}

static void in_any_order(void)
{
    struct conn *c = conn_new("t:22", 0, 0);
    struct reply rep;
    uint32_t a = conn_path_req(c, SSH_FXP_LSTAT, "/a"), b = conn_path_req(c, SSH_FXP_LSTAT, "/b");
    says(b, SSH_FX_NO_SUCH_FILE);
    says(a, SSH_FX_OK);
    CHECK_INT(wait_for(c, a, &rep), 0);
    CHECK(rep.id == a && rep.at[3] == SSH_FX_OK);
    CHECK_INT(wait_for(c, b, &rep), 0);
    CHECK(rep.id == b && rep.at[3] == SSH_FX_NO_SUCH_FILE);
    conn_free(c);
}

static void late(void)
{
    struct conn *c = conn_new("t:22", 0, 0);
    struct reply rep;
    uint32_t a = conn_path_req(c, SSH_FXP_LSTAT, "/a");
    CHECK(conn_rest(c)); /* who asked has gone */
    uint32_t b = conn_path_req(c, SSH_FXP_LSTAT, "/b");
    says(a, SSH_FX_OK);
    says(b, SSH_FX_OK);
    CHECK_INT(wait_for(c, b, &rep), 0);
    CHECK(rep.id == b && !c->stash);
    conn_free(c);
}

static void not_asked_for(void)
{
    struct reply rep;
    for (uint32_t ahead = 1; ahead < 3; ahead++) {
        struct conn *c = conn_new("t:22", 0, 0);
        uint32_t a = conn_path_req(c, SSH_FXP_LSTAT, "/a");
        says(a + ahead, SSH_FX_OK);
        CHECK_INT(wait_for(c, a, &rep), -EIO);
        CHECK(c->broken && !c->stash);
        conn_free(c);
    }
}

static void answered_twice(void)
{
    struct reply rep;
    struct conn *c = conn_new("t:22", 0, 0);
    uint32_t a = conn_path_req(c, SSH_FXP_LSTAT, "/a"), b = conn_path_req(c, SSH_FXP_LSTAT, "/b");
    says(b, SSH_FX_OK);
    says(b, SSH_FX_OK);
    CHECK_INT(wait_for(c, a, &rep), -EIO);
    CHECK(c->broken);
    conn_free(c);
}

static void while_nobody_uses_it(void)
{
    struct conn *c = conn_new("t:22", 0, 0);
    uint32_t a = conn_path_req(c, SSH_FXP_LSTAT, "/a");
    says(a + 1, SSH_FX_OK);
    CHECK(!conn_is_alive(c));
    conn_free(c);
}

/* The socket was closed first, and libssh2 sent its goodbye to whatever another thread had opened with its number. */
static void goodbye_goes_to_nobody_else(void)
{
    struct conn *c = conn_new("t:22", 0, 0);
    int pair[2], fd;
    CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    fd = c->fd = pair[0];
    c->channel = (LIBSSH2_CHANNEL *)(void *)&fd;
    conn_free(c);
    CHECK_INT(close(fd), -1);
    CHECK_INT(close(pair[1]), 0);
}

int main(void)
{
    RUN(in_any_order);
    RUN(late);
    RUN(not_asked_for);
    RUN(answered_twice);
    RUN(while_nobody_uses_it);
    RUN(goodbye_goes_to_nobody_else);
    return t_done();
}
