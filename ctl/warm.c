/* SPDX-License-Identifier: MIT
 * warm.c: `quayctl warm` and `quayctl evict`: what is in the disk cache, by path. */
#include "ctl/warm.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "ctl/daemon.h"
#include "ctl/place.h"

#include <getopt.h>
#include <string.h>

#define PATHS_MAX 1000 /* in one request */
#define LINE_NS (5 * NS_PER_S)

typedef unsigned long long ull;

uint64_t json_number_of(const json_t *o, const char *name)
{
    return (uint64_t)json_integer_value(json_object_get(o, name));
}

/* ---- progress ---- */
void fetching_begin(struct fetching *f, const char *what, const char *key)
{
    f->what = what;
    f->key = key;
    f->begun_ns = f->shown_ns = clock_now_ns();
    progress_begin(&f->bar);
}

static void show_file(struct fetching *f, const json_t *file)
{
    const char *what = json_string_value(json_object_get(file, "what"));
    const char *path = json_string_value(json_object_get(file, "path"));
    const char *error = json_string_value(json_object_get(file, "error"));
    uint64_t size = json_number_of(file, "size");
    uint64_t present = json_number_of(file, "present");
    char a[32];
    char b[32];
    if (!what || !path)
        return;
    progress_end(&f->bar);
    format_size(size, a);
    format_size(present, b);
    if (strcmp(what, "found") == 0 && !f->json)
        printf("%10s  %s/%s%s%s%s\n", a, f->key, path, present ? "  (" : "", present ? b : "",
               present ? " cached)" : "");
    else if (strcmp(what, "no_room") == 0)
        (void)ctl_message(0, "%s/%s (%s): left out: the cache is too small", f->key, path, a);
    else if (strcmp(what, "failed") == 0)
        (void)ctl_message(0, "%s/%s: %s", f->key, path, error ? error : "failed");
}

void fetching_progress(void *arg, const json_t *p)
{
    struct fetching *f = arg;
    const json_t *file = json_object_get(p, "file");
    if (file) {
        show_file(f, file);
        return;
    }
    uint64_t now = clock_now_ns();
    bool counting = strcmp(json_string_value(json_object_get(p, "phase")), "list") == 0;
    uint64_t all = json_number_of(p, "found_bytes") - json_number_of(p, "cached_bytes");
    uint64_t done = json_number_of(p, "fetched_bytes");
    double s = (double)(now - f->begun_ns) / 1e9;
    char a[32], b[32], rate[32], line[256];
    all = all < done ? done : all;
    format_size(done, a);
    format_size(counting ? json_number_of(p, "bytes") : all, b);
    format_size((uint64_t)((double)done / (s > 0.1 ? s : 0.1)), rate);
    if (counting)
        snprintf(line, sizeof(line), "%s: %llu files, %s found", f->what,
                 (ull)json_number_of(p, "files"), b);
    else
        snprintf(line, sizeof(line), "running %.1f%% %s of %s, %llu of %llu files, %s/s",
                 all ? 100.0 * (double)done / (double)all : 100.0, a, b,
                 (ull)(json_number_of(p, "fetched_files") + json_number_of(p, "cached_files")),
                 (ull)json_number_of(p, "found_files"), rate);
    progress_show(&f->bar, line);
    if (f->bar.live || f->quiet || now - f->shown_ns < LINE_NS)
        return;
    f->shown_ns = now;
    fprintf(stderr, "%s\n", line);
}

static void print_summary(const struct fetching *f, const json_t *r)
{
    char all[32], fetched[32];
    uint64_t files = json_number_of(r, "files");
    uint64_t cached = json_number_of(r, "cached_files");
    uint64_t staged = json_number_of(r, "staged_files");
    uint64_t left_out = json_number_of(r, "no_room_files");
    uint64_t failed = json_number_of(r, "failed_files");
    uint64_t n = f->dry ? files - cached - staged - left_out : json_number_of(r, "fetched_files");
    uint64_t bytes = f->dry ? json_number_of(r, "bytes") - json_number_of(r, "cached_bytes") -
                                  json_number_of(r, "no_room_bytes")
                            : json_number_of(r, "fetched_bytes");
    format_size(json_number_of(r, "bytes"), all);
    format_size(bytes, fetched);
    printf("%s: %llu file%s, %s: %llu %s (%s), %llu already cached, %llu failed", f->what,
           (ull)files, files == 1 ? "" : "s", all, (ull)n, f->dry ? "to fetch" : "fetched", fetched,
           (ull)cached, (ull)failed);
    if (staged)
        printf(", %llu staged here", (ull)staged);
    if (left_out) {
        char room[32], max[32];
        format_size(json_number_of(r, "no_room_bytes"), room);
        format_size(json_number_of(r, "max_size"), max);
        printf(", %llu left out (%s): the cache is too small (max_size %s, min_free)",
               (ull)left_out, room, json_number_of(r, "max_size") ? max : "none");
    }
    printf("\n");
}

