/* Characters of names that others chose: which may be shown, and what becomes of the others. */
#include "base/buf.h"
#include "base/utf8.h"
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

/* The first character of n bytes; len 0: it is none. */
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
        { "\xdf\xbf", 2, 2, 0x7ff },
        { "\u0800", 3, 3, 0x800 },
        { "\xed\x9f\xbf", 3, 3, 0xd7ff },
        { "\xee\x80\x80", 3, 3, 0xe000 },
        { "\xef\xbf\xbf", 3, 3, 0xffff },
        { "\xf0\x90\x80\x80", 4, 4, 0x10000 },
        { "\U0010ffff", 4, 4, 0x10ffff },
        { "\u0800", 2, 0, 0 },
        { "\x80", 1, 0, 0 },
        { "\xbf", 1, 0, 0 },
        { "\xc0\x80", 2, 0, 0 },
        { "\xc1\xbf", 2, 0, 0 },
        { "\xc2", 1, 0, 0 },
        { "\xc2\x41", 2, 0, 0 },
        { "\xe0\x9f\xbf", 3, 0, 0 },
        { "\xe1\x80", 2, 0, 0 },
        { "\xe1\x80\x41", 3, 0, 0 },
        { "\xed\xa0\x80", 3, 0, 0 },
        { "\xed\xbf\xbf", 3, 0, 0 },
        { "\xf0\x8f\xbf\xbf", 4, 0, 0 },
        { "\xf1\x80\x80", 3, 0, 0 },
        { "\xf1\x80\x80\x41", 4, 0, 0 },
        { "\xf4\x90\x80\x80", 4, 0, 0 },
        { "\xf5\x80\x80\x80", 4, 0, 0 },
        { "\xff", 1, 0, 0 },
    };

    for (size_t i = 0; i < COUNT(chars); i++) {
        uint32_t code = 0;
        /* Without anything behind it, and behind as much ASCII as is looked through at once. */
        size_t before = i % 2 ? 35 : 0, n = before + chars[i].n;
        char *text = malloc(n);

        assert_non_null(text);
        memset(text, 'x', before);
        memcpy(text + before, chars[i].text, chars[i].n);
        assert_int_equal(sw_text_char(text + before, chars[i].n, &code), chars[i].len);
        assert_int_equal(code, chars[i].code);
        assert_ptr_equal(sw_utf8_invalid(text, n), chars[i].len ? NULL : text + before);
        free(text);
    }
    assert_null(sw_utf8_invalid("", 0));
}
