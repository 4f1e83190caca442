/* SPDX-License-Identifier: MIT
 * wait.c: following one job through the spool. Places: new/ -> run/NAME/ -> done/ or failed/. */
#include "ctl/wait.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/conf.h"
#include "ctl/ctl.h"
#include "ctl/progress.h"
#include "loader/spool.h"
#include "loader/status.h"

#include <dirent.h>

#define POLL_MS 100
#define GONE_POLLS 20     /* neither waiting, running nor ended for so long: it was withdrawn */
#define NO_LOADER_POLLS 20

static char mark; /* what `before` maps to */

static bool exists(const char *spool, const char *sub, const char *name, const char *suffix)
{
    CLEANUP_FREE char *path = xasprintf("%s/%s/%s%s", spool, sub, name, suffix);

    return access(path, F_OK) == 0;
}

/* Calls on every result of the name. */
static void each_result(const char *spool, const char *name,
                        void (*fn)(void *arg, const char *place, const char *entry), void *arg)
{
    static const char *const places[] = {"done", "failed"};

    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        CLEANUP_FREE char *path = xasprintf("%s/%s", spool, places[i]);
        DIR *dir = opendir(path);
        struct dirent *e;

        while (dir && (e = readdir(dir))) {
            char n[SPOOL_NAME_MAX + 1], id[SPOOL_RUN_ID_MAX];

            if (spool_split(e->d_name, n, id) && (!strcmp(n, name) || !strcmp(e->d_name, name)))
                fn(arg, places[i], e->d_name);
        }
        if (dir)
            (void)closedir(dir);
    }
}

static void note(void *arg, const char *place, const char *entry)
{
    (void)place;
    (void)strmap_put(arg, entry, &mark);
}

void wait_prepare(struct wait *w, const char *spool, const char *name)
{
    *w = (struct wait){.spool = spool, .name = name, .before = STRMAP_INIT};
    each_result(spool, name, note, &w->before);
}

void wait_done(struct wait *w)
{
    strmap_done(&w->before);
}

struct newest {
    const char *spool;
    const struct strmap *except;
    char *entry, *path;
};

static void take_newest(void *arg, const char *place, const char *entry)
{
    struct newest *n = arg;

    if ((n->except && strmap_get(n->except, entry)) || (n->entry && strcmp(entry, n->entry) <= 0))
        return;
    free(n->entry);
    free(n->path);
    n->entry = xstrdup(entry);
    n->path = xasprintf("%s/%s/%s", n->spool, place, entry);
}

char *wait_newest(const char *spool, const char *name, const struct strmap *except)
{
    struct newest n = {.spool = spool, .except = except};

    each_result(spool, name, take_newest, &n);
    free(n.entry);
    return n.path;
}

static bool read_page(const char *dir, const char *file, struct buf *b)
{
    CLEANUP_FREE char *path = xasprintf("%s/%s", dir, file);

    return spool_file_read(path, 256 << 20, b) == 0;
}

int wait_print(const char *dir, const char *name, const struct wait_how *how)
{
    CLEANUP_BUF struct buf rc_text = BUF_INIT, text = BUF_INIT;
    int64_t rc = CTL_FAILED;
    bool good;

    (void)read_page(dir, "rc", &rc_text);
    buf_truncate(&rc_text, strcspn(buf_str(&rc_text), "\n"));
    if (!rc_text.len || !parse_int(rc_text.data, &rc) || rc < 0 || rc > RC_UNKNOWN)
        return ctl_message(CTL_FAILED, "%s: no result in %s", name, dir);
    good = rc == RC_OK || rc == RC_REJECTS;
    if (how->json) {
        (void)read_page(dir, "status.json", &text);
        fputs(buf_str(&text), stdout);
        return (int)rc;
    }
    (void)read_page(dir, "summary", &text);
    if (!good)
        fprintf(stderr, "quayctl: %s: %squayctl: details are in %s\n", name, buf_str(&text), dir);
    else if (!how->quiet)
        fputs(buf_str(&text), stdout);
    (void)fflush(stdout);
    if (good && rc == RC_REJECTS && !how->quiet)
        fprintf(stderr, "quayctl: rejected rows are in %s\n", dir);
    return (int)rc;
}

int wait_need_loader(const char *spool, const char *config_path)
{
    pid_t pid;
    int r = spool_owner(spool, &pid);

    if (r == 0)
        return 0;
    if (r == -EACCES)
        return ctl_message(CTL_UNREACHABLE, "spool %s: permission denied (it belongs to whoever "
                           "runs quayload)", spool);
    return ctl_message(CTL_UNREACHABLE, "no quayload works on spool %s; start it with: quayload -c %s",
                       spool, config_path);
}

static void show(struct progress *p, const struct wait *w, bool running)
{
    CLEANUP_FREE char *dir = xasprintf("%s/run/%s", w->spool, w->name);
    CLEANUP_BUF struct buf line = BUF_INIT;

    if (!p->live)
        return;
    if (running)
        (void)read_page(dir, "progress", &line);
    else
        buf_addf(&line, "%s waits for a worker", w->name);
    buf_truncate(&line, strcspn(buf_str(&line), "\n"));
    progress_show(p, buf_str(&line));
}

/* Waits until there is a result: its directory, or NULL and *ret_status. */
static char *follow(struct wait *w, struct progress *p, int *ret_status)
{
    unsigned gone = 0, orphaned = 0;

    for (;;) {
        char *dir = wait_newest(w->spool, w->name, &w->before);
        bool running, waiting;
        pid_t pid;

        if (dir)
            return dir;
        running = exists(w->spool, "run", w->name, "");
        waiting = exists(w->spool, "new", w->name, ".job") || exists(w->spool, "new", w->name, "");
        gone = running || waiting ? 0 : gone + 1;
        orphaned = spool_owner(w->spool, &pid) == -ESRCH ? orphaned + 1 : 0;
        if (gone >= GONE_POLLS || orphaned >= NO_LOADER_POLLS) {
            *ret_status = orphaned >= NO_LOADER_POLLS ? CTL_UNREACHABLE : CTL_FAILED;
            return NULL;
        }
        show(p, w, running);
        clock_sleep_ms(POLL_MS);
    }
}

int wait_run(struct wait *w, const struct wait_how *how)
{
    CLEANUP_FREE char *dir = NULL;
    struct progress p;
    int status = CTL_FAILED;

    progress_begin(&p);
    if (how->quiet)
        p.live = false;
    dir = follow(w, &p, &status);
    if (dir && p.live) {
        CLEANUP_BUF struct buf line = BUF_INIT;

        (void)read_page(dir, "progress", &line);
        buf_truncate(&line, strcspn(buf_str(&line), "\n"));
        progress_show(&p, buf_str(&line));
    }
    progress_end(&p);
    if (dir)
        return wait_print(dir, w->name, how);
    if (status == CTL_UNREACHABLE)
        return ctl_message(status, "%s: quayload has ended; the job stays in %s and is run when it "
                           "starts again", w->name, w->spool);
    return ctl_message(status, "%s: no job of that name waits or runs in %s, and none has ended",
                       w->name, w->spool);
}
