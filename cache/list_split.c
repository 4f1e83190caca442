/* SPDX-License-Identifier: MIT
 * list_split.c: see list_split.h.
 * A name is a row of digits, most significant first; the digit 0 means that the name has ended, where names
 * do. Positions at which only one digit is possible pass carries on. */
#include "cache/list_split.h"

#include "base/buf.h"
#include "base/cleanup.h"

#include <string.h>

#define BEHIND 8   /* positions looked at behind the first one in which the two names differ */
#define PARTS 1024 /* `times` is counted in these */

enum { DIGIT = 1, HEX_LOWER = 2, HEX_UPPER = 4, LOWER = 8, UPPER = 16, OTHER = 32 };

struct alphabet {
    unsigned char bytes[256]; /* in order */
    unsigned n;
    bool ends;
};

/* The frame in which names are numbers. */
struct frame {
    struct alphabet at[LIST_SPLIT_POSITIONS];
    unsigned n;
};

struct digits {
    unsigned v[LIST_SPLIT_POSITIONS];
};

static void add(uint32_t set[8], unsigned c)
{
    set[c / 32] |= 1U << (c % 32);
}

static void add_range(uint32_t set[8], unsigned from, unsigned to)
{
    for (unsigned c = from; c <= to; c++)
        add(set, c);
}

void list_split_note(struct list_split *s, const char *name)
{
    for (unsigned i = 0; i < LIST_SPLIT_POSITIONS; i++) {
        if (!name[i]) {
            s->at[i].ends = true;
            return;
        }
        add(s->at[i].seen, (unsigned char)name[i]);
    }
}

/* ---- alphabets ---- */

static unsigned kind_of(unsigned c)
{
    if (c >= '0' && c <= '9')
        return DIGIT;
    if (c >= 'a' && c <= 'z')
        return c <= 'f' ? HEX_LOWER : LOWER;
    if (c >= 'A' && c <= 'Z')
        return c <= 'F' ? HEX_UPPER : UPPER;
    return OTHER;
}

static unsigned kinds_of(const uint32_t set[8])
{
    unsigned kinds = 0;
    for (unsigned w = 0; w < 8; w++)
        for (uint32_t left = set[w]; left; left &= left - 1)
            kinds |= kind_of(w * 32 + (unsigned)__builtin_ctz(left));
    if ((kinds & HEX_LOWER) && !(kinds & DIGIT))
        kinds |= LOWER;
    if ((kinds & HEX_UPPER) && !(kinds & DIGIT))
        kinds |= UPPER;
    return kinds;
}

/* Only digits so far, right before a position that has letters too: a number to a base above ten whose
 * small values come first. */
static unsigned widened(unsigned kinds, unsigned next)
{
    return kinds == DIGIT && (next & DIGIT) && !(next & OTHER) ? next : kinds;
}

static void make_alphabet(const struct list_split_position *p, unsigned kinds, struct alphabet *a)
{
    uint32_t set[8];
    memcpy(set, p->seen, sizeof(set));
    if (kinds & DIGIT)
        add_range(set, '0', '9');
    if (kinds & (HEX_LOWER | LOWER))
        add_range(set, 'a', kinds & LOWER ? 'z' : 'f');
    if (kinds & (HEX_UPPER | UPPER))
        add_range(set, 'A', kinds & UPPER ? 'Z' : 'F');
    a->n = 0;
    for (unsigned w = 0; w < 8; w++)
        for (uint32_t left = set[w]; left; left &= left - 1)
            a->bytes[a->n++] = (unsigned char)(w * 32 + (unsigned)__builtin_ctz(left));
    a->ends = p->ends;
}

static unsigned radix(const struct alphabet *a)
{
    return a->n + a->ends;
}

static unsigned common(const char *a, const char *b)
{
    unsigned n = 0;
    while (a[n] && a[n] == b[n])
        n++;
    return n;
}

/* Deep enough to tell first from last. False: they differ too late, or not at all. */
static bool make_frame(const struct list_split *s, const char *first, const char *last,
                       struct frame *f)
{
    unsigned same = common(first, last);
    if (first[same] == last[same] || same >= LIST_SPLIT_POSITIONS)
        return false;
    f->n = same + BEHIND < LIST_SPLIT_POSITIONS ? same + BEHIND : LIST_SPLIT_POSITIONS;
    unsigned next = 0;
    for (unsigned i = f->n; i-- > 0;) {
        next = widened(kinds_of(s->at[i].seen), next);
        make_alphabet(&s->at[i], next, &f->at[i]);
    }
    while (f->n && radix(&f->at[f->n - 1]) == 0) /* no name is so long */
        f->n--;
    return f->n > same;
}

/* ---- numbers ---- */

/* A byte that is not in the alphabet counts as the next one that is. */
static unsigned digit_of(const struct alphabet *a, unsigned char c)
{
    unsigned i = 0;
    if (!c)
        return 0;
    while (i < a->n && a->bytes[i] < c)
        i++;
    i += a->ends;
    return i < radix(a) ? i : radix(a) - 1;
}

