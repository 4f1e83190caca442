/* SPDX-License-Identifier: MIT
 * t_csv.c: the CSV parser: cells, places, faults, at every split of the input. */
#include "t.h"

#include "base/buf.h"
#include "loader/csv_parse.h"
#include "loader/csv_write.h"

#include <errno.h>

struct slow { /* gives `step` bytes at a time */
    struct feed feed;
    const char *data;
    size_t len, at, step;
};

static int slow_read(struct feed *f, struct op *op, void *buf, size_t cap, size_t *ret_len)
{
    struct slow *s = (struct slow *)(void *)f;
    size_t n = s->len - s->at < s->step ? s->len - s->at : s->step;

    (void)op;
    if (n > cap)
        n = cap;
    memcpy(buf, s->data + s->at, n);
    s->at += n;
    *ret_len = n;
    return 0;
}

static const struct csv_dialect plain = {
    .delimiter = ',', .quote = '"', .escape = '"', .max_row = 1 << 20};

/* The rows as text: LINE@OFFSET[a|b|"c"] or LINE@OFFSET!error:ERROR_LINE */
static void parse(const struct csv_dialect *d, const char *data, size_t len, size_t step,
                  struct buf *out)
{
    struct slow s = {.feed = {slow_read}, .data = data, .len = len, .step = step};
    struct window w;
    struct csv c;
    struct csv_row row;
    struct op op;
    int r;

    op_init(&op, "t", 0);
    window_init(&w, &s.feed, 16);
    csv_init(&c, d, &w);
    while ((r = csv_next(&c, &op, &row)) == 1) {
        buf_addf(out, "%d@%d", (int)row.line, (int)row.offset);
        if (row.error) {
            buf_addf(out, "!%d:%d:%d ", (int)row.error, (int)row.error_line, (int)row.raw_len);
            continue;
        }
        if (row.error == CSV_GOOD && row.raw_len < CSV_KEEP)
            CHECK(memcmp(row.raw, data + row.offset, row.raw_len) == 0);
        buf_adds(out, row.blank ? "B[" : "[");
        for (size_t i = 0; i < row.n; i++) {
            buf_adds(out, i ? "|" : "");
            buf_adds(out, row.cells[i].quoted ? "'" : "");
            buf_add(out, row.cells[i].data, row.cells[i].len);
        }
        buf_adds(out, "] ");
    }
    CHECK_INT(r, 0);
    csv_done(&c);
    window_done(&w);
}

static void check_dialect(const struct csv_dialect *d, const char *text, size_t len,
                          const char *want)
{
    for (size_t step = 1; step <= 16; step++) {
        struct buf out = BUF_INIT;
        parse(d, text, len, step, &out);
        CHECK_STR(buf_str(&out), want);
        buf_done(&out);
    }
}

static void check(const char *text, const char *want)
{
    check_dialect(&plain, text, strlen(text), want);
}

static void test_cells(void)
{
    check("a,b\n1,2\n", "1@0[a|b] 2@4[1|2] ");
    check("a,b\r\n1,2\r\n", "1@0[a|b] 2@5[1|2] ");
    check("a,b\n1,2", "1@0[a|b] 2@4[1|2] ");
    check("", "");
    check("\n", "1@0B[] ");
    check("a\n\nb\n", "1@0[a] 2@2B[] 3@3[b] ");
    check(",\n", "1@0[|] ");
    check("\"\"\n", "1@0['] ");
    check("\xEF\xBB\xBFx,y\n", "1@3[x|y] ");
}

static void test_quotes(void)
{
    check("\"a,b\",c\n", "1@0['a,b|c] ");
    check("\"a\"\"b\"\n", "1@0['a\"b] ");
    check("\"\"\"\"\n", "1@0['\"] ");
    check("\"l1\nl2\",x\ny,z\n", "1@0['l1\nl2|x] 3@10[y|z] ");
    check("\"l1\r\nl2\"\r\ny\r\n", "1@0['l1\r\nl2] 3@10[y] ");
    check("ab\"c,d\"e,f\n", "1@0['abc,de|f] "); /* as COPY does */
    check("\"a\"b\n", "1@0['ab] ");
    check("\"a\"", "1@0['a] ");
}

static void test_escape(void)
{
    struct csv_dialect d = plain;

    d.escape = '\\';
    check_dialect(&d, "\"a\\\"b\",c\n", 9, "1@0['a\"b|c] ");
    check_dialect(&d, "\"a\\\\\",c\n", 8, "1@0['a\\|c] ");
    check_dialect(&d, "\"a\\n\",c\n", 8, "1@0['a\\n|c] ");
    check_dialect(&d, "a\\,b\n", 5, "1@0[a\\|b] ");
}

