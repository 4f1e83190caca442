/* SPDX-License-Identifier: MIT
 * suite_upload.c: multipart uploads. */
#include "tests/contract/suite.h"

enum { SEED = 3 };

static uint64_t part_size(const struct suite *s)
{
    uint64_t n = s->store->limits.part_min;
    return n > 4096 ? n : 4096;
}

static char *begin(struct suite *s, const char *name, const struct attr *attr)
{
    struct upload_req req = {.key = K(s, name), .attr = attr};
    char *id = NULL;
    OK(store_upload_begin(s->store, &s->op, &req, &id));
    CHECK(id && id[0]);
    return id;
}

struct slice { /* a part's piece of the generated object */
    struct source base;
    uint64_t offset;
};

static int slice_read(const struct source *src, uint64_t off, void *buf, size_t len)
{
    const struct slice *p = (const struct slice *)src;
    for (size_t i = 0; i < len; i++)
        ((unsigned char *)buf)[i] = pattern(p->offset + off + i, SEED);
    return 0;
}

/* The part at `offset`, with the content that the object has at `content`. */
static void send_other(struct suite *s, const char *name, const char *id, unsigned number, uint64_t offset,
                       uint64_t content, uint64_t size, struct store_part *ret)
{
    struct slice src = {.base = {.read_at = slice_read, .size = size}, .offset = content};
    *ret = (struct store_part){.number = number, .offset = offset, .size = size};
    OK(store_upload_part(s->store, &s->op, K(s, name), id, &src.base, ret));
    CHECK(ret->etag[0] != '\0');
}

static void send_part(struct suite *s, const char *name, const char *id, unsigned number,
                      uint64_t offset, uint64_t size, struct store_part *ret)
{
    send_other(s, name, id, number, offset, offset, size, ret);
}

static int finish(struct suite *s, const char *name, const char *id, const struct store_part *parts,
                  size_t n, const struct precond *pre)
{
    CLEANUP_ATTR struct attr a = ATTR_INIT, b = ATTR_INIT;
    uint64_t size = 0;
    int r = store_upload_finish(s->store, &s->op, K(s, name), id, parts, n, pre, &a);
    if (r < 0)
        return r;
    for (size_t i = 0; i < n; i++)
        size += parts[i].size;
    OK(stat_key(s, name, &b));
    CHECK_INT(b.size, size);
    CHECK_STR(a.version, b.version);
    return 0;
}

static void check_content(struct suite *s, const char *name, uint64_t size)
{
    CLEANUP_FREE unsigned char *buf = xmalloc((size_t)size + 1);
    CHECK_INT(read_at(s, name, NULL, 0, buf, (size_t)size + 1), size);
    check_pattern(buf, (size_t)size, 0, SEED);
}

static int abort_upload(struct suite *s, const char *name, const char *id)
{
    return store_upload_abort(s->store, &s->op, K(s, name), id);
}

static void whole(struct suite *s)
{
    uint64_t n = part_size(s);
    struct store_part parts[3];
    struct attr attr = {.kind = ATTR_FILE, .known = ATTR_HAS_MODE, .mode = 0640};
    CLEANUP_FREE char *id = begin(s, "whole", has(s, CAP_SET_META) ? &attr : NULL);
    send_part(s, "whole", id, 2, n, n, &parts[1]); /* in any order */
    send_other(s, "whole", id, 1, 0, 500, n, &parts[0]);
    send_part(s, "whole", id, 1, 0, n, &parts[0]); /* a number again: the later counts */
    send_part(s, "whole", id, 3, 2 * n, 100, &parts[2]);
    check_gone(s, "whole"); /* not before it is finished */
    OK(finish(s, "whole", id, parts, 3, NULL));
    check_content(s, "whole", 2 * n + 100);
    if (has(s, CAP_SET_META)) {
        CLEANUP_ATTR struct attr got = ATTR_INIT;
        OK(stat_key(s, "whole", &got));
        CHECK_INT(got.mode, 0640);
    }
    int r = finish(s, "whole", id, parts, 3, NULL); /* it is over; some stores repeat the answer */
    CHECK(r < 0 || r == 0);
    check_content(s, "whole", 2 * n + 100);
}

static void aborted(struct suite *s)
{
    struct store_part part;
    put_text(s, "aborted", "as before", NULL);
    CLEANUP_FREE char *id = begin(s, "aborted", NULL);
    send_part(s, "aborted", id, 1, 0, part_size(s), &part);
    OK(abort_upload(s, "aborted", id));
    check_text(s, "aborted", "as before");
    int r = finish(s, "aborted", id, &part, 1, NULL);
    CHECK(r < 0);
    check_text(s, "aborted", "as before");
    r = abort_upload(s, "aborted", id);
    CHECK(r == 0 || r == -ENOENT);
}

