/* SPDX-License-Identifier: MIT
 * keeper.c: the thread that looks after the pins of a volume.
 * Invariants, under k->lock: (1) `turn` is held by who fetches for a pin: the thread or a volume_pin;
 * (2) `op` is the thread's request while it has the turn, to be cancelled by keeper_stop; (3) noted holds
 * paths to be looked at, NOTED_MAX at most: beyond that all pins are. */
#include "cache/keeper.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/name.h"
#include "cache/volume_int.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define NOTED_MAX 256
#define NOTED_NS (500 * NS_PER_MS) /* what the open has asked for is on disk by then, perhaps all */
#define SLICE_NS (100 * NS_PER_MS)

struct keeper {
    struct volume *v;
    struct lock lock;
    struct cond cond;
    struct strmap noted; /* path -> the keeper */
    uint64_t noted_ns;   /* when the first was */
    struct op *op;
    pthread_t thread;
    bool runs, stopping, turn, all;
};

/* ---- looking at one pin ---- */
static bool may_go_on(void *arg, const struct warm_total *sum, bool counting)
{
    struct keeper *k = arg;
    (void)sum;
    (void)counting;
    LOCK_SCOPE(&k->lock);
    return !k->stopping;
}

/* The first file that fails gives the pin's error. */
struct look {
    struct keeper *k;
    struct buf error;
};

static bool look_tick(void *arg, const struct warm_total *sum, bool counting)
{
    struct look *l = arg;
    return may_go_on(l->k, sum, counting);
}

static void look_event(void *arg, const struct warm_event *e)
{
    struct look *l = arg;
    if (l->error.len == 0 && e->what == WARM_FAILED)
        buf_addf(&l->error, "%s: %s", e->path, err_text(e->err));
    else if (l->error.len == 0 && e->what == WARM_NO_ROOM)
        buf_addf(&l->error, "%s: no room in the cache for what is pinned (max_size)", e->path);
}

static void store_trouble(struct volume *v, struct buf *b)
{
    struct store_health h = {0};
    if (store_health(v->store, &h) && h.errors_in_row)
        buf_addf(b, "the store does not answer: %s", h.text);
}

/* Notes in the pin how it is; true when everything of it is there. */
static bool note_result(struct volume *v, const struct warm *w, int r, const struct op *op,
                        struct buf *error)
{
    bool whole = r == 0 && w->total.failed_files == 0 && w->total.no_room_files == 0;
    if (r < 0 && error->len == 0)
        buf_adds(error, err_text(&op->err));
    if (whole && error->len == 0)
        store_trouble(v, error);
    cache_pin_checked(v->cache, v->key, w->trees->path, w->found.bytes, w->found.files,
                      buf_str(error));
    return whole;
}

static void look_at_pin(struct keeper *k, const struct cache_pin *pin, struct op *op)
{
    struct volume *v = k->v;
    struct look l = {.k = k};
    struct tree tree = {.path = pin->path};
    struct warm w = {.trees = &tree, .n_trees = 1, .pin = true, .event = look_event,
                     .tick = look_tick, .arg = &l};
    w.found = (struct warm_total){.bytes = pin->bytes, .files = pin->files};
    uint64_t round = cache_pin_round(v->cache);
    int r = volume_warm_count(v, op, &w);
    if (r == 0)
        r = volume_warm_fetch(v, op, &w);
    if (r == -EINTR) {
        buf_done(&l.error);
        return;
    }
    bool whole = note_result(v, &w, r, op, &l.error);
    if (whole || r == -ENOENT)
        cache_pin_sweep(v->cache, v->key, pin->path, round);
    if (!whole && strcmp(pin->error, buf_str(&l.error)) != 0)
        log_warn("cache", "pinned %s/%s is not complete: %s", v->key, pin->path,
                 buf_str(&l.error));
    buf_done(&l.error);
}

static void look_at_file(struct keeper *k, const char *path, struct op *op)
{
    struct volume *v = k->v;
    struct look l = {.k = k};
    struct tree tree = {.path = path};
    struct warm w = {.trees = &tree, .n_trees = 1, .pin = true, .event = look_event, .tick = look_tick,
                     .arg = &l};
    if (cache_is_pinned(v->cache, v->key, path) && volume_warm(v, op, &w) == 0 && l.error.len)
        log_warn("cache", "pinned %s/%s", v->key, buf_str(&l.error));
    buf_done(&l.error);
}

/* ---- the thread ---- */
static void look(struct keeper *k, bool all, const struct strmap *noted)
{
    struct volume *v = k->v;
    struct cache_pin *pins = NULL;
    size_t n = 0;
    struct op op;
    op_init(&op, "pin", 0);
    lock_acquire(&k->lock);
    k->op = &op;
    lock_release(&k->lock);
    STRMAP_EACH(noted, it)
        look_at_file(k, it->key, &op);
    if (all)
        cache_pins(v->cache, v->key, &pins, &n);
    for (size_t i = 0; i < n && may_go_on(k, NULL, false); i++)
        look_at_pin(k, &pins[i], &op);
    cache_pins_free(pins, n);
    lock_acquire(&k->lock);
    k->op = NULL;
    lock_release(&k->lock);
}

