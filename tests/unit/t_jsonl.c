/* SPDX-License-Identifier: MIT
 * t_jsonl.c: JSON lines: exact numbers, strings, faults, and agreement with jansson on what is
 * JSON. */
#include "t.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "loader/csv_write.h"
#include "loader/jsonl.h"

#include <errno.h>
#include <jansson.h>

static struct op op;

/* The members as text: name=kind:value; or !error */
static void tell(struct window *w, struct buf *out)
{
    struct jsonl j;
    struct jsonl_row row;
    int r;

    jsonl_init(&j, 1000, w);
    while ((r = jsonl_next(&j, &op, &row)) == 1) {
        buf_addf(out, "%d@%d", (int)row.line, (int)row.offset);
        if (row.blank)
            buf_adds(out, "B");
        if (row.error)
            buf_addf(out, "!%d:%d", (int)row.error, (int)row.error_at);
        for (size_t i = 0; i < row.n; i++)
            buf_addf(out, " %.*s=%d:%.*s", (int)row.members[i].name_len, row.members[i].name,
                     (int)row.members[i].value.kind, (int)row.members[i].value.len,
                     row.members[i].value.data);
        buf_adds(out, ";");
    }
    CHECK_INT(r, 0);
    jsonl_done(&j);
    window_done(w);
}

static void parse(const char *text, size_t len, struct buf *out)
{
    struct window w;

    window_init_memory(&w, text, len);
    tell(&w, out);
}

struct pieces {
    struct feed feed;
    const struct buf *text;
    size_t at, step;
};

static int next_piece(struct feed *f, struct op *o, void *buf, size_t cap, size_t *ret_len)
{
    struct pieces *p = (struct pieces *)f;
    size_t left = p->text->len - p->at, n = cap < p->step ? cap : p->step;

    (void)o;
    *ret_len = n = n < left ? n : left;
    memcpy(buf, p->text->data + p->at, n);
    p->at += n;
    return 0;
}

/* As it comes from a file: `step` bytes at a time. */
static void parse_pieces(const struct buf *text, size_t step, struct buf *out)
{
    struct pieces p = {.feed = {next_piece}, .text = text, .step = step};
    struct window w;

    window_init(&w, &p.feed, step);
    tell(&w, out);
}

static void check(const char *text, const char *want)
{
    struct buf out = BUF_INIT;

    parse(text, strlen(text), &out);
    CHECK_STR(buf_str(&out), want);
    buf_done(&out);
}

static void test_values(void)
{
    check("{\"a\":1,\"b\":\"x\"}\n", "1@0 a=3:1 b=2:x;");
    check("{\"a\":9223372036854775807}", "1@0 a=3:9223372036854775807;");
    check("{\"a\":0.1000000000000000055511151231257827}\n",
          "1@0 a=3:0.1000000000000000055511151231257827;");
    check("{\"a\":123456789012345678901234567890}\n", "1@0 a=3:123456789012345678901234567890;");
    check("{\"a\":-1.5e+10 , \"b\" : true,\"c\":false,\"d\":null}\n",
          "1@0 a=3:-1.5e+10 b=4:true c=4:false d=1:null;");
    check("{\"a\":[1,{\"x\":\"}\"}], \"b\":{}}\n", "1@0 a=5:[1,{\"x\":\"}\"}] b=5:{};");
    check("{}\n\n  \n{\"z\":1}\r\n", "1@0;2@3B;3@4B;4@7 z=3:1;");
    check("\xEF\xBB\xBF{\"a\":1}\n", "1@3 a=3:1;");
}

static void test_strings(void)
{
    check("{\"a\":\"l\\n\\t\\\"\\\\\\/\\u00e9\\ud83d\\ude00\"}\n",
          "1@0 a=2:l\n\t\"\\/\xC3\xA9\xF0\x9F\x98\x80;");
    check("{\"\\u0061b\":\"\"}\n", "1@0 ab=2:;");
    check("{\"a\":\"\\u0000\"}\n", "1@0!3:12;");
    check("{\"a\":\"\\ud800\"}\n", "1@0!1:12;");
    check("{\"a\":\"\xFF\"}\n", "1@0!4:6;");
    check("{\"a\":\"\t\"}\n", "1@0!1:6;");
}

static void test_faults(void)
{
    check("{\"a\":1\n{\"b\":2}\n", "1@0!1:7;2@7 b=3:2;");
    check("[1]\n", "1@0!1:0;");
    check("{\"a\":01}\n", "1@0!1:6;");
    check("{\"a\":1}x\n", "1@0!1:7;");
    check("{\"a\":nul}\n", "1@0!1:5;");
    check("{'a':1}\n", "1@0!1:1;");
    check("{\"a\":1,}\n", "1@0!1:7;");
}

