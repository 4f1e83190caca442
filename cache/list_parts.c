/* SPDX-License-Identifier: MIT
 * list_parts.c: see list_parts.h.
 * Invariants: (1) parts are in order, and the end of each is the `from` of the next or before it; only the last
 * has no end; (2) a part that is LIST_PART_PAGE holds nothing outside of it; (3) asked counts the parts of that state
 * in the row and the dead ones. */
#include "cache/list_parts.h"

#include "base/cleanup.h"
#include "base/name.h"
#include "cache/listing.h"

#include <string.h>

#define PAGE_PART 0.96     /* of a page: a part a little shorter than it costs one request */
#define PAGES_MAX 6        /* in a part */
#define PAGES_FROM 24      /* pages before parts of several */
#define SHORT_MIN 48       /* entries asked for at least */
#define SAMPLE_MIN 100     /* entries that tell how dense names are */
#define REST_PAGES 8       /* without cuts after bad ones */

/* ---- parts ---- */

static struct list_part *part_new(const char *from, bool dir, const char *end)
{
    struct list_part *t = xcalloc(1, sizeof(*t));
    t->state = LIST_PART_OPEN;
    t->from = (struct list_name){.name = from ? xstrdup(from) : NULL, .dir = dir};
    t->end = end ? xstrdup(end) : NULL;
    return t;
}

static void part_free(struct list_part *t)
{
    free(t->from.name);
    free(t->end);
    free(t->cursor);
    list_page_done(&t->page);
    free(t);
}

/* Out of the row; one that is being asked for lives on until its answer. */
static void part_drop(struct list_parts *p, struct list_part *t)
{
    p->waiting -= t->state == LIST_PART_PAGE;
    t->dead = t->state == LIST_PART_ASKED;
    if (!t->dead)
        part_free(t);
}

static void drop_behind(struct list_parts *p, struct list_part **at)
{
    while (*at) {
        struct list_part *t = *at;
        *at = t->next;
        part_drop(p, t);
    }
}

void list_parts_init(struct list_parts *p, const char *dir, unsigned limit, const char *after,
                     bool after_dir)
{
    *p = (struct list_parts){.dir = xstrdup(dir), .limit = limit, .mended = !after};
    p->split = limit > 1 ? xcalloc(1, sizeof(*p->split)) : NULL;
    p->first = part_new(after, after_dir, NULL);
}

void list_parts_done(struct list_parts *p)
{
    drop_behind(p, &p->first);
    free(p->dir);
    free(p->split);
    free(p->low);
    free(p->high);
    free(p->resume);
}

/* ---- asking ---- */

static double pages_wanted(const struct list_parts *p)
{
    size_t n = p->arrived / PAGES_FROM;
    return n < 1 ? 1 : n > PAGES_MAX ? PAGES_MAX : (double)n;
}

/* Cuts the part, which is open, when more than it should have is left in it. */
static void cut(struct list_parts *p, struct list_part *t)
{
    if (!p->split || !p->low || !t->from.name || p->arrived < p->no_cut_until)
        return;
    double pages = pages_wanted(p);
    double left = t->end ? list_split_ratio(p->split, p->low, p->high, t->from.name, t->end) : -1;
    if (t->end && left >= 0 && left < 1.5 * pages)
        return;
    CLEANUP_FREE char *at = list_split_point(p->split, p->low, p->high, t->from.name, t->end,
                                             pages * PAGE_PART);
    if (!at || listing_compare(t->from.name, t->from.dir, at, false) >= 0)
        return;
    struct list_part *rest = part_new(at, false, t->end);
    rest->cut = true;
    rest->next = t->next;
    t->next = rest;
    free(t->end);
    t->end = take_ptr(&at);
}

/* The last piece of a part is asked for by number, so that little behind its end is listed twice. */
static unsigned entries_wanted(const struct list_parts *p, const struct list_part *t)
{
    if (!p->split || !p->low || !t->end || !t->from.name || t->tried)
        return 0;
    double left = list_split_ratio(p->split, p->low, p->high, t->from.name, t->end);
    double n = left * (double)p->between;
    if (left < 0 || n > (double)p->between / 2)
        return 0;
    return (unsigned)(n * 1.5) + SHORT_MIN;
}

static unsigned limit_now(const struct list_parts *p)
{
    size_t grown = p->arrived + 2; /* one page is no reason to ask for ten */
    return p->arrived == 0 ? 1 : grown < p->limit ? (unsigned)grown : p->limit;
}

static unsigned window(const struct list_parts *p)
{
    return p->limit > 1 ? LIST_PARTS_WINDOW : 2;
}

struct list_part *list_parts_ask(struct list_parts *p, bool now)
{
    struct list_part *t = p->first;
    if (now ? !t || t->state != LIST_PART_OPEN
            : p->asked >= limit_now(p) || p->asked + p->waiting >= window(p))
        return NULL;
    while (t && t->state != LIST_PART_OPEN)
        t = t->next;
    if (!t)
        return NULL;
    cut(p, t);
    t->max = entries_wanted(p, t);
    t->state = LIST_PART_ASKED;
    p->asked++;
    return t;
}

struct list_query list_parts_query(const struct list_part *part, const char *prefix, char **after)
{
    *after = part->cursor || !part->from.name
                 ? NULL
                 : xasprintf("%s%s%s", prefix, part->from.name, part->from.dir ? "/" : "");
    return (struct list_query){
        .prefix = prefix, .cursor = part->cursor, .after = *after, .max = part->max};
}

/* ---- answers ---- */

static const char *name_in(const struct list_parts *p, const struct list_entry *e)
{
    return path_rest(e->key, p->dir);
}

static void entry_done(struct list_entry *e)
{
    free(e->key);
    attr_done(&e->attr);
}

