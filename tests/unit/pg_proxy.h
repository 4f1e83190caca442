/* SPDX-License-Identifier: MIT
 * pg_proxy.h: a TCP proxy before PostgreSQL that loses COMMIT, before or after it has happened.
 *     struct proxy p = {...}; proxy_start(&p); ... close what it opened at the end. */
#ifndef QUAY_TESTS_PG_PROXY_H
#define QUAY_TESTS_PG_PROXY_H

#include "tests/unit/loopback.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/url.h"

#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <unistd.h>

struct proxy {
    pthread_t thread;
    int listener, port;
    struct sockaddr_storage server;
    socklen_t server_len;
    bool forward;    /* COMMIT reaches the server, its answer is lost; else neither */
    atomic_int lost; /* how many COMMITs were lost; only the first is */
    atomic_bool stop;
    bool refuse; /* after that nobody can connect any more */
};

/* Passes bytes until a COMMIT comes by or one side ends. */
static void relay(struct proxy *p, int client, int server)
{
    char block[65536];

    for (;;) {
        struct pollfd fds[2] = {{.fd = client, .events = POLLIN}, {.fd = server, .events = POLLIN}};
        if (poll(fds, 2, 100) < 0 || p->stop)
            return;
        for (int i = 0; i < 2; i++) {
            if (!fds[i].revents)
                continue;
            ssize_t n = recv(fds[i].fd, block, sizeof(block), 0);
            if (n <= 0)
                return;
            bool commit = i == 0 && !p->lost && memmem(block, (size_t)n, "\0COMMIT", 8);
            if (!commit || p->forward)
                (void)!send(fds[1 - i].fd, block, (size_t)n, MSG_NOSIGNAL);
            if (commit) {
                p->lost++;
                clock_sleep_ms(p->forward ? 300 : 0);
                return;
            }
        }
    }
}

static void *proxy_run(void *arg)
{
    struct proxy *p = arg;

    while (!p->stop) {
        struct pollfd fd = {.fd = p->listener, .events = POLLIN};
        if (poll(&fd, 1, 100) <= 0)
            continue;
        int client = accept(p->listener, NULL, NULL);
        int server = socket(p->server.ss_family, SOCK_STREAM, 0);
        bool go = !(p->refuse && p->lost);
        if (go && connect(server, (struct sockaddr *)&p->server, p->server_len) == 0)
            relay(p, client, server);
        (void)close(client);
        (void)close(server);
    }
    return NULL;
}

static void proxy_start(struct proxy *p, const char *dsn)
{
    struct addrinfo *info = NULL;
    struct url u;
    char port[12];

    CHECK(url_parse(dsn, &u));
    (void)snprintf(port, sizeof(port), "%d", u.port ? u.port : 5432);
    CHECK_INT(getaddrinfo(u.host, port, NULL, &info), 0);
    memcpy(&p->server, info->ai_addr, info->ai_addrlen);
    p->server_len = info->ai_addrlen;
    freeaddrinfo(info);
    url_done(&u);
    p->listener = loopback_listen(5, &p->port);
    CHECK_INT(pthread_create(&p->thread, NULL, proxy_run, p), 0);
}

#endif
