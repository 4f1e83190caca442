/* SPDX-License-Identifier: MIT
 * same.c: see same.h. */
#include "ctl/same.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/rpc.h"
#include "base/url.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* Without symbolic links in what is there of it; the last name stays. */
static char *canonical(const char *path)
{
    CLEANUP_FREE char *dir = xstrdup(path);
    for (char *slash; (slash = strrchr(dir, '/')) != NULL;) {
        *slash = '\0';
        CLEANUP_FREE char *real = realpath(*dir ? dir : "/", NULL);
        if (real)
            return xasprintf("%s%s", strcmp(real, "/") == 0 ? "" : real, path + (slash - dir));
    }
    return xstrdup(path);
}

static json_t *side_json(const struct same_side *s)
{
    CLEANUP_BUF struct buf path = BUF_INIT;
    CLEANUP_FREE char *file = s->key ? NULL : canonical(s->path);
    const char *p = file ? file : s->path;
    const struct stat *st = s->st;
    url_encode(&path, p, strlen(p), true);
    json_t *o = json_pack("{s:s}", "path", buf_str(&path));
    if (s->key)
        json_object_set_new(o, "key", json_string(s->key));
    else if (st)
        json_object_set_new(o, "stat",
                            json_pack("[I,I,I,I,I,I,I]", (json_int_t)st->st_ino, (json_int_t)st->st_mode,
                                      (json_int_t)st->st_size, (json_int_t)st->st_mtim.tv_sec,
                                      (json_int_t)st->st_mtim.tv_nsec, (json_int_t)st->st_ctim.tv_sec,
                                      (json_int_t)st->st_ctim.tv_nsec));
    return o;
}

static int ask(const char *control, const struct same_side *from, const struct same_side *to, bool look,
               enum same_relation *ret, bool *ret_unsure, struct err *err)
{
    json_t *reply = NULL;
    json_t *args = json_pack("{s:o, s:o, s:b}", "from", side_json(from), "to", side_json(to), "look", (int)look);
    int r = rpc_call(control, "same", args, NULL, NULL, err, &reply);
    const char *names = r == 0 ? json_string_value(json_object_get(reply, "names")) : NULL;
    if (r == 0 && !names)
        r = err_set(err, EPROTO, "the daemon's reply is not understood");
    if (r == 0) {
        *ret = strcmp(names, "apart") == 0 ? RELATION_APART : strcmp(names, "one") == 0 ? RELATION_ONE : RELATION_NESTED;
        *ret_unsure = !json_is_true(json_object_get(reply, "sure"));
    }
    json_decref(reply);
    json_decref(args);
    return r;
}

int same_named(const char *control, const struct same_side *from, const struct same_side *to, enum same_relation *ret,
               bool *ret_unsure, struct err *err)
{
    *ret = RELATION_APART;
    *ret_unsure = false;
    if (from->key && to->key && strcmp(from->key, to->key) == 0) /* by their paths in the mount */
        return 0;
    if (!from->key && !to->key) { /* by what the disk says of each file */
        *ret_unsure = true;
        return 0;
    }
    return ask(control, from, to, false, ret, ret_unsure, err);
}

int same_looked(const char *control, const struct same_side *from, const struct same_side *to, struct err *err)
{
    enum same_relation rel = RELATION_APART;
    bool unsure;
    int r = 0;
    if (from->key || to->key)
        r = ask(control, from, to, true, &rel, &unsure, err);
    else if (from->st && to->st && from->st->st_dev == to->st->st_dev && from->st->st_ino == to->st->st_ino)
        rel = RELATION_ONE;
    if (r < 0 || rel != RELATION_ONE)
        return r;
    return err_set(err, EINVAL,
                   "%s%s%s and %s%s%s are the same file, as far as can be told (one size, time and version): nothing is done. "
                   "If they are two, quayctl rm removes the one",
                   from->key ? from->key : "", from->key ? ":" : "", from->path, to->key ? to->key : "",
                   to->key ? ":" : "", to->path);
}
