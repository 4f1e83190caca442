/* SPDX-License-Identifier: MIT
 * reload.c: see reload.h. */
#include "fs/reload.h"

#include "fs/control.h"
#include "fs/options.h"

#include <signal.h>
#include <string.h>

#define RETIRE_MS 60000

struct change {
    struct fs_key *old, *now; /* one of them may be NULL; `now` is ours until it is in the table */
    bool retired;
};

struct changes {
    struct change *v;
    size_t n, unchanged;
};

static void add_change(struct changes *all, struct fs_key *old, struct fs_key *now)
{
    all->v = xrealloc(all->v, (all->n + 1) * sizeof(*all->v));
    all->v[all->n++] = (struct change){.old = old, .now = now};
}

/* Nothing has happened. */
static void undo(struct changes *all)
{
    for (size_t i = 0; i < all->n; i++) {
        struct change *c = &all->v[i];
        if (c->retired)
            volume_unretire(c->old->volume);
        if (c->now && c->now->volume)
            (void)fs_key_close(c->now);
        fs_key_free(c->now);
        c->now = NULL;
    }
}

static int retire_old(struct change *c, struct err *err)
{
    struct op op;
    if (!c->old || !c->old->volume)
        return 0;
    op_init(&op, "remove", RETIRE_MS);
    int rc = volume_retire(c->old->volume, &op);
    if (rc < 0)
        *err = op.err;
    c->retired = rc == 0;
    return rc;
}

static bool same_place(const struct fs_key *a, const struct fs_key *b)
{
    return a->volume && b->volume &&
           strcmp(volume_store(a->volume)->base_uri, volume_store(b->volume)->base_uri) == 0;
}

/* In three steps, of which the last cannot fail. */
static int apply(struct fs *fs, struct changes *all, struct err *err)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < all->n; i++)
        rc = retire_old(&all->v[i], err);
    for (size_t i = 0; rc == 0 && i < all->n; i++)
        if (all->v[i].now)
            rc = fs_key_open(fs, all->v[i].now, err);
    if (rc < 0) {
        undo(all);
        return rc;
    }
    for (size_t i = 0; i < all->n; i++) {
        struct change *c = &all->v[i];
        if (c->old && c->now && !same_place(c->old, c->now))
            volume_forget(c->now->volume, NULL, true);
        if (c->old)
            fs_key_retire(fs, c->old, c->now);
        else
            fs_key_add(fs, c->now);
        c->now = NULL;
    }
    return 0;
}

static void describe(const struct changes *all, struct buf *b)
{
    static const char *const words[] = {"added", "changed", "removed"};
    for (unsigned kind = 0; kind < 3; kind++) {
        const char *before = NULL;
        for (size_t i = 0; i < all->n; i++) {
            const struct change *c = &all->v[i];
            unsigned is = !c->old ? 0 : c->now ? 1 : 2;
            if (is != kind)
                continue;
            if (!before)
                buf_addf(b, "%s%s", b->len ? "; " : "", words[kind]);
            buf_addf(b, "%s %s", before ? "," : "", (c->old ? c->old : c->now)->name);
            before = words[kind];
        }
    }
    buf_addf(b, "%s%zu unchanged", b->len ? "; " : "nothing to do: ", all->unchanged);
}

/* ---- reading again ---- */

static int read_conf(struct fs *fs, struct err *err, struct conf **ret, struct settings *settings)
{
    if (!fs->config_path)
        return err_set(err, ENOENT, "mounted without a configuration file: nothing to read again");
    int rc = conf_load(fs->config_path, err, ret);
    if (rc == 0)
        rc = conf_apply_env(*ret, settings_environment(*ret, fs->options->env), err);
    if (rc == 0)
        rc = options_apply(fs->options, *ret, err);
    if (rc == 0)
        rc = settings_load(*ret, err, settings);
    return rc;
}

static struct fs_key *find(const struct fs_keys *keys, const char *name)
{
    for (size_t n = 0; n < keys->n; n++)
        if (strcmp(keys->v[n]->name, name) == 0)
            return keys->v[n];
    return NULL;
}

