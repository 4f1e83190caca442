/* SPDX-License-Identifier: MIT
 * t_rpc.c: requests over a real socket: replies, progress, hostile clients, stopping. */
#include "base/rpc.h"

#include "base/buf.h"
#include "base/clock.h"
#include "tests/unit/t.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static char dir[] = "/tmp/t_rpc.XXXXXX";
static char path[400];
static struct err err;
static atomic_int waiting;
static atomic_bool saw_gone;

static int handler(void *arg, struct rpc_conn *conn, const char *cmd, const json_t *args,
                   struct err *e, json_t **ret_result)
{
    CHECK(arg == path);
    CHECK(json_is_object(args));
    if (strcmp(cmd, "echo") == 0) {
        *ret_result = json_deep_copy(args);
        return 0;
    }
    if (strcmp(cmd, "null") == 0)
        return 0;
    if (strcmp(cmd, "count") == 0) {
        for (int i = 0; i < 5; i++)
            CHECK(rpc_progress(conn, json_pack("{s:i}", "n", i)));
        *ret_result = json_integer(5);
        return 0;
    }
    if (strcmp(cmd, "wait") == 0) { /* until the client goes or the server stops */
        atomic_fetch_add(&waiting, 1);
        while (rpc_progress(conn, json_object()))
            clock_sleep_ms(2);
        atomic_store(&saw_gone, true);
        return 0;
    }
    if (strcmp(cmd, "bare") == 0)
        return -EPERM;
    return err_set(e, ENOSYS, "no command '%s' \xFF", cmd);
}

static struct rpc_server *serve(void)
{
    struct rpc_server *srv = NULL;
    int r = rpc_serve(path, handler, path, &err, &srv);
    if (r < 0)
        fprintf(stderr, "%s\n", err.text);
    CHECK_INT(r, 0);
    return srv;
}

static void on_progress(void *arg, const json_t *progress)
{
    int *next = arg;
    CHECK_INT(json_integer_value(json_object_get(progress, "n")), *next);
    (*next)++;
}

static void test_calls(void)
{
    struct stat st;
    struct rpc_server *srv = serve(), *second = NULL;
    CHECK(stat(path, &st) == 0);
    CHECK_INT(st.st_mode & 0777, 0600);
    json_t *args = json_pack("{s:s}", "text", "line\nbreak \xC3\xA4"), *result = NULL;
    CHECK_INT(rpc_call(path, "echo", args, NULL, NULL, &err, &result), 0);
    CHECK(json_equal(args, result));
    json_decref(result);
    json_decref(args);
    CHECK_INT(rpc_call(path, "null", NULL, NULL, NULL, &err, &result), 0);
    CHECK(json_is_null(result));
    int n = 0;
    CHECK_INT(rpc_call(path, "count", NULL, on_progress, &n, &err, &result), 0);
    CHECK_INT(n, 5);
    CHECK_INT(json_integer_value(result), 5);
    json_decref(result);
    CHECK_INT(rpc_call(path, "nonsense", NULL, NULL, NULL, &err, &result), -ENOSYS);
    CHECK_STR(err.text, "no command 'nonsense' ?");
    CHECK_INT(rpc_call(path, "bare", NULL, NULL, NULL, &err, &result), -EPERM);
    CHECK_STR(err.text, strerror(EPERM));
    CHECK_INT(rpc_serve(path, handler, path, &err, &second), -EADDRINUSE);
    rpc_stop(srv);
    rpc_stop(NULL);
    CHECK(stat(path, &st) != 0);
    CHECK_INT(rpc_call(path, "echo", NULL, NULL, NULL, &err, &result), -ENOENT);
}

static int raw_connect(void)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    CHECK(strlen(path) < sizeof(addr.sun_path));
    memcpy(addr.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0);
    CHECK(connect(fd, (const struct sockaddr *)&addr, sizeof(addr)) == 0);
    return fd;
}

static void ask_raw(int fd, const char *request, const char *want)
{
    char reply[512];
    size_t n = 0;
    CHECK(send(fd, request, strlen(request), MSG_NOSIGNAL) == (ssize_t)strlen(request));
    while (n == 0 || reply[n - 1] != '\n') {
        ssize_t r = recv(fd, reply + n, sizeof(reply) - 1 - n, 0);
        CHECK(r > 0);
        n += (size_t)r;
    }
    reply[n] = '\0';
    if (!strstr(reply, want))
        fprintf(stderr, "%s", reply);
    CHECK(strstr(reply, want) != NULL);
}

