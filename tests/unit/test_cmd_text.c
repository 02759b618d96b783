/* Names of others on a terminal: how wide they are, and how they are shortened. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "cmd/text.h"

static void test_width(void **state)
{
    static const struct {
        const char *text;
        size_t want;
    } cases[] = {
        { "", 0 },
        { "abc", 3 },
        { "\u00e9t\u00e9", 3 },
        { "e\u0301", 1 },
        { "\u6a21\u578b", 4 },
        { "\u30e2\u30c7\u30eb", 6 },
        { "\ubaa8\ub378", 4 },
        { "\uff21", 2 },
        { "\U0001f600", 2 },
        { "\U00020000", 2 },
        { "\u0416\u2026\u2014", 3 },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(sw_text_width(cases[i].text), cases[i].want);
}

/* Never wider than asked for, and no wider than it was. */
static void test_shorten(void **state)
{
    static const char *const texts[] = { "model.layers.10.self_attn.q_proj.weight",
                                         "\u6a21\u578b\u6a21\u578b\u6a21\u578b\u6a21\u578b",
                                         "ab\u6a21\u578bcd\u6a21\u578bef\u6a21\u578b",
                                         "e\u0301e\u0301e\u0301e\u0301e\u0301e\u0301e\u0301" };
    char text[128];

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        for (size_t width = 5; width < 45; width++) {
            char *clean;

            strcpy(text, texts[i]);
            sw_text_shorten(text, width);
            clean = sw_clean_copy(text);
            assert_string_equal(clean, text);
            assert_true(sw_text_width(text) <= width);
            assert_int_equal(strstr(text, "...") != NULL, sw_text_width(texts[i]) > width);
            free(clean);
        }
    }
    strcpy(text, texts[0]);
    sw_text_shorten(text, 20);
    assert_string_equal(text, "model.la...oj.weight");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_width),
        cmocka_unit_test(test_shorten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