static void wrong_parts(struct suite *s)
{
    uint64_t n = part_size(s);
    struct store_part parts[2], bad[2];
    CLEANUP_FREE char *id = begin(s, "wrong", NULL);
    send_part(s, "wrong", id, 1, 0, n, &parts[0]);
    send_part(s, "wrong", id, 2, n, n, &parts[1]);
    bad[0] = parts[1];
    bad[1] = parts[0];
    FAILS(finish(s, "wrong", id, bad, 2, NULL), EINVAL); /* not in order */
    FAILS(finish(s, "wrong", id, parts, 0, NULL), EINVAL);
    FAILS(finish(s, "wrong", id, parts + 1, 1, NULL), EINVAL); /* with a gap */
    memcpy(bad, parts, sizeof(bad));
    snprintf(bad[0].etag, sizeof(bad[0].etag), "00000000000000000000000000000000");
    CHECK(finish(s, "wrong", id, bad, 2, NULL) < 0);
    check_gone(s, "wrong");
    struct source_mem src = source_mem("x", 1);
    struct store_part none = {.number = 0, .size = 1};
    FAILS(store_upload_part(s->store, &s->op, K(s, "wrong"), id, &src.base, &none), EFBIG);
    OK(abort_upload(s, "wrong", id));
}

static void conditional(struct suite *s)
{
    CLEANUP_ATTR struct attr old = ATTR_INIT;
    struct store_part part;
    struct precond absent = {.if_absent = true};
    put_text(s, "cond", "as before", &old);
    CLEANUP_FREE char *id = begin(s, "cond", NULL);
    send_part(s, "cond", id, 1, 0, 100, &part);
    FAILS(finish(s, "cond", id, &part, 1, &absent), EEXIST);
    check_text(s, "cond", "as before");
    (void)abort_upload(s, "cond", id);

    CLEANUP_FREE char *id2 = begin(s, "cond", NULL);
    struct precond match = {.if_match = old.version};
    send_part(s, "cond", id2, 1, 0, 100, &part);
    OK(finish(s, "cond", id2, &part, 1, &match));
    check_content(s, "cond", 100);

    CLEANUP_FREE char *id3 = begin(s, "cond", NULL);
    send_part(s, "cond", id3, 1, 0, 200, &part);
    FAILS(finish(s, "cond", id3, &part, 1, &match), ESTALE);
    check_content(s, "cond", 100);
    (void)abort_upload(s, "cond", id3);
}

/* An edit within a large object: the untouched parts are copied by the store. */
static void copied_parts(struct suite *s)
{
    uint64_t n = part_size(s);
    CLEANUP_FREE unsigned char *data = xmalloc(3 * n);
    CLEANUP_ATTR struct attr from = ATTR_INIT;
    for (uint64_t i = 0; i < 3 * n; i++)
        data[i] = pattern(i, SEED);
    memset(data + n, 'x', n);
    OK(put_bytes(s, "from", data, 3 * n, NULL, NULL, &from));

    struct store_part parts[3];
    CLEANUP_FREE char *id = begin(s, "copied", NULL), *src = xstrdup(K(s, "from"));
    for (unsigned i = 0; i < 3; i += 2) {
        parts[i] = (struct store_part){.number = i + 1, .offset = i * n, .size = n};
        OK(store_upload_copy_part(s->store, &s->op, K(s, "copied"), id, src, from.version, i * n,
                                  &parts[i]));
        CHECK(parts[i].etag[0]);
    }
    send_part(s, "copied", id, 2, n, n, &parts[1]);
    struct store_part stale = {.number = 4, .size = n};
    OK(put_bytes(s, "from", "changed", 7, NULL, NULL, NULL));
    FAILS(
        store_upload_copy_part(s->store, &s->op, K(s, "copied"), id, src, from.version, 0, &stale),
        ESTALE);
    OK(finish(s, "copied", id, parts, 3, NULL));
    check_content(s, "copied", 3 * n);
}

static void not_supported(struct suite *s)
{
    struct upload_req req = {.key = K(s, "x")};
    char *id = NULL;
    FAILS(store_upload_begin(s->store, &s->op, &req, &id), ENOTSUP);
    CHECK(!id);
}

void suite_upload(struct suite *s)
{
    suite_begin(s, "upload");
    if (!has(s, CAP_UPLOAD)) {
        not_supported(s);
        return;
    }
    whole(s);
    aborted(s);
    wrong_parts(s);
    if (has(s, CAP_IF_MATCH))
        conditional(s);
    if (has(s, CAP_COPY_PART))
        copied_parts(s);
}
