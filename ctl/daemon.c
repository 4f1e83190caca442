/* SPDX-License-Identifier: MIT
 * daemon.c: see daemon.h. */
#include "ctl/daemon.h"

#include "base/buf.h"

#include <errno.h>
#include <string.h>

int daemon_ask(struct ctl *ctl, const char *cmd, json_t *args, rpc_progress_fn *on_progress,
               void *arg, struct err *err, json_t **ret_result)
{
    int r = rpc_call(ctl->settings.control, cmd, args, on_progress, arg, err, ret_result);
    json_decref(args);
    if (err->remote[0] || (r != -ECONNREFUSED && r != -ENOENT))
        return r < 0 ? CTL_FAILED : CTL_OK;
    err_set(err, -r,
            "quayfs is not running with cache directory %s (configuration %s: nobody answers at %s); "
            "start it with: quayfs -c %s MOUNTPOINT", ctl->settings.cache.dir, ctl->config_path,
            ctl->settings.control, ctl->config_path);
    return CTL_UNREACHABLE;
}

int daemon_call(struct ctl *ctl, const char *cmd, json_t *args, rpc_progress_fn *on_progress,
                void *arg, json_t **ret_result)
{
    struct err err = ERR_INIT;
    int status = ctl_need_config(ctl);

    if (status != CTL_OK) {
        json_decref(args);
        return status;
    }
    status = daemon_ask(ctl, cmd, args, on_progress, arg, &err, ret_result);
    return status == CTL_OK ? CTL_OK : ctl_fail(&err, status);
}

int daemon_print_json(json_t *j)
{
    char *text = json_dumps(j, JSON_INDENT(2) | JSON_PRESERVE_ORDER | JSON_ENCODE_ANY);

    puts(text ? text : "null");
    free(text);
    json_decref(j);
    return CTL_OK;
}
