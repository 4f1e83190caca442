/* SPDX-License-Identifier: MIT
 * ctl.c: what the commands share: configuration and messages. */
#include "ctl/ctl.h"

#include "backends/registry.h"
#include "base/buf.h"
#include "base/cleanup.h"

int ctl_load(struct ctl *ctl, struct err *err)
{
    int r;

    if (ctl->conf)
        return 0;
    r = settings_find_file(ctl->config_arg, err, &ctl->config_path);
    if (r == 0)
        r = conf_load(ctl->config_path, err, &ctl->conf);
    if (r == 0)
        r = conf_apply_env(ctl->conf, settings_environment(ctl->conf, ctl->env), err);
    if (r == 0)
        r = settings_load(ctl->conf, err, &ctl->settings);
    if (r < 0)
        return r;
    CONF_EACH (ctl->conf, s) {
        const struct store_class *cls;
        if (strcmp(s->kind, "store") == 0)
            r = registry_check(ctl->conf, s, err, &cls);
        if (r < 0)
            return r;
    }
    return 0;
}

int ctl_need_config(struct ctl *ctl)
{
    struct err err = ERR_INIT;

    return ctl_load(ctl, &err) < 0 ? ctl_fail(&err, CTL_USAGE) : 0;
}

int ctl_fail(const struct err *err, int status)
{
    fprintf(stderr, "quayctl: %s\n", err_text(err));
    return status;
}

int ctl_message(int status, const char *fmt, ...)
{
    CLEANUP_BUF struct buf b = BUF_INIT;
    va_list ap;

    va_start(ap, fmt);
    buf_vaddf(&b, fmt, ap);
    va_end(ap);
    fprintf(stderr, "quayctl: %s\n", buf_str(&b));
    return status;
}

int ctl_usage(const char *command, const char *fmt, ...)
{
    if (fmt) {
        CLEANUP_BUF struct buf b = BUF_INIT;
        va_list ap;

        va_start(ap, fmt);
        buf_vaddf(&b, fmt, ap);
        va_end(ap);
        fprintf(stderr, "quayctl %s: %s\n", command, buf_str(&b));
    }
    fprintf(stderr, "Try 'quayctl %s%s--help'.\n", command, *command ? " " : "");
    return CTL_USAGE;
}

void ctl_done(struct ctl *ctl)
{
    settings_done(&ctl->settings);
    conf_free(ctl->conf);
    free(ctl->config_path);
}
