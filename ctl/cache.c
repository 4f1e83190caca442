/* SPDX-License-Identifier: MIT
 * cache.c: `quayctl cache stats|clear|cleanup|verify [KEY]`: the block cache of the running mount. */
#include "ctl/daemon.h"
#include "ctl/progress.h"

#include "base/cleanup.h"

#include <getopt.h>
#include <string.h>

static uint64_t number(const json_t *o, const char *name)
{
    return (uint64_t)json_integer_value(json_object_get(o, name));
}

static void print_usage(const char *title, const json_t *o)
{
    char size[32];
    char dirty[32];
    char pinned[32];
    uint64_t hits = number(o, "hits");
    uint64_t asked = hits + number(o, "misses");

    format_size(number(o, "bytes"), size);
    format_size(number(o, "dirty_bytes"), dirty);
    format_size(number(o, "pinned_bytes"), pinned);
    printf("%s\n", title);
    printf("  size_mb      %.1f\n", json_number_value(json_object_get(o, "size_mb")));
    printf("  file_count   %llu\n", (unsigned long long)number(o, "file_count"));
    printf("  clean        %s in %llu blocks\n", size, (unsigned long long)number(o, "blocks"));
    printf("  pinned       %s\n", pinned);
    printf("  staged       %s\n", dirty);
    printf("  hits         %llu of %llu (%.1f%%)\n", (unsigned long long)hits,
           (unsigned long long)asked, asked ? 100.0 * (double)hits / (double)asked : 0.0);
    printf("  evictions    %llu\n", (unsigned long long)number(o, "evictions"));
    printf("  corrupt      %llu\n", (unsigned long long)number(o, "corrupt"));
}

static int stats(struct ctl *ctl, json_t *args, bool as_json)
{
    json_t *result = NULL;
    bool one = json_object_get(args, "key") != NULL;
    int status = daemon_call(ctl, "cache.stats", args, NULL, NULL, &result);
    const char *key;
    json_t *value;

    if (status != CTL_OK)
        return status;
    if (as_json)
        return daemon_print_json(result);
    print_usage(one ? "cache of this key" : "cache", result);
    json_object_foreach(json_object_get(result, "keys"), key, value)
        print_usage(key, value);
    json_decref(result);
    return CTL_OK;
}

static int freed(struct ctl *ctl, const char *cmd, json_t *args, bool as_json)
{
    json_t *result = NULL;
    int status = daemon_call(ctl, cmd, args, NULL, NULL, &result);
    char size[32];

    if (status != CTL_OK)
        return status;
    if (as_json)
        return daemon_print_json(result);
    format_size(number(result, "bytes"), size);
    printf("%s removed in %llu files\n", size, (unsigned long long)number(result, "files"));
    format_size(number(result, "pinned_bytes"), size);
    if (number(result, "pinned_bytes"))
        printf("%s are pinned and stay (quayctl pins, quayctl evict --pinned)\n", size);
    json_decref(result);
    return CTL_OK;
}

static void show_verify(void *arg, const json_t *p)
{
    char done[32];
    char total[32];
    char line[128];
    uint64_t n = number(p, "done");
    uint64_t all = number(p, "total");

    format_size(n, done);
    format_size(all, total);
    snprintf(line, sizeof(line), "verifying %.1f%% %s of %s",
             all ? 100.0 * (double)n / (double)all : 100.0, done, total);
    progress_show(arg, line);
}

static int verified_json(json_t *result)
{
    bool healed = number(result, "healed") == number(result, "bad");
    return daemon_print_json(result) == CTL_OK && healed ? CTL_OK : CTL_FAILED;
}

static int verified(json_t *result)
{
    uint64_t bad = number(result, "bad");
    uint64_t healed = number(result, "healed");
    const char *why = json_string_value(json_object_get(result, "error"));
    printf("%llu blocks checked, %llu bad\n", (unsigned long long)number(result, "checked"),
           (unsigned long long)bad);
    if (healed)
        printf("%llu block%s bad: fetched again\n", (unsigned long long)healed,
               healed == 1 ? " was" : "s were");
    if (healed < bad)
        (void)ctl_message(0, "%llu bad block%s dropped and not fetched again%s%s; the store is asked "
                             "when they are read", (unsigned long long)(bad - healed),
                          bad - healed == 1 ? " was" : "s were", why ? ": " : "", why ? why : "");
    json_decref(result);
    return healed < bad ? CTL_FAILED : CTL_OK;
}

static int verify(struct ctl *ctl, json_t *args, bool as_json)
{
    struct progress bar;
    json_t *result = NULL;
    progress_begin(&bar);
    int status = daemon_call(ctl, "cache.verify", args, show_verify, &bar, &result);
    progress_end(&bar);
    if (status != CTL_OK)
        return status;
    return as_json ? verified_json(result) : verified(result);
}

static int run(struct ctl *ctl, int argc, char **argv)
{
    static const struct option known[] = {{"json", no_argument, NULL, 'j'}, {NULL, 0, NULL, 0}};
    bool as_json = false;
    int c;

    while ((c = getopt_long(argc, argv, "j", known, NULL)) != -1) {
        if (c != 'j')
            return ctl_usage("cache", NULL);
        as_json = true;
    }
    const char *what = optind < argc ? argv[optind] : "stats";
    if (argc - optind > 2)
        return ctl_usage("cache", "too many arguments");
    json_t *args = json_object();
    if (optind + 1 < argc)
        json_object_set_new(args, "key", json_string(argv[optind + 1]));
    if (strcmp(what, "stats") == 0)
        return stats(ctl, args, as_json);
    if (strcmp(what, "clear") == 0)
        return freed(ctl, "cache.clear", args, as_json);
    if (strcmp(what, "cleanup") == 0)
        return freed(ctl, "cache.cleanup", args, as_json);
    if (strcmp(what, "verify") == 0)
        return verify(ctl, args, as_json);
    json_decref(args);
    return ctl_usage("cache", "unknown action '%s' (stats, clear, cleanup, verify)", what);
}

const struct ctl_command ctl_cache = {
    .name = "cache",
    .summary = "Show, clear or check the block cache",
    .usage = "Usage: quayctl cache [stats|clear|cleanup|verify] [KEY] [--json]\n"
             "\n"
             "  stats     size (size_mb), files (file_count), hits, evictions; of all keys or of KEY\n"
             "  clear     removes all cached blocks; staged writes and pinned files stay\n"
             "  cleanup   removes blocks not used for longer than the ttl\n"
             "  verify    reads every block and checks its CRC32C; bad ones are dropped and\n"
             "            fetched again\n"
             "\n"
             "  -j, --json   the answer as JSON\n",
    .run = run,
};