/* Leaves out what is not of this directory: a class that breaks its contract. */
static void sift(const struct list_parts *p, struct list_page *page)
{
    size_t kept = 0;
    for (size_t i = 0; i < page->count; i++) {
        struct list_entry *e = &page->entries[i];
        if (!path_below(e->key, p->dir) || strchr(name_in(p, e), '/'))
            entry_done(e);
        else
            page->entries[kept++] = *e;
    }
    page->count = kept;
}

static bool is_ordered(const struct list_parts *p, const struct list_part *t,
                       const struct list_page *page)
{
    const char *before = t->from.name;
    bool before_dir = t->from.dir;
    for (size_t i = 0; i < page->count; i++) {
        const struct list_entry *e = &page->entries[i];
        bool dir = e->attr.kind == ATTR_DIR;
        if (before && listing_compare(before, before_dir, name_in(p, e), dir) >= 0)
            return false;
        before = name_in(p, e);
        before_dir = dir;
    }
    return !page->unordered;
}

static void learn(struct list_parts *p, const struct list_page *page)
{
    p->arrived++;
    if (!p->split)
        return;
    for (size_t i = 0; i < page->count; i++)
        list_split_note(p->split, name_in(p, &page->entries[i]));
    if (page->count < SAMPLE_MIN && (p->low || page->count < 2))
        return;
    free(p->low);
    free(p->high);
    p->low = xstrdup(name_in(p, &page->entries[0]));
    p->high = xstrdup(name_in(p, &page->entries[page->count - 1]));
    p->between = page->count;
}

/* Guesses are worth it as long as they do not cost the server half as much again. */
static void judge(struct list_parts *p, size_t useful, size_t wasted)
{
    p->useful += useful;
    p->wasted += wasted;
    if (p->wasted > p->useful / 2 + 2 * p->between) {
        p->no_cut_until = p->arrived + REST_PAGES;
        p->useful = p->wasted = 0;
    } else if (p->useful > 32 * p->between) {
        p->useful /= 2;
        p->wasted /= 2;
    }
}

/* Cuts off what is behind the end of the part. True: the part is whole with it. */
static bool trim(const struct list_parts *p, const struct list_part *t, struct list_page *page)
{
    size_t n = page->count;
    if (!t->end)
        return false;
    while (n) {
        struct list_entry *e = &page->entries[n - 1];
        if (listing_compare(name_in(p, e), e->attr.kind == ATTR_DIR, t->end, false) <= 0)
            break;
        entry_done(e);
        n--;
    }
    bool beyond = n < page->count;
    page->count = n;
    return beyond;
}

/* The store does not list as we thought: goes on, page by page, from where nothing is amiss. */
static void go_serial(struct list_parts *p)
{
    p->unordered = true;
    free(p->split);
    p->split = NULL;
    p->limit = 1;
    p->broken = !p->mended;
    drop_behind(p, &p->first);
    if (p->broken)
        return;
    p->first = part_new(NULL, false, NULL);
    p->first->cursor = p->resume ? xstrdup(p->resume) : NULL;
}

/* What is left of the part behind the page becomes a part of its own. */
static void leave_rest(struct list_parts *p, struct list_part *t, struct list_page *page)
{
    const struct list_entry *e = page->count ? &page->entries[page->count - 1] : NULL;
    struct list_part *rest = e ? part_new(name_in(p, e), e->attr.kind == ATTR_DIR, t->end)
                               : part_new(t->from.name, t->from.dir, t->end);
    rest->cursor = xstrdup(page->cursor);
    rest->cut = t->cut;
    rest->tried = t->max != 0;
    rest->next = t->next;
    t->next = rest;
}

void list_parts_answer(struct list_parts *p, struct list_part *part, struct list_page *page)
{
    p->asked--;
    if (part->dead) {
        list_page_done(page);
        part_free(part);
        return;
    }
    sift(p, page);
    if (p->split && !is_ordered(p, part, page)) {
        part->state = LIST_PART_OPEN;
        list_page_done(page);
        go_serial(p);
        return;
    }
    learn(p, page);
    size_t listed = page->count;
    bool whole = trim(p, part, page);
    judge(p, page->count, listed - page->count);
    if (!page->cursor && !whole)
        drop_behind(p, &part->next);
    else if (!whole)
        leave_rest(p, part, page);
    part->page = *page;
    part->state = LIST_PART_PAGE;
    *page = LIST_PAGE_INIT;
    p->waiting++;
}

void list_parts_failed(struct list_parts *p, struct list_part *part)
{
    p->asked--;
    if (part->dead)
        part_free(part);
    else
        part->state = LIST_PART_OPEN;
}

enum list_parts_answer list_parts_take(struct list_parts *p, struct list_page *ret, uint64_t *ret_ns)
{
    struct list_part *t = p->first;
    if (p->broken)
        return LIST_PARTS_BROKEN;
    if (!t)
        return LIST_PARTS_END;
    if (t->state != LIST_PART_PAGE)
        return t->state == LIST_PART_ASKED ? LIST_PARTS_WAIT : LIST_PARTS_ASK;
    p->mended = p->mended && !t->cut && !t->end;
    free(p->resume);
    p->resume = t->page.cursor ? xstrdup(t->page.cursor) : NULL;
    *ret = t->page;
    *ret_ns = t->asked_ns;
    t->page = LIST_PAGE_INIT;
    p->first = t->next;
    p->waiting--;
    part_free(t);
    return LIST_PARTS_TAKEN;
}

bool list_parts_ready(const struct list_parts *p)
{
    return p->broken || !p->first || p->first->state == LIST_PART_PAGE;
}

bool list_parts_is_end(const struct list_parts *p)
{
    return !p->broken && !p->first;
}
