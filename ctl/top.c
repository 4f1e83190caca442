/* SPDX-License-Identifier: MIT
 * top.c: `quayctl top`: what the mount is doing now.
 * On a terminal the screen is redrawn until q or a signal; signals come by a descriptor, so the terminal
 * is given back in one place whatever ends the loop. */
#include "base/buf.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "ctl/daemon.h"
#include "ctl/top_text.h"

#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>

#define SCREEN_ON "\033[?1049h\033[?25l"
#define SCREEN_OFF "\033[?25h\033[?1049l"

struct top {
    struct ctl *ctl;
    uint64_t delay_ms;
    int64_t count; /* updates; 0 = without end */
    bool json, screen, colour;
    int signals; /* a signalfd, with `screen` */
    struct termios before;
};

/* ---- the terminal ---- */
static bool screen_begin(struct top *t)
{
    sigset_t set;
    struct termios raw;
    if (tcgetattr(STDIN_FILENO, &t->before) < 0)
        return false;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGQUIT);
    sigaddset(&set, SIGWINCH);
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
        return false;
    t->signals = signalfd(-1, &set, SFD_CLOEXEC);
    if (t->signals < 0)
        return false;
    raw = t->before;
    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    (void)tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
    fputs(SCREEN_ON, stdout);
    return true;
}

static void screen_end(struct top *t)
{
    if (!t->screen)
        return;
    t->screen = false;
    fputs(SCREEN_OFF, stdout);
    (void)fflush(stdout);
    (void)tcsetattr(STDIN_FILENO, TCSADRAIN, &t->before);
    (void)close(t->signals);
}

static unsigned screen_rows(void)
{
    struct winsize w;
    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_row > 4 ? w.ws_row - 1U : 23;
}

/* Until the next update; true: to the end (q, a signal). Other keys do nothing. */
static bool wait_screen(struct top *t)
{
    uint64_t end = clock_now_ns() + t->delay_ms * NS_PER_MS;
    for (;;) {
        uint64_t now = clock_now_ns();
        struct pollfd p[] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = t->signals, .events = POLLIN}};
        if (now >= end)
            return false;
        if (poll(p, 2, (int)((end - now) / NS_PER_MS) + 1) < 0)
            return true;
        if (p[1].revents) {
            struct signalfd_siginfo s;
            if (read(t->signals, &s, sizeof(s)) != sizeof(s) || s.ssi_signo != SIGWINCH)
                return true;
        }
        if (p[0].revents) {
            char c = 0;
            if (read(STDIN_FILENO, &c, 1) != 1 || c == 'q' || c == 'Q' || c == 3)
                return true;
        }
    }
}

/* ---- one update ---- */
static void show(const struct top *t, json_t *rates /* taken */)
{
    CLEANUP_BUF struct buf b = BUF_INIT;
    struct top_look look = {.colour = t->colour, .eol = "\n"};
    if (t->json) {
        char *text = json_dumps(rates, JSON_COMPACT | JSON_PRESERVE_ORDER);
        puts(text ? text : "null");
        free(text);
    } else if (t->screen) {
        look.eol = "\033[K\n";
        look.rows = screen_rows();
        top_table(rates, &look, &b);
        printf("\033[H%s\033[J", buf_str(&b));
    } else {
        top_table(rates, &look, &b);
        fputs(buf_str(&b), stdout);
    }
    (void)fflush(stdout);
    json_decref(rates);
}

static int snapshot(struct top *t, json_t **ret)
{
    struct err err = ERR_INIT;
    int status = daemon_ask(t->ctl, "top", json_object(), NULL, NULL, &err, ret);
    if (status == CTL_OK)
        return CTL_OK;
    screen_end(t);
    return ctl_fail(&err, status);
}

static int loop(struct top *t)
{
    json_t *before = NULL, *after = NULL;
    int status = snapshot(t, &before);
    if (t->screen && status == CTL_OK)
        show(t, top_rates(before, before));
    for (int64_t n = 0; status == CTL_OK && (t->count == 0 || n < t->count); n++) {
        if (t->screen ? wait_screen(t) : (clock_sleep_ms((unsigned)t->delay_ms), false))
            break;
        status = snapshot(t, &after);
        if (status != CTL_OK)
            break;
        if (n && !t->screen && !t->json)
            puts("");
        show(t, top_rates(before, after));
        json_decref(before);
        before = after;
    }
    json_decref(before);
    return status;
}

static bool parse_delay(const char *text, uint64_t *ret_ms)
{
    char *end = NULL;
    double s = strtod(text, &end);
    if (end == text || *end || !(s >= 0.1) || s > 3600)
        return false;
    *ret_ms = (uint64_t)(s * 1000);
    return true;
}

static int parse(struct top *t, int argc, char **argv)
{
    static const struct option known[] = {{"delay", required_argument, NULL, 'd'},
                                          {"count", required_argument, NULL, 'n'},
                                          {"once", no_argument, NULL, 'o'},
                                          {"json", no_argument, NULL, 'j'},
                                          {NULL, 0, NULL, 0}};
    bool once = false;
    int c;
    t->delay_ms = 1000;
    while ((c = getopt_long(argc, argv, "d:n:j", known, NULL)) != -1) {
        if (c == '?')
            return ctl_usage("top", NULL);
        if (c == 'd' && !parse_delay(optarg, &t->delay_ms))
            return ctl_usage("top", "--delay takes 0.1 to 3600 seconds, not '%s'", optarg);
        if (c == 'n' && (!parse_int(optarg, &t->count) || t->count < 1))
            return ctl_usage("top", "--count takes a number from 1 on, not '%s'", optarg);
        once |= c == 'o';
        t->json |= c == 'j';
    }
    if (optind < argc)
        return ctl_usage("top", "too many arguments");
    bool terminal = isatty(STDOUT_FILENO) == 1 && isatty(STDIN_FILENO) == 1;
    if (once || (t->count == 0 && !terminal))
        t->count = 1;
    t->screen = terminal && !once && !t->json;
    t->colour = isatty(STDOUT_FILENO) == 1 && !t->json;
    return CTL_OK;
}

static int run(struct ctl *ctl, int argc, char **argv)
{
    struct top t = {.ctl = ctl};
    int status = parse(&t, argc, argv);
    if (status == CTL_OK)
        status = ctl_need_config(ctl);
    if (status != CTL_OK)
        return status;
    if (t.screen)
        t.screen = screen_begin(&t);
    status = loop(&t);
    screen_end(&t);
    return status;
}

const struct ctl_command ctl_top = {
    .name = "top",
    .summary = "Watch what the mount is doing",
    .usage = "Usage: quayctl top [-d SECONDS] [-n COUNT] [--once] [--json]\n"
             "\n"
             "Shows, refreshed every second, for each key: bytes per second that applications read and\n"
             "write and that go over the line to the store, the share of reads that did not wait for\n"
             "the store (hit), requests under way (fly) and jobs that wait for a worker (wait), open\n"
             "files, errors and retries of the interval, files not stored yet (pend), and bytes in the\n"
             "cache; then the latency of each kind of request to the stores. What the kernel reads by\n"
             "itself (passthrough) is not seen here. q ends it.\n"
             "\n"
             "  -d, --delay SECONDS   time between updates (default 1)\n"
             "  -n, --count COUNT     end after so many updates\n"
             "      --once            one update as plain text (the default without a terminal)\n"
             "  -j, --json            each update as one line of JSON\n",
    .run = run,
};
