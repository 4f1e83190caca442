/* SPDX-License-Identifier: MIT
 * rpc.c: JSON lines over a Unix socket.
 *
 * Server: one thread accepts, each connection has a thread of its own. Invariants, under srv->lock:
 * (1) n_conns is the number of connection threads, at most MAX_CONNS, and conns lists them; (2) a
 * connection's descriptor is closed only after it left the list, so rpc_stop may shut down any that
 * are on it; (3) after `stopping` no connection is added. rpc_stop wakes the accepting thread by an
 * eventfd and the others by shutdown(). Sends use MSG_NOSIGNAL: a client that has gone is an error,
 * not a signal. A client that is silent for IDLE_S between requests is put out, so that 16 of them
 * cannot shut out the next. */
#include "base/rpc.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define MAX_CONNS 16
#define MAX_REQUEST (1U << 20)
#define MAX_REPLY (64U << 20)
#define IDLE_S 60
#define SEND_S 30
#define PARTING_NS (2 * NS_PER_S)
#define TICK_NS (100 * NS_PER_MS)

struct rpc_conn {
    struct rpc_server *srv;
    struct rpc_conn *next;
    int fd;
    bool gone;
};

struct rpc_server {
    rpc_handler_fn *handler;
    void *arg;
    char *path;
    int listen_fd, wake_fd;
    pthread_t acceptor;
    struct {
        struct lock lock;
        struct cond changed; /* a connection ended, or stopping */
        struct rpc_conn *conns;
        unsigned n_conns;
        bool stopping;
    } sync;
};

/* Fills addr for path. A path over 107 bytes goes through its directory's descriptor in /proc,
 * which *dir_fd keeps open. */
static int make_address(const char *path, struct sockaddr_un *addr, int *dir_fd)
{
    *addr = (struct sockaddr_un){.sun_family = AF_UNIX};
    size_t n = strlen(path);
    if (n < sizeof(addr->sun_path)) {
        memcpy(addr->sun_path, path, n + 1);
        return 0;
    }
    const char *slash = strrchr(path, '/');
    if (!slash || strlen(slash) > 64)
        return -ENAMETOOLONG;
    CLEANUP_FREE char *dir = xstrndup(path, (size_t)(slash - path) + 1);
    *dir_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (*dir_fd < 0)
        return -errno;
    snprintf(addr->sun_path, sizeof(addr->sun_path), "/proc/self/fd/%d%s", *dir_fd, slash);
    return 0;
}

static int connect_to(const char *path, int *ret_fd)
{
    struct sockaddr_un addr;
    CLEANUP_FD int dir_fd = -1;
    int r = make_address(path, &addr, &dir_fd);
    if (r < 0)
        return r;
    CLEANUP_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    while (connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0)
        if (errno != EINTR)
            return -errno;
    *ret_fd = take_fd(&fd);
    return 0;
}

static int send_all(int fd, const char *p, size_t n)
{
    while (n > 0) {
        ssize_t r = send(fd, p, n, MSG_NOSIGNAL);
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return -errno;
        p += r;
        n -= (size_t)r;
    }
    return 0;
}

static int send_json(int fd, const json_t *message)
{
    char *text = json_dumps(message, JSON_COMPACT | JSON_ENCODE_ANY);
    if (!text)
        return -EINVAL;
    struct buf line = BUF_INIT;
    buf_adds(&line, text);
    buf_addc(&line, '\n');
    free(text);
    int r = send_all(fd, line.data, line.len);
    buf_done(&line);
    return r;
}

/* Moves the next line (without its end) from the connection to `line`; `in` keeps what came after
 * it. 0, -ENODATA at the end, -EMSGSIZE over `limit`, or -errno. */
static int read_line(int fd, struct buf *in, size_t limit, struct buf *line)
{
    size_t seen = 0;
    buf_reset(line);
    for (;;) {
        char *end = in->len > seen ? memchr(in->data + seen, '\n', in->len - seen) : NULL;
        if (end) {
            size_t n = (size_t)(end - in->data);
            buf_add(line, in->data, n);
            memmove(in->data, end + 1, in->len - n - 1);
            buf_truncate(in, in->len - n - 1);
            return 0;
        }
        seen = in->len;
        if (in->len > limit)
            return -EMSGSIZE;
        ssize_t r = recv(fd, buf_reserve(in, 16384), 16384, 0);
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return -errno;
        if (r == 0)
            return -ENODATA;
        in->len += (size_t)r;
    }
}