/* Waits until there is something to do; the turn is ours then. false: stopping. */
static bool wait_for_work(struct keeper *k, uint64_t *due, bool *ret_all, struct strmap *ret_noted)
{
    uint64_t every = cache_get_settings(k->v->cache)->pin_check_ms;
    LOCK_SCOPE(&k->lock);
    for (;;) {
        uint64_t now = clock_now_ns(), until = k->all ? now : *due;
        if (k->stopping)
            return false;
        if (k->noted.count && (!until || k->noted_ns + NOTED_NS < until))
            until = k->noted_ns + NOTED_NS;
        if (!k->turn && until && until <= now)
            break;
        (void)cond_wait_until(&k->cond, &k->lock, k->turn ? 0 : until);
    }
    *ret_all = k->all || (*due && clock_now_ns() >= *due);
    *ret_noted = k->noted;
    k->noted = STRMAP_INIT;
    k->all = false;
    k->turn = true;
    if (*ret_all)
        *due = every ? clock_now_ns() + every * NS_PER_MS : 0;
    return true;
}

static void give_turn(struct keeper *k)
{
    LOCK_SCOPE(&k->lock);
    k->turn = false;
    cond_broadcast(&k->cond);
}

static void *keep(void *arg)
{
    struct keeper *k = arg;
    struct strmap noted = STRMAP_INIT;
    uint64_t every = cache_get_settings(k->v->cache)->pin_check_ms;
    uint64_t due = every ? clock_now_ns() + every * NS_PER_MS : 0;
    bool all = false;
    pthread_setname_np(pthread_self(), "quay-keeper");
    while (wait_for_work(k, &due, &all, &noted)) {
        look(k, all, &noted);
        strmap_done(&noted);
        give_turn(k);
    }
    return NULL;
}

static void start(struct keeper *k)
{
    LOCK_SCOPE(&k->lock);
    if (k->runs || k->stopping)
        return;
    int r = pthread_create(&k->thread, NULL, keep, k);
    k->runs = r == 0;
    if (r != 0)
        log_error("cache", "%s: cannot start a thread for what is pinned: %s", k->v->key,
                  strerror(r));
}

struct keeper *keeper_new(struct volume *v)
{
    struct keeper *k = xcalloc(1, sizeof(*k));
    struct cache_pin *pins = NULL;
    size_t n = 0;
    k->v = v;
    lock_init(&k->lock, LOCK_RANK_LEAF, "keeper");
    cond_init(&k->cond);
    cache_pins(v->cache, v->key, &pins, &n);
    cache_pins_free(pins, n);
    k->all = true;
    if (n)
        start(k);
    return k;
}

void keeper_stop(struct keeper *k)
{
    if (!k)
        return;
    lock_acquire(&k->lock);
    k->stopping = true;
    if (k->op)
        op_cancel(k->op);
    cond_broadcast(&k->cond);
    bool runs = k->runs;
    lock_release(&k->lock);
    if (runs)
        pthread_join(k->thread, NULL);
    strmap_done(&k->noted);
    cond_done(&k->cond);
    lock_done(&k->lock);
    free(k);
}

void keeper_note(struct keeper *k, const char *path, struct cache_object *o)
{
    if (!k || !cache_object_wanted(o))
        return;
    LOCK_SCOPE(&k->lock);
    if (k->noted.count == 0)
        k->noted_ns = clock_now_ns();
    if (k->noted.count < NOTED_MAX)
        (void)strmap_put(&k->noted, path, k);
    else
        k->all = true;
    cond_broadcast(&k->cond);
}

/* ---- by request ---- */
static int take_turn(struct keeper *k, struct op *op)
{
    LOCK_SCOPE(&k->lock);
    while (k->turn) {
        int r = op_check(op);
        if (r < 0)
            return r;
        (void)cond_wait_until(&k->cond, &k->lock, clock_now_ns() + SLICE_NS);
    }
    k->turn = true;
    return 0;
}

static int check_path(struct volume *v, struct op *op, const struct tree *w)
{
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    int r = w->path[0] ? volume_stat(v, op, w->path, 0, &a) : 0;
    if (r == -ENOENT && tree_is_pattern(w->path))
        r = err_set(&op->err, ENOENT, "%s: %s: not there; a pattern cannot be pinned: pin its "
                                      "directory, or each file", v->key, w->path);
    return r;
}

/* The caller's events, and the first failure for the pin's row. */
struct pinning {
    struct look look;
    const struct warm *user;
};

static void pin_event(void *arg, const struct warm_event *e)
{
    struct pinning *p = arg;
    look_event(&p->look, e);
    if (p->user->event)
        p->user->event(p->user->arg, e);
}

static bool pin_tick(void *arg, const struct warm_total *sum, bool counting)
{
    const struct pinning *p = arg;
    return !p->user->tick || p->user->tick(p->user->arg, sum, counting);
}

int volume_pin(struct volume *v, struct op *op, struct warm *w, bool *ret_covered)
{
    struct keeper *k = v->keeper;
    struct warm user = *w;
    struct pinning p = {.look.k = k, .user = &user};
    w->pin = true;
    w->event = pin_event;
    w->tick = pin_tick;
    w->arg = &p;
    int r = check_path(v, op, w->trees);
    if (r == 0)
        r = volume_warm_count(v, op, w);
    if (r == 0)
        r = cache_pin(v->cache, v->key, w->trees->path, w->found.bytes, w->found.files, &op->err);
    if (r < 0)
        return r;
    *ret_covered = r == 1;
    r = take_turn(k, op);
    if (r < 0)
        return r;
    r = volume_warm_fetch(v, op, w);
    (void)note_result(v, w, r, op, &p.look.error);
    buf_done(&p.look.error);
    lock_acquire(&k->lock);
    k->all = r < 0 || (k->runs && k->all);
    lock_release(&k->lock);
    start(k);
    give_turn(k);
    return r;
}

int volume_unpin(struct volume *v, const char *path, struct err *err)
{
    return cache_unpin(v->cache, v->key, path, err);
}
