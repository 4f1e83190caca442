/* SPDX-License-Identifier: MIT
 * Rows of a file that the loader reads: CSV in a few dialects, and JSON lines; the first byte says which, the second
 * how many bytes come at once. Whatever is in it, rows tell their place: each begins where the one before has ended. */
#include "tests/fuzz/fuzz.h"

#include "loader/csv_parse.h"
#include "loader/jsonl.h"

#include <stdlib.h>

struct drip {
    struct feed feed;
    const uint8_t *at, *end;
    size_t step;
};

static int drip_read(struct feed *f, struct op *op, void *buf, size_t cap, size_t *ret_len)
{
    struct drip *d = (struct drip *)(void *)f;
    size_t left = (size_t)(d->end - d->at), n = left < d->step ? left : d->step;
    (void)op;
    n = n < cap ? n : cap;
    if (n)
        memcpy(buf, d->at, n);
    d->at += n;
    *ret_len = n;
    return 0;
}

/* Reads every byte. */
static void touch(const char *p, size_t n)
{
    CLEANUP_FREE char *copy = xmalloc(n + 1);
    if (n)
        memcpy(copy, p, n);
    copy[n] = '\0';
}

static void check_place(uint64_t *seen, uint64_t offset)
{
    if (offset < *seen)
        abort();
    *seen = offset;
}

static void read_csv(const struct csv_dialect *dialect, struct window *w, struct op *op)
{
    struct csv c;
    struct csv_row row;
    uint64_t seen = 0;
    csv_init(&c, dialect, w);
    while (csv_next(&c, op, &row) == 1) {
        check_place(&seen, row.offset);
        touch(row.raw, row.raw_len < CSV_KEEP ? row.raw_len : CSV_KEEP);
        for (size_t i = 0; !row.error && i < row.n; i++)
            touch(row.cells[i].data, row.cells[i].len);
    }
    csv_done(&c);
}

static void read_jsonl(struct window *w, struct op *op)
{
    struct jsonl j;
    struct jsonl_row row;
    uint64_t seen = 0;
    jsonl_init(&j, 4096, w);
    while (jsonl_next(&j, op, &row) == 1) {
        check_place(&seen, row.offset);
        if (!row.error)
            touch(row.raw, row.raw_len);
        for (size_t i = 0; !row.error && i < row.n; i++)
            touch(row.members[i].name, row.members[i].name_len);
    }
    jsonl_done(&j);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct csv_dialect dialects[] = {
        {.delimiter = ',', .quote = '"', .escape = '"', .max_row = 4096},
        {.delimiter = '\t', .quote = 0, .comment = '#', .max_row = 4096},
        {.delimiter = ';', .quote = '\'', .escape = '\\', .comment = '#', .trim = true, .max_row = 64},
    };
    if (size < 2)
        return -1;
    struct drip d = {.feed = {drip_read}, .at = data + 2, .end = data + size, .step = data[1] ? data[1] : 4096};
    struct window w;
    struct op op;
    size_t kind = data[0] % (ARRAY_LEN(dialects) + 1);
    op_init(&op, "fuzz", 0);
    window_init(&w, &d.feed, 16);
    if (kind < ARRAY_LEN(dialects))
        read_csv(&dialects[kind], &w, &op);
    else
        read_jsonl(&w, &op);
    window_done(&w);
    return 0;
}
