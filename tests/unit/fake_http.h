/* SPDX-License-Identifier: MIT
 * fake_http.h: a scripted HTTP server in a thread, for tests of clients.
 *
 *     struct fake_http f; fake_start(&f, steps, n);      // f.port on 127.0.0.1
 *     ... client sends requests; the k-th request gets steps[k] ...
 *     fake_stop(&f);  f.requests[k] is the k-th request as received, head and body
 * One connection at a time: a client may have one open connection only. */
#ifndef QUAY_TESTS_FAKE_HTTP_H
#define QUAY_TESTS_FAKE_HTTP_H

#include "base/buf.h"
#include "tests/unit/loopback.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#define FAKE_MAX 32

enum fake_then { FAKE_KEEP = 0, FAKE_CLOSE, FAKE_HANG };

struct fake_step {
    const char *reply;   /* sent as it is; NULL: nothing */
    enum fake_then then; /* what becomes of the connection */
};

struct fake_http {
    const struct fake_step *steps;
    int n_steps, listener, port;
    pthread_t thread;
    atomic_bool stop;
    atomic_int connections, n_requests;
    struct buf requests[FAKE_MAX];
};

/* Waits for data or the end; false at the end. */
static bool fake_wait(struct fake_http *f, int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    while (!atomic_load(&f->stop))
        if (poll(&p, 1, 20) > 0)
            return true;
    return false;
}

/* Reads head and body of one request. */
static bool fake_read(struct fake_http *f, int fd, struct buf *b)
{
    char tmp[65536];
    for (;;) {
        const char *end = b->data ? strstr(b->data, "\r\n\r\n") : NULL;
        const char *len = end ? strcasestr(b->data, "\r\ncontent-length:") : NULL;
        if (end) {
            size_t body = len && len < end ? strtoul(len + 17, NULL, 10) : 0;
            if (b->len >= (size_t)(end + 4 - b->data) + body)
                return true;
        }
        if (!fake_wait(f, fd))
            return false;
        ssize_t n = read(fd, tmp, sizeof(tmp));
        if (n <= 0)
            return false;
        buf_add(b, tmp, (size_t)n);
    }
}

static void fake_serve(struct fake_http *f, int fd)
{
    for (;;) {
        struct buf b = BUF_INIT;
        if (!fake_read(f, fd, &b)) {
            buf_done(&b);
            return;
        }
        int k = atomic_load(&f->n_requests);
        CHECK(k < f->n_steps && k < FAKE_MAX);
        f->requests[k] = b;
        atomic_store(&f->n_requests, k + 1);
        const struct fake_step *s = &f->steps[k];
        for (size_t off = 0, n = s->reply ? strlen(s->reply) : 0; off < n;) {
            ssize_t w = send(fd, s->reply + off, n - off, MSG_NOSIGNAL);
            if (w <= 0)
                return;
            off += (size_t)w;
        }
        while (s->then == FAKE_HANG && !atomic_load(&f->stop) && fake_wait(f, fd))
            if (read(fd, (char[64]){0}, 64) <= 0)
                return;
        if (s->then == FAKE_CLOSE)
            return;
    }
}

static void *fake_main(void *arg)
{
    struct fake_http *f = arg;
    while (fake_wait(f, f->listener)) {
        int fd = accept(f->listener, NULL, NULL);
        CHECK(fd >= 0);
        atomic_fetch_add(&f->connections, 1);
        fake_serve(f, fd);
        close(fd);
    }
    return NULL;
}

static inline void fake_start(struct fake_http *f, const struct fake_step *steps, int n)
{
    *f = (struct fake_http){.steps = steps, .n_steps = n};
    f->listener = loopback_listen(16, &f->port);
    CHECK(pthread_create(&f->thread, NULL, fake_main, f) == 0);
}

static inline void fake_stop(struct fake_http *f)
{
    atomic_store(&f->stop, true);
    CHECK(pthread_join(f->thread, NULL) == 0);
    close(f->listener);
    for (int i = 0; i < FAKE_MAX; i++)
        buf_done(&f->requests[i]);
}

#endif
