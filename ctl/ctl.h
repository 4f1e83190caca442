/* SPDX-License-Identifier: MIT
 * ctl.h: quayctl's commands and what they share.
 *
 * A command is a row: its name, one line for `quayctl --help`, the text of `quayctl COMMAND --help`, and
 * run(). To add one: define a `const struct ctl_command ctl_NAME` in a file of its own, name it below and
 * in the table of main.c, add the file to CMakeLists.txt, a row to packaging/man/quayctl.1.
 * run() gets argv[0] = the command's name and its own options; getopt's state is fresh. --help is done
 * by main.c. Results go to stdout, messages to stderr as "quayctl: ...".
 *
 * Exit status: 0 done; 1 failure; 2 a daemon, store or database cannot be reached; 64 bad usage. load,
 * export, batch, wait and retry --wait: the job's return code 0..7 (loader/status.h, quayload(5)).
 * Threads: none but main's (but copy.h). */
#ifndef QUAY_CTL_CTL_H
#define QUAY_CTL_CTL_H

#include "base/settings.h"

#include <jansson.h>
#include <stdbool.h>

enum { CTL_OK = 0, CTL_FAILED = 1, CTL_UNREACHABLE = 2, CTL_USAGE = 64 };

struct ctl {
    const char *config_arg, *env;  /* -c, --env */
    char *config_path;             /* filled by ctl_load() */
    struct conf *conf;
    struct settings settings;
};

struct ctl_command {
    const char *name;
    const char *summary;
    const char *usage;             /* whole --help text, ends with a newline */
    int (*run)(struct ctl *ctl, int argc, char **argv);
};

/* Reads the configuration once. 0 or -errno; the message is err's. */
int ctl_load(struct ctl *ctl, struct err *err);
/* ctl_load, and on failure the message: 0, or CTL_USAGE. */
int ctl_need_config(struct ctl *ctl);
/* "quayctl: TEXT" to stderr; gives `status`. */
int ctl_fail(const struct err *err, int status);
int ctl_message(int status, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Bad usage: the message and how to get help; gives CTL_USAGE. NULL fmt: getopt has said it already. */
int ctl_usage(const char *command, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void ctl_done(struct ctl *ctl);

extern const struct ctl_command ctl_load_command, ctl_export, ctl_batch, ctl_jobs, ctl_wait,
    ctl_cancel, ctl_retry, ctl_cache, ctl_status, ctl_keys, ctl_backends, ctl_sync, ctl_doctor,
    ctl_ls, ctl_stat, ctl_path, ctl_rm,
    ctl_cat, ctl_get, ctl_put, ctl_sign, ctl_warm, ctl_evict, ctl_pin, ctl_unpin, ctl_pins, ctl_top, ctl_cp,
    ctl_mv, ctl_add, ctl_remove, ctl_reload;

#endif
