/* SPDX-License-Identifier: MIT
 * loopback.h: a listening socket on a free port of 127.0.0.1, for servers within a test. */
#ifndef QUAY_TESTS_LOOPBACK_H
#define QUAY_TESTS_LOOPBACK_H

#include "tests/unit/t.h"

#include <arpa/inet.h>
#include <sys/socket.h>

static inline int loopback_listen(int backlog, int *ret_port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(a);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0);
    CHECK(listen(fd, backlog) == 0);
    CHECK(getsockname(fd, (struct sockaddr *)&a, &len) == 0);
    *ret_port = ntohs(a.sin_port);
    return fd;
}

#endif
