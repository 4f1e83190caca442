/* SPDX-License-Identifier: MIT
 * keys.c: `quayctl add`, `remove` and `reload`: the keys of the running mount. */
#include "ctl/daemon.h"

#include "base/buf.h"
#include "base/cleanup.h"

#include <limits.h>
#include <string.h>

static int ask(struct ctl *ctl, const char *cmd, json_t *args)
{
    json_t *r = NULL;
    int status = daemon_call(ctl, cmd, args, NULL, NULL, &r);
    if (status == CTL_OK)
        printf("%s\n", json_string_value(r));
    json_decref(r);
    return status;
}

static int run_add(struct ctl *ctl, int argc, char **argv)
{
    char dir[PATH_MAX] = "";
    if (argc < 2)
        return ctl_usage("add", "a KEY, please");
    if (argv[1][0] == '-')
        return ctl_usage("add", "no option %s", argv[1]);
    json_t *options = json_array();
    for (int i = 2; i < argc; i++) {
        const char *eq = strchr(argv[i], '=');
        if (!eq || eq == argv[i]) {
            json_decref(options);
            return ctl_usage("add", "'%s' is no OPTION=VALUE", argv[i]);
        }
        CLEANUP_FREE char *name = xstrndup(argv[i], (size_t)(eq - argv[i]));
        json_array_append_new(options, json_pack("[s, s]", name, eq + 1));
    }
    json_t *args = json_pack("{s:s, s:o, s:s}", "name", argv[1], "options", options, "dir",
                             getcwd(dir, sizeof(dir)) ? dir : "/");
    return args ? ask(ctl, "add", args)
                : ctl_message(CTL_FAILED, "names that are not UTF-8 cannot be given");
}

static int run_remove(struct ctl *ctl, int argc, char **argv)
{
    if (argc != 2 || argv[1][0] == '-')
        return ctl_usage("remove", "one KEY, please");
    json_t *args = json_pack("{s:s}", "name", argv[1]);
    return args ? ask(ctl, "remove", args)
                : ctl_message(CTL_FAILED, "names that are not UTF-8 cannot be given");
}

static int run_reload(struct ctl *ctl, int argc, char **argv)
{
    (void)argv;
    return argc == 1 ? ask(ctl, "reload", json_object()) : ctl_usage("reload", "no arguments");
}

const struct ctl_command ctl_add = {
    .name = "add",
    .summary = "Add a key to the running mount",
    .usage = "Usage: quayctl add KEY [OPTION=VALUE...]\n"
             "\n"
             "Adds a key while the mount runs: with the options of a [store KEY] section (backend=s3\n"
             "bucket=b ...), or without any by the section of that name in the configuration (with\n"
             "auto_register = no, or one that was removed or written since). What is added with\n"
             "options lasts until the mount ends. Secrets are taken from files (NAME_file=PATH).\n",
    .run = run_add,
};

const struct ctl_command ctl_remove = {
    .name = "remove",
    .summary = "Take a key from the running mount",
    .usage = "Usage: quayctl remove KEY\n"
             "\n"
             "Uploads what is staged, then takes the key away. Files that are open stay readable until\n"
             "they are closed. While one is open for writing, or something cannot be uploaded, it is\n"
             "refused, and nothing has changed. A key of the configuration is back at the next reload\n"
             "or start.\n",
    .run = run_remove,
};

const struct ctl_command ctl_reload = {
    .name = "reload",
    .summary = "Read the configuration of the running mount again",
    .usage = "Usage: quayctl reload\n"
             "\n"
             "Makes quayfs read its configuration again, as SIGHUP does: keys are added, changed and\n"
             "removed (see remove), open files go on. A mistake, or a key that cannot be changed now,\n"
             "is told, and nothing has changed. Other sections than [store] and [scheme] take effect at\n"
             "the next start.\n",
    .run = run_reload,
};
