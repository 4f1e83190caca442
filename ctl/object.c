/* SPDX-License-Identifier: MIT
 * object.c: `quayctl ls`, `stat`, `path`, `rm`: single objects and lists of them, through the mount. */
#include "base/buf.h"
#include "base/cleanup.h"
#include "base/date.h"
#include "base/name.h"
#include "ctl/daemon.h"
#include "ctl/names.h"

#include <errno.h>
#include <getopt.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

static const char *kind_of(const struct stat *st)
{
    return S_ISDIR(st->st_mode) ? "directory" : S_ISLNK(st->st_mode) ? "symlink" : "file";
}

/* ---- ls ---- */

struct ls {
    struct names_options names;
    const char *pattern; /* without '/': for the last part of the path, else for all of it */
    bool lines, stem, json;
};

/* "a/b.csv" -> "a/b"; a name that begins with its only dot has no extension. */
static char *without_extension(const char *path)
{
    const char *name = path_base(path, NULL), *dot = strrchr(name, '.');
    return dot && dot != name ? xstrndup(path, (size_t)(dot - path)) : xstrdup(path);
}

static bool is_wanted(const struct ls *o, const struct name_entry *e)
{
    size_t n = strlen(e->path);
    CLEANUP_FREE char *path = xstrndup(e->path, e->dir && n ? n - 1 : n);
    if (!o->pattern)
        return true;
    return path_glob(o->pattern, strchr(o->pattern, '/') ? path : path_base(path, NULL));
}

static int ls_entry(void *arg, const struct name_entry *e)
{
    const struct ls *o = arg;
    char when[32] = "", size[24] = "-";
    if (!is_wanted(o, e))
        return CTL_OK;
    CLEANUP_FREE char *name = o->stem && !e->dir ? without_extension(e->path) : xstrdup(e->path);
    if (o->json) {
        date_format_iso(e->st.st_mtim, when);
        json_t *j = json_pack("{s:s, s:s, s:I, s:s}", "path", name, "kind", kind_of(&e->st), "size",
                              (json_int_t)e->st.st_size, "modified_time", when);
        (void)json_dumpf(j, stdout, JSON_COMPACT);
        json_decref(j);
        puts("");
        return CTL_OK;
    }
    if (o->lines) {
        date_format_iso(e->st.st_mtim, when);
        if (!e->dir)
            (void)snprintf(size, sizeof(size), "%lld", (long long)e->st.st_size);
        printf("%14s  %s  %s\n", size, when, name);
    } else {
        puts(name);
    }
    return CTL_OK;
}

static int ls_places(struct ls *o, const struct places *p)
{
    int worst = CTL_OK;
    for (size_t i = 0; i < p->n; i++) {
        if (p->n > 1 && !o->json)
            printf("%s%s:%s:\n", i ? "\n" : "", p->v[i].key, p->v[i].path);
        int status = names_walk(&p->v[i], &o->names, ls_entry, o);
        worst = status > worst ? status : worst;
    }
    return fflush(stdout) == 0 ? worst : ctl_message(CTL_FAILED, "writing: %s", strerror(errno));
}

static int run_ls(struct ctl *ctl, int argc, char **argv)
{
    static const struct option known[] = {
        {"long", no_argument, NULL, 'l'},      {"recursive", no_argument, NULL, 'R'},
        {"prefix", required_argument, NULL, 'p'}, {"pattern", required_argument, NULL, 'g'},
        {"stem", no_argument, NULL, 's'},      {"json", no_argument, NULL, 'j'},
        {NULL, 0, NULL, 0}};
    struct ls o = {0};
    struct places p;
    int c;
    while ((c = getopt_long(argc, argv, "lR", known, NULL)) != -1) {
        if (c == '?')
            return ctl_usage("ls", NULL);
        o.lines |= c == 'l';
        o.stem |= c == 's';
        o.json |= c == 'j';
        o.names.recursive |= c == 'R';
        if (c == 'p')
            o.names.prefix = optarg;
        if (c == 'g')
            o.pattern = optarg;
    }
    if (optind == argc)
        return ctl_usage("ls", "a KEY or PATH, please (quayctl keys lists the keys)");
    o.names.stat = o.lines || o.json;
    int status = places_resolve(ctl, "ls", argc - optind, argv + optind, &p);
    if (status != CTL_OK)
        return status;
    status = ls_places(&o, &p);
    places_done(&p);
    return status;
}

const struct ctl_command ctl_ls = {
    .name = "ls",
    .summary = "List the objects of a key",
    .usage = "Usage: quayctl ls [options] PATH...\n"
             "\n"
             "Lists what is in PATH (KEY, KEY/path or a path in the mount), one object a line, by\n"
             "its own name below the key, in the order of the names; directories end with '/'.\n"
             "\n"
             "  -l, --long          size and modification time as well\n"
             "  -R, --recursive     the objects of all levels below\n"
             "      --prefix TEXT   only objects whose names below PATH begin so; all levels\n"
             "      --pattern GLOB  only these (*, ?, [..], ** for any levels); without a '/' it is\n"
             "                      for the last part of the name\n"
             "      --stem          names without their extension\n"
             "      --json          a JSON object for each\n"
             "Exit status: 0 done, 1 something could not be listed, 2 no quayfs runs, 64 bad usage\n",
    .run = run_ls,
};

/* ---- stat ---- */

