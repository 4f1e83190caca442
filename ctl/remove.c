/* SPDX-License-Identifier: MIT
 * remove.c: `quayctl rm`: files are removed by several workers, then their directories, the deepest first. */
#include "base/buf.h"
#include "base/cleanup.h"
#include "base/pool.h"
#include "ctl/names.h"
#include "ctl/progress.h"

#include <errno.h>
#include <getopt.h>
#include <string.h>
#include <unistd.h>

#define WORKERS 16
#define BATCH 4096 /* files that wait at most */

struct removal {
    bool recursive, force, quiet;
    struct pool *pool;
    size_t submitted;
    atomic_size_t removed, failed;
    char **dirs;
    size_t n_dirs;
    struct progress progress;
};

struct file_job {
    struct pool_job job;
    struct removal *r;
    char *file;
};

static void tell(struct removal *r, const char *file)
{
    (void)ctl_message(CTL_FAILED, "%s: %s", file, strerror(errno)); /* one write: lines do not mix */
    atomic_fetch_add(&r->failed, 1);
}

static void run_file(struct pool_job *job)
{
    struct file_job *j = (struct file_job *)job;
    if (unlink(j->file) == 0)
        atomic_fetch_add(&j->r->removed, 1);
    else if (errno != ENOENT) /* somebody else did it */
        tell(j->r, j->file);
    free(j->file);
    free(j);
}

static void show(struct removal *r)
{
    CLEANUP_FREE char *line = xasprintf("rm %zu removed, %zu failed", atomic_load(&r->removed),
                                        atomic_load(&r->failed));
    if (!r->quiet)
        progress_show(&r->progress, line);
}

static int submit(struct removal *r, const char *file)
{
    struct file_job *j = xcalloc(1, sizeof(*j));
    *j = (struct file_job){.job.run = run_file, .r = r, .file = xstrdup(file)};
    pool_submit(r->pool, &j->job, 0);
    if (++r->submitted % BATCH == 0)
        pool_drain(r->pool);
    if (r->submitted % 64 == 0)
        show(r);
    return CTL_OK;
}

struct level {
    struct removal *r;
    const struct place *dir;
};

static int remove_tree(struct removal *r, const struct place *dir);

static int found(void *arg, const struct name_entry *e)
{
    const struct level *l = arg;
    if (!e->dir)
        return submit(l->r, e->file);
    struct place below = *l->dir;
    CLEANUP_FREE char *file = xstrdup(e->file), *path = xstrndup(e->path, strlen(e->path) - 1);
    below.file = file;
    below.path = path;
    return remove_tree(l->r, &below);
}

static int remove_tree(struct removal *r, const struct place *dir)
{
    struct names_options o = {0};
    struct level l = {r, dir};
    if (*dir->path) { /* the key itself stays */
        r->dirs = xrealloc(r->dirs, (r->n_dirs + 1) * sizeof(*r->dirs));
        r->dirs[r->n_dirs++] = xstrdup(dir->file);
    }
    int status = names_walk(dir, &o, found, &l);
    if (status != CTL_OK)
        atomic_fetch_add(&r->failed, 1);
    return CTL_OK;
}

static void remove_place(struct removal *r, const struct place *p)
{
    struct stat st;
    if (lstat(p->file, &st) != 0) {
        if (errno != ENOENT || !r->force)
            tell(r, p->file);
        return;
    }
    if (!S_ISDIR(st.st_mode)) {
        (void)submit(r, p->file);
    } else if (r->recursive) {
        (void)remove_tree(r, p);
    } else {
        errno = EISDIR;
        tell(r, p->file);
    }
}

static int finish(struct removal *r)
{
    pool_drain(r->pool);
    pool_free(r->pool);
    while (r->n_dirs) {
        char *dir = r->dirs[--r->n_dirs];
        if (rmdir(dir) != 0 && errno != ENOENT && !atomic_load(&r->failed))
            tell(r, dir);
        free(dir);
    }
    free(r->dirs);
    progress_end(&r->progress);
    if (!r->quiet)
        printf("%zu removed, %zu failed\n", atomic_load(&r->removed), atomic_load(&r->failed));
    return atomic_load(&r->failed) ? CTL_FAILED : CTL_OK;
}

static int run_rm(struct ctl *ctl, int argc, char **argv)
{
    static const struct option known[] = {{"recursive", no_argument, NULL, 'r'},
                                          {"force", no_argument, NULL, 'f'},
                                          {"quiet", no_argument, NULL, 'q'},
                                          {NULL, 0, NULL, 0}};
    struct removal r = {0};
    struct places p;
    int c;
    while ((c = getopt_long(argc, argv, "rfq", known, NULL)) != -1) {
        if (c == '?')
            return ctl_usage("rm", NULL);
        r.recursive |= c == 'r';
        r.force |= c == 'f';
        r.quiet |= c == 'q';
    }
    if (optind == argc)
        return ctl_usage("rm", "a PATH, please");
    int status = places_resolve(ctl, "rm", argc - optind, argv + optind, &p);
    if (status != CTL_OK)
        return status;
    progress_begin(&r.progress);
    r.pool = pool_new("rm", WORKERS);
    for (size_t i = 0; i < p.n; i++)
        remove_place(&r, &p.v[i]);
    places_done(&p);
    return finish(&r);
}

const struct ctl_command ctl_rm = {
    .name = "rm",
    .summary = "Remove objects, or directories with all in them",
    .usage = "Usage: quayctl rm [options] PATH...\n"
             "\n"
             "Removes objects, several at once. A KEY with -r is emptied; the key stays.\n"
             "\n"
             "  -r, --recursive   directories with all that is in them\n"
             "  -f, --force       what is not there is no failure\n"
             "  -q, --quiet       no progress and no summary\n"
             "Exit status: 0 all are gone, 1 something is not (or was not there), 2 no quayfs runs,\n"
             "64 bad usage\n",
    .run = run_rm,
};
