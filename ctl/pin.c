/* SPDX-License-Identifier: MIT
 * pin.c: `quayctl pin`, `unpin` and `pins`: what stays in the disk cache. */
#include "base/buf.h"
#include "base/cleanup.h"
#include "ctl/daemon.h"
#include "ctl/place.h"
#include "ctl/warm.h"

#include <getopt.h>
#include <string.h>

typedef unsigned long long ull;

static int pin_one(struct ctl *ctl, const struct place *p, void *arg)
{
    struct fetching *f = arg;
    json_t *r = NULL;
    CLEANUP_FREE char *what = *p->path ? xasprintf("%s/%s", p->key, p->path) : xstrdup(p->key);
    json_t *args = json_pack("{s:s, s:s}", "key", p->key, "path", p->path);
    fetching_begin(f, what, p->key);
    int status = daemon_call(ctl, "pin", args, fetching_progress, f, &r);
    bool covered = json_is_true(json_object_get(r, "covered"));
    status = fetching_end(f, status, r);
    if (covered && !f->json)
        printf("%s is part of what was pinned before\n", what);
    return status;
}

static int run_pin(struct ctl *ctl, int argc, char **argv)
{
    struct fetching f = {0};
    if (fetching_options(&f, "pin", false, argc, argv) != CTL_OK)
        return CTL_USAGE;
    return places_each(ctl, "pin", argc - optind, argv + optind, pin_one, &f);
}

static int unpin_one(struct ctl *ctl, const struct place *p, void *arg)
{
    (void)arg;
    json_t *r = NULL;
    json_t *args = json_pack("{s:s, s:s}", "key", p->key, "path", p->path);
    int status = daemon_call(ctl, "unpin", args, NULL, NULL, &r);
    json_decref(r);
    return status;
}

static int run_unpin(struct ctl *ctl, int argc, char **argv)
{
    static const struct option known[] = {{NULL, 0, NULL, 0}};
    if (getopt_long(argc, argv, "", known, NULL) != -1)
        return ctl_usage("unpin", NULL);
    return places_each(ctl, "unpin", argc - optind, argv + optind, unpin_one, NULL);
}

static void print_pin(const json_t *p)
{
    char have[32], want[32];
    const char *path = json_string_value(json_object_get(p, "path"));
    const char *error = json_string_value(json_object_get(p, "error"));
    uint64_t n = json_number_of(p, "have_bytes"), all = json_number_of(p, "bytes");
    format_size(n, have);
    format_size(all, want);
    printf("%s%s%s  %llu files, %s", json_string_value(json_object_get(p, "key")), *path ? "/" : "",
           path, (ull)json_number_of(p, "files"), want);
    if (n < all)
        printf(" (%s here)", have);
    printf("%s%s\n", *error ? ": " : "", error);
}

static int run_pins(struct ctl *ctl, int argc, char **argv)
{
    static const struct option known[] = {{"json", no_argument, NULL, 'j'}, {NULL, 0, NULL, 0}};
    bool as_json = false;
    json_t *r = NULL;
    const json_t *p;
    size_t n;
    int c;
    while ((c = getopt_long(argc, argv, "j", known, NULL)) != -1) {
        if (c == '?')
            return ctl_usage("pins", NULL);
        as_json = true;
    }
    if (argc - optind > 1)
        return ctl_usage("pins", "one KEY or none");
    json_t *args = json_object();
    if (optind < argc)
        json_object_set_new(args, "key", json_string(argv[optind]));
    int status = daemon_call(ctl, "pins", args, NULL, NULL, &r);
    if (status != CTL_OK)
        return status;
    if (as_json)
        return daemon_print_json(r);
    json_array_foreach(r, n, p)
        print_pin(p);
    json_decref(r);
    return CTL_OK;
}

const struct ctl_command ctl_pin = {
    .name = "pin",
    .summary = "Keep files in the disk cache",
    .usage = "Usage: quayctl pin [-q] [--json] PATH...\n"
             "\n"
             "Fetches a file, or a directory with all below it, and keeps it in the disk cache: it is\n"
             "never evicted, over restarts too, and new versions are fetched as they appear ([cache]\n"
             "pin_check, and at opens). With offline = serve it stays readable while the store is\n"
             "away. PATH as for quayctl warm, but no pattern. Refused when the pins would take more\n"
             "than seven eighths of max_size.\n"
             "\n"
             "  -q, --quiet   no progress, and a summary only when something failed\n"
             "  -j, --json    the summary as JSON\n"
             "Exit status 1 when it was refused or a file could not be fetched (it stays pinned and\n"
             "is tried again).\n",
    .run = run_pin,
};

const struct ctl_command ctl_unpin = {
    .name = "unpin",
    .summary = "Let pinned files go as others do",
    .usage = "Usage: quayctl unpin PATH...\n"
             "\n"
             "What was pinned under this path stays in the cache until room is needed.\n"
             "Exit status 1 when it is not pinned.\n",
    .run = run_unpin,
};

const struct ctl_command ctl_pins = {
    .name = "pins",
    .summary = "List what is pinned, and whether it is complete",
    .usage = "Usage: quayctl pins [KEY] [--json]\n"
             "\n"
             "  -j, --json   the answer as JSON\n",
    .run = run_pins,
};
