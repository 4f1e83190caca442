/* SPDX-License-Identifier: MIT
 * main.c: quayctl: finds the command in its table and runs it. */
#include "base/cleanup.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/sys.h"
#include "ctl/ctl.h"

#include <getopt.h>
#include <signal.h>
#include <string.h>

static const struct ctl_command *const commands[] = {
    &ctl_load_command, &ctl_export, &ctl_batch, &ctl_jobs, &ctl_wait, &ctl_cancel, &ctl_retry,
    &ctl_status, &ctl_keys, &ctl_add, &ctl_remove, &ctl_reload, &ctl_backends, &ctl_cache, &ctl_warm, &ctl_evict,
    &ctl_pin, &ctl_unpin, &ctl_pins, &ctl_top, &ctl_cp, &ctl_mv, &ctl_sync,
    &ctl_ls, &ctl_stat, &ctl_path, &ctl_cat, &ctl_get,
    &ctl_put, &ctl_rm, &ctl_doctor, &ctl_sign,
};

static void print_help(void)
{
    puts("Usage: quayctl [options] COMMAND [arguments]\n"
         "\n"
         "Commands (quayctl COMMAND --help tells more):");
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        printf("  %-10s  %s\n", commands[i]->name, commands[i]->summary);
    puts("\n"
         "Options:\n"
         "  -c, --config FILE   configuration (default: $QUAYFS_CONFIG, ~/.config/quayfs/quayfs.conf,\n"
         "                      /etc/quayfs/quayfs.conf)\n"
         "      --env NAME      use the overlay sections [store KEY@NAME] (default: $QUAYFS_ENV)\n"
         "  -h, --help          show this help and exit\n"
         "  -V, --version       show the version and exit\n"
         "\n"
         "Exit status: 0 done, 1 failure, 2 a daemon, store or database cannot be reached, 64 bad\n"
         "usage or configuration; load, export, batch and wait: the job's return code (quayload(5)).\n"
         "See also: quayfs(1), quayload(1), quayload(5), quayfs.conf(5)");
}

static int unknown_command(const char *name)
{
    const char *names[ARRAY_LEN(commands)];
    const char *near;

    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        names[i] = commands[i]->name;
    near = nearest_name(name, names, ARRAY_LEN(names));
    if (near)
        fprintf(stderr, "quayctl: unknown command '%s': did you mean '%s'?\n", name, near);
    else
        fprintf(stderr, "quayctl: unknown command '%s'\n", name);
    return ctl_usage("", NULL);
}

static bool wants_help(int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"))
            return true;
    return false;
}

static int run_command(struct ctl *ctl, int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[0], "help")) { /* quayctl help COMMAND */
        argc--;
        argv++;
        for (size_t i = 0; i < ARRAY_LEN(commands); i++)
            if (!strcmp(commands[i]->name, argv[0]))
                return fputs(commands[i]->usage, stdout) < 0;
    } else if (!strcmp(argv[0], "help")) {
        print_help();
        return CTL_OK;
    }
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        if (strcmp(commands[i]->name, argv[0]) != 0)
            continue;
        if (wants_help(argc, argv)) {
            fputs(commands[i]->usage, stdout);
            return CTL_OK;
        }
        optind = 0; /* glibc: begin anew */
        return commands[i]->run(ctl, argc, argv);
    }
    return unknown_command(argv[0]);
}

int main(int argc, char **argv)
{
    static const struct option known[] = {{"config", required_argument, NULL, 'c'},
                                          {"env", required_argument, NULL, 'e'},
                                          {"help", no_argument, NULL, 'h'},
                                          {"version", no_argument, NULL, 'V'},
                                          {NULL, 0, NULL, 0}};
    struct ctl ctl = {0};
    int c, status;

    (void)log_open("quayctl", LOG_SINK_STDERR, NULL);
    log_set_level(LOG_LEVEL_WARN);
    sys_init_faults();
    lock_init_jitter();
    (void)signal(SIGPIPE, SIG_IGN);
    while ((c = getopt_long(argc, argv, "+c:hV", known, NULL)) != -1) {
        switch (c) {
        case 'c':
            ctl.config_arg = optarg;
            break;
        case 'e':
            ctl.env = optarg;
            break;
        case 'h':
            print_help();
            return CTL_OK;
        case 'V':
            printf("quayctl %s\n", QUAY_VERSION);
            return CTL_OK;
        default:
            return ctl_usage("", NULL);
        }
    }
    if (optind >= argc) {
        print_help();
        return CTL_USAGE;
    }
    status = run_command(&ctl, argc - optind, argv + optind);
    ctl_done(&ctl);
    if (fflush(stdout) != 0 && status == CTL_OK)
        status = CTL_FAILED;
    return status;
}
