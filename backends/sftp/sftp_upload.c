/* SPDX-License-Identifier: MIT
 * sftp_upload.c: uploads in parts: a temporary file beside the target, of which each part is written
 * at its offset, over whatever connection is free; then what put does with one: attributes, fsync,
 * a rename under the claim, fsync of the directory.
 *
 * The id says all there is to know, so that another process can go on: the temporary's name and the
 * attributes that the object is to get. Nothing else is kept, here or there. The name is one that nobody takes for
 * left (temp_name_make_upload): the upload's bytes may be in that file only.
 *
 * Invariants
 *  1. A part that was taken is durable (where the server has fsync): what is finished later is not
 * asked again, and a server may start anew meanwhile.
 *  2. What a lost connection had on its way may be written by the server later than what is sent
 * after it. That does no harm when both are the same bytes; so what was sent of a part that failed is
 * remembered by its CRC, and a part that was changed since is refused (-ENOENT: the upload is of no
 * use any more), and so is an end before it. */
#include "backends/sftp/sftp_int.h"

#include "base/crypto.h"

#define CHECK_BYTES (256U << 10)

struct upload { /* what an id says */
    char name[TEMP_NAME_MAX];
    struct attr attr;
    uint64_t inode; /* of the temporary, when it was told */
    char *path, *temp;
};

struct torn { /* a part that failed with bytes on their way */
    struct torn *next;
    char *temp;
    uint64_t offset, length;
    uint32_t crc;
};

/* ---- the id: NAME.KNOWN.MODE.UID.GID.MTIME.ATIME.INODE ---- */

static char *make_id(const char *name, const struct attr *a, uint64_t inode)
{
    unsigned known = a->known & (ATTR_HAS_MODE | ATTR_HAS_UID | ATTR_HAS_GID | ATTR_HAS_MTIME | ATTR_HAS_ATIME);
    return xasprintf("%s.%x.%x.%x.%x.%lld.%lld.%llx", name + strlen(TEMP_PREFIX), known, a->mode, (unsigned)a->uid,
                     (unsigned)a->gid, (long long)a->mtime.tv_sec, (long long)a->atime.tv_sec,
                     (unsigned long long)inode);
}

static void upload_done(struct upload *u)
{
    free(u->path);
    free(u->temp);
}

static int no_upload(struct op *op, const char *key, const char *id)
{
    return err_set(&op->err, ENOENT, "%s: there is no upload '%.100s'", key, id);
}

static bool parse_id(const char *id, struct upload *ret)
{
    char name[TEMP_NAME_MAX - sizeof(TEMP_PREFIX)];
    unsigned known, mode, uid, gid;
    long long mtime, atime;
    unsigned long long inode;
    int end = -1;
    if (sscanf(id, "%80[0-9a-fu-].%8x.%8x.%8x.%8x.%20lld.%20lld.%16llx%n", name, &known, &mode, &uid, &gid, &mtime,
               &atime, &inode, &end) != 8 || id[end] != '\0')
        return false;
    snprintf(ret->name, sizeof(ret->name), TEMP_PREFIX "%s", name);
    ret->inode = inode;
    ret->attr = (struct attr){.kind = ATTR_FILE, .known = known, .mode = mode & 07777, .uid = uid, .gid = gid,
                              .mtime = {.tv_sec = (time_t)mtime}, .atime = {.tv_sec = (time_t)atime}};
    return true;
}

static int find_upload(struct sftp *s, struct op *op, const char *key, const char *id, struct upload *ret)
{
    int r = sftp_path(s, op, key, &ret->path);
    if (r == 0 && !parse_id(id, ret))
        r = no_upload(op, key, id);
    if (r == 0)
        ret->temp = sftp_temp_path(ret->path, ret->name);
    return r;
}

/* ---- parts that failed ---- */

static void note_torn(struct sftp *s, const char *temp, uint64_t offset, uint64_t length, uint32_t crc)
{
    struct torn *t = xmalloc(sizeof(*t));
    *t = (struct torn){.temp = xstrdup(temp), .offset = offset, .length = length, .crc = crc};
    LOCK_SCOPE(&s->torn.lock);
    t->next = s->torn.first;
    s->torn.first = t;
}

static void forget_torn(struct sftp *s, const char *temp /* NULL: all */)
{
    LOCK_SCOPE(&s->torn.lock);
    for (struct torn **at = &s->torn.first, *t; (t = *at) != NULL;) {
        if (temp && strcmp(t->temp, temp) != 0) {
            at = &t->next;
            continue;
        }
        *at = t->next;
        free(t->temp);
        free(t);
    }
}

void sftp_torn_done(struct sftp *s)
{
    forget_torn(s, NULL);
    lock_done(&s->torn.lock);
}

/* The n-th failure that concerns bytes of this part. */
static bool get_torn(struct sftp *s, const char *temp, const struct store_part *part, size_t n, struct torn *ret)
{
    LOCK_SCOPE(&s->torn.lock);
    for (const struct torn *t = s->torn.first; t; t = t->next) {
        if (strcmp(t->temp, temp) != 0 || t->offset >= part->offset + part->size ||
            part->offset >= t->offset + t->length || n-- > 0)
            continue;
        *ret = *t;
        return true;
    }
    return false;
}