int fetching_end(struct fetching *f, int status, json_t *result)
{
    progress_end(&f->bar);
    if (status != CTL_OK)
        return status;
    bool direct = json_is_true(json_object_get(result, "direct"));
    bool bad = json_number_of(result, "failed_files") || json_number_of(result, "no_room_files");
    if (f->json) {
        json_object_set_new(result, "key", json_string(f->key));
        return daemon_print_json(result) == CTL_OK && !bad ? CTL_OK : CTL_FAILED;
    }
    if (direct)
        printf("%s: read directly from its store: nothing to fetch\n", f->what);
    else if (!f->quiet || bad)
        print_summary(f, result);
    json_decref(result);
    return bad ? CTL_FAILED : CTL_OK;
}

/* ---- warm ---- */
/* Consecutive places of one key go together. */
static int warm_some(struct ctl *ctl, struct fetching *f, const struct place *p, size_t n)
{
    json_t *paths = json_array(), *result = NULL;
    CLEANUP_FREE char *what = n == 1 && *p->path ? xasprintf("%s/%s", p->key, p->path) : xstrdup(p->key);
    for (size_t i = 0; i < n; i++) {
        json_t *o = json_pack("{s:s, s:b}", "path", p[i].path, "dir", (int)p[i].dir);
        if (!o) {
            json_decref(paths);
            return ctl_message(CTL_FAILED, "%s/%s: names that are not UTF-8 cannot be asked for: "
                                           "name their directory", p[i].key, p[i].path);
        }
        json_array_append_new(paths, o);
    }
    fetching_begin(f, what, p->key);
    json_t *args = json_pack("{s:s, s:o, s:b}", "key", p->key, "paths", paths, "dry", (int)f->dry);
    int status = daemon_call(ctl, "warm", args, fetching_progress, f, &result);
    return fetching_end(f, status, result);
}

int fetching_options(struct fetching *f, const char *command, bool dry, int argc, char **argv)
{
    static const struct option known[] = {{"list-only", no_argument, NULL, 'n'},
                                          {"quiet", no_argument, NULL, 'q'},
                                          {"json", no_argument, NULL, 'j'},
                                          {NULL, 0, NULL, 0}};
    int c;
    while ((c = getopt_long(argc, argv, dry ? "nqj" : "qj", dry ? known : known + 1, NULL)) != -1) {
        if (c == '?')
            return ctl_usage(command, NULL);
        f->dry |= c == 'n';
        f->quiet |= c == 'q';
        f->json |= c == 'j';
    }
    return CTL_OK;
}

static int run_warm(struct ctl *ctl, int argc, char **argv)
{
    struct fetching f = {0};
    struct places p;
    int worst = CTL_OK;
    if (fetching_options(&f, "warm", true, argc, argv) != CTL_OK)
        return CTL_USAGE;
    int status = places_resolve(ctl, "warm", argc - optind, argv + optind, &p);
    if (status != CTL_OK)
        return status;
    for (size_t i = 0, n; i < p.n && worst != CTL_UNREACHABLE; i += n) {
        for (n = 1; i + n < p.n && n < PATHS_MAX && strcmp(p.v[i].key, p.v[i + n].key) == 0; n++)
            ;
        status = warm_some(ctl, &f, &p.v[i], n);
        worst = status > worst ? status : worst;
    }
    places_done(&p);
    return worst;
}

