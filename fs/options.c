/* SPDX-License-Identifier: MIT
 * options.c: see options.h. */
#include "fs/options.h"

#include "base/buf.h"
#include "base/cleanup.h"

#include <getopt.h>
#include <string.h>
#include <sys/stat.h>

void options_help(void)
{
    puts("Usage: quayfs [options] MOUNTPOINT\n"
         "       quayfs [options] DIRECTORY|URI MOUNTPOINT\n"
         "\n"
         "Mounts the stores of a configuration file as directories, one for each [store NAME].\n"
         "With a DIRECTORY or a URI (s3://BUCKET/PREFIX) and no configuration, that is the only key.\n"
         "\n"
         "  -c, --config FILE   configuration (default: $QUAYFS_CONFIG, ~/.config/quayfs/quayfs.conf,\n"
         "                      /etc/quayfs/quayfs.conf)\n"
         "      --env NAME      use the overlay sections [store KEY@NAME] (default: $QUAYFS_ENV)\n"
         "      --env-file FILE lines NAME=VALUE for the environment, such as credentials\n"
         "      --ephemeral     a cache of its own, removed at unmount\n"
         "      --check         check the configuration and exit\n"
         "  -f, --foreground    stay in the foreground, log to standard error\n"
         "  -d, --debug         foreground, with debug messages of quayfs\n"
         "  -o OPT[,OPT...]     FUSE options (allow_other, ro, ...), or settings such as\n"
         "                      cache.dir=/fast/cache, cache.max_size=20GiB, quayfs.log_level=debug;\n"
         "                      with a DIRECTORY or URI also store.NAME=VALUE\n"
         "  -h, --help          show this help and exit\n"
         "  -V, --version       show the version and exit\n"
         "\n"
         "Unmount with: fusermount3 -u MOUNTPOINT, or end the process with SIGTERM. The process\n"
         "stores what is still staged, and then ends; fusermount3 does not wait for that.\n"
         "Exit status: 0 unmounted with everything stored, 1 failure, 2 bad usage or configuration,\n"
         "3 unmounted, but data is still staged (it is uploaded at the next start).\n"
         "See also: quayctl(1), quayload(1), quayfs.conf(5)");
}

static void append(char ***list, size_t *n, const char *s)
{
    *list = xrealloc(*list, (*n + 1) * sizeof(**list));
    (*list)[(*n)++] = xstrdup(s);
}

static void set_string(char **to, const char *s)
{
    free(*to);
    *to = xstrdup(s);
}

static void take_mount_option(struct options *o, const char *opt)
{
    const char *eq = strchr(opt, '=');
    const char *dot = strchr(opt, '.');
    if (strncmp(opt, "config=", 7) == 0)
        set_string(&o->config, opt + 7);
    else if (strncmp(opt, "env=", 4) == 0)
        set_string(&o->env, opt + 4);
    else if (dot && eq && dot < eq)
        append(&o->set, &o->n_set, opt);
    else if (strcmp(opt, "_netdev") != 0 && strcmp(opt, "user") != 0 &&
             strcmp(opt, "noauto") != 0 && strcmp(opt, "nofail") != 0)
        append(&o->fuse, &o->n_fuse, opt);
}

static void take_mount_options(struct options *o, const char *list)
{
    CLEANUP_FREE char *copy = xstrdup(list);
    char *save = NULL;
    for (char *w = strtok_r(copy, ",", &save); w; w = strtok_r(NULL, ",", &save))
        take_mount_option(o, w);
}

static int take_arguments(struct options *o, int n, char **v, struct err *err)
{
    struct stat st;
    if (n == 0)
        return err_set(err, EINVAL, "no mountpoint given; usage: quayfs [options] MOUNTPOINT (see quayfs --help)");
    if (n > 2)
        return err_set(err, EINVAL, "too many arguments: '%s'; see quayfs --help", v[2]);
    o->mountpoint = xstrdup(v[n - 1]);
    if (n == 1)
        return 0;
    if (o->config)
        return err_set(err, EINVAL, "both -c %s and '%s' given: which one?", o->config, v[0]);
    if (strstr(v[0], "://")) {
        o->uri = xstrdup(v[0]);
        return 0;
    }
    if (stat(v[0], &st) != 0)
        return err_set(err, errno, "%s: %s", v[0], strerror(errno));
    if (S_ISDIR(st.st_mode))
        o->local_dir = realpath(v[0], NULL);
    else
        o->config = xstrdup(v[0]);
    return 0;
}

