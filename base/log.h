/* SPDX-License-Identifier: MIT
 * log.h: one-line logging, the only global state besides the class tables.
 *
 * Purpose: programs log at their edge (a FUSE reply, a loader run, a CLI); libraries log at debug only.
 * A line is `TIME LEVEL subsystem: text`, control bytes escaped, never longer than 4096 bytes.
 * To stderr when in the foreground (colour on a terminal only), else to syslog or the file of
 * `[quayfs] log_file`.
 *
 * Threads: any. Errors: none are reported; logging never fails a caller.
 * Secrets: base/secret.h values have no printable form, so a secret cannot reach this by accident. */
#ifndef QUAY_BASE_LOG_H
#define QUAY_BASE_LOG_H

#include <stdbool.h>

enum log_level { LOG_LEVEL_ERROR = 0, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

enum log_sink { LOG_SINK_STDERR = 0, LOG_SINK_SYSLOG, LOG_SINK_FILE };

/* `path` is used by LOG_SINK_FILE. Returns 0 or -errno (the old sink then stays). */
int log_open(const char *program, enum log_sink sink, const char *path);
void log_set_level(enum log_level level);
enum log_level log_get_level(void);

/* "error", "warn(ing)", "info", "debug"; false when unknown. */
bool log_level_parse(const char *word, enum log_level *ret);

void log_write(enum log_level level, const char *subsystem, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

#define log_error(sub, ...) log_write(LOG_LEVEL_ERROR, sub, __VA_ARGS__)
#define log_warn(sub, ...) log_write(LOG_LEVEL_WARN, sub, __VA_ARGS__)
#define log_info(sub, ...) log_write(LOG_LEVEL_INFO, sub, __VA_ARGS__)
#define log_debug(sub, ...)                                                                        \
    do {                                                                                           \
        if (log_get_level() >= LOG_LEVEL_DEBUG)                                                    \
            log_write(LOG_LEVEL_DEBUG, sub, __VA_ARGS__);                                          \
    } while (0)

/* The last lines at warn and above (for .quay/log and `quayctl status`): newest last, newline ended.
 * Gives a malloc'd string, NULL when out of memory. */
char *log_recent(void);

#endif