static int crc_of(const struct source *src, uint64_t length, uint32_t *ret)
{
    CLEANUP_FREE char *bytes = xmalloc(CHECK_BYTES);
    *ret = 0;
    for (uint64_t at = 0; at < length;) {
        size_t n = length - at < CHECK_BYTES ? (size_t)(length - at) : CHECK_BYTES;
        int r = src->read_at(src, at, bytes, n);
        if (r < 0)
            return r;
        *ret = crc32c(*ret, bytes, n);
        at += n;
    }
    return 0;
}

/* Invariant 2. */
static int check_torn(struct sftp *s, struct op *op, const struct upload *u, const char *key, const struct source *src,
                      const struct store_part *part)
{
    struct torn t;
    for (size_t n = 0; get_torn(s, u->temp, part, n, &t); n++) {
        uint32_t crc;
        bool same = t.offset == part->offset && t.length <= part->size && crc_of(src, t.length, &crc) == 0 &&
                    crc == t.crc;
        if (!same)
            return err_set(&op->err, ENOENT, "%s: part %u has changed while a lost connection had it on its way: the "
                                             "upload has to begin again", key, part->number);
    }
    return 0;
}

/* The same for what lies behind the end of the object: nothing is sent there any more, and what the server writes late
 * would make a finished file longer. */
static int check_behind(struct sftp *s, struct op *op, const struct upload *u, const char *key, uint64_t size)
{
    LOCK_SCOPE(&s->torn.lock);
    for (const struct torn *t = s->torn.first; t; t = t->next)
        if (strcmp(t->temp, u->temp) == 0 && t->offset + t->length > size)
            return err_set(&op->err, ENOENT, "%s: a lost connection had bytes behind %llu on their way, which is the end now: "
                                             "the upload has to begin again", key, (unsigned long long)size);
    return 0;
}

/* ---- slots ---- */

int sftp_upload_begin(struct store *store, struct op *op, const struct upload_req *req, char **ret_id)
{
    struct sftp *s = sftp_of(store);
    CLEANUP_FREE char *path = NULL, *temp = NULL;
    char name[TEMP_NAME_MAX];
    struct source_mem none = source_mem("", 0);
    struct attr attr = sftp_with_mtime(req->attr);
    /* Parts are written into it, whatever mode it is to have. */
    struct attr first = {.kind = ATTR_FILE, .known = attr.known & ATTR_HAS_MODE, .mode = 0600};
    struct put_req make = {.key = req->key, .src = &none.base, .attr = &first};
    struct put p = {.s = s, .op = op, .req = &make};
    int r = sftp_no_xattrs(op, req->attr, req->key);
    if (r == 0 && attr.kind == ATTR_SYMLINK)
        r = err_set(&op->err, EINVAL, "%s: a symbolic link is not uploaded in parts", req->key);
    if (r == 0)
        r = sftp_path(s, op, req->key, &path);
    if (r == 0)
        r = sftp_take(s, op, false, &p.c);
    if (r < 0)
        return r;
    temp_name_make_upload(name);
    p.path = path;
    p.temp = temp = sftp_temp_path(path, name);
    r = sftp_put_make(&p);
    if (r < 0)
        sftp_put_drop(&p);
    sftp_give(s, p.c, false);
    if (r == 0)
        *ret_id = make_id(name, &attr, p.made_attr.flags & WIRE_EXACT ? p.made_attr.inode : 0);
    return r;
}

struct part_source { /* by offsets of the object; reads go on where the last one ended */
    struct source base;
    const struct source *src;
    uint64_t offset;
    uint64_t read;
    uint32_t crc; /* of what was read */
};

static int part_read_at(const struct source *source, uint64_t off, void *buf, size_t len)
{
    struct part_source *p = (struct part_source *)(uintptr_t)source;
    int r = p->src->read_at(p->src, off - p->offset, buf, len);
    if (r == 0) {
        p->crc = crc32c(p->crc, buf, len);
        p->read += len;
    }
    return r;
}

static int send_part(struct sftp *s, struct op *op, const char *key, const char *id, const struct upload *u,
                     const struct source *src, const struct store_part *part)
{
    struct part_source ps = {.base = {.read_at = part_read_at, .size = part->offset + part->size},
                             .src = src,
                             .offset = part->offset};
    struct patch_range range = {.offset = part->offset, .length = part->size};
    struct patch_req req = {.key = key, .src = &ps.base, .ranges = &range, .n_ranges = 1};
    struct far_patch p = {.path = u->temp, .req = &req, .hidden = true, .bytes_only = true};
    struct conn *c;
    p.before = (struct wire_attr){.flags = u->inode ? WIRE_EXACT : 0, .inode = u->inode};
    int r = sftp_take(s, op, true, &c);
    if (r < 0)
        return r;
    r = sftp_explain_write(c, op, key, c->far->patch(c, op, &p));
    if (r < 0 && ps.read > 0)
        note_torn(s, u->temp, part->offset, ps.read, ps.crc);
    sftp_give(s, c, true);
    return r == -ENOENT || r == -ESTALE ? no_upload(op, key, id) : r;
}

