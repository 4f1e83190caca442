/* SPDX-License-Identifier: MIT
 * daemon.c: quayload's main loop. See daemon.h for the order of things.
 *
 * The loop is level-triggered: inotify and the queue's eventfd only make it look sooner, and it looks
 * every RESCAN_MS anyway, so a lost event delays a job and never loses it. */
#include "loader/daemon.h"

#include "backends/registry.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/sys.h"
#include "loader/database.h"
#include "loader/readme.h"
#include "loader/status.h"
#include "loader/text.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>

#define RESCAN_MS 2000
#define UNREADY_MS 100
#define STATS_MS 5000
#define PRUNE_MS (3600 * 1000)

/* ---- before the fork ---- */

static int check_sections(struct conf *conf, struct err *err)
{
    CONF_EACH(conf, s)
    {
        const struct database_class *db;
        const struct store_class *store;
        int r = 0;

        if (!strcmp(s->kind, "database"))
            r = database_check(s, err, &db);
        else if (!strcmp(s->kind, "store"))
            r = registry_check(conf, s, err, &store);
        if (r < 0)
            return r;
    }
    return 0;
}

int daemon_prepare(struct daemon *d, struct conf *conf, const struct settings *settings,
                   struct err *err)
{
    int r;

    *d = (struct daemon){.settings = settings, .wake_fd = -1, .signal_fd = -1,
                         .env = {.conf = conf, .settings = settings}};
    run_env_init(&d->env);
    r = check_sections(conf, err);
    if (r == 0)
        r = policy_parse(settings->loader.allow, err, &d->env.policy);
    return r;
}

int daemon_lock(struct daemon *d, struct err *err)
{
    return spool_open(d->settings->loader.spool, err, &d->env.spool);
}

/* ---- what people see in the spool ---- */

/* conn/NAME: the driver's name; nothing else of a [database]. */
static void write_connections(struct daemon *d)
{
    CLEANUP_FREE char *dir = spool_path(d->env.spool, "conn", NULL);

    (void)spool_tree_remove(dir);
    (void)sys_mkdirs(dir, 0700);
    CONF_EACH(d->env.conf, s)
    {
        CLEANUP_FREE char *path = xasprintf("%s/%s", dir, s->name);
        CLEANUP_FREE char *text = xasprintf("%s\n", conf_str(s, "driver", "?"));

        if (!strcmp(s->kind, "database") && !strchr(s->name, '/'))
            (void)spool_file_write(path, text, strlen(text), false);
    }
}

static void write_stats(struct daemon *d)
{
    CLEANUP_FREE char *path = spool_path(d->env.spool, "stats", NULL);
    CLEANUP_BUF struct buf b = BUF_INIT;
    struct queue_counts c;

    queue_counts(d->queue, &c);
    stat_set(stats_gauge(d->env.stats, "quayload_jobs_running", "Jobs being run", NULL), c.running);
    stat_set(stats_gauge(d->env.stats, "quayload_jobs_queued", "Jobs waiting", NULL), c.waiting);
    stats_render(d->env.stats, &b);
    (void)spool_file_write(path, buf_str(&b), b.len, false);
    d->stats_ns = clock_now_ns();
}

/* ---- scanning ---- */

static size_t scan(struct daemon *d, enum spool_place place)
{
    struct spool_list list = {0};
    size_t n;
    int r = spool_scan(d->env.spool, place, &list);

    if (r < 0)
        log_error("loader", "spool %s: %s", spool_dir(d->env.spool), strerror(-r));
    for (size_t i = 0; i < list.n; i++)
        (void)queue_add(d->queue, place == SPOOL_CHECK ? QUEUE_CHECK : QUEUE_JOB, list.v[i].file,
                        list.v[i].name);
    n = list.n + list.unready;
    if (list.unready)
        atomic_store(&d->unready, true);
    spool_list_done(&list);
    return n;
}

/* What a loader that was killed left in run/ comes first. */
static void recover(struct daemon *d)
{
    struct spool_list list = {0};

    (void)spool_scan_running(d->env.spool, &list);
    for (size_t i = 0; i < list.n; i++) {
        CLEANUP_FREE char *dir = spool_path(d->env.spool, "run", list.v[i].file);

        if (sys_unlinkat(AT_FDCWD, dir, AT_REMOVEDIR) == 0)
            continue; /* empty: the job never left new/ */
        (void)queue_add(d->queue, QUEUE_RECOVERED, list.v[i].file, list.v[i].file);
    }
    spool_list_done(&list);
}

/* ---- commands: the socket and the ctl file ---- */

