/* Names of others: how wide they are on a terminal, how they are shortened and written; JSON that
 * is written as it goes. */
#include "cmd/emit.h"
#include "cmd/text.h"
#include "unit.h"

TEST(width)
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

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(sw_text_width(cases[i].text), cases[i].want);
}

/* Never wider than asked for, and no wider than it was. */
TEST(shorten)
{
    static const char *const texts[] = { "model.layers.10.self_attn.q_proj.weight",
                                         "\u6a21\u578b\u6a21\u578b\u6a21\u578b\u6a21\u578b",
                                         "ab\u6a21\u578bcd\u6a21\u578bef\u6a21\u578b",
                                         "e\u0301e\u0301e\u0301e\u0301e\u0301e\u0301e\u0301" };
    char text[128];

    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        for (size_t width = 5; width < 45; width++) {
            char *clean;

            strcpy(text, texts[i]);
            sw_text_shorten(text, width, width % 2 == 0);
            clean = sw_clean_copy(text);
            assert_string_equal(clean, text);
            assert_true(sw_text_width(text) <= width);
            assert_int_equal(strstr(text, "...") != NULL, sw_text_width(texts[i]) > width);
            free(clean);
        }
    }
    strcpy(text, texts[0]);
    sw_text_shorten(text, 20, false);
    assert_string_equal(text, "model.la...oj.weight");
    strcpy(text, texts[0]);
    sw_text_shorten(text, 20, true);
    assert_string_equal(text, "...ttn.q_proj.weight");
}

/* In each form only what it takes for its own is escaped, and nothing steers a terminal. */
TEST(put)
{
    static const char *const want[] = {
        [SW_TEXT_PLAIN] = "a\"\\<&>??\u6a21?",
        [SW_TEXT_JSON] = "a\\\"\\\\<&>\\n\\u202e\u6a21?",
        [SW_TEXT_XML] = "a&quot;\\&lt;&amp;&gt;??\u6a21?",
    };

    for (int form = SW_TEXT_PLAIN; form <= SW_TEXT_XML; form++) {
        char text[128] = "";
        FILE *to = fmemopen(text, sizeof text, "w");

        assert_non_null(to);
        sw_text_put(to, "a\"\\<&>\n\u202e\u6a21\xff", (sw_text_form)form);
        fclose(to);
        assert_string_equal(text, want[form]);
    }
}

TEST(emit)
{
    static const uint64_t dims[] = { 4, 0 };
    char text[512] = "";
    sw_emit e = { .to = fmemopen(text, sizeof text, "w") };

    assert_non_null(e.to);
    sw_emit_object(&e, NULL, false);
    sw_emit_name(&e, "name", "");
    sw_emit_text(&e, "text", "");
    sw_emit_object(&e, "flat", true);
    sw_emit_number(&e, "most", UINT64_MAX);
    sw_emit_optional(&e, "none", 0);
    sw_emit_end(&e);
    sw_emit_list(&e, "list", false);
    sw_emit_object(&e, NULL, true);
    sw_emit_dims(&e, "shape", dims, 2);
    sw_emit_end(&e);
    sw_emit_real(&e, NULL, 2);
    sw_emit_real(&e, NULL, 0.25);
    sw_emit_end(&e);
    sw_emit_findings(&e, NULL, 0);
    sw_emit_end(&e);
    fclose(e.to);
    assert_string_equal(text, "{\n  \"name\": \"\",\n  \"text\": null,\n"
                              "  \"flat\": {\"most\": 18446744073709551615, \"none\": null},\n"
                              "  \"list\": [\n    {\"shape\": [4, 0]},\n    2.0,\n    0.25\n  ],\n"
                              "  \"findings\": []\n}");
}
