/* SPDX-License-Identifier: MIT
 * control.c: what quayctl may ask the mount for, over the control socket (base/rpc.h).
 *   status, keys, health, staged, top         the reports of report.h
 *   cache.stats {key?}   cache.clear {key?}   cache.cleanup {key?}   cache.verify {key?}
 *   warm {key, paths:[{path, dir?}], dry?}   pin {key, path}   unpin {key, path}   pins {key?}
 *   evict {key, path, dir?, pinned?}
 *   sync {key?}          uploads what is staged now
 *   forget {key, path?, blocks?}              drops what is cached of a path
 *   copy {key, from, to, shown, replace?, from_key?}   a file, under another name: by the store where it can; from
 *                        another key only so (EXDEV: it cannot)
 *   same {from:{key, path}, to:{key, path}, look?}   names: are both one object ("one"), or is the one in the other ("below",
 *                        "above"); sure: or must they be looked at? Paths with %XX; without a key a file: {path, stat}
 *   reload {}   add {name, options?, dir}   remove {name}     keys, while the mount runs: reload.h
 *   probe {key}          asks the store whether it answers
 *   sign {key, path, write?, expires?}        a signed URL */
#include "fs/control.h"
#include "fs/reload.h"
#include "fs/report.h"

#include <string.h>

struct command {
    const char *name;
    int (*run)(struct call *c, struct err *err, json_t **ret);
    bool needs_key;
};

static int cmd_status(struct call *c, struct err *err, json_t **ret)
{
    (void)err;
    *ret = report_status(c->fs);
    return 0;
}

static int cmd_keys(struct call *c, struct err *err, json_t **ret)
{
    (void)err;
    *ret = report_keys(c->fs);
    return 0;
}

static int cmd_health(struct call *c, struct err *err, json_t **ret)
{
    (void)err;
    *ret = report_health(c->fs);
    return 0;
}

static int cmd_top(struct call *c, struct err *err, json_t **ret)
{
    (void)err;
    *ret = report_top(c->fs);
    return 0;
}

static int cmd_staged(struct call *c, struct err *err, json_t **ret)
{
    (void)err;
    *ret = report_staged(c->fs);
    return 0;
}

static int cmd_sync(struct call *c, struct err *err, json_t **ret)
{
    CLEANUP_KEYS struct fs_keys keys = fs_keys_get(c->fs);
    for (size_t n = 0; n < keys.n; n++) {
        struct fs_key *k = keys.v[n];
        struct op op;
        if (!k->volume || (c->k && c->k != k))
            continue;
        op_init(&op, "sync", 0);
        op.durable = true;
        int rc = volume_sync(k->volume, &op);
        if (rc < 0) {
            *err = op.err;
            return err_prefix(err, "%s", k->name);
        }
    }
    *ret = json_true();
    return 0;
}

static int cmd_forget(struct call *c, struct err *err, json_t **ret)
{
    (void)err;
    const char *path = json_string_value(json_object_get(c->args, "path"));
    volume_forget(c->k->volume, path, json_is_true(json_object_get(c->args, "blocks")));
    *ret = json_true();
    return 0;
}

/* Which of the steps of a request it was. */
static const char *failed_step(const struct err *e, bool remote)
{
    static const struct {
        const char *code, *step;
    } known[] = {{"DNS", "name resolution (DNS)"},
                 {"connect", "connecting"},
                 {"TLS", "TLS"},
                 {"host key", "the host key"},
                 {"RequestTimeTooSkewed", "authentication: the clocks differ"},
                 {"RequestExpired", "authentication: the clocks differ"},
                 {"InvalidAccessKeyId", "authentication"},
                 {"SignatureDoesNotMatch", "authentication"},
                 {"ExpiredToken", "authentication"},
                 {"InvalidToken", "authentication"},
                 {"InvalidIdentityToken", "authentication"},
                 {"ExpiredTokenException", "authentication"},
                 {"TokenRefreshRequired", "authentication"},
                 {"AuthorizationHeaderMalformed", "authentication: the region"},
                 {"AuthenticationFailed", "authentication"},
                 {"AuthorizationFailure", "authentication"},
                 {"login", "authentication"},
                 {"ContainerNotFound", "the container"},
                 {"database", "the database"},
                 {"NoSuchBucket", "the bucket"},
                 {"InvalidBucketName", "the bucket"}};
    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (strcmp(e->remote, known[i].code) == 0)
            return known[i].step;
    if (e->status == 401)
        return "authentication";
    if (e->code == EACCES || e->code == EPERM || e->code == EROFS)
        return "permission";
    if (e->code == EHOSTUNREACH)
        return "connecting";
    if (e->status == 404 && e->code == EIO)
        return "the bucket";
    if (e->code == ETIMEDOUT)
        return "waiting for an answer";
    return remote ? "the answer" : "access";
}