/* JSON is UTF-8, but an error may quote a file name of any bytes: those become '?'. */
static json_t *error_json(int code, const char *text)
{
    char plain[sizeof(((struct err *)0)->text)];
    json_t *error = json_string(text);
    if (!error) {
        snprintf(plain, sizeof(plain), "%s", text);
        for (char *c = plain; *c; c++)
            if ((unsigned char)*c >= 0x80)
                *c = '?';
        error = json_string(plain);
    }
    return json_pack("{s:b,s:i,s:o}", "ok", 0, "errno", code, "error", error);
}

static void send_reply(struct rpc_conn *conn, int r, const struct err *err, json_t *result)
{
    json_t *reply =
        r < 0 ? error_json(-r, err_text(err)) : json_pack("{s:b,s:O}", "ok", 1, "result", result);
    conn->gone |= send_json(conn->fd, reply) < 0;
    json_decref(reply);
}

static void handle_request(struct rpc_conn *conn, const struct buf *line)
{
    struct err err = ERR_INIT;
    json_error_t where;
    json_t *result = NULL, *none = json_object();
    json_t *request = json_loadb(buf_str(line), line->len, JSON_REJECT_DUPLICATES, &where);
    const char *cmd = json_string_value(json_object_get(request, "cmd"));
    const json_t *args = json_object_get(request, "args");
    int r;
    if (!request)
        r = err_set(&err, EINVAL, "request is not JSON: %s", where.text);
    else if (!cmd || (args && !json_is_object(args) && !json_is_null(args)))
        r = err_set(&err, EINVAL, "request is not {\"cmd\":\"...\",\"args\":{...}}");
    else
        r = conn->srv->handler(conn->srv->arg, conn, cmd, json_is_object(args) ? args : none, &err,
                               &result);
    if (r < 0 && err.code == 0)
        err.code = -r;
    if (r >= 0 && !result)
        result = json_null();
    send_reply(conn, r, &err, result);
    json_decref(result);
    json_decref(none);
    json_decref(request);
}

static bool is_stopping(struct rpc_server *srv)
{
    LOCK_SCOPE(&srv->sync.lock);
    return srv->sync.stopping;
}

bool rpc_progress(struct rpc_conn *conn, json_t *progress)
{
    json_t *message = json_pack("{s:o}", "progress", progress);
    if (message && !conn->gone && send_json(conn->fd, message) < 0)
        conn->gone = true;
    json_decref(message);
    return !conn->gone && !is_stopping(conn->srv);
}

static void serve_connection(struct rpc_conn *conn)
{
    struct buf in = BUF_INIT, line = BUF_INIT;
    while (!conn->gone && !is_stopping(conn->srv)) {
        int r = read_line(conn->fd, &in, MAX_REQUEST, &line);
        if (r == -EMSGSIZE) {
            struct err err = ERR_INIT;
            send_reply(conn, err_set(&err, EMSGSIZE, "request is longer than 1 MiB"), &err, NULL);
        }
        if (r < 0)
            break;
        if (line.len)
            handle_request(conn, &line);
    }
    buf_done(&in);
    buf_done(&line);
}

static void *connection_thread(void *arg)
{
    struct rpc_conn *conn = arg;
    struct rpc_server *srv = conn->srv;
    pthread_setname_np(pthread_self(), "rpc-conn");
    serve_connection(conn);
    lock_acquire(&srv->sync.lock);
    struct rpc_conn **at = &srv->sync.conns;
    while (*at != conn)
        at = &(*at)->next;
    *at = conn->next;
    close(conn->fd);
    free(conn);
    srv->sync.n_conns--;
    cond_broadcast(&srv->sync.changed);
    lock_release(&srv->sync.lock); /* after this the server may be gone */
    return NULL;
}

static bool is_welcome(int fd)
{
    struct ucred peer;
    socklen_t n = sizeof(peer);
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) == 0 && n == sizeof(peer) &&
           (peer.uid == geteuid() || peer.uid == 0);
}