static int compare_one(struct fs *fs, const struct conf *conf, struct conf_section *s,
                       const struct settings *settings, const struct fs_keys *keys,
                       struct changes *all, struct err *err)
{
    struct fs_key *k = NULL;
    struct fs_key *old = find(keys, s->name);
    int rc = fs_key_prepare(fs, conf, s, settings, err, &k);
    bool same = old && memcmp(old->identity, k->identity, sizeof(k->identity)) == 0;
    bool wanted = rc == 0 && (settings->auto_register || old);
    if (rc < 0 && rc != -EINVAL && same && !old->volume) {
        err_clear(err); /* as before */
        rc = 0;
    } else if (wanted && (!same || !old->volume)) {
        add_change(all, old, k);
        return 0;
    }
    all->unchanged += rc == 0 && old;
    fs_key_free(k);
    return rc;
}

static int compare(struct fs *fs, const struct conf *conf, const struct settings *settings,
                   const struct fs_keys *keys, struct changes *all, struct err *err)
{
    int rc = 0;
    CONF_EACH (conf, s) {
        if (strcmp(s->kind, "store") == 0)
            rc = compare_one(fs, conf, s, settings, keys, all, err);
        if (rc < 0)
            return rc;
    }
    for (size_t n = 0; n < keys->n; n++) {
        struct fs_key *k = keys->v[n];
        if (!k->control && !k->by_hand && !conf_find(conf, "store", k->name))
            add_change(all, k, NULL);
    }
    return 0;
}

static int begin(struct fs *fs, struct err *err)
{
    bool expected = false;
    return atomic_compare_exchange_strong(&fs->changing, &expected, true)
               ? 0
               : err_set(err, EBUSY, "another change of the keys is under way");
}

static int finish(struct fs *fs, struct changes *all, int rc, struct err *err, struct buf *text)
{
    if (rc == 0)
        describe(all, text);
    if (rc == 0)
        rc = apply(fs, all, err);
    else
        undo(all);
    free(all->v);
    atomic_store(&fs->changing, false);
    if (rc == 0)
        log_info("fs", "keys: %s", buf_str(text));
    else
        log_error("fs", "the keys stay as they are: %s", err_text(err));
    return rc;
}

int fs_reload(struct fs *fs, struct err *err, struct buf *ret_text)
{
    struct changes all = {0};
    struct conf *conf = NULL;
    struct settings settings = {0};
    int rc = begin(fs, err);
    if (rc < 0)
        return rc;
    struct fs_keys keys = fs_keys_get(fs);
    rc = read_conf(fs, err, &conf, &settings);
    if (rc == 0)
        rc = compare(fs, conf, &settings, &keys, &all, err);
    rc = finish(fs, &all, rc, err, ret_text);
    fs_keys_put(&keys);
    settings_done(&settings);
    conf_free(conf);
    return rc;
}

/* ---- one key ---- */

static const struct conf_option *option_of(const struct store_class *cls, const char *name)
{
    for (size_t i = 0; i < cls->n_options; i++)
        if (strcmp(cls->options[i].name, name) == 0)
            return &cls->options[i];
    return NULL;
}

/* Whoever may list processes has read it already: so that it does not become a habit. */
static int refuse_secrets(const struct conf *c, struct conf_section *s, struct err *err)
{
    const struct store_class *cls = NULL;
    int rc = registry_check(c, s, err, &cls);
    for (size_t i = 0; rc == 0 && i < s->n_pairs; i++) {
        const struct conf_option *o = option_of(cls, s->pairs[i].name);
        if (o && o->type == CONF_SECRET && strcmp(o->name, "access_key_id") != 0)
            rc = err_set(err, EINVAL, "'%s' on a command line can be read by others: write it to a file "
                                      "and give %s_file=PATH, or use the configuration", o->name, o->name);
    }
    return rc;
}

static int section_by_hand(struct conf *c, const char *name, const json_t *options, const char *dir,
                           struct err *err, struct conf_section **ret)
{
    struct conf_section *s = conf_add_section(c, "store", name);
    size_t n;
    json_t *pair;
    if (dir) {
        free(c->dir);
        s->dir = c->dir = xstrdup(dir);
    }
    json_array_foreach(options, n, pair) {
        const char *key = json_string_value(json_array_get(pair, 0));
        const char *value = json_string_value(json_array_get(pair, 1));
        if (key && value)
            conf_set(s, key, value);
    }
    *ret = s;
    return refuse_secrets(c, s, err);
}

/* [store NAME] of the file, or what was given. */
static int find_section(struct fs *fs, const char *name, const json_t *options, const char *dir,
                        struct err *err, struct conf **conf, struct conf_section **ret)
{
    struct settings settings = {0};
    if (json_array_size(options)) {
        CLEANUP_FREE char *title = xasprintf("quayctl add %s", name);
        *conf = conf_new(title);
        return section_by_hand(*conf, name, options, dir, err, ret);
    }
    int rc = read_conf(fs, err, conf, &settings);
    settings_done(&settings);
    *ret = rc == 0 ? conf_find(*conf, "store", name) : NULL;
    if (rc == 0 && !*ret)
        rc = err_set(err, EINVAL, "Configuration must specify 'backend_type' (%s has no [store %s] "
                                  "either)", fs->config_path, name);
    return rc;
}