static int cancel_job(struct daemon *d, const char *name, struct err *err)
{
    int r = queue_cancel(d->queue, name);

    if (r == -ENOENT) { /* perhaps it was submitted a moment ago */
        (void)scan(d, SPOOL_NEW);
        r = queue_cancel(d->queue, name);
    }
    if (r < 0)
        return err_set(err, -r, "no job named %s waits or runs", name);
    log_info("loader", "%s: cancel was asked for", name);
    return 0;
}

static int retry_job(struct daemon *d, const char *name, struct err *err)
{
    int r = spool_retry(spool_dir(d->env.spool), name, err);
    uint64_t one = 1;

    if (r == 0)
        (void)!write(d->wake_fd, &one, sizeof(one));
    return r;
}

static json_t *status_reply(struct daemon *d)
{
    CLEANUP_BUF struct buf started = BUF_INIT;
    struct queue_counts c;

    queue_counts(d->queue, &c);
    text_time(&started, d->started);
    return json_pack("{s:s,s:I,s:s,s:s,s:i,s:i,s:i,s:i}", "version", QUAY_VERSION, "pid",
                     (json_int_t)getpid(), "spool", spool_dir(d->env.spool), "started",
                     buf_str(&started), "workers", (int)c.workers, "running", (int)c.running,
                     "queued", (int)c.waiting, "ended", (int)c.ended);
}

static int on_request(void *arg, struct rpc_conn *conn, const char *cmd, const json_t *args,
                      struct err *err, json_t **ret_result)
{
    static const char *const commands[] = {"status", "jobs", "cancel", "retry"};
    struct daemon *d = arg;
    const char *name = json_string_value(json_object_get(args, "name")), *near;

    (void)conn;
    if (!strcmp(cmd, "status")) {
        *ret_result = status_reply(d);
        return 0;
    }
    if (!strcmp(cmd, "jobs")) {
        *ret_result = queue_json(d->queue);
        return 0;
    }
    if (strcmp(cmd, "cancel") != 0 && strcmp(cmd, "retry") != 0) {
        near = nearest_name(cmd, commands, ARRAY_LEN(commands));
        return err_set(err, EINVAL, "unknown command '%s'%s%s%s", cmd, near ? ": did you mean '" : "",
                       near ? near : "", near ? "'?" : "");
    }
    if (!name)
        return err_set(err, EINVAL, "%s needs {\"name\": ...}", cmd);
    return !strcmp(cmd, "cancel") ? cancel_job(d, name, err) : retry_job(d, name, err);
}

static void ctl_line(struct daemon *d, char *line, struct buf *answer)
{
    char *word = line + strspn(line, " \t\r"), *name;
    struct err err = ERR_INIT;
    size_t len = strlen(word);
    int r;

    while (len && strchr(" \t\r", word[len - 1]))
        word[--len] = 0;
    if (!*word || *word == '#')
        return;
    name = strpbrk(word, " \t");
    if (name)
        *name++ = 0;
    if (name)
        name += strspn(name, " \t");
    if (name && !strcmp(word, "cancel"))
        r = cancel_job(d, name, &err);
    else if (name && !strcmp(word, "retry"))
        r = retry_job(d, name, &err);
    else
        r = err_set(&err, EINVAL, "unknown command");
    buf_addf(answer, "# %s %s: ", word, name ? name : "");
    text_time(answer, clock_wall());
    buf_addf(answer, " %s\n", r < 0 ? err_text(&err) : "done");
    if (r < 0)
        log_warn("loader", "ctl: %s %s: %s", word, name ? name : "", err_text(&err));
}

/* Does what was written into ctl, and puts the help back with the answers below it. */
static void read_ctl(struct daemon *d)
{
    CLEANUP_FREE char *path = spool_path(d->env.spool, "ctl", NULL);
    CLEANUP_BUF struct buf text = BUF_INIT, answer = BUF_INIT;
    int r = spool_file_read(path, 64 * 1024, &text);
    char *rest = text.data, *line;

    buf_adds(&answer, readme_ctl);
    while (r == 0 && rest && (line = strsep(&rest, "\n")))
        ctl_line(d, line, &answer);
    if (r == 0 && answer.len == strlen(readme_ctl))
        return; /* nothing but comments: our own writing */
    (void)spool_file_write(path, buf_str(&answer), answer.len, false);
}

/* ---- life ---- */

void daemon_notify(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    CLEANUP_FD int fd = -1;
    size_t len = path ? strlen(path) : 0;

    if (len == 0 || len >= sizeof(addr.sun_path) || (*path != '/' && *path != '@'))
        return;
    memcpy(addr.sun_path, path, len);
    if (*path == '@')
        addr.sun_path[0] = 0;
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd >= 0)
        (void)sendto(fd, state, strlen(state), MSG_NOSIGNAL, (const struct sockaddr *)&addr,
                     (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len));
}