static void test_too_long(void)
{
    struct buf text = BUF_INIT, out = BUF_INIT;

    buf_adds(&text, "{\"a\":\"");
    for (int i = 0; i < 2000; i++)
        buf_addc(&text, 'x');
    buf_adds(&text, "\"}\n{\"a\":1}\n");
    parse(text.data, text.len, &out);
    CHECK_STR(buf_str(&out), "1@0!2:0;2@2009 a=3:1;");
    buf_done(&text);
    buf_done(&out);
}

/* Rows longer than max_row (1000) that come in pieces: shorter and longer than what is kept of them. The shorter were taken
 * for cut, and the window for larger than it was. */
static void test_too_long_in_pieces(void)
{
    static const size_t lengths[] = {1001, 5000, JSONL_KEEP - 1, JSONL_KEEP, JSONL_KEEP + 1, 3 * JSONL_KEEP};
    static const size_t steps[] = {16, 999, 4096, JSONL_KEEP};

    for (size_t i = 0; i < ARRAY_LEN(lengths) * ARRAY_LEN(steps); i++) {
        struct buf text = BUF_INIT, out = BUF_INIT, want = BUF_INIT;
        size_t len = lengths[i / ARRAY_LEN(steps)];
        for (size_t n = 0; n < len - 1; n++)
            buf_addc(&text, 'x');
        buf_adds(&text, "\n{\"a\":1}\n");
        parse_pieces(&text, steps[i % ARRAY_LEN(steps)], &out);
        buf_addf(&want, "1@0!2:0;2@%zu a=3:1;", len);
        CHECK_STR(buf_str(&out), buf_str(&want));
        buf_done(&text);
        buf_done(&out);
        buf_done(&want);
    }
}

/* Mutated lines: we and jansson must agree on good or bad. */
static void test_differential(void)
{
    static const char seed[] =
        "{\"a\":[1,2.5e-3,\"x\\u00e9\\n\"],\"b\":{\"c\":null,\"d\":true},\"e\":-0}";
    static const char alphabet[] = "{}[]\",:\\u019eE+-. truefalsn";
    unsigned state = 12345;
    int agreed_good = 0;

    for (int round = 0; round < 20000; round++) {
        char text[sizeof(seed)];
        memcpy(text, seed, sizeof(seed));
        for (unsigned k = 0; k < 1 + (state >> 20) % 3; k++) {
            state = state * 1103515245 + 12345;
            text[(state >> 8) % (sizeof(seed) - 1)] =
                alphabet[(state >> 16) % (sizeof(alphabet) - 1)];
        }
        struct window w;
        struct jsonl j;
        struct jsonl_row row;
        window_init_memory(&w, text, sizeof(seed) - 1);
        jsonl_init(&j, 1000, &w);
        CHECK_INT(jsonl_next(&j, &op, &row), 1);
        json_t *want = json_loadb(text, sizeof(seed) - 1, JSON_DECODE_INT_AS_REAL, NULL);
        bool theirs = want && json_is_object(want);
        bool range = strpbrk(text, "eE") && !theirs && !row.error; /* jansson refuses 1e999 */
        CHECK(theirs == !row.error || range);
        agreed_good += theirs;
        json_decref(want);
        jsonl_done(&j);
        window_done(&w);
    }
    CHECK(agreed_good > 1000);
}

static void test_write(void)
{
    struct db_table t = DB_TABLE_INIT;
    struct buf out = BUF_INIT;
    struct cell cells[] = {{CELL_TEXT, "a\"\\\n\x01\xC3\xA9", 7},
                           {CELL_NUMBER, "1.50", 4},
                           {CELL_BOOL, "true", 4},
                           {CELL_NULL, "", 0},
                           {CELL_JSON, "[1]", 3}};

    for (int i = 0; i < 5; i++)
        (void)db_table_add(&t, i ? "n" : "q\"", DB_TEXT);
    json_write_row(&out, &t, cells);
    CHECK_STR(
        out.data,
        "{\"q\\\"\":\"a\\\"\\\\\\n\\u0001\xC3\xA9\",\"n\":1.50,\"n\":true,\"n\":null,\"n\":[1]}\n");
    db_table_done(&t);
    buf_done(&out);
}

int main(void)
{
    op_init(&op, "t", 0);
    RUN(test_values);
    RUN(test_strings);
    RUN(test_faults);
    RUN(test_too_long);
    RUN(test_too_long_in_pieces);
    RUN(test_differential);
    RUN(test_write);
    return t_done();
}
