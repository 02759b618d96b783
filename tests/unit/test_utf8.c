/* Characters of names that others chose: which may be shown, and what becomes of the others. */
#include "base/buf.h"
#include "unit.h"

static const struct {
    const char *name, *want;
} cases[] = {
    { "", "" },
    { "model.layers.0", "model.layers.0" },
    { "a\nb\x7f", "a?b?" },
    { "\xc2\x9b"
      "31m",
      "?31m" },
    { "\u202eoiram", "?oiram" },
    { "a\u200eb\u200fc\u061cd", "a?b?c?d" },
    { "\u2066x\u2067y\u2068z\u2069", "?x?y?z?" },
    { "\u2028\u202a\u2029", "???" },
    { "\xff\xc0\x80", "???" },
    { "cut\xe2\x80", "cut??" },
    { "\u6a21\u578b\u2060", "\u6a21\u578b\u2060" },
    { "\u00e9\U0001f600\xef\xbf\xbf", "\u00e9\U0001f600?" },
};

/* The same wherever it happens: by itself, in a status, in a line. */
TEST(clean)
{
    for (size_t i = 0; i < COUNT(cases); i++) {
        sw_status st = SW_STATUS_INIT, err = SW_STATUS_INIT;
        sw_buf line = SW_BUF_INIT;
        char text[64];

        strcpy(text, cases[i].name);
        assert_int_equal(sw_text_clean(text, strlen(text)), strlen(cases[i].want));
        assert_string_equal(text, cases[i].want);
        sw_fail(&st, SW_EINPUT, cases[i].name, cases[i].name, "%s", cases[i].name);
        assert_string_equal(st.file, cases[i].want);
        assert_string_equal(st.tensor, cases[i].want);
        assert_string_equal(st.reason, cases[i].want);
        assert_int_equal(sw_buf_add_line(&line, &err, "%s", cases[i].name), SW_OK);
        assert_int_equal(line.len, strlen(cases[i].want) + 1);
        assert_memory_equal(line.data, cases[i].want, line.len - 1);
        sw_buf_release(&line);
    }
}

/* Every code point there is, and every one that is none. */
TEST(harmless)
{
    for (uint32_t c = 0; c < 0x110100; c++) {
        bool control = c < 0x20 || (c >= 0x7f && c < 0xa0);
        bool turns = c == 0x61c || c == 0x200e || c == 0x200f || (c >= 0x202a && c <= 0x202e) ||
                     (c >= 0x2066 && c <= 0x2069);
        bool tears = c == 0x2028 || c == 0x2029;
        bool none = (c >= 0xd800 && c < 0xe000) || c == 0xfffe || c == 0xffff || c > 0x10ffff;

        if (sw_text_harmless(c) != !(control || turns || tears || none))
            fail_msg("U+%04X", (unsigned)c);
    }
}

TEST(char)
{
    static const struct {
        const char *text;
        size_t n, len;
        uint32_t code;
    } chars[] = {
        { "a", 1, 1, 'a' },
        { "\0", 1, 1, 0 },
        { "\xc2\x80x", 3, 2, 0x80 },
        { "\u0800", 3, 3, 0x800 },
        { "\U0010ffff", 4, 4, 0x10ffff },
        { "\u0800", 2, 0, 0 },
        { "\xed\xa0\x80", 3, 0, 0 },
        { "\xe0\x9f\xbf", 3, 0, 0 },
        { "\xf4\x90\x80\x80", 4, 0, 0 },
        { "\x80", 1, 0, 0 },
    };

    for (size_t i = 0; i < COUNT(chars); i++) {
        uint32_t code = 0;

        assert_int_equal(sw_text_char(chars[i].text, chars[i].n, &code), chars[i].len);
        assert_int_equal(code, chars[i].code);
    }
}