static int open_events(struct daemon *d, struct err *err)
{
    sigset_t set;
    struct err why = ERR_INIT;

    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGINT);
    d->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    d->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (d->wake_fd < 0 || d->signal_fd < 0)
        return err_set(err, errno, "eventfd, signalfd: %s", strerror(errno));
    if (spool_watch(d->env.spool, &why) < 0)
        log_warn("loader", "%s: jobs are found every %d s only", err_text(&why), RESCAN_MS / 1000);
    return 0;
}

int daemon_start(struct daemon *d, struct err *err)
{
    CLEANUP_FREE char *socket_path = spool_path(d->env.spool, "quayload.sock", NULL);
    CLEANUP_FREE char *ctl_path = spool_path(d->env.spool, "ctl", NULL);
    struct err why = ERR_INIT;
    int r = spool_write_pid(d->env.spool, err);

    if (r < 0 || (r = open_events(d, err)) < 0)
        return r;
    d->started = clock_wall();
    d->env.stats = stats_new();
    d->env.stores = stores_new(d->env.conf, d->settings, d->env.stats);
    d->queue = queue_new(&d->env, d->settings->loader.workers, d->wake_fd);
    write_connections(d);
    (void)spool_file_write(ctl_path, readme_ctl, strlen(readme_ctl), false);
    recover(d);
    if (rpc_serve(socket_path, on_request, d, &why, &d->rpc) < 0)
        log_warn("loader", "no control socket: %s", err_text(&why));
    log_info("loader", "quayload %s on spool %s, %u workers", QUAY_VERSION, spool_dir(d->env.spool),
             d->settings->loader.workers);
    return 0;
}

static void housekeeping(struct daemon *d)
{
    uint64_t now = clock_now_ns();
    unsigned removed = 0;

    if (now - d->stats_ns >= STATS_MS * NS_PER_MS)
        write_stats(d);
    if (d->pruned_ns && now - d->pruned_ns < PRUNE_MS * NS_PER_MS)
        return;
    d->pruned_ns = now;
    (void)spool_prune(d->env.spool, d->settings->loader.retain_ms, &removed);
    if (removed)
        log_info("loader", "%u old results were removed ([loader] retain)", removed);
}

/* Waits for something to do. false: a signal says to end. */
static bool wait_events(struct daemon *d)
{
    struct pollfd fds[] = {{.fd = d->signal_fd, .events = POLLIN},
                           {.fd = d->wake_fd, .events = POLLIN},
                           {.fd = spool_fd(d->env.spool), .events = POLLIN}};
    struct signalfd_siginfo info;
    uint64_t woken;

    (void)poll(fds, ARRAY_LEN(fds), atomic_exchange(&d->unready, false) ? UNREADY_MS : RESCAN_MS);
    if (read(d->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        log_info("loader", "signal %u: ending", info.ssi_signo);
        return false;
    }
    if (read(d->wake_fd, &woken, sizeof(woken)) > 0)
        d->stats_ns = 0; /* a job ended: its numbers are new */
    (void)spool_events(d->env.spool);
    return true;
}

int daemon_loop(struct daemon *d, bool once)
{
    struct queue_counts c;

    do {
        size_t found;

        if (!spool_is_ours(d->env.spool)) {
            log_error("loader", "spool %s was removed or replaced: ending", spool_dir(d->env.spool));
            return RC_DATA;
        }
        read_ctl(d);
        found = scan(d, SPOOL_NEW) + scan(d, SPOOL_CHECK);
        housekeeping(d);
        queue_counts(d->queue, &c);
        if (once && c.waiting + c.running == 0 && (found == 0 || c.stuck)) {
            write_stats(d);
            return c.stuck && c.worst_rc == 0 ? RC_DATA : c.worst_rc;
        }
    } while (wait_events(d));
    return 0;
}

void daemon_stop(struct daemon *d)
{
    daemon_notify("STOPPING=1");
    rpc_stop(d->rpc);
    if (d->queue) {
        queue_stop(d->queue);
        write_stats(d);
        queue_free(d->queue);
    }
    stores_free(d->env.stores);
    if (d->env.stats)
        stats_free(d->env.stats);
    policy_free(d->env.policy);
    if (d->wake_fd >= 0)
        (void)close(d->wake_fd);
    if (d->signal_fd >= 0)
        (void)close(d->signal_fd);
    spool_close(d->env.spool);
    run_env_done(&d->env);
}