static int cmd_probe(struct call *c, struct err *err, json_t **ret)
{
    struct op op;
    CLEANUP_BUF struct buf text = BUF_INIT;
    op_init(&op, "probe", 30000);
    op.once = true; /* a person waits */
    int rc = store_probe(volume_store(c->k->volume), &op, &text);
    if (rc < 0) {
        bool remote = !(volume_store(c->k->volume)->caps & (CAP_LOCAL_FD | CAP_PRIVATE));
        *err = op.err;
        return err_prefix(err, "%s: failed at %s", c->key, failed_step(err, remote));
    }
    *ret = json_string(buf_str(&text));
    return 0;
}

static int cmd_sign(struct call *c, struct err *err, json_t **ret)
{
    struct op op;
    CLEANUP_BUF struct buf url = BUF_INIT;
    const json_t *expires = json_object_get(c->args, "expires");
    struct sign_req req = {.key = json_string_value(json_object_get(c->args, "path")),
                           .write = json_is_true(json_object_get(c->args, "write")),
                           .expires_s = expires ? (unsigned)json_integer_value(expires) : 3600};
    op_init(&op, "sign", 30000);
    if (!req.key)
        return err_set(err, EINVAL, "sign needs a path");
    int rc = store_sign(volume_store(c->k->volume), &op, &req, &url);
    if (rc < 0) {
        *err = op.err;
        return rc;
    }
    *ret = json_string(buf_str(&url));
    return 0;
}

static const struct command commands[] = {
    {"status", cmd_status, false},
    {"keys", cmd_keys, false},
    {"health", cmd_health, false},
    {"staged", cmd_staged, false},
    {"top", cmd_top, false},
    {"cache.stats", cmd_cache_stats, false},
    {"cache.clear", cmd_cache_clear, false},
    {"cache.cleanup", cmd_cache_cleanup, false},
    {"cache.verify", cmd_cache_verify, false},
    {"warm", cmd_warm, true},
    {"evict", cmd_evict, true},
    {"pin", cmd_pin, true},
    {"unpin", cmd_unpin, true},
    {"pins", cmd_pins, false},
    {"sync", cmd_sync, false},
    {"forget", cmd_forget, true},
    {"copy", cmd_copy, true},
    {"same", cmd_same, false},
    {"probe", cmd_probe, true},
    {"sign", cmd_sign, true},
    {"reload", cmd_reload, false},
    {"add", cmd_add, false},
    {"remove", cmd_remove, false},
};

static int find_key(struct call *c, const struct command *cmd, struct err *err)
{
    if (!c->key && cmd->needs_key)
        return err_set(err, EINVAL, "%s needs a key", cmd->name);
    if (!c->key)
        return 0;
    c->k = fs_key_get(c->fs, c->key);
    if (!c->k)
        return err_set(err, ENOENT, "No storage backend registered for key: '%s'", c->key);
    if (!c->k->volume && cmd->needs_key)
        return err_set(err, EIO, "key '%s' is not available: %s", c->key, c->k->error);
    return 0;
}

static int on_call(void *arg, struct rpc_conn *conn, const char *cmd, const json_t *args,
                   struct err *err, json_t **ret)
{
    struct call c = {.fs = arg, .conn = conn, .args = args};
    c.key = json_string_value(json_object_get(args, "key"));
    for (size_t n = 0; n < ARRAY_LEN(commands); n++) {
        if (strcmp(commands[n].name, cmd) != 0)
            continue;
        int rc = find_key(&c, &commands[n], err);
        if (rc == 0)
            rc = commands[n].run(&c, err, ret);
        if (c.k)
            fs_key_leave(c.k);
        return rc;
    }
    return err_set(err, ENOSYS, "this quayfs does not know '%s': is quayctl newer?", cmd);
}

int fs_control_start(struct fs *fs, struct err *err)
{
    return rpc_serve(fs->settings.control, on_call, fs, err, &fs->control);
}
