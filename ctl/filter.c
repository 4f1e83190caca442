/* SPDX-License-Identifier: MIT
 * filter.c: see filter.h. */
#include "ctl/filter.h"

#include "base/buf.h"
#include "base/name.h"

#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

void filter_add(struct filter *f, const char *pattern, bool include)
{
    f->rules = xrealloc(f->rules, (f->n + 1) * sizeof(*f->rules));
    f->rules[f->n++] = (struct filter_rule){.pattern = pattern, .include = include};
    f->includes |= include;
}

static bool matches(const char *pattern, const char *path)
{
    const char *base = strrchr(path, '/');
    if (strchr(pattern, '/'))
        return path_glob(pattern + (pattern[0] == '/'), path);
    return fnmatch(pattern, base ? base + 1 : path, 0) == 0;
}

bool filter_wants(const struct filter *f, const char *path, bool dir)
{
    for (size_t i = 0; i < f->n; i++)
        if (matches(f->rules[i].pattern, path))
            return f->rules[i].include;
    return dir || !f->includes;
}

void filter_done(struct filter *f)
{
    free(f->rules);
    *f = (struct filter){0};
}