enum { OPT_ENV = 256, OPT_CHECK, OPT_ENV_FILE, OPT_EPHEMERAL };

static int take_option(struct options *o, int c, const char *arg)
{
    switch (c) {
    case 'c':
        set_string(&o->config, arg);
        return 0;
    case 'o':
        take_mount_options(o, arg);
        return 0;
    case OPT_ENV:
        set_string(&o->env, arg);
        return 0;
    case OPT_ENV_FILE:
        set_string(&o->env_file, arg);
        return 0;
    case OPT_EPHEMERAL:
        o->ephemeral = true;
        return 0;
    case OPT_CHECK:
        o->check = true;
        return 0;
    case 'f':
        o->foreground = true;
        return 0;
    case 'd':
        o->debug = o->foreground = true;
        return 0;
    case 'h':
        o->help = true;
        return 0;
    case 'V':
        o->version = true;
        return 0;
    default:
        return -EINVAL;
    }
}

int options_parse(int argc, char **argv, struct err *err, struct options *ret)
{
    static const struct option longs[] = {
        {"config", required_argument, NULL, 'c'}, {"env", required_argument, NULL, OPT_ENV},
        {"env-file", required_argument, NULL, OPT_ENV_FILE}, {"ephemeral", no_argument, NULL, OPT_EPHEMERAL},
        {"check", no_argument, NULL, OPT_CHECK},  {"foreground", no_argument, NULL, 'f'},
        {"debug", no_argument, NULL, 'd'},        {"help", no_argument, NULL, 'h'},
        {"version", no_argument, NULL, 'V'},      {NULL, 0, NULL, 0}};
    int c;
    *ret = (struct options){0};
    opterr = 0;
    while ((c = getopt_long(argc, argv, "c:o:fdhV", longs, NULL)) != -1) {
        if (take_option(ret, c, optarg) < 0)
            return err_set(err, EINVAL, "unknown option or missing value: '%s'; see quayfs --help",
                           argv[optind - 1]);
    }
    if (ret->help || ret->version || (ret->check && optind == argc))
        return 0;
    return take_arguments(ret, argc - optind, argv + optind, err);
}

void options_done(struct options *o)
{
    for (size_t i = 0; i < o->n_fuse; i++)
        free(o->fuse[i]);
    for (size_t i = 0; i < o->n_set; i++)
        free(o->set[i]);
    free(o->fuse);
    free(o->set);
    free(o->config);
    free(o->local_dir);
    free(o->uri);
    free(o->env_file);
    free(o->mountpoint);
    free(o->env);
    *o = (struct options){0};
}

int options_apply(const struct options *o, struct conf *c, struct err *err)
{
    for (size_t i = 0; i < o->n_set; i++) {
        CLEANUP_FREE char *copy = xstrdup(o->set[i]);
        char *dot = strchr(copy, '.');
        char *eq = strchr(copy, '=');
        *dot = *eq = '\0';
        bool store = strcmp(copy, "store") == 0 && (o->local_dir || o->uri);
        if (!store && strcmp(copy, "quayfs") != 0 && strcmp(copy, "cache") != 0 && strcmp(copy, "loader") != 0)
            return err_set(err, EINVAL, "-o %s: settings are quayfs.*, cache.* or loader.*",
                           o->set[i]);
        struct conf_section *s = store ? c->sections : conf_find(c, copy, ""); /* adhoc: the store is the first */
        if (!s)
            s = conf_add_section(c, copy, "");
        conf_set(s, dot + 1, eq + 1);
    }
    return 0;
}