/* Text of an extended attribute, or NULL. */
static char *attribute(const char *file, const char *name)
{
    ssize_t n = lgetxattr(file, name, NULL, 0);
    char *text = n < 0 ? NULL : xcalloc(1, (size_t)n + 1);
    if (text && n > 0 && lgetxattr(file, name, text, (size_t)n) < 0) {
        free(text);
        return NULL;
    }
    return text;
}

static void set_text(json_t *j, const char *name, char *text /* taken, may be NULL */)
{
    if (text)
        json_object_set_new(j, name, json_string(text));
    free(text);
}

static json_t *stat_json(const struct place *p, const struct stat *st)
{
    char when[32], mode[8];
    date_format_iso(st->st_mtim, when);
    (void)snprintf(mode, sizeof(mode), "%04o", st->st_mode & 07777);
    json_t *j = json_pack("{s:s, s:s, s:s, s:I, s:s, s:s}", "key", p->key, "path", p->path, "kind", kind_of(st),
                          "size", (json_int_t)st->st_size, "modified_time", when, "mode", mode);
    set_text(j, "etag", attribute(p->file, "user.etag"));
    set_text(j, "uri", attribute(p->file, "user.quay.uri"));
    set_text(j, "backend_type", attribute(p->file, "user.quay.backend_type"));
    return j;
}

struct stating {
    bool as_json, more; /* more: one was shown before */
};

static int stat_one(struct ctl *ctl, const struct place *p, void *arg)
{
    (void)ctl;
    struct stating *o = arg;
    struct stat st;
    if (o->more && !o->as_json)
        puts("");
    o->more = true;
    if (lstat(p->file, &st) != 0)
        return ctl_message(CTL_FAILED, "%s/%s: %s", p->key, p->path, strerror(errno));
    json_t *j = stat_json(p, &st);
    if (o->as_json)
        return daemon_print_json(j);
    const char *name;
    json_t *value;
    json_object_foreach(j, name, value) {
        if (json_is_string(value))
            printf("%-14s %s\n", name, json_string_value(value));
        else
            printf("%-14s %lld\n", name, (long long)json_integer_value(value));
    }
    json_decref(j);
    return CTL_OK;
}

static int run_stat(struct ctl *ctl, int argc, char **argv)
{
    static const struct option known[] = {{"json", no_argument, NULL, 'j'}, {NULL, 0, NULL, 0}};
    struct stating o = {0};
    for (int c; (c = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        if (c == '?')
            return ctl_usage("stat", NULL);
        o.as_json = true;
    }
    return places_each(ctl, "stat", argc - optind, argv + optind, stat_one, &o);
}

const struct ctl_command ctl_stat = {
    .name = "stat",
    .summary = "Show size, time, etag and URI of objects",
    .usage = "Usage: quayctl stat [--json] PATH...\n"
             "\n"
             "Shows size (nothing is downloaded), modification time, etag, URI and kind.\n"
             "\n"
             "      --json   a JSON object for each\n"
             "Exit status: 0 all are there, 1 not, 2 no quayfs runs, 64 bad usage\n",
    .run = run_stat,
};

/* ---- path ---- */

enum { PATH_FILE = 0, PATH_URI, PATH_OWN, PATH_NAME, PATH_STEM, PATH_SUFFIX, PATH_PARENT };

static int path_one(struct ctl *ctl, const struct place *p, void *arg)
{
    (void)ctl;
    const int what = *(const int *)arg;
    const char *name = path_base(p->path, NULL), *dot = strrchr(name, '.');
    CLEANUP_FREE char *text = NULL;
    if (what == PATH_URI && !(text = attribute(p->file, "user.quay.uri")))
        return ctl_message(CTL_FAILED, "%s/%s: no URI: %s", p->key, p->path, strerror(errno));
    if (what == PATH_OWN)
        text = xstrdup(p->path);
    if (what == PATH_STEM)
        text = without_extension(name);
    if (what == PATH_PARENT)
        text = path_parent(p->path);
    if (what == PATH_NAME || what == PATH_SUFFIX)
        text = xstrdup(what == PATH_NAME ? name : dot && dot != name ? dot : "");
    puts(text ? text : p->file);
    return CTL_OK;
}

static int run_path(struct ctl *ctl, int argc, char **argv)
{
    static const struct option known[] = {
        {"uri", no_argument, NULL, PATH_URI + 'A'},       {"as-uri", no_argument, NULL, PATH_URI + 'A'},
        {"object", no_argument, NULL, PATH_OWN + 'A'},    {"name", no_argument, NULL, PATH_NAME + 'A'},
        {"stem", no_argument, NULL, PATH_STEM + 'A'},     {"suffix", no_argument, NULL, PATH_SUFFIX + 'A'},
        {"parent", no_argument, NULL, PATH_PARENT + 'A'}, {NULL, 0, NULL, 0}};
    int c, what = PATH_FILE;
    while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
        if (c == '?')
            return ctl_usage("path", NULL);
        what = c - 'A';
    }
    return places_each(ctl, "path", argc - optind, argv + optind, path_one, &what);
}

const struct ctl_command ctl_path = {
    .name = "path",
    .summary = "Show where an object is: in the mount, or its URI",
    .usage = "Usage: quayctl path [options] PATH...\n"
             "\n"
             "Without an option: the absolute path in the mount (the object need not be there).\n"
             "\n"
             "      --uri      the URI of the object (--as-uri says the same); it must be there\n"
             "      --object   the object's own name below the key\n"
             "      --name     its last part; --stem: without extension; --suffix: the extension;\n"
             "      --parent   what is before the last part\n"
             "Exit status: 0 done, 1 not there, 2 no quayfs runs, 64 bad usage\n",
    .run = run_path,
};
