/* SPDX-License-Identifier: MIT
 * policy.c: what the options of a [store] section mean for the cache (base/settings.h lists them), and
 * what attributes look like where the store keeps none. */
#include "cache/stage.h"
#include "cache/volume_int.h"

#include "base/cleanup.h"
#include "base/crypto.h"

#include <grp.h>
#include <pwd.h>

#define TICKET_MS 2
#define TIMEOUT_MS 30000

static int load_octal(const struct conf_section *s, const char *name, mode_t def, struct err *err,
                      mode_t *ret)
{
    const char *text = conf_str(s, name, NULL);
    *ret = def;
    if (!text)
        return 0;
    char *end = NULL;
    unsigned long n = strtoul(text, &end, 8);
    if (text[0] < '0' || text[0] > '7' || *end || n > 07777)
        return conf_error(s, name, err, EINVAL, "%s = %s: not an octal mode", name, text);
    *ret = (mode_t)n;
    return 0;
}

static bool parse_id(const char *text, bool group, unsigned *ret)
{
    int64_t n = 0;
    if (parse_int(text, &n)) {
        *ret = (unsigned)n;
        return n >= 0 && n < UINT32_MAX;
    }
    char buf[4096];
    struct passwd pw, *p = NULL;
    struct group gr, *g = NULL;
    if (group)
        (void)getgrnam_r(text, &gr, buf, sizeof(buf), &g);
    else
        (void)getpwnam_r(text, &pw, buf, sizeof(buf), &p);
    if (g || p)
        *ret = g ? g->gr_gid : p->pw_uid;
    return g || p;
}

static int load_id(const struct conf_section *s, const char *name, unsigned def, struct err *err,
                   unsigned *ret)
{
    const char *text = conf_str(s, name, NULL);
    *ret = def;
    if (text && !parse_id(text, name[0] == 'g', ret))
        return conf_error(s, name, err, EINVAL, "%s = %s: no such account", name, text);
    return 0;
}

static void identify(const struct conf_section *s, char ret[65])
{
    CLEANUP_BUF struct buf b = BUF_INIT;
    for (size_t i = 0; i < s->n_pairs; i++) {
        if (!s->pairs[i].secret)
            buf_addf(&b, "%s=%s\n", s->pairs[i].name, s->pairs[i].value);
    }
    sha256_hex(buf_str(&b), b.len, ret);
}

int volume_policy_load(const struct conf_section *s, const struct settings *set, struct err *err,
                       struct volume_policy *ret)
{
    struct volume_policy p = {.ticket_ms = TICKET_MS, .stage_memory = STAGE_MEMORY_MAX};
    mode_t mask = 0;
    int r = load_octal(s, "umask", set->umask, err, &mask);
    if (r == 0)
        r = load_octal(s, "file_mode", 0666 & ~mask, err, &p.file_mode);
    if (r == 0)
        r = load_octal(s, "dir_mode", 0777 & ~mask, err, &p.dir_mode);
    if (r == 0)
        r = load_id(s, "uid", set->uid, err, &p.uid);
    if (r == 0)
        r = load_id(s, "gid", set->gid, err, &p.gid);
    if (r < 0)
        return r;
    p.cache_blocks = conf_bool(s, "cache.enabled", set->cache.enabled);
    uint64_t ttl = conf_ms(s, "cache.ttl", set->cache.ttl_ms);
    p.ttl_ms = ttl ? ttl : UINT64_MAX;
    const char *revalidate = conf_str(s, "revalidate", p.ttl_ms == UINT64_MAX ? "ttl" : "open");
    p.trust_ttl = strcmp(revalidate, "ttl") == 0;
    p.write = strcmp(conf_str(s, "write", "through"), "back") == 0 ? VOLUME_BACK : VOLUME_THROUGH;
    p.offline_serve = strcmp(conf_str(s, "offline", "fail"), "serve") == 0;
    uint64_t timeout = conf_ms(s, "timeout", TIMEOUT_MS);
    p.timeout_ms = timeout > UINT32_MAX ? UINT32_MAX : (unsigned)timeout;
    identify(s, p.identity);
    *ret = p;
    return 0;
}

void volume_complete(const struct volume *v, struct attr *a)
{
    const struct volume_policy *p = &v->policy;
    if (!(a->known & ATTR_HAS_MODE))
        a->mode = a->kind == ATTR_DIR       ? p->dir_mode
                  : a->kind == ATTR_SYMLINK ? 0777
                                            : p->file_mode;
    if (!(a->known & ATTR_HAS_UID))
        a->uid = p->uid;
    if (!(a->known & ATTR_HAS_GID))
        a->gid = p->gid;
    if (a->mtime.tv_sec == 0 && a->mtime.tv_nsec == 0 && !(a->known & ATTR_HAS_MTIME))
        a->mtime = v->opened;
    if (!(a->known & ATTR_HAS_ATIME))
        a->atime = a->mtime;
}

struct timespec volume_time(const struct volume *v, struct timespec t)
{
    if (v->store->caps & CAP_WHOLE_SECONDS)
        t.tv_nsec = 0;
    return t;
}

struct attr volume_times(const struct volume *v, const struct attr *change)
{
    struct attr a = *change;
    a.mtime = volume_time(v, a.mtime);
    a.atime = volume_time(v, a.atime);
    return a;
}
