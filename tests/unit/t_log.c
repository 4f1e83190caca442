/* SPDX-License-Identifier: MIT
 * t_log.c: levels, the file sink, escaping, the list of recent lines. */
#include "base/log.h"

#include "base/clock.h"
#include "tests/unit/t.h"

#include <errno.h>
#include <unistd.h>

static char path[] = "/tmp/t_log.XXXXXX";

static char *slurp(void)
{
    static char text[32768];
    FILE *f = fopen(path, "r");
    CHECK(f != NULL);
    size_t n = fread(text, 1, sizeof(text) - 1, f);
    text[n] = '\0';
    fclose(f);
    return text;
}

static void test_levels(void)
{
    enum log_level level = LOG_LEVEL_ERROR;
    CHECK(log_level_parse("warning", &level) && level == LOG_LEVEL_WARN);
    CHECK(log_level_parse("WARN", &level) && level == LOG_LEVEL_WARN);
    CHECK(log_level_parse("debug", &level) && level == LOG_LEVEL_DEBUG);
    CHECK(!log_level_parse("loud", &level) && level == LOG_LEVEL_DEBUG);
}

static void test_file(void)
{
    struct timespec t = {.tv_sec = 1369353600, .tv_nsec = 5000000};
    clock_set_wall_for_test(&t);
    CHECK_INT(log_open("t_log", LOG_SINK_FILE, "/nonexistent/dir/log"), -ENOENT);
    CHECK_INT(log_open("t_log", LOG_SINK_FILE, path), 0);
    log_set_level(LOG_LEVEL_INFO);
    errno = 77;
    log_info("cache", "hello %d", 5);
    CHECK_INT(errno, 77);
    log_debug("cache", "not shown");
    log_warn("s3", "evil\nname\033[2J");
    CHECK_STR(slurp(), "2013-05-24T00:00:00.005Z info cache: hello 5\n"
                       "2013-05-24T00:00:00.005Z warn s3: evil\\x0aname\\x1b[2J\n");
    log_set_level(LOG_LEVEL_DEBUG);
    log_debug("cache", "shown");
    CHECK(strstr(slurp(), "debug cache: shown\n") != NULL);
}

static void test_long_line(void)
{
    char big[9000];
    memset(big, '\n', sizeof(big));
    big[8999] = '\0';
    log_info("x", "%s", big);
    char *last = strstr(slurp(), "info x: ");
    CHECK(last != NULL);
    size_t n = strlen(last);
    CHECK(n < 4096 && last[n - 1] == '\n' && strchr(last, '\n') == last + n - 1);
}

static void test_recent(void)
{
    for (int i = 0; i < 250; i++)
        log_warn("r", "line %d", i);
    log_info("r", "too low for this");
    char *all = log_recent();
    CHECK(all != NULL);
    int lines = 0;
    for (char *c = all; *c; c++)
        lines += *c == '\n';
    CHECK_INT(lines, 100);
    CHECK(strstr(all, "line 150\n") && strstr(all, "line 249\n") && !strstr(all, "line 149\n"));
    CHECK(!strstr(all, "too low"));
    free(all);
}

int main(void)
{
    int fd = mkstemp(path);
    CHECK(fd >= 0);
    close(fd);
    RUN(test_levels);
    RUN(test_file);
    RUN(test_long_line);
    RUN(test_recent);
    log_open("t_log", LOG_SINK_STDERR, NULL);
    unlink(path);
    return t_done();
}