/* Gives fd a thread, or closes it. Signals stay with the main thread. */
static void start_connection(struct rpc_server *srv, int fd)
{
    struct timeval idle = {.tv_sec = IDLE_S}, slow = {.tv_sec = SEND_S};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &idle, sizeof(idle));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &slow, sizeof(slow));
    struct rpc_conn *conn = xcalloc(1, sizeof(*conn));
    conn->srv = srv;
    conn->fd = fd;
    LOCK_SCOPE(&srv->sync.lock);
    pthread_attr_t attr;
    pthread_t thread;
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    if (srv->sync.stopping || pthread_create(&thread, &attr, connection_thread, conn) != 0) {
        close(fd);
        free(conn);
    } else {
        conn->next = srv->sync.conns;
        srv->sync.conns = conn;
        srv->sync.n_conns++;
    }
    pthread_attr_destroy(&attr);
}

/* Waits until one more connection may be served; false when stopping. */
static bool wait_for_room(struct rpc_server *srv)
{
    LOCK_SCOPE(&srv->sync.lock);
    while (!srv->sync.stopping && srv->sync.n_conns >= MAX_CONNS)
        cond_wait(&srv->sync.changed, &srv->sync.lock);
    return !srv->sync.stopping;
}

static void *accept_thread(void *arg)
{
    struct rpc_server *srv = arg;
    pthread_setname_np(pthread_self(), "rpc-accept");
    struct pollfd fds[] = {{.fd = srv->listen_fd, .events = POLLIN},
                           {.fd = srv->wake_fd, .events = POLLIN}};
    while (wait_for_room(srv)) {
        if (poll(fds, ARRAY_LEN(fds), -1) < 0 || !(fds[0].revents & POLLIN))
            continue;
        int fd = accept4(srv->listen_fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM)) {
            poll(&fds[1], 1, 100); /* until descriptors are free again */
            continue;
        }
        if (fd < 0)
            continue;
        if (is_welcome(fd))
            start_connection(srv, fd);
        else
            close(fd);
    }
    return NULL;
}

static int make_socket(const char *path, struct err *err, int *ret_fd)
{
    struct sockaddr_un addr;
    CLEANUP_FD int dir_fd = -1, live = -1;
    struct stat st;
    if (connect_to(path, &live) == 0)
        return err_set(err, EADDRINUSE, "%s: another process serves this socket", path);
    if (lstat(path, &st) == 0) {
        if (!S_ISSOCK(st.st_mode))
            return err_set(err, EEXIST, "%s: exists and is not a socket", path);
        unlink(path);
    }
    int r = make_address(path, &addr, &dir_fd);
    if (r < 0)
        return err_set(err, -r, "%s: %s", path, strerror(-r));
    CLEANUP_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_set(err, errno, "socket: %s", strerror(errno));
    /* The mode of the descriptor is that of the file which bind makes: no moment of 0777. */
    if (fchmod(fd, 0600) < 0 || bind(fd, (const struct sockaddr *)&addr, sizeof(addr)) < 0 ||
        chmod(path, 0600) < 0 || listen(fd, 64) < 0)
        return err_set(err, errno, "%s: %s", path, strerror(errno));
    *ret_fd = take_fd(&fd);
    return 0;
}

static void server_free(struct rpc_server *srv)
{
    if (srv->listen_fd >= 0)
        close(srv->listen_fd);
    if (srv->wake_fd >= 0)
        close(srv->wake_fd);
    cond_done(&srv->sync.changed);
    lock_done(&srv->sync.lock);
    free(srv->path);
    free(srv);
}

int rpc_serve(const char *path, rpc_handler_fn *handler, void *arg, struct err *err,
              struct rpc_server **ret)
{
    struct rpc_server *srv = xcalloc(1, sizeof(*srv));
    sigset_t all, old;
    srv->handler = handler;
    srv->arg = arg;
    srv->path = xstrdup(path);
    srv->listen_fd = -1;
    lock_init(&srv->sync.lock, LOCK_RANK_LEAF, "rpc");
    cond_init(&srv->sync.changed);
    srv->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int r = srv->wake_fd < 0 ? err_set(err, errno, "eventfd: %s", strerror(errno))
                             : make_socket(path, err, &srv->listen_fd);
    if (r == 0) {
        sigfillset(&all); /* connection threads inherit the mask */
        pthread_sigmask(SIG_SETMASK, &all, &old);
        r = pthread_create(&srv->acceptor, NULL, accept_thread, srv);
        pthread_sigmask(SIG_SETMASK, &old, NULL);
        if (r != 0) {
            unlink(path);
            r = err_set(err, r, "cannot start a thread: %s", strerror(r));
        }
    }
    if (r < 0) {
        server_free(srv);
        return r;
    }
    *ret = srv;
    return 0;
}