static void test_hostile(void)
{
    struct rpc_server *srv = serve();
    int fd = raw_connect();
    ask_raw(fd, "{\"cmd\":\"null\"}\n", "{\"ok\":true,\"result\":null}\n");
    ask_raw(fd, "\n\n{\"cmd\":\"null\",\"args\":null}\n", "\"ok\":true");
    ask_raw(fd, "not json\n", "\"errno\":22");
    ask_raw(fd, "[1]\n", "request is not {");
    ask_raw(fd, "{\"cmd\":7}\n", "request is not {");
    ask_raw(fd, "{\"cmd\":\"echo\",\"args\":[]}\n", "request is not {");
    ask_raw(fd, "{\"cmd\":\"\xFF\"}\n", "request is not JSON");
    char *big = xmalloc(1 << 19);
    memset(big, 'x', 1 << 19);
    for (int i = 0; i < 4; i++)
        (void)!send(fd, big, 1 << 19, MSG_NOSIGNAL);
    free(big);
    char reply[512];
    ssize_t n = recv(fd, reply, sizeof(reply) - 1, 0);
    if (n > 0) { /* else reset with the reply still unread */
        reply[n] = '\0';
        CHECK(strstr(reply, "longer than 1 MiB") != NULL);
    }
    close(fd);
    rpc_stop(srv);
}

static void test_client_goes(void)
{
    struct rpc_server *srv = serve();
    atomic_store(&saw_gone, false);
    int fd = raw_connect();
    ask_raw(fd, "{\"cmd\":\"wait\"}\n", "progress");
    close(fd);
    for (int i = 0; i < 60000 && !atomic_load(&saw_gone); i++)
        clock_sleep_ms(1);
    CHECK(atomic_load(&saw_gone));
    rpc_stop(srv);
}

static void *caller(void *arg)
{
    json_t *result = NULL;
    (void)arg;
    for (int i = 0; i < 50; i++) {
        json_t *args = json_pack("{s:i}", "i", i);
        struct err e = ERR_INIT;
        CHECK_INT(rpc_call(path, "echo", args, NULL, NULL, &e, &result), 0);
        CHECK_INT(json_integer_value(json_object_get(result, "i")), i);
        json_decref(result);
        json_decref(args);
    }
    return NULL;
}

static void test_many(void)
{
    struct rpc_server *srv = serve();
    pthread_t threads[24];
    for (int i = 0; i < 24; i++)
        CHECK(pthread_create(&threads[i], NULL, caller, NULL) == 0);
    for (int i = 0; i < 24; i++)
        pthread_join(threads[i], NULL);
    rpc_stop(srv);
}

static void *wait_call(void *arg)
{
    struct err e = ERR_INIT;
    (void)arg;
    (void)rpc_call(path, "wait", NULL, NULL, NULL, &e, NULL);
    return NULL;
}

static void test_stop_wakes(void)
{
    struct rpc_server *srv = serve();
    pthread_t threads[3];
    int idle[20], full = raw_connect();
    atomic_store(&waiting, 0);
    for (int i = 0; i < 3; i++)
        CHECK(pthread_create(&threads[i], NULL, wait_call, NULL) == 0);
    ask_raw(full, "{\"cmd\":\"wait\"}\n", "progress"); /* and never reads again */
    for (int i = 0; i < 60000 && atomic_load(&waiting) < 4; i++)
        clock_sleep_ms(1);
    CHECK_INT(atomic_load(&waiting), 4);
    for (int i = 0; i < 20; i++) /* more than are served at once */
        idle[i] = raw_connect();
    clock_sleep_ms(300);
    uint64_t start = clock_now_ns();
    rpc_stop(srv);
    CHECK(clock_now_ns() - start < 8 * NS_PER_S);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < 20; i++)
        close(idle[i]);
    close(full);
}

static void test_socket_file(void)
{
    struct rpc_server *srv = NULL;
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    memcpy(addr.sun_path, path, strlen(path) + 1);
    CHECK(bind(fd, (const struct sockaddr *)&addr, sizeof(addr)) == 0);
    close(fd); /* a stale file */
    json_t *result = NULL;
    CHECK_INT(rpc_call(path, "null", NULL, NULL, NULL, &err, &result), -ECONNREFUSED);
    rpc_stop(serve());
    FILE *f = fopen(path, "w");
    CHECK(f && fclose(f) == 0);
    CHECK_INT(rpc_serve(path, handler, path, &err, &srv), -EEXIST); /* not ours to remove */
    CHECK_INT(unlink(path), 0);
    snprintf(path, sizeof(path), "%s/%0150d", dir, 1);
    CHECK_INT(mkdir(path, 0700), 0);
    char *sub = xstrdup(path);
    snprintf(path, sizeof(path), "%s/%0150d/sock", dir, 1);
    srv = serve();
    CHECK_INT(rpc_call(path, "null", NULL, NULL, NULL, &err, &result), 0);
    rpc_stop(srv);
    CHECK_INT(rmdir(sub), 0);
    free(sub);
}

int main(void)
{
    CHECK(mkdtemp(dir) != NULL);
    snprintf(path, sizeof(path), "%s/sock", dir);
    RUN(test_calls);
    RUN(test_hostile);
    RUN(test_client_goes);
    RUN(test_many);
    RUN(test_stop_wakes);
    RUN(test_socket_file);
    CHECK_INT(rmdir(dir), 0);
    return t_done();
}
