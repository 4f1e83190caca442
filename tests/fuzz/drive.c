/* SPDX-License-Identifier: MIT
 * drive.c: see drive.h. */
#include "tests/fuzz/drive.h"

#include "base/log.h"

#include <stdlib.h>
#include <unistd.h>

#define PAGES 4

struct run {
    struct store *s;
    struct op op;
    struct attr known; /* of the last stat */
};

static void check_page(const struct list_page *p)
{
    for (size_t i = 0; i < p->count; i++)
        if (!p->entries[i].key || !*p->entries[i].key)
            abort();
    if (p->cursor && !*p->cursor)
        abort();
}

static void list(struct run *x, bool recursive)
{
    CLEANUP_FREE char *cursor = NULL;
    for (int i = 0; i < PAGES; i++) {
        struct list_page page = LIST_PAGE_INIT;
        struct list_query q = {.prefix = recursive ? "" : "d/", .recursive = recursive, .cursor = cursor};
        bool more = store_list(x->s, &x->op, &q, &page) == 0 && page.cursor;
        check_page(&page);
        free(cursor);
        cursor = more ? xstrdup(page.cursor) : NULL;
        list_page_done(&page);
        if (!more)
            return;
    }
}

static void read_some(struct run *x, uint64_t offset)
{
    char room[512];
    struct read_res res = READ_RES_INIT;
    struct read_req q = {.key = "d/f", .version = x->known.version[0] ? x->known.version : NULL,
                         .offset = offset, .iov = {room, sizeof(room)}};
    if (store_read(x->s, &x->op, &q, &res) == 0 && res.length > sizeof(room))
        abort();
    read_res_done(&res);
}

static void put(struct run *x, struct precond pre)
{
    struct source_mem src = source_mem("content", 7);
    CLEANUP_ATTR struct attr a = ATTR_INIT, ret = ATTR_INIT;
    a.kind = ATTR_FILE;
    struct put_req q = {.key = "d/f", .src = &src.base, .attr = &a, .precond = pre};
    (void)store_put(x->s, &x->op, &q, &ret);
}

static void upload(struct run *x, bool abandon)
{
    struct source_mem src = source_mem("content", 7);
    CLEANUP_ATTR struct attr a = ATTR_INIT, ret = ATTR_INIT;
    struct store_part parts[2] = {{.number = 1, .size = 7}, {.number = 2, .offset = 7, .size = 7}};
    struct precond pre = {0};
    char *id = NULL;
    a.kind = ATTR_FILE;
    struct upload_req q = {.key = "d/f", .attr = &a};
    if (store_upload_begin(x->s, &x->op, &q, &id) < 0)
        return;
    int r = store_upload_part(x->s, &x->op, "d/f", id, &src.base, &parts[0]);
    if (r == 0)
        r = store_upload_copy_part(x->s, &x->op, "d/f", id, "d/g", x->known.version, 0, &parts[1]);
    if (abandon || r < 0)
        (void)store_upload_abort(x->s, &x->op, "d/f", id);
    else
        (void)store_upload_finish(x->s, &x->op, "d/f", id, parts, 2, &pre, &ret);
    free(id);
}

static void change(struct run *x)
{
    CLEANUP_ATTR struct attr a = ATTR_INIT, ret = ATTR_INIT;
    a.known = ATTR_HAS_MODE;
    a.mode = 0600;
    (void)store_set_meta(x->s, &x->op, "d/f", NULL, &a, &ret);
}

static void remove_some(struct run *x)
{
    const char *const keys[] = {"d/f", "d/g", "d/h"};
    struct remove_result results[3] = {{0}};
    (void)store_remove_many(x->s, &x->op, keys, 3, results);
}

static void copy(struct run *x)
{
    CLEANUP_ATTR struct attr ret = ATTR_INIT;
    struct precond pre = {0};
    (void)store_copy(x->s, &x->op, "d/f", x->known.version, "d/g", &pre, &ret);
}

static void tags(struct run *x)
{
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    if (store_get_tags(x->s, &x->op, "d/f", &a) == 0)
        (void)store_set_tags(x->s, &x->op, "d/f", &a);
}

static void probe(struct run *x)
{
    CLEANUP_BUF struct buf text = BUF_INIT;
    (void)store_probe(x->s, &x->op, &text);
}

static void operate(struct run *x, char letter)
{
    CLEANUP_ATTR struct attr dir = ATTR_INIT;
    switch (letter) {
    case 's':
        attr_done(&x->known);
        x->known = ATTR_INIT;
        (void)store_stat(x->s, &x->op, "d/f", &x->known);
        break;
    case 'l': list(x, false); break;
    case 'L': list(x, true); break;
    case 'r': read_some(x, 0); break;
    case 'R': read_some(x, 300); break;
    case 'p': put(x, (struct precond){0}); break;
    case 'P': put(x, (struct precond){.if_absent = true}); break;
    case 'q': put(x, (struct precond){.if_match = "v1"}); break;
    case 'u': upload(x, false); break;
    case 'a': upload(x, true); break;
    case 'm': change(x); break;
    case 'd': (void)store_remove(x->s, &x->op, "d/f", NULL); break;
    case 'D': remove_some(x); break;
    case 'c': copy(x); break;
    case 't': tags(x); break;
    case 'k':
        dir.kind = ATTR_DIR;
        (void)store_make_dir(x->s, &x->op, "d/e", &dir);
        break;
    case 'K': (void)store_remove_dir(x->s, &x->op, "d/e"); break;
    case 'b': probe(x); break;
    default: break;
    }
}

/* What the machine is configured with says nothing here. */
static void be_alone(void)
{
    static const char *const names[] = {"AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_ROLE_ARN", "AWS_SECRET_ACCESS_KEY",
                                        "AWS_SESSION_TOKEN", "AWS_CONTAINER_CREDENTIALS_FULL_URI",
                                        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "GOOGLE_APPLICATION_CREDENTIALS"};
    static bool alone;
    if (alone)
        return;
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        unsetenv(names[i]);
    setenv("HOME", "/nonexistent", 1);
    log_set_level(LOG_LEVEL_ERROR);
    alone = true;
}

struct store *drive_open(const struct store_class *cls, const char *config)
{
    be_alone();
    struct conf *c = NULL;
    struct err e = ERR_INIT;
    struct store *s = NULL;
    CLEANUP_FREE char *text = xasprintf("[store fuzz]\n%s\n", config);
    const struct conf_option *tables[] = {cls->options};
    size_t counts[] = {cls->n_options};
    if (conf_parse("fuzz.conf", text, &e, &c) < 0 ||
        conf_check(conf_find(c, "store", "fuzz"), tables, counts, 1, &e) < 0 ||
        cls->open(conf_find(c, "store", "fuzz"), NULL, &e, &s) < 0) {
        (void)dprintf(2, "%s\n", err_text(&e));
        abort();
    }
    conf_free(c);
    return s;
}

void drive(struct store *s, const char *letters, size_t n)
{
    struct run x = {.s = s, .known = ATTR_INIT};
    for (size_t i = 0; i < n; i++) {
        op_init(&x.op, "fuzz", 0);
        operate(&x, letters[i]);
    }
    attr_done(&x.known);
}