static void shut_down_locked(struct rpc_server *srv, int how)
{
    lock_assert_held(&srv->sync.lock);
    for (struct rpc_conn *c = srv->sync.conns; c; c = c->next)
        shutdown(c->fd, how);
}

static void wait_for_handlers(struct rpc_server *srv, uint64_t deadline, void (*meanwhile)(void *arg), void *arg)
{
    lock_acquire(&srv->sync.lock);
    while (srv->sync.n_conns) {
        uint64_t now = clock_now_ns();
        if (now >= deadline) {
            shut_down_locked(srv, SHUT_RDWR);
            deadline = UINT64_MAX;
        }
        if (cond_wait_until(&srv->sync.changed, &srv->sync.lock, now + TICK_NS) || !meanwhile)
            continue;
        lock_release(&srv->sync.lock);
        meanwhile(arg);
        lock_acquire(&srv->sync.lock);
    }
    lock_release(&srv->sync.lock);
}

/* Those that wait for a request end at once; a handler may still send its answer, but a client that
 * does not read it holds us up for no longer than PARTING_NS. */
void rpc_stop_while(struct rpc_server *srv, void (*meanwhile)(void *arg), void *arg)
{
    if (!srv)
        return;
    uint64_t one = 1, deadline = clock_now_ns() + PARTING_NS;
    lock_acquire(&srv->sync.lock);
    srv->sync.stopping = true;
    shut_down_locked(srv, SHUT_RD);
    cond_broadcast(&srv->sync.changed);
    lock_release(&srv->sync.lock);
    while (write(srv->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
    pthread_join(srv->acceptor, NULL);
    unlink(srv->path);
    wait_for_handlers(srv, deadline, meanwhile, arg);
    server_free(srv);
}

void rpc_stop(struct rpc_server *srv)
{
    rpc_stop_while(srv, NULL, NULL);
}

/* One line of the answer: 1 after progress, 0 with *ret_result, or -errno. */
static int take_reply(const struct buf *line, rpc_progress_fn *on_progress, void *arg,
                      struct err *err, json_t **ret_result)
{
    json_error_t where;
    json_t *reply = json_loadb(buf_str(line), line->len, 0, &where);
    const json_t *progress = json_object_get(reply, "progress");
    int r = 0;
    if (progress) {
        if (on_progress)
            on_progress(arg, progress);
        r = 1;
    } else if (json_is_true(json_object_get(reply, "ok"))) {
        json_t *result = json_object_get(reply, "result");
        if (ret_result)
            *ret_result = result ? json_incref(result) : json_null();
    } else if (json_is_false(json_object_get(reply, "ok"))) {
        json_int_t code = json_integer_value(json_object_get(reply, "errno"));
        const char *text = json_string_value(json_object_get(reply, "error"));
        r = err_set(err, code > 0 && code < 4096 ? (int)code : EIO, "%s",
                    text ? text : "failed without a reason");
        if (err)
            snprintf(err->remote, sizeof(err->remote), "daemon");
    } else {
        r = err_set(err, EPROTO, "the daemon's reply is not understood");
    }
    json_decref(reply);
    return r;
}

int rpc_call(const char *path, const char *cmd, json_t *args, rpc_progress_fn *on_progress,
             void *arg, struct err *err, json_t **ret_result)
{
    CLEANUP_FD int fd = -1;
    lock_assert_none_held();
    int r = connect_to(path, &fd);
    if (r < 0)
        return err_set(err, -r, "%s: %s", path, strerror(-r));
    json_t *request =
        json_pack("{s:s,s:o}", "cmd", cmd, "args", args ? json_incref(args) : json_object());
    r = request ? send_json(fd, request) : -EINVAL;
    json_decref(request);
    if (r == -EINVAL)
        return err_set(err, EINVAL, "the request has bytes that are not UTF-8");
    struct buf in = BUF_INIT, line = BUF_INIT;
    do { /* also after a failed send: the daemon may have said why */
        r = read_line(fd, &in, MAX_REPLY, &line);
        if (r == 0)
            r = take_reply(&line, on_progress, arg, err, ret_result);
        else
            r = err_set(err, r == -ENODATA ? ECONNRESET : -r, "%s: %s", path,
                        r == -ENODATA ? "the daemon closed the connection" : strerror(-r));
    } while (r == 1);
    buf_done(&in);
    buf_done(&line);
    return r;
}
