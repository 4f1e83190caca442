/* SPDX-License-Identifier: MIT */
/*
 * slow_proxy PORT TARGET_PORT MICROSECONDS: a TCP proxy on loopback that adds a delay to each request.
 *
 * A request is: bytes from the client after bytes from the server (or the first ones of a connection). The
 * delay falls once before it is passed on, as a round trip to a far server does; "100 Continue" costs a round
 * trip of its own, as it would there. What is passed is not looked at: whole pages go from socket to
 * socket by splice(2), so that the proxy is not what a benchmark measures. Connecting costs nothing.
 * One thread for each connection, which holds one request at a time: not for pipelining or HTTP/2.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { PIPE_BYTES = 1 << 20 };

/* One direction: from -> pipe -> to. */
struct way {
    int from, to;
    int pipe[2];
    size_t held;          /* bytes in the pipe */
    bool ended;           /* `from` has no more */
    bool told;            /* and `to` knows */
};

struct link {
    struct way ask, answer;
    struct timespec delay;
    bool asking;          /* a request is on its way: its delay has been served */
};

struct proxy {
    in_port_t target;
    struct timespec delay;
};

static struct sockaddr_in loopback(in_port_t port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port)};

    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return at;
}

static void at_once(int sock)
{
    int yes = 1;

    (void)setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
}

static int dial(in_port_t port)
{
    struct sockaddr_in at = loopback(port);
    int sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (sock < 0)
        return -1;
    if (connect(sock, (struct sockaddr *)&at, sizeof at) != 0) {
        close(sock);
        return -1;
    }
    at_once(sock);
    return sock;
}

/* Moves what it can without waiting; false: the connection is over. */
static bool take(struct way *w)
{
    ssize_t n = splice(w->from, NULL, w->pipe[1], NULL, PIPE_BYTES, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);

    if (n < 0)
        return errno == EAGAIN || errno == EINTR;
    if (n == 0)
        w->ended = true;
    w->held += (size_t)n;
    return true;
}

static bool give(struct way *w)
{
    ssize_t n = splice(w->pipe[0], NULL, w->to, NULL, w->held, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);

    if (n < 0)
        return errno == EAGAIN || errno == EINTR;
    w->held -= (size_t)n;
    return true;
}

static bool tell_end(struct way *w)
{
    if (w->ended && w->held == 0 && !w->told) {
        w->told = true;
        (void)shutdown(w->to, SHUT_WR);
    }
    return w->told;
}

static struct pollfd wait_for(const struct way *w)
{
    if (w->held > 0)
        return (struct pollfd){.fd = w->to, .events = POLLOUT};
    return (struct pollfd){.fd = w->ended ? -1 : w->from, .events = POLLIN};
}

static bool step(struct way *w, short seen)
{
    if (seen == 0)
        return true;
    if (w->held == 0 && !take(w))
        return false;
    return w->held == 0 || give(w);
}

static void relay(struct link *l)
{
    for (;;) {
        struct pollfd seen[2] = {wait_for(&l->ask), wait_for(&l->answer)};

        if (poll(seen, 2, -1) < 0 && errno != EINTR)
            return;
        if (seen[0].revents && !l->asking && l->ask.held == 0) {
            l->asking = true;
            (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &l->delay, NULL);
        }
        if (!step(&l->ask, seen[0].revents))
            return;
        if (seen[1].revents && l->answer.held == 0)
            l->asking = false;
        if (!step(&l->answer, seen[1].revents))
            return;
        bool ask_ended = tell_end(&l->ask);
        if (tell_end(&l->answer) && ask_ended)
            return;
    }
}

static bool open_pipes(struct link *l)
{
    if (pipe2(l->ask.pipe, O_CLOEXEC) != 0 || pipe2(l->answer.pipe, O_CLOEXEC) != 0)
        return false;
    (void)fcntl(l->ask.pipe[0], F_SETPIPE_SZ, PIPE_BYTES);
    (void)fcntl(l->answer.pipe[0], F_SETPIPE_SZ, PIPE_BYTES);
    return true;
}

static void close_all(struct link *l)
{
    int all[] = {l->ask.from, l->ask.to, l->ask.pipe[0], l->ask.pipe[1], l->answer.pipe[0], l->answer.pipe[1]};

    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i] >= 0)
            close(all[i]);
    free(l);
}

static void *serve(void *arg)
{
    struct link *l = arg;

    if (open_pipes(l))
        relay(l);
    close_all(l);
    return NULL;
}

static void take_client(const struct proxy *p, int client)
{
    struct link *l = calloc(1, sizeof *l);
    int server = dial(p->target);
    pthread_t thread;

    if (!l || server < 0) {
        free(l);
        close(client);
        if (server >= 0)
            close(server);
        return;
    }
    at_once(client);
    l->ask = (struct way){.from = client, .to = server, .pipe = {-1, -1}};
    l->answer = (struct way){.from = server, .to = client, .pipe = {-1, -1}};
    l->delay = p->delay;
    if (pthread_create(&thread, NULL, serve, l) != 0)
        close_all(l);
    else
        pthread_detach(thread);
}

static int listen_on(in_port_t port)
{
    struct sockaddr_in at = loopback(port);
    int sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1;

    if (sock < 0)
        return -1;
    (void)setsockopt(sock, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(sock, (struct sockaddr *)&at, sizeof at) != 0 || listen(sock, 256) != 0)
        return -1;
    return sock;
}

int main(int argc, char **argv)
{
    struct proxy p;
    long micros;
    int listener;

    if (argc != 4) {
        fprintf(stderr, "usage: slow_proxy PORT TARGET_PORT MICROSECONDS\n");
        return 2;
    }
    micros = strtol(argv[3], NULL, 10);
    p.target = (in_port_t)strtoul(argv[2], NULL, 10);
    p.delay = (struct timespec){.tv_sec = micros / 1000000, .tv_nsec = micros % 1000000 * 1000};
    signal(SIGPIPE, SIG_IGN);
    (void)prctl(PR_SET_TIMERSLACK, 1000UL);
    listener = listen_on((in_port_t)strtoul(argv[1], NULL, 10));
    if (listener < 0) {
        perror("slow_proxy: cannot listen");
        return 1;
    }
    for (;;) {
        int client = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

        if (client >= 0)
            take_client(&p, client);
        else if (errno != EINTR && errno != ECONNABORTED)
            return 1;
    }
}