static void test_options(void)
{
    struct csv_dialect d = plain;

    d.delimiter = '\t';
    check_dialect(&d, "a,b\tc\n", 6, "1@0[a,b|c] ");
    d = plain;
    d.quote = d.escape = 0;
    check_dialect(&d, "\"a,b\"\n", 6, "1@0[\"a|b\"] ");
    d = plain;
    d.trim = true;
    check_dialect(&d, " a , \"b \" ,\tc\n", 14, "1@0[a|'b |c] ");
    d = plain;
    d.comment = '#';
    check_dialect(&d, "#x,\"\na\n#y\nb#\n#z", 15, "2@5[a] 4@10[b#] ");
}

static void test_faults(void)
{
    check("a,b\nc,\"d\ne,f\n", "1@0[a|b] 2@4!1:2:9 ");
    check("a\n\"x\ny\",\"z\n", "1@0[a] 2@2!1:3:9 "); /* opened on line 3 */
    check("a\nb\xFF"
          "c\nd\n",
          "1@0[a] 2@2!4:2:4 3@6[d] ");
    check("a\rb\nc\n", "1@0!5:1:4 2@4[c] ");
    check_dialect(&plain, "a,\0b\nc\n", 7, "1@0!3:1:5 2@5[c] ");
    check("\"x\ny\xC3\"\nz\n", "1@0!4:1:7 3@7[z] ");
}

static void test_too_long(void)
{
    struct csv_dialect d = plain;
    struct buf text = BUF_INIT, out = BUF_INIT;
    char want[100];

    d.max_row = 100000;
    buf_adds(&text, "a,b\n1,\"");
    for (int i = 0; i < 300000; i++)
        buf_addc(&text, i % 1000 ? 'x' : '\n');
    buf_adds(&text, "\"\n3,4\n");
    parse(&d, text.data, text.len, 5000, &out);
    (void)snprintf(want, sizeof(want), "1@0[a|b] 2@4!2:2:%d 303@300009[3|4] ", CSV_KEEP);
    CHECK_STR(buf_str(&out), want);
    buf_done(&text);
    buf_done(&out);
}

static void test_skip_lines(void)
{
    struct window w;
    struct csv c;
    struct csv_row row;
    struct op op;

    op_init(&op, "t", 0);
    window_init_memory(&w, "made by \"x\nsecond\na,b\n", 22);
    csv_init(&c, &plain, &w);
    CHECK_INT(csv_skip_lines(&c, &op, 2), 1);
    CHECK_INT(csv_next(&c, &op, &row), 1);
    CHECK_INT(row.line, 3);
    CHECK_INT(row.n, 2);
    CHECK_INT(csv_next(&c, &op, &row), 0);
    CHECK_INT(csv_skip_lines(&c, &op, 1), 0);
    csv_done(&c);
    window_done(&w);
}

/* What is written reads back the same. */
static void test_write(void)
{
    static const char *const texts[] = {"", "a", "a,b", "\"", "a\nb", "\\.", " x ", "NULL", "\r"};
    struct db_csv d = {.delimiter = ',', .quote = '"', .escape = '"', .null = ""};
    struct buf out = BUF_INIT;
    struct cell cells[10];
    struct window w;
    struct csv c;
    struct csv_row row;
    struct op op;

    for (size_t i = 0; i < 9; i++)
        cells[i] = (struct cell){CELL_TEXT, texts[i], strlen(texts[i])};
    cells[9] = (struct cell){CELL_NULL, "", 0};
    csv_write_row(&out, &d, cells, 10);
    op_init(&op, "t", 0);
    window_init_memory(&w, out.data, out.len);
    csv_init(&c, &plain, &w);
    CHECK_INT(csv_next(&c, &op, &row), 1);
    CHECK_INT(row.n, 10);
    for (size_t i = 0; i < 9; i++) {
        CHECK_INT(row.cells[i].len, strlen(texts[i]));
        CHECK(memcmp(row.cells[i].data, texts[i], row.cells[i].len) == 0);
    }
    CHECK(row.cells[0].quoted && !row.cells[9].quoted);
    CHECK(row.cells[5].quoted); /* \. alone would end a COPY */
    csv_done(&c);
    window_done(&w);
    buf_done(&out);
}

int main(void)
{
    RUN(test_cells);
    RUN(test_quotes);
    RUN(test_escape);
    RUN(test_options);
    RUN(test_faults);
    RUN(test_too_long);
    RUN(test_skip_lines);
    RUN(test_write);
    return t_done();
}
