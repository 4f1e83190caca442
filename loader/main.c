/* SPDX-License-Identifier: MIT
 * main.c: quayload from start to end, in order: options, configuration and spool (errors before any
 * fork), fork, threads, tell the parent, loop, stop. No thread exists before the fork; the spool's lock
 * is inherited by the child. */
#include "backends/http.h"
#include "base/cleanup.h"
#include "base/crypto.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/sys.h"
#include "loader/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <sys/wait.h>

enum { EXIT_START = 1, EXIT_CONFIG = 2 };

struct options {
    const char *config, *env;
    bool foreground, debug, once, check, help, version;
};

static void print_help(void)
{
    puts("Usage: quayload [options]\n"
         "\n"
         "Moves data in bulk between stores and databases: runs the job files that are dropped into\n"
         "the new/ directory of its spool ([loader] spool; .load/ in a mount).\n"
         "\n"
         "  -c, --config FILE   configuration (default: $QUAYFS_CONFIG, ~/.config/quayfs/quayfs.conf,\n"
         "                      /etc/quayfs/quayfs.conf)\n"
         "      --env NAME      use the overlay sections [store KEY@NAME] (default: $QUAYFS_ENV)\n"
         "      --check         check the configuration and exit\n"
         "      --once          run what is in the spool, in the foreground, then exit\n"
         "  -f, --foreground    stay in the foreground, log to standard error\n"
         "  -d, --debug         foreground, with debug messages\n"
         "  -h, --help          show this help and exit\n"
         "  -V, --version       show the version and exit\n"
         "\n"
         "SIGTERM and SIGINT end it: running jobs are rolled back and run again at the next start.\n"
         "Exit status: 0 ended; 1 failure (another quayload has the spool), 2 bad usage or\n"
         "configuration; with --once the worst return code of the jobs (quayload(5)).\n"
         "See also: quayload(5), quayctl(1), quayfs(1), quayfs.conf(5)");
}

static int parse_options(int argc, char **argv, struct options *o)
{
    enum { OPT_ENV = 256, OPT_ONCE, OPT_CHECK };
    static const struct option known[] = {{"config", required_argument, NULL, 'c'},
                                          {"env", required_argument, NULL, OPT_ENV},
                                          {"once", no_argument, NULL, OPT_ONCE},
                                          {"check", no_argument, NULL, OPT_CHECK},
                                          {"foreground", no_argument, NULL, 'f'},
                                          {"debug", no_argument, NULL, 'd'},
                                          {"help", no_argument, NULL, 'h'},
                                          {"version", no_argument, NULL, 'V'},
                                          {NULL, 0, NULL, 0}};
    int c;

    while ((c = getopt_long(argc, argv, "c:fdhV", known, NULL)) != -1) {
        switch (c) {
        case 'c':
            o->config = optarg;
            break;
        case OPT_ENV:
            o->env = optarg;
            break;
        case OPT_ONCE:
            o->once = o->foreground = true;
            break;
        case OPT_CHECK:
            o->check = true;
            break;
        case 'd':
            o->debug = o->foreground = true;
            break;
        case 'f':
            o->foreground = true;
            break;
        case 'h':
            o->help = true;
            break;
        case 'V':
            o->version = true;
            break;
        default:
            return -EINVAL;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "quayload: unexpected argument '%s'\n", argv[optind]);
        return -EINVAL;
    }
    return 0;
}

static int fail(const struct err *err, int status)
{
    log_error("quayload", "%s", err_text(err));
    return status;
}

static int load_config(const struct options *o, struct err *err, struct conf **ret_conf,
                       struct settings *ret)
{
    CLEANUP_FREE char *path = NULL;
    int r = settings_find_file(o->config, err, &path);

    if (r == 0)
        r = conf_load(path, err, ret_conf);
    if (r == 0)
        r = conf_apply_env(*ret_conf, settings_environment(*ret_conf, o->env), err);
    return r == 0 ? settings_load(*ret_conf, err, ret) : r;
}

/* Forks; the child goes on with the pipe's write end in *ret_ready, the parent waits for its word. */
static int daemonise(int *ret_ready)
{
    int p[2], status = EXIT_START;
    char word = 1;
    pid_t pid;

    if (pipe2(p, O_CLOEXEC) != 0)
        return -errno;
    pid = fork();
    if (pid < 0)
        return -errno;
    if (pid == 0) {
        (void)close(p[0]);
        (void)setsid();
        *ret_ready = p[1];
        return 0;
    }
    (void)close(p[1]);
    if (read(p[0], &word, 1) == 1 && word == 0)
        _exit(0);
    if (waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) != 0)
        _exit(WEXITSTATUS(status));
    _exit(EXIT_START);
}

/* It works: the parent may return to the shell, our own streams go away. */
static void tell_ready(const struct settings *s, int ready)
{
    CLEANUP_FD int null = -1;
    char word = 0;

    daemon_notify("READY=1");
    if (ready < 0)
        return;
    if (log_open("quayload", s->log_file ? LOG_SINK_FILE : LOG_SINK_SYSLOG, s->log_file) < 0)
        log_warn("quayload", "cannot open log_file = %s", s->log_file ? s->log_file : "");
    (void)!chdir("/");
    null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = 0; null >= 0 && fd < 3; fd++)
        (void)dup2(null, fd);
    (void)!write(ready, &word, 1);
    (void)close(ready);
}

static void block_signals(void)
{
    sigset_t set;

    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGINT);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGHUP, SIG_IGN);
}

static int serve(const struct options *o, struct conf *conf, const struct settings *settings)
{
    struct daemon d;
    struct err err = ERR_INIT;
    int ready = -1, status = 0;
    int r = daemon_prepare(&d, conf, settings, &err);

    if (r < 0) {
        status = fail(&err, EXIT_CONFIG);
    } else if (o->check) {
        printf("%s: no errors\n", conf->file);
    } else if ((r = daemon_lock(&d, &err)) < 0) {
        status = fail(&err, EXIT_START);
    }
    if (r < 0 || o->check) {
        daemon_stop(&d);
        return status;
    }
    block_signals();
    if (!o->foreground && (r = daemonise(&ready)) < 0)
        (void)err_set(&err, -r, "fork: %s", strerror(-r));
    if (r == 0) {
        http_global_init();
        crypto_ctr_start(); /* for sftp */
        r = daemon_start(&d, &err);
    }
    if (r == 0) {
        tell_ready(settings, ready);
        status = daemon_loop(&d, o->once);
    } else {
        status = fail(&err, EXIT_START);
    }
    daemon_stop(&d);
    return status;
}

int main(int argc, char **argv)
{
    struct options o = {0};
    struct settings settings = {0};
    struct conf *conf = NULL;
    struct err err = ERR_INIT;
    int status;

    (void)log_open("quayload", LOG_SINK_STDERR, NULL);
    sys_init_faults();
    lock_init_jitter();
    if (parse_options(argc, argv, &o) < 0) {
        fputs("Try 'quayload --help'.\n", stderr);
        return EXIT_CONFIG;
    }
    if (o.help || o.version) {
        if (o.help)
            print_help();
        else
            printf("quayload %s\n", QUAY_VERSION);
        return 0;
    }
    if (load_config(&o, &err, &conf, &settings) < 0) {
        status = fail(&err, EXIT_CONFIG);
    } else {
        log_set_level(o.debug ? LOG_LEVEL_DEBUG : settings.log_level);
        status = serve(&o, conf, &settings);
    }
    settings_done(&settings);
    conf_free(conf);
    return status;
}