int fs_register(struct fs *fs, const char *name, const json_t *options, const char *dir,
                struct err *err, struct buf *ret_text)
{
    struct changes all = {0};
    struct conf *conf = NULL;
    struct conf_section *s = NULL;
    struct fs_key *k = NULL;
    struct fs_key *old = fs_key_get(fs, name);
    int rc = begin(fs, err);
    if (rc == 0) {
        rc = store_name_check(name, err);
        if (rc == 0 && old)
            rc = err_set(err, EEXIST, "Backend key '%s' is already registered.", name);
        if (rc == 0)
            rc = find_section(fs, name, options, dir, err, &conf, &s);
        if (rc == 0)
            rc = fs_key_prepare(fs, conf, s, &fs->settings, err, &k);
        if (k) {
            k->by_hand = json_array_size(options) > 0;
            add_change(&all, NULL, k);
        }
        rc = finish(fs, &all, rc, err, ret_text);
    }
    if (old)
        fs_key_leave(old);
    conf_free(conf);
    return rc;
}

int fs_unregister(struct fs *fs, const char *name, struct err *err, struct buf *ret_text)
{
    struct changes all = {0};
    int rc = begin(fs, err);
    if (rc < 0)
        return rc;
    struct fs_key *old = fs_key_get(fs, name);
    if (!old || old->control)
        rc = err_set(err, ENOENT, "Backend key '%s' not found for unregistration.", name);
    else
        add_change(&all, old, NULL);
    rc = finish(fs, &all, rc, err, ret_text);
    if (old)
        fs_key_leave(old);
    return rc;
}

/* ---- SIGHUP ---- */

static sigset_t hangup(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGHUP);
    return set;
}

void fs_hangup_block(void)
{
    sigset_t set = hangup();
    (void)pthread_sigmask(SIG_BLOCK, &set, NULL);
}

static void *wait_for_hangups(void *arg)
{
    struct fs *fs = arg;
    sigset_t set = hangup();
    int sig;
    while (sigwait(&set, &sig) == 0 && !atomic_load(&fs->hangup.stop)) {
        struct err err = ERR_INIT;
        CLEANUP_BUF struct buf text = BUF_INIT;
        (void)fs_reload(fs, &err, &text); /* says in the log what came of it */
    }
    return NULL;
}

int fs_hangup_start(struct fs *fs, struct err *err)
{
    int r = pthread_create(&fs->hangup.thread, NULL, wait_for_hangups, fs);
    fs->hangup.runs = r == 0;
    return r == 0 ? 0 : err_set(err, r, "cannot start a thread: %s", strerror(r));
}

void fs_hangup_stop(struct fs *fs)
{
    if (!fs->hangup.runs)
        return;
    atomic_store(&fs->hangup.stop, true);
    (void)pthread_kill(fs->hangup.thread, SIGHUP);
    (void)pthread_join(fs->hangup.thread, NULL);
    fs->hangup.runs = false;
}

/* ---- by quayctl ---- */

static int answer(int rc, const struct buf *text, json_t **ret)
{
    *ret = rc == 0 ? json_string(buf_str(text)) : NULL;
    return rc;
}

int cmd_reload(struct call *c, struct err *err, json_t **ret)
{
    CLEANUP_BUF struct buf text = BUF_INIT;
    return answer(fs_reload(c->fs, err, &text), &text, ret);
}

int cmd_add(struct call *c, struct err *err, json_t **ret)
{
    CLEANUP_BUF struct buf text = BUF_INIT;
    const char *name = json_string_value(json_object_get(c->args, "name"));
    const char *dir = json_string_value(json_object_get(c->args, "dir"));
    int rc = fs_register(c->fs, name ? name : "", json_object_get(c->args, "options"), dir, err, &text);
    return answer(rc, &text, ret);
}

int cmd_remove(struct call *c, struct err *err, json_t **ret)
{
    CLEANUP_BUF struct buf text = BUF_INIT;
    const char *name = json_string_value(json_object_get(c->args, "name"));
    return answer(fs_unregister(c->fs, name ? name : "", err, &text), &text, ret);
}
