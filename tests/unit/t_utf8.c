/* SPDX-License-Identifier: MIT
 * t_utf8.c: UTF-8 validation against the definition. */
#include "t.h"

#include "loader/utf8.h"

static void test_all_code_points(void)
{
    for (uint32_t code = 0; code < 0x110000; code++) {
        struct buf b = BUF_INIT;
        if (code >= 0xD800 && code <= 0xDFFF)
            continue;
        utf8_add(&b, code);
        CHECK(utf8_valid(b.data, b.len));
        for (size_t n = 1; n < b.len; n++) {
            bool cut = false;
            CHECK_INT(utf8_valid_prefix(b.data, n, &cut), 0);
            CHECK(cut);
        }
        buf_done(&b);
    }
}

static void test_invalid(void)
{
    static const char *const bad[] = {"\x80",
                                      "\xBF",
                                      "\xC0\x80",
                                      "\xC1\xBF",
                                      "\xE0\x80\x80",
                                      "\xE0\x9F\xBF",
                                      "\xED\xA0\x80",
                                      "\xED\xBF\xBF",
                                      "\xF0\x80\x80\x80",
                                      "\xF0\x8F\xBF\xBF",
                                      "\xF4\x90\x80\x80",
                                      "\xF5\x80\x80\x80",
                                      "\xFE",
                                      "\xFF",
                                      "\xC3(",
                                      "\xE2\x82("};

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char text[40];
        for (size_t pad = 0; pad < 20; pad++) { /* at every place of a word */
            bool cut = true;
            memset(text, 'a', sizeof(text));
            memcpy(text + pad, bad[i], strlen(bad[i]));
            CHECK_INT(utf8_valid_prefix(text, sizeof(text), &cut), pad);
            CHECK(!cut);
        }
    }
}

int main(void)
{
    RUN(test_all_code_points);
    RUN(test_invalid);
    return t_done();
}
