/* SPDX-License-Identifier: MIT
 * t_types.c: what type a text can have without losing anything. */
#include "t.h"

#include "base/cleanup.h"
#include "loader/types.h"

#include <math.h>

static void check(const char *text, enum db_type want)
{
    enum db_type got = type_of_text(text, strlen(text));

    if (got != want) {
        fprintf(stderr, "'%s' is %s, want %s\n", text, db_type_name(got), db_type_name(want));
        exit(1);
    }
}

static void test_texts(void)
{
    static const char *const texts[] = {"",
                                        "007",
                                        "+5",
                                        "-0",
                                        "1.",
                                        ".5",
                                        "00",
                                        "0x10",
                                        "1e",
                                        "nan",
                                        "inf",
                                        "1,5",
                                        "12abc",
                                        " 1",
                                        "t",
                                        "yes",
                                        "2024-13-01",
                                        "2023-02-29",
                                        "2024-01-01x",
                                        "2024-01-01T25:00",
                                        "2024-1-1",
                                        "1e400",
                                        "2024-01-01 10:00:00.1234567",
                                        "01.5",
                                        "0000-01-01"};

    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        check(texts[i], DB_TEXT);
    check("0", DB_INTEGER);
    check("-9223372036854775808", DB_INTEGER);
    check("9223372036854775807", DB_INTEGER);
    check("9223372036854775808", DB_NUMERIC);
    check("0.1", DB_DOUBLE);
    check("-1.50", DB_DOUBLE);
    check("0.30000000000000004", DB_DOUBLE);
    check("1e5", DB_DOUBLE);
    check("0.1234567890123456789", DB_NUMERIC);
    check("12345678901234567890.5", DB_NUMERIC);
    check("TRUE", DB_BOOLEAN);
    check("2024-02-29", DB_DATE);
    check("2024-01-01 10:00", DB_TIMESTAMP);
    check("2024-01-01T10:00:00.123456", DB_TIMESTAMP);
    check("2013-01-01T10:00:00Z", DB_TIMESTAMPTZ);
    check("2024-01-01 10:00:00+05:30", DB_TIMESTAMPTZ);
    check("2024-01-01 10:00:00-03", DB_TIMESTAMPTZ);
}

static enum db_type guess(const char *a, const char *b, const char *c)
{
    const char *const texts[] = {a, b, c};
    struct type_guess g = {0};

    for (size_t i = 0; i < 3 && texts[i]; i++) {
        struct cell cell = {CELL_TEXT, texts[i], strlen(texts[i])};
        type_guess_add(&g, &cell, false);
    }
    return type_guess_result(&g);
}

static void test_guesses(void)
{
    struct type_guess g = {0};
    struct cell null = {CELL_NULL, "", 0}, text = {CELL_TEXT, "12", 2},
                number = {CELL_NUMBER, "-0", 2};

    CHECK_INT(guess("1", "2", "3"), DB_INTEGER);
    CHECK_INT(guess("1", "2.5", NULL), DB_DOUBLE);
    CHECK_INT(guess("9007199254740993", "2.5", NULL),
              DB_NUMERIC); /* a double would round the first */
    CHECK_INT(guess("1", "12345678901234567890", NULL), DB_NUMERIC);
    CHECK_INT(guess("1", "x", "2"), DB_TEXT);
    CHECK_INT(guess("true", "1", NULL), DB_TEXT);
    CHECK_INT(guess("2024-01-01", "2024-01-01 10:00", NULL), DB_TEXT);
    type_guess_add(&g, &null, false);
    CHECK_INT(type_guess_result(&g), DB_TEXT);
    type_guess_add(&g, &text, true);
    CHECK_INT(type_guess_result(&g), DB_TEXT); /* a JSON string */
    g = (struct type_guess){0};
    type_guess_add(&g, &number, true);
    CHECK_INT(type_guess_result(&g), DB_DOUBLE);
}

static void test_numbers(void)
{
    int64_t i;
    double d;
    bool exact, b;

    CHECK(text_to_int64("-9223372036854775808", 20, &i) && i == INT64_MIN);
    CHECK(!text_to_int64("-9223372036854775809", 20, &i));
    CHECK(!text_to_int64("", 0, &i) && !text_to_int64("-", 1, &i) && !text_to_int64("1 ", 2, &i));
    CHECK(text_to_double("1e22", 4, &d, &exact) && exact && d == 1e22);
    CHECK(text_to_double("0.12345678901234567", 19, &d, &exact) &&
          !(exact && d != 0.12345678901234567));
    CHECK(text_to_double("123456789012345678901", 21, &d, &exact) && !exact);
    CHECK(text_to_double("100000000000000000000000", 24, &d, &exact) && exact);
    CHECK(!text_to_double("1e999", 5, &d, &exact));
    CHECK(text_to_double("1e-999", 6, &d, &exact));
    CHECK(text_to_double("0.00000000000000000000000000000", 31, &d, &exact) && exact && d == 0);
    CHECK(text_to_bool("YES", 3, &b) && b);
    CHECK(text_to_bool("0", 1, &b) && !b);
    CHECK(!text_to_bool("2", 1, &b));
}

int main(void)
{
    RUN(test_texts);
    RUN(test_guesses);
    RUN(test_numbers);
    return t_done();
}
