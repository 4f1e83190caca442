/* SPDX-License-Identifier: MIT
 * status.c: `quayctl status`, `keys`, `backends`: what the running mount is doing. */
#include "backends/registry.h"
#include "base/settings.h"
#include "ctl/daemon.h"

#include "base/cleanup.h"

#include <getopt.h>
#include <string.h>

static const char *word(const json_t *o, const char *name)
{
    const char *s = json_string_value(json_object_get(o, name));
    return s ? s : "";
}

/* The only option of these commands. -1: bad usage was said. */
static int json_option(const char *command, int argc, char **argv)
{
    static const struct option known[] = {{"json", no_argument, NULL, 'j'},
                                          {"long", no_argument, NULL, 'l'},
                                          {NULL, 0, NULL, 0}};
    int c;
    int flags = 0;

    while ((c = getopt_long(argc, argv, "jl", known, NULL)) != -1) {
        if (c == '?') {
            ctl_usage(command, NULL);
            return -1;
        }
        flags |= c == 'j' ? 1 : 2;
    }
    return flags;
}

static void print_key(const json_t *k)
{
    printf("  %-16s %-8s %-8s %s\n", word(k, "name"), word(k, "backend"), word(k, "state"),
           word(k, "base_uri"));
    const char *why = word(k, "error");
    if (!*why)
        why = word(k, "last_error");
    if (*why && strcmp(word(k, "state"), "ok") != 0)
        printf("    %s\n", why);
}

static void print_staged(const json_t *list)
{
    size_t n;
    json_t *s;

    printf("staged (not stored yet): %zu\n", json_array_size(list));
    json_array_foreach(list, n, s) {
        char size[32];
        format_size((uint64_t)json_integer_value(json_object_get(s, "bytes")), size);
        printf("  %s/%s  %s, %lld tries%s%s\n", word(s, "key"), word(s, "path"), size,
               (long long)json_integer_value(json_object_get(s, "attempts")),
               *word(s, "last_error") ? ": " : "", word(s, "last_error"));
    }
}

static void print_renames(const json_t *list)
{
    size_t n;
    json_t *r;

    if (json_array_size(list))
        puts("renames going on:");
    json_array_foreach(list, n, r) {
        printf("  %s: %s -> %s  %s %lld of %lld objects, since %s\n", word(r, "key"), word(r, "from"),
               word(r, "to"), word(r, "phase"),
               (long long)json_integer_value(json_object_get(r, "done")),
               (long long)json_integer_value(json_object_get(r, "total")), word(r, "since"));
    }
}

static int run_status(struct ctl *ctl, int argc, char **argv)
{
    int flags = json_option("status", argc, argv);
    json_t *r = NULL;
    size_t n;
    json_t *k;

    if (flags < 0)
        return CTL_USAGE;
    int status = daemon_call(ctl, "status", json_object(), NULL, NULL, &r);
    if (status != CTL_OK)
        return status;
    if (flags & 1)
        return daemon_print_json(r);
    printf("quayfs %s, pid %lld, on %s since %s\n", word(r, "version"),
           (long long)json_integer_value(json_object_get(r, "pid")), word(r, "mountpoint"),
           word(r, "started"));
    printf("cache %s\n", word(r, "cache_dir"));
    printf("keys:\n");
    json_array_foreach(json_object_get(r, "keys"), n, k)
        print_key(k);
    print_staged(json_object_get(r, "staged"));
    print_renames(json_object_get(r, "renames"));
    json_decref(r);
    return CTL_OK;
}

/* `quayctl keys KEY`: exit status 0 when there is such a key. */
static int one_key(const json_t *keys, const char *name, bool with_details)
{
    size_t n;
    json_t *k;

    json_array_foreach(keys, n, k) {
        if (strcmp(word(k, "name"), name) != 0)
            continue;
        if (with_details)
            print_key(k);
        else
            puts(name);
        return CTL_OK;
    }
    return ctl_message(CTL_FAILED, "No storage backend registered for key: '%s'", name);
}

static int run_keys(struct ctl *ctl, int argc, char **argv)
{
    int flags = json_option("keys", argc, argv);
    json_t *r = NULL;
    size_t n;
    json_t *k;

    if (flags < 0)
        return CTL_USAGE;
    int status = daemon_call(ctl, "keys", json_object(), NULL, NULL, &r);
    if (status != CTL_OK)
        return status;
    if (flags & 1)
        return daemon_print_json(r);
    if (optind < argc) {
        status = one_key(r, argv[optind], flags & 2);
    } else {
        json_array_foreach(r, n, k) {
            if (flags & 2)
                print_key(k);
            else
                puts(word(k, "name"));
        }
    }
    json_decref(r);
    return status;
}

static void print_options(const struct conf_option *o, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (o[i].alias)
            printf("    %-24s = %s\n", o[i].name, o[i].alias);
        else
            printf("    %-24s %s%s%s%s\n", o[i].name, o[i].help ? o[i].help : "",
                   o[i].def ? " (default " : "", o[i].def ? o[i].def : "", o[i].def ? ")" : "");
    }
}

static int run_backends(struct ctl *ctl, int argc, char **argv)
{
    (void)ctl;
    int flags = json_option("backends", argc, argv);
    if (flags < 0)
        return CTL_USAGE;
    for (const struct store_class *const *c = registry_classes(); *c; c++) {
        printf("%-10s %s\n", (*c)->name, (*c)->summary ? (*c)->summary : "");
        if (flags & 2)
            print_options((*c)->options, (*c)->n_options);
    }
    if (flags & 2) {
        puts("every backend:");
        print_options(registry_common_options, registry_n_common_options);
        print_options(settings_store_options, settings_n_store_options);
    }
    return CTL_OK;
}

const struct ctl_command ctl_status = {
    .name = "status",
    .summary = "Show the mount, its keys and what is staged",
    .usage = "Usage: quayctl status [--json]\n"
             "\n"
             "Shows the running quayfs of this configuration: mountpoint, keys with their state, and\n"
             "every file whose bytes are staged locally because the store does not have them yet,\n"
             "and renames of directories that go on object by object.\n"
             "\n"
             "  -j, --json   the answer as JSON\n",
    .run = run_status,
};

const struct ctl_command ctl_keys = {
    .name = "keys",
    .summary = "List the keys, or tell whether one is there",
    .usage = "Usage: quayctl keys [-l] [KEY] [--json]\n"
             "\n"
             "  -l, --long   with backend, state and URI\n"
             "  -j, --json   the answer as JSON\n"
             "With KEY the exit status is 0 when it is there, else 1.\n",
    .run = run_keys,
};

const struct ctl_command ctl_backends = {
    .name = "backends",
    .summary = "List the backends and their options",
    .usage = "Usage: quayctl backends [-l]\n"
             "\n"
             "  -l, --long   with every option, its default and its aliases\n",
    .run = run_backends,
};
