/* SPDX-License-Identifier: MIT
 * suite_between.c: copies from one store to another by the service that holds both. */
#include "tests/contract/suite.h"

struct between {
    struct suite from, to;
};

static int copy(struct between *b, const char *from, const char *version, const char *to, const struct precond *pre)
{
    struct suite *s = &b->to;
    CLEANUP_ATTR struct attr got = ATTR_INIT, seen = ATTR_INIT;
    CLEANUP_FREE char *source = xstrdup(K(&b->from, from)), *target = xstrdup(K(s, to));
    int r = store_copy_from(s->store, &s->op, b->from.store, source, version, target, pre, &got);
    if (r < 0)
        return r;
    OK(store_stat(s->store, &s->op, target, &seen));
    CHECK_STR(got.version, seen.version);
    CHECK_INT(got.size, seen.size);
    return 0;
}

static void copies(struct between *b)
{
    struct suite *s = &b->to;
    struct attr mode = {.kind = ATTR_FILE, .known = ATTR_HAS_MODE, .mode = 0620};
    CLEANUP_ATTR struct attr old = ATTR_INIT, made = ATTR_INIT;
    put_text(s, "from", "of the target's store", NULL); /* the name means another object there */
    OK(put_bytes(&b->from, "from", "content", 7, has(s, CAP_SET_META) ? &mode : NULL, NULL, &old));
    OK(copy(b, "from", NULL, "to", NULL));
    check_text(s, "to", "content");
    check_text(s, "from", "of the target's store");
    check_text(&b->from, "from", "content");
    check_gone(&b->from, "to");
    OK(stat_key(s, "to", &made));
    if (has(s, CAP_SET_META))
        CHECK_INT(made.mode, 0620);
    OK(copy(b, "from", old.version, "from", NULL)); /* replaces */
    check_text(s, "from", "content");
    put_text(&b->from, "from", "changed", NULL);
    check_text(s, "to", "content");
    FAILS(copy(b, "from", old.version, "to", NULL), ESTALE);
    check_text(s, "to", "content");
    FAILS(copy(b, "to", NULL, "to", NULL), ENOENT); /* only the target's store has that */
    check_text(s, "to", "content");
    put_text(&b->from, "empty", "", NULL);
    OK(copy(b, "empty", NULL, "to", NULL));
    check_text(s, "to", "");
    put_text(&b->from, "odd 'a+b%41?\xc3\xbc&/#x y", "odd", NULL);
    OK(copy(b, "odd 'a+b%41?\xc3\xbc&/#x y", NULL, "as odd %20+/\xc3\xbc?", NULL));
    check_text(s, "as odd %20+/\xc3\xbc?", "odd");
}

static void conditions(struct between *b)
{
    struct suite *s = &b->to;
    struct precond absent = {.if_absent = true}, wrong = {.if_match = "0-0-0-0"}, right = {0};
    CLEANUP_ATTR struct attr is = ATTR_INIT;
    put_text(&b->from, "cc", "content", NULL);
    put_text(s, "there", "old", &is);
    int r = copy(b, "cc", NULL, "there", &absent);
    CHECK(r == -EEXIST || r == -ENOTSUP);
    r = copy(b, "cc", NULL, "there", &wrong);
    CHECK(r == -ESTALE || r == -ENOTSUP);
    check_text(s, "there", "old");
    r = copy(b, "cc", NULL, "new", &absent);
    CHECK(r == 0 || r == -ENOTSUP);
    if (r == 0)
        check_text(s, "new", "content");
    else
        check_gone(s, "new");
    right.if_match = is.version;
    r = copy(b, "cc", NULL, "there", &right);
    CHECK(r == 0 || r == -ENOTSUP);
    check_text(s, "there", r == 0 ? "content" : "old");
}

/* The same section with another server, which is never asked. */
static char *elsewhere(const char *text)
{
    const char *at = strstr(text, "endpoint_url = ");
    CHECK(at);
    return xasprintf("%.*sendpoint_url = http://127.0.0.1:9%s", (int)(at - text), text, at + strcspn(at, "\n"));
}

static void suite_apart(const char *label, const char *text)
{
    CLEANUP_FREE char *other = elsewhere(text);
    struct suite to = {.store = open_store(text, NULL), .label = label}, *s = &to;
    struct store *from = open_store(other, NULL);
    CLEANUP_ATTR struct attr a = ATTR_INIT;
    op_init(&s->op, "suite", 0);
    CHECK(!store_copies_from(s->store, from) && !store_copies_from(from, s->store));
    FAILS(store_copy_from(s->store, &s->op, from, "from", NULL, "to", NULL, &a), EXDEV);
    FAILS(store_copy_from(from, &s->op, s->store, "from", NULL, "to", NULL, &a), EXDEV);
    store_close(from);
    suite_done(s);
}

void suite_between(const char *label, const char *text, const char *other)
{
    struct between b, back;
    suite_init(&b.to, label, open_store(text, NULL));
    suite_init(&b.from, label, open_store(other, NULL));
    CHECK(store_copies_from(b.to.store, b.from.store) && store_copies_from(b.from.store, b.to.store));
    suite_begin(&b.to, "between");
    suite_begin(&b.from, "between");
    copies(&b);
    conditions(&b);
    back = (struct between){.from = b.to, .to = b.from};
    suite_begin(&back.to, "back");
    suite_begin(&back.from, "back");
    copies(&back);
    suite_clear(&b.to);
    suite_clear(&b.from);
    suite_done(&b.to);
    suite_done(&b.from);
    suite_apart(label, text);
}