/* ---- evict ---- */
static void print_evicted(const struct place *p, const json_t *r)
{
    char a[32], b[32];
    uint64_t staged = json_number_of(r, "staged_files");
    uint64_t pinned = json_number_of(r, "pinned_files");
    const char *slash = *p->path ? "/" : "";
    format_size(json_number_of(r, "bytes"), a);
    printf("%s%s%s: %s freed (%llu files)\n", p->key, slash, p->path, a,
           (ull)json_number_of(r, "files"));
    if (staged) {
        format_size(json_number_of(r, "staged_bytes"), b);
        printf("  %llu file%s (%s) staged and not stored yet: not touched (quayctl status)\n",
               (ull)staged, staged == 1 ? "" : "s", b);
    }
    if (json_number_of(r, "busy_bytes")) {
        format_size(json_number_of(r, "busy_bytes"), b);
        printf("  %s being read just now: not touched\n", b);
    }
    if (pinned) {
        format_size(json_number_of(r, "pinned_bytes"), b);
        (void)ctl_message(0, "%s%s%s: %llu pinned file%s (%s) not evicted: --pinned does, or unpin "
                             "first", p->key, slash, p->path, (ull)pinned, pinned == 1 ? "" : "s", b);
    }
}

struct evicting {
    bool pinned, as_json;
};

static int evict_one(struct ctl *ctl, const struct place *p, void *arg)
{
    const struct evicting *o = arg;
    json_t *r = NULL;
    json_t *args = json_pack("{s:s, s:s, s:b, s:b}", "key", p->key, "path", p->path, "dir",
                             (int)p->dir, "pinned", (int)o->pinned);
    int status = daemon_call(ctl, "evict", args, NULL, NULL, &r);
    if (status != CTL_OK)
        return status;
    bool refused = json_number_of(r, "pinned_files") > 0;
    if (o->as_json)
        return daemon_print_json(r) == CTL_OK && !refused ? CTL_OK : CTL_FAILED;
    print_evicted(p, r);
    json_decref(r);
    return refused ? CTL_FAILED : CTL_OK;
}

static int run_evict(struct ctl *ctl, int argc, char **argv)
{
    static const struct option known[] = {{"pinned", no_argument, NULL, 'p'},
                                          {"json", no_argument, NULL, 'j'},
                                          {NULL, 0, NULL, 0}};
    struct evicting o = {0};
    for (int c; (c = getopt_long(argc, argv, "j", known, NULL)) != -1;) {
        if (c == '?')
            return ctl_usage("evict", NULL);
        o.pinned |= c == 'p';
        o.as_json |= c == 'j';
    }
    return places_each(ctl, "evict", argc - optind, argv + optind, evict_one, &o);
}

const struct ctl_command ctl_warm = {
    .name = "warm",
    .summary = "Fetch files into the disk cache",
    .usage = "Usage: quayctl warm [-n] [-q] [--json] PATH...\n"
             "\n"
             "Fetches files into the disk cache before somebody reads them, in parallel and behind\n"
             "all reads. PATH is a path in the mount, KEY:path or KEY/path: a file, a directory with\n"
             "all below it, or a pattern (*, ?, [..], **). What is cached already is not fetched\n"
             "again. What would push out the rest of it is left out, and said.\n"
             "\n"
             "  -n, --list-only   say what would be fetched; fetch nothing\n"
             "  -q, --quiet       no progress, and a summary only when something failed\n"
             "  -j, --json        the summary as JSON\n"
             "On a terminal a bar is drawn; Ctrl-C stops the work here and in quayfs. Exit status 1\n"
             "when a file could not be fetched or was left out.\n",
    .run = run_warm,
};

const struct ctl_command ctl_evict = {
    .name = "evict",
    .summary = "Drop files from the disk cache",
    .usage = "Usage: quayctl evict [--pinned] [--json] PATH...\n"
             "\n"
             "Drops the cached blocks of a file, a directory with all below it, or a pattern, and the\n"
             "kernel's pages of them, and says how many bytes that freed. PATH as for quayctl warm.\n"
             "What was written and is not stored yet is never touched.\n"
             "\n"
             "      --pinned   pinned files, too (they are fetched again at the next check; see unpin)\n"
             "  -j, --json     the answer as JSON\n"
             "Exit status 1 when pinned files were refused.\n",
    .run = run_evict,
};
