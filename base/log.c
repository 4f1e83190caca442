/* SPDX-License-Identifier: MIT
 * log.c: the log's state and its three sinks.
 * Invariants: (1) `state` is only touched under its mutex, the level is atomic; the mutex is a
 * plain one outside the rank order, since any code may log, whatever it holds; (2) a line goes out
 * with one write(2), so lines of several threads and processes do not mix; (3) errno is preserved.
 */
#include "base/log.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/date.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <syslog.h>
#include <unistd.h>

#define LINE_MAX_BYTES 4096
#define RECENT_LINES 100

static const char *const level_words[] = {"error", "warn", "info", "debug"};

static atomic_int log_level_now = LOG_LEVEL_INFO;

static struct {
    pthread_mutex_t mutex;
    enum log_sink sink;
    int fd; /* LOG_SINK_FILE */
    bool colour, colour_known;
    char program[64]; /* openlog() keeps the pointer */
    char *recent[RECENT_LINES];
    size_t n_recent; /* ever added; the ring's next slot is n_recent % RECENT_LINES */
} state = {.mutex = PTHREAD_MUTEX_INITIALIZER, .fd = -1};

int log_open(const char *program, enum log_sink sink, const char *path)
{
    int fd = -1;
    if (sink == LOG_SINK_FILE) {
        fd = open(path ? path : "", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0640);
        if (fd < 0)
            return -errno;
    }
    pthread_mutex_lock(&state.mutex);
    if (state.sink == LOG_SINK_SYSLOG)
        closelog();
    int old = state.fd;
    state.sink = sink;
    state.fd = fd;
    snprintf(state.program, sizeof(state.program), "%s", program ? program : "quayfs");
    if (sink == LOG_SINK_SYSLOG)
        openlog(state.program, LOG_PID | LOG_NDELAY, LOG_DAEMON);
    pthread_mutex_unlock(&state.mutex);
    if (old >= 0)
        close(old);
    return 0;
}

void log_set_level(enum log_level level)
{
    atomic_store_explicit(&log_level_now, (int)level, memory_order_relaxed);
}

enum log_level log_get_level(void)
{
    return (enum log_level)atomic_load_explicit(&log_level_now, memory_order_relaxed);
}

bool log_level_parse(const char *word, enum log_level *ret)
{
    if (strcasecmp(word, "warning") == 0)
        word = "warn";
    for (int i = 0; i <= LOG_LEVEL_DEBUG; i++) {
        if (strcasecmp(word, level_words[i]) == 0) {
            *ret = (enum log_level)i;
            return true;
        }
    }
    return false;
}

/* Copies src to dst (of LINE_MAX_BYTES) from position at, control bytes as \xNN. */
static size_t put_escaped(char *dst, size_t at, const char *src)
{
    static const char hex[] = "0123456789abcdef";
    for (; *src && at + 5 < LINE_MAX_BYTES; src++) {
        unsigned char c = (unsigned char)*src;
        if (c >= 0x20 && c != 0x7f) {
            dst[at++] = (char)c;
            continue;
        }
        dst[at++] = '\\';
        dst[at++] = 'x';
        dst[at++] = hex[c >> 4];
        dst[at++] = hex[c & 15];
    }
    return at;
}

static void write_all(int fd, const char *p, size_t n)
{
    while (n > 0) {
        ssize_t r = write(fd, p, n);
        if (r < 0 && errno == EINTR)
            continue;
        if (r <= 0)
            return; /* nowhere to report it */
        p += r;
        n -= (size_t)r;
    }
}

static void write_stderr_locked(enum log_level level, const char *line, size_t len)
{
    static const char *const colours[] = {"\033[31m", "\033[33m", "", "\033[2m"};
    if (!state.colour_known) {
        state.colour = isatty(STDERR_FILENO);
        state.colour_known = true;
    }
    if (!state.colour || !colours[level][0]) {
        write_all(STDERR_FILENO, line, len);
        return;
    }
    char out[LINE_MAX_BYTES + 32];
    int n = snprintf(out, sizeof(out), "%s%.*s\033[0m\n", colours[level], (int)len - 1, line);
    if (n > 0)
        write_all(STDERR_FILENO, out, (size_t)n);
}

static void remember_locked(const char *line)
{
    char *copy = strdup(line);
    if (!copy)
        return;
    char **slot = &state.recent[state.n_recent++ % RECENT_LINES];
    free(*slot);
    *slot = copy;
}

void log_write(enum log_level level, const char *subsystem, const char *fmt, ...)
{
    static const int priorities[] = {LOG_ERR, LOG_WARNING, LOG_INFO, LOG_DEBUG};
    if (level > log_get_level())
        return;
    int saved = errno;
    char text[LINE_MAX_BYTES], line[LINE_MAX_BYTES], when[32];
    va_list ap;
    va_start(ap, fmt);
    if (vsnprintf(text, sizeof(text), fmt, ap) < 0)
        text[0] = '\0';
    va_end(ap);
    date_format_iso(clock_wall(), when);
    size_t start = (size_t)snprintf(line, sizeof(line), "%s %s ", when, level_words[level]);
    size_t len = put_escaped(line, start, subsystem);
    line[len++] = ':';
    line[len++] = ' ';
    len = put_escaped(line, len, text);
    line[len++] = '\n';
    line[len] = '\0';

    pthread_mutex_lock(&state.mutex);
    if (level <= LOG_LEVEL_WARN)
        remember_locked(line);
    if (state.sink == LOG_SINK_SYSLOG)
        syslog(priorities[level], "%.*s", (int)(len - start - 1), line + start);
    else if (state.sink == LOG_SINK_FILE)
        write_all(state.fd, line, len);
    else
        write_stderr_locked(level, line, len);
    pthread_mutex_unlock(&state.mutex);
    errno = saved;
}

char *log_recent(void)
{
    pthread_mutex_lock(&state.mutex);
    size_t first = state.n_recent > RECENT_LINES ? state.n_recent - RECENT_LINES : 0;
    size_t total = 1;
    for (size_t i = first; i < state.n_recent; i++)
        total += strlen(state.recent[i % RECENT_LINES]);
    char *all = malloc(total);
    size_t at = 0;
    for (size_t i = first; all && i < state.n_recent; i++) {
        size_t n = strlen(state.recent[i % RECENT_LINES]);
        memcpy(all + at, state.recent[i % RECENT_LINES], n);
        at += n;
    }
    if (all)
        all[at] = '\0';
    pthread_mutex_unlock(&state.mutex);
    return all;
}
