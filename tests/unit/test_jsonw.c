/* JSON strings as the two reference writers write them. */
#include "base/json.h"
#include "unit.h"

/* python NULL: refused, not UTF-8 (the other writer passes it on: what comes from a header has been
 * checked). */
static const struct {
    const char *text, *serde, *python;
} cases[] = {
    { "", "\"\"", "\"\"" },
    { "model.layers.0.weight", "\"model.layers.0.weight\"", "\"model.layers.0.weight\"" },
    { "\"\\/", "\"\\\"\\\\/\"", "\"\\\"\\\\/\"" },
    { "\b\t\n\f\r", "\"\\b\\t\\n\\f\\r\"", "\"\\b\\t\\n\\f\\r\"" },
    { "\x01\x0b\x1f", "\"\\u0001\\u000b\\u001f\"", "\"\\u0001\\u000b\\u001f\"" },
    { " ~\x7f", "\" ~\x7f\"", "\" ~\\u007f\"" },
    { "x\xc2\x80y", "\"x\xc2\x80y\"", "\"x\\u0080y\"" },
    { "\xdf\xbf", "\"\xdf\xbf\"", "\"\\u07ff\"" },
    { "\xe0\xa0\x80", "\"\xe0\xa0\x80\"", "\"\\u0800\"" },
    { "\xe2\x80\xa8", "\"\xe2\x80\xa8\"", "\"\\u2028\"" },
    { "\xed\x9f\xbf", "\"\xed\x9f\xbf\"", "\"\\ud7ff\"" },
    { "\xef\xbf\xbf", "\"\xef\xbf\xbf\"", "\"\\uffff\"" },
    { "\xf0\x90\x80\x80", "\"\xf0\x90\x80\x80\"", "\"\\ud800\\udc00\"" },
    { "\xf0\x9f\x98\x80", "\"\xf0\x9f\x98\x80\"", "\"\\ud83d\\ude00\"" },
    { "\xf4\x8f\xbf\xbf", "\"\xf4\x8f\xbf\xbf\"", "\"\\udbff\\udfff\"" },
    { "\xff", "\"\xff\"", NULL },
    { "a\x80", "\"a\x80\"", NULL },
    { "\xed\xa0\x80", "\"\xed\xa0\x80\"", NULL },
};

static void assert_buf(const sw_buf *b, const char *want)
{
    assert_int_equal(b->len, strlen(want));
    assert_memory_equal(b->data, want, b->len);
}

TEST(cases)
{
    for (size_t i = 0; i < COUNT(cases); i++) {
        sw_status st = SW_STATUS_INIT;
        sw_buf serde = SW_BUF_INIT, python = SW_BUF_INIT;
        size_t len = strlen(cases[i].text);

        print_message("case %zu\n", i);
        assert_int_equal(sw_json_add_serde(&serde, cases[i].text, len, &st), SW_OK);
        assert_buf(&serde, cases[i].serde);
        if (cases[i].python) {
            assert_int_equal(sw_json_add_python(&python, cases[i].text, len, &st), SW_OK);
            assert_buf(&python, cases[i].python);
        } else {
            assert_int_equal(sw_json_add_python(&python, cases[i].text, len, &st), SW_EINPUT);
        }
        sw_buf_release(&serde);
        sw_buf_release(&python);
    }
}

/* NUL is a character like others, and what is there already stays. */
TEST(appends)
{
    sw_status st = SW_STATUS_INIT;
    sw_buf b = SW_BUF_INIT;

    assert_int_equal(sw_json_add_serde(&b, "a\0b", 3, &st), SW_OK);
    assert_int_equal(sw_json_add_python(&b, "\0", 1, &st), SW_OK);
    assert_buf(&b, "\"a\\u0000b\"\"\\u0000\"");
    sw_buf_release(&b);
}