int sftp_upload_part(struct store *store, struct op *op, const char *key, const char *id,
                     const struct source *src, struct store_part *part)
{
    struct sftp *s = sftp_of(store);
    struct upload u = {.path = NULL};
    int r = find_upload(s, op, key, id, &u);
    if (r == 0)
        r = check_torn(s, op, &u, key, src, part);
    if (r == 0)
        r = send_part(s, op, key, id, &u, src, part);
    if (r == 0)
        snprintf(part->etag, sizeof(part->etag), "%llx-%llx", (unsigned long long)part->offset,
                 (unsigned long long)part->size);
    upload_done(&u);
    return r;
}

/* Are they what was sent? (The gate has seen that there is no gap.) */
static int check_parts(struct op *op, const char *key, const struct store_part *parts, size_t n, uint64_t *ret_size)
{
    for (size_t i = 0; i < n; i++) {
        unsigned long long offset, size;
        int end = -1;
        if (sscanf(parts[i].etag, "%16llx-%16llx%n", &offset, &size, &end) != 2 || parts[i].etag[end] != '\0' ||
            offset != parts[i].offset || size != parts[i].size)
            return err_set(&op->err, EINVAL, "%s: part %u is not the one that was uploaded", key, parts[i].number);
    }
    *ret_size = parts[n - 1].offset + parts[n - 1].size;
    return 0;
}

struct finishing {
    const struct upload *u;
    const char *key;
    uint64_t size;
};

static int judge_temp(void *arg, struct op *op, const struct wire_attr *w)
{
    const struct finishing *f = arg;
    if (f->u->inode && (w->flags & WIRE_EXACT) && w->inode != f->u->inode)
        return err_set(&op->err, ENOENT, "%s: another file is in the place of the upload", f->key);
    if (w->size < f->size)
        return err_set(&op->err, EIO, "%s: the server has %llu of the %llu bytes that were uploaded", f->key,
                       (unsigned long long)w->size, (unsigned long long)f->size);
    return 0;
}

/* Size, attributes, and both durable. */
static int complete(struct put *p, const struct upload *u, uint64_t size)
{
    struct finishing f = {.u = u, .key = p->req->key, .size = size};
    struct patch_range none = {0};
    struct patch_req req = {.key = p->req->key, .src = p->req->src, .ranges = &none, .new_size = size};
    struct far_patch patch = {
        .path = u->temp, .req = &req, .attr = &u->attr, .judge = judge_temp, .arg = &f, .hidden = true};
    int r = p->c->far->patch(p->c, p->op, &patch);
    p->made_attr = patch.after;
    return sftp_explain_write(p->c, p->op, p->req->key, r);
}

int sftp_upload_finish(struct store *store, struct op *op, const char *key, const char *id,
                       const struct store_part *parts, size_t n, const struct precond *pre,
                       struct attr *ret)
{
    struct sftp *s = sftp_of(store);
    CLEANUP_FREE char *dir = NULL;
    struct upload u = {.path = NULL};
    struct source_mem none = source_mem("", 0);
    struct put_req req = {.key = key, .src = &none.base, .attr = &u.attr, .precond = *pre};
    struct put p = {.s = s, .op = op, .req = &req};
    uint64_t size = 0;
    int r = check_parts(op, key, parts, n, &size);
    if (r == 0)
        r = find_upload(s, op, key, id, &u);
    if (r == 0)
        r = check_behind(s, op, &u, key, size);
    if (r == 0)
        r = sftp_take(s, op, false, &p.c);
    if (r == 0) {
        p.path = u.path;
        p.temp = u.temp;
        p.dir = dir = sftp_parent(u.path);
        r = sftp_put_look(&p);
        if (r == 0)
            r = complete(&p, &u, size);
        if (r == -ENOENT)
            r = no_upload(op, key, id);
        if (r == 0)
            r = sftp_put_commit(&p);
        sftp_give(s, p.c, false);
    }
    if (r == 0) {
        forget_torn(s, u.temp);
        sftp_attr_of(s, key, &p.made_attr, ret);
    }
    upload_done(&u);
    return r;
}

int sftp_upload_abort(struct store *store, struct op *op, const char *key, const char *id)
{
    struct sftp *s = sftp_of(store);
    struct upload u = {.path = NULL};
    struct conn *c = NULL;
    int r = find_upload(s, op, key, id, &u);
    if (r < 0) {
        upload_done(&u);
        return r;
    }
    r = sftp_take(s, op, false, &c);
    if (r == 0) {
        r = far_remove(c, op, u.temp, key);
        sftp_give(s, c, false);
    }
    forget_torn(s, u.temp);
    if (r < 0 && r != -ENOENT)
        sftp_orphan(s, u.temp);
    upload_done(&u);
    return r;
}