static void to_digits(const struct frame *f, const char *name, struct digits *d)
{
    bool over = false;
    for (unsigned i = 0; i < f->n; i++) {
        d->v[i] = over ? 0 : digit_of(&f->at[i], (unsigned char)name[i]);
        over = over || !name[i];
    }
}

static bool subtract(const struct frame *f, const struct digits *a, const struct digits *b,
                     struct digits *ret)
{
    unsigned borrow = 0;
    for (unsigned i = f->n; i-- > 0;) {
        unsigned r = radix(&f->at[i]);
        unsigned take = b->v[i] + borrow;
        borrow = a->v[i] < take;
        ret->v[i] = a->v[i] + (borrow ? r : 0) - take;
    }
    return !borrow;
}

static bool add_digits(const struct frame *f, struct digits *a, const struct digits *b)
{
    unsigned carry = 0;
    for (unsigned i = f->n; i-- > 0;) {
        unsigned r = radix(&f->at[i]), sum = a->v[i] + b->v[i] + carry;
        carry = sum >= r;
        a->v[i] = carry ? sum - r : sum;
    }
    return !carry;
}

/* a * by / PARTS; what is too large on the way is not lost. */
static bool scale(const struct frame *f, struct digits *a, uint64_t by)
{
    uint64_t carry = 0;
    for (unsigned i = f->n; i-- > 0;) {
        uint64_t r = radix(&f->at[i]), x = a->v[i] * by + carry;
        a->v[i] = (unsigned)(x % r);
        carry = x / r;
    }
    uint64_t rest = carry % PARTS;
    for (unsigned i = 0; i < f->n; i++) {
        uint64_t x = rest * radix(&f->at[i]) + a->v[i];
        a->v[i] = (unsigned)(x / PARTS);
        rest = x % PARTS;
    }
    return carry < PARTS;
}

/* As a fraction of the whole frame, relative to the scale of the others. */
static double value(const struct frame *f, const struct digits *d, unsigned from)
{
    double v = 0, unit = 1;
    for (unsigned i = from; i < f->n; i++) {
        unit /= radix(&f->at[i]);
        v += d->v[i] * unit;
    }
    return v;
}

/* ---- names again ---- */

/* The length of the longest part from the start that is whole characters. */
static size_t whole_characters(const char *s)
{
    size_t n = 0;
    for (;;) {
        unsigned char c = (unsigned char)s[n];
        size_t more = c < 0x80 ? 0 : c >= 0xF0 ? 3 : c >= 0xE0 ? 2 : 1;
        unsigned char second = c ? (unsigned char)s[n + 1] : 0;
        if (!c || (c >= 0x80 && (c < 0xC2 || c > 0xF4)) || (c == 0xE0 && second < 0xA0) ||
            (c == 0xED && second > 0x9F) || (c == 0xF0 && second < 0x90) || (c == 0xF4 && second > 0x8F))
            return n;
        for (size_t i = 1; i <= more; i++)
            if (((unsigned char)s[n + i] & 0xC0) != 0x80)
                return n;
        n += 1 + more;
    }
}

static char *to_name(const struct frame *f, const struct digits *d)
{
    char *name = xcalloc(1, LIST_SPLIT_POSITIONS + 1);
    for (unsigned i = 0; i < f->n; i++) {
        const struct alphabet *a = &f->at[i];
        if (a->ends && d->v[i] == 0)
            break;
        name[i] = (char)a->bytes[d->v[i] - a->ends];
    }
    name[whole_characters(name)] = '\0';
    return name;
}

char *list_split_point(const struct list_split *s, const char *first, const char *last,
                       const char *from, const char *end, double times)
{
    struct frame f;
    struct digits low, high, step, at;
    if (times <= 0 || times > 1e6 || !make_frame(s, first, last, &f))
        return NULL;
    to_digits(&f, first, &low);
    to_digits(&f, last, &high);
    to_digits(&f, from, &at);
    if (!subtract(&f, &high, &low, &step) || !scale(&f, &step, (uint64_t)(times * PARTS) + 1) ||
        !add_digits(&f, &at, &step))
        return NULL;
    CLEANUP_FREE char *name = to_name(&f, &at);
    if (strcmp(name, from) <= 0 || (end && strcmp(name, end) >= 0))
        return NULL;
    return take_ptr(&name);
}

double list_split_ratio(const struct list_split *s, const char *first, const char *last,
                        const char *from, const char *end)
{
    struct frame f;
    struct digits a, b, step, rest;
    if (!make_frame(s, first, last, &f))
        return -1;
    to_digits(&f, first, &a);
    to_digits(&f, last, &b);
    bool sound = subtract(&f, &b, &a, &step);
    to_digits(&f, from, &a);
    to_digits(&f, end, &b);
    sound = sound && subtract(&f, &b, &a, &rest);
    unsigned lead = 0;
    while (lead < f.n && step.v[lead] == 0 && (!sound || rest.v[lead] == 0))
        lead++;
    double unit = value(&f, &step, lead);
    return sound && unit > 0 ? value(&f, &rest, lead) / unit : -1;
}
