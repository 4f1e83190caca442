/* SPDX-License-Identifier: MIT
 * copy.c: `quayctl cp`, `mv` and `sync`: what is to be copied where; copy.h says how. */
#include "ctl/copy.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/sys.h"
#include "ctl/daemon.h"

#include <getopt.h>
#include <string.h>

enum { OPT_INCLUDE = 256, OPT_EXCLUDE, OPT_DELETE, OPT_CHECKSUM, OPT_JSON };

static const struct option known[] = {{"recursive", no_argument, NULL, 'r'},
                                      {"dry-run", no_argument, NULL, 'n'},
                                      {"checksum", no_argument, NULL, OPT_CHECKSUM},
                                      {"delete", no_argument, NULL, OPT_DELETE},
                                      {"force", no_argument, NULL, 'f'},
                                      {"include", required_argument, NULL, OPT_INCLUDE},
                                      {"pattern", required_argument, NULL, OPT_INCLUDE},
                                      {"exclude", required_argument, NULL, OPT_EXCLUDE},
                                      {"parallel", required_argument, NULL, 'p'},
                                      {"quiet", no_argument, NULL, 'q'},
                                      {"verbose", no_argument, NULL, 'v'},
                                      {"json", no_argument, NULL, OPT_JSON},
                                      {NULL, 0, NULL, 0}};

static int take_option(struct copy_options *o, int c)
{
    int64_t n;
    o->recursive |= c == 'r';
    o->dry |= c == 'n';
    o->force |= c == 'f';
    o->quiet |= c == 'q';
    o->verbose |= c == 'v';
    o->json |= c == OPT_JSON;
    o->checksum |= c == OPT_CHECKSUM;
    o->remove_extra |= c == OPT_DELETE;
    if (c == OPT_INCLUDE || c == OPT_EXCLUDE)
        filter_add(&o->filter, optarg, c == OPT_INCLUDE);
    if (c == 'p' && (!parse_int(optarg, &n) || n < 1 || n > 64))
        return ctl_usage(o->name, "--parallel takes 1 to 64, not '%s'", optarg);
    if (c == 'p')
        o->parallel = (unsigned)n;
    if (c == OPT_DELETE && o->mode != COPY_SYNC)
        return ctl_usage(o->name, "--delete is for quayctl sync");
    return c == '?' ? ctl_usage(o->name, NULL) : CTL_OK;
}

static int take_options(struct copy_options *o, int argc, char **argv)
{
    int c;
    int status = CTL_OK;
    while (status == CTL_OK && (c = getopt_long(argc, argv, "rnfp:qv", known, NULL)) != -1)
        status = take_option(o, c);
    return status;
}

