/* SPDX-License-Identifier: MIT
 * api_rate.c: see api_rate.h. The bucket is one time: `empty_ns` moves on by each_ns with every token; the
 * tokens there are (now - empty_ns) / each_ns, and a time in the future is what was borrowed. */
#include "backends/api/api_rate.h"

#include "base/clock.h"

#include <stdlib.h>
#include <string.h>

bool api_rate_parse(const char *text, struct api_rate *ret)
{
    static const struct {
        const char *name;
        uint64_t s;
    } units[] = {{"", 1},   {"s", 1},     {"sec", 1},    {"m", 60},    {"min", 60},
                 {"h", 3600}, {"hour", 3600}, {"d", 86400}, {"day", 86400}};
    char *end;
    *ret = (struct api_rate){0};
    if (!*text)
        return true;
    if (*text < '0' || *text > '9')
        return false;
    uint64_t n = strtoull(text, &end, 10);
    const char *unit = *end == '/' ? end + 1 : end;
    if (n < 1 || n > 1000000 || (*end && *end != '/') || (*end == '/' && !*unit))
        return false;
    for (unsigned i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (strcmp(units[i].name, unit) != 0)
            continue;
        ret->burst = n / 4 ? n / 4 : 1;
        ret->each_ns = units[i].s * NS_PER_S / (n > ret->burst ? n - ret->burst : 1);
        return true;
    }
    return false;
}

uint64_t api_rate_take(struct api_rate *r, uint64_t now_ns)
{
    uint64_t at = now_ns;
    if (r->each_ns) {
        uint64_t full = r->burst * r->each_ns;
        if (now_ns > full && r->empty_ns < now_ns - full)
            r->empty_ns = now_ns - full; /* the bucket holds no more */
        r->empty_ns += r->each_ns;
        at = r->empty_ns > now_ns ? r->empty_ns : now_ns;
    }
    if (at < r->closed_until_ns)
        at = r->closed_until_ns;
    return at - now_ns;
}

void api_rate_close(struct api_rate *r, uint64_t until_ns)
{
    if (until_ns > r->closed_until_ns)
        r->closed_until_ns = until_ns;
}