static bool is_dir(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* What is missing above the target. */
static int make_parents(const char *path)
{
    const char *slash = strrchr(path, '/');
    CLEANUP_FREE char *dir = xstrndup(path, (size_t)(slash - path));
    int r = *dir && !is_dir(dir) ? sys_mkdirs(dir, 0777) : 0;
    return r < 0 ? ctl_message(CTL_FAILED, "%s: making the directory: %s", dir, strerror(-r)) : CTL_OK;
}

static int copy_all(struct ctl *ctl, const struct copy_options *o, struct places *p)
{
    struct place *last = &p->v[p->n - 1];
    bool into = o->mode != COPY_SYNC && (p->n > 2 || last->dir || is_dir(last->file));
    CLEANUP_FREE char *top = xstrdup(last->file);
    CLEANUP_FREE char *probe = into ? xasprintf("%s/x", top) : xstrdup(top);
    if (!o->dry && make_parents(probe) != CTL_OK)
        return CTL_FAILED;
    struct copier *c = copier_new(ctl, o);
    for (size_t i = 0; i + 1 < p->n; i++) {
        struct place to = *last;
        const char *name = strrchr(p->v[i].file, '/') + 1;
        to.file = into ? xasprintf("%s/%s", top, name) : xstrdup(top);
        copier_add(c, &p->v[i], &to);
        free(to.file);
    }
    return copier_end(c);
}

static int run(struct ctl *ctl, struct copy_options *o, int argc, char **argv)
{
    struct places p;
    int status = CTL_OK;
    if (argc < 2)
        status = ctl_usage(o->name, "SRC and DST, please");
    else if (o->mode == COPY_SYNC && argc > 2)
        status = ctl_usage(o->name, "one SRC and one DST");
    if (status == CTL_OK)
        status = places_resolve_any(ctl, o->name, argc, argv, &p);
    if (status != CTL_OK)
        return status;
    status = copy_all(ctl, o, &p);
    places_done(&p);
    return status;
}

static int run_mode(struct ctl *ctl, enum copy_mode mode, const char *name, int argc, char **argv)
{
    struct copy_options o = {.mode = mode, .name = name, .recursive = mode != COPY_CP, .parallel = 8};
    int status = take_options(&o, argc, argv);
    if (status == CTL_OK)
        status = run(ctl, &o, argc - optind, argv + optind);
    filter_done(&o.filter);
    return status;
}

static int run_cp(struct ctl *ctl, int argc, char **argv)
{
    return run_mode(ctl, COPY_CP, "cp", argc, argv);
}

static int run_mv(struct ctl *ctl, int argc, char **argv)
{
    return run_mode(ctl, COPY_MV, "mv", argc, argv);
}

/* `quayctl sync [KEY]`: what is staged. */
static int store_staged(struct ctl *ctl, const char *key)
{
    json_t *r = NULL;
    json_t *args = json_object();
    if (key)
        json_object_set_new(args, "key", json_string(key));
    int status = daemon_call(ctl, "sync", args, NULL, NULL, &r);
    json_decref(r);
    return status;
}

static int run_sync(struct ctl *ctl, int argc, char **argv)
{
    if (argc == 1 || (argc == 2 && argv[1][0] != '-'))
        return store_staged(ctl, argv[1]);
    return run_mode(ctl, COPY_SYNC, "sync", argc, argv);
}

#define COMMON_USAGE                                                                               \
    "      --include PATTERN  only these files (--pattern says the same); may be repeated\n"       \
    "      --exclude PATTERN  not these; the first rule that matches a name decides. With a '/'\n" \
    "                      a pattern is for the whole path below SRC, else for the last name\n"    \
    "      --checksum      compare bytes instead of size and time, and read copies back\n"         \
    "  -f, --force         copy also what seems to be there already\n"                             \
    "  -n, --dry-run       say what would be done; change nothing\n"                               \
    "  -p, --parallel N    files at once, 1 to 64 (default 8)\n"                                   \
    "  -v, --verbose       a line for each file\n"                                                 \
    "  -q, --quiet         no progress, and a summary only when something failed\n"                \
    "      --json          the summary as JSON\n"                                                  \
    "Exit status: 0 all is there, 1 something failed (the rest was done), 2 no quayfs runs,\n"     \
    "64 bad usage, 130 interrupted. Run again, it goes on where it stopped.\n"

const struct ctl_command ctl_cp = {
    .name = "cp",
    .summary = "Copy files between keys, or keys and local disks",
    .usage = "Usage: quayctl cp [options] SRC... DST\n"
             "\n"
             "Copies files, in parallel; SRC and DST are KEY:path, KEY/path, paths in the mount or\n"
             "any other paths. Within one key, and between keys on one server of s3, gcs or azure, the\n"
             "store copies. A file appears whole or not at all; mode, modification time and user.*\n"
             "attributes go along. Missing directories are made.\n"
             "\n"
             "  -r, --recursive     directories, with all below them\n" COMMON_USAGE,
    .run = run_cp,
};

const struct ctl_command ctl_mv = {
    .name = "mv",
    .summary = "Move files between keys, or keys and local disks",
    .usage = "Usage: quayctl mv [options] SRC... DST\n"
             "\n"
             "As cp -r, and removes each source file after its copy was read back from the store and\n"
             "found equal. Whatever fails, the source stays. Within one key it is a rename.\n"
             "\n"
             "  -r, --recursive     is the default\n" COMMON_USAGE,
    .run = run_mv,
};

const struct ctl_command ctl_sync = {
    .name = "sync",
    .summary = "Make DST like SRC; or store now what is staged",
    .usage = "Usage: quayctl sync [options] SRC DST\n"
             "       quayctl sync [KEY]\n"
             "\n"
             "With SRC and DST: copies what DST (a directory) does not have or has otherwise; see\n"
             "cp. With at most a KEY: uploads everything that is staged (of KEY) and returns when it\n"
             "is stored, or with the store's error.\n"
             "\n"
             "  -r, --recursive     is the default\n"
             "      --delete        delete in DST what SRC does not have (not what a rule leaves\n"
             "                      out); nothing when something could not be copied\n" COMMON_USAGE,
    .run = run_sync,
};
