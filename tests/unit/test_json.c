/* The strict JSON parser: what it takes, what it refuses and how it says so. */
#include "base/json.h"
#include "unit.h"

/* A copy without a NUL behind it, so that the address sanitizer sees a step too far. */
static char *copy(const char *s, size_t len)
{
    char *text = malloc(len ? len : 1);

    assert_non_null(text);
    memcpy(text, s, len);
    return text;
}

/* One value and nothing else, skipped; as Python's json takes it, or strictly. NULL = good. */
static const char *error_of(bool python, const char *s, size_t len)
{
    char *text = copy(s, len);
    sw_json j;
    const char *error;

    sw_json_init(&j, text, len);
    j.python = python;
    if (sw_json_skip(&j))
        sw_json_end(&j);
    error = j.error;
    free(text);
    return error;
}

static const char *skip_error(const char *s, size_t len)
{
    return error_of(false, s, len);
}

TEST(good_values)
{
    static const char *const texts[] = {
        "0",
        "-0",
        "-1",
        "1.5",
        "1E5",
        "1e+5",
        "1e-5",
        " \t\r\n1 \t\r\n",
        "true",
        "false",
        "null",
        "\"\"",
        "[]",
        "{}",
        "[[],{},[[]]]",
        "{\"a\":1,\"b\":[1,2,3],\"c\":{\"d\":null}}",
        "18446744073709551616",
        "-9223372036854775809",
        "0e99999999999999999999",
        "0.0e99999999999999999999",
        "1e-99999999999999999999",
        "1.7976931348623157e308",
        "17976931348623157e292",
        "1.8446744073709551616e289",
        "18446744073709551616.5e1",
        "0.0000000000000000000000000000001e330",
        "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0000\\ud834\\udd1e\\uABcd\"",
        "\"\x7f\xc3\xa9\"",
    };

    for (size_t i = 0; i < COUNT(texts); i++)
        for (int python = 0; python < 2; python++)
            if (error_of(python, texts[i], strlen(texts[i])))
                fail_msg("%s: %s", texts[i], error_of(python, texts[i], strlen(texts[i])));
}

TEST(bad_values)
{
    static const struct {
        const char *text, *says;
        const char *python; /* what it says then; NULL = the same, "" = nothing */
    } cases[] = {
        { "", "unexpected end", NULL },
        { " ", "unexpected end", NULL },
        { "1 2", "more text", NULL },
        { "nul", "expected a value", NULL },
        { "nulll", "more text", NULL },
        { "True", "expected a value", NULL },
        { "NaN", "expected a value", "" },
        { "Infinity", "expected a value", "" },
        { "-Infinity", "malformed number", "" },
        { "\xef\xbb\xbf{}", "expected a value", NULL },
        { "01", "malformed number", "more text" },
        { "-01", "malformed number", "more text" },
        { "00", "malformed number", "more text" },
        { "-", "malformed number", NULL },
        { "--1", "malformed number", NULL },
        { "1.", "malformed number", NULL },
        { ".5", "expected a value", NULL },
        { "+1", "expected a value", NULL },
        { "1e", "malformed number", NULL },
        { "1e+", "malformed number", NULL },
        { "1.e5", "malformed number", NULL },
        { "0x1", "more text", NULL },
        { "1e309", "range of a double", "" },
        { "-1e400", "range of a double", "" },
        { "1e2147483648", "range of a double", "" },
        { "1.7976931348623158e308", "range of a double", "" },
        { "1797693134862315707e290", "range of a double", "" },
        { "[1,]", "expected a value", NULL },
        { "[,1]", "expected a value", NULL },
        { "[1 2]", "expected ',' or ']'", NULL },
        { "[1", "unexpected end", NULL },
        { "[", "unexpected end", NULL },
        { "[1}", "expected ',' or ']'", NULL },
        { "{", "unexpected end", NULL },
        { "{\"a\"", "unexpected end", NULL },
        { "{\"a\":", "unexpected end", NULL },
        { "{\"a\":1", "unexpected end", NULL },
        { "{\"a\":1,", "unexpected end", NULL },
        { "{\"a\":1,}", "expected a string", NULL },
        { "{\"a\" 1}", "expected ':'", NULL },
        { "{1:2}", "expected a string", NULL },
        { "{\"a\":1 \"b\":2}", "expected ',' or '}'", NULL },
        { "{\"a\":1]", "expected ',' or '}'", NULL },
        { "]", "expected a value", NULL },
        { "/**/1", "expected a value", NULL },
        { "'a'", "expected a value", NULL },
        { "-I", "malformed number", "expected a value" },
        { "-NaN", "malformed number", NULL },
        { "\"", "unexpected end", NULL },
        { "\"abcdefghij", "unexpected end", NULL },
        { "\"\\", "unexpected end", NULL },
        { "\"\\u12", "unexpected end", "bad escape" },
        { "\"\\u12\"  ", "bad escape", NULL },
        { "\"\\x\"", "bad escape", NULL },
        { "\"\\U0041\"", "bad escape", NULL },
        { "\"\\u00g0\"", "bad escape", NULL },
        { "\"\\ud834\"", "surrogate", "" },
        { "\"\\ud834x\"", "surrogate", "" },
        { "\"\\ud834\\n\"", "surrogate", "" },
        { "\"\\ud834\\u0041\"", "surrogate", "" },
        { "\"\\ud834\\ud834\"", "surrogate", "" },
        { "\"\\udd1e\"", "surrogate", "" },
        { "\"\\udd1e\\ud834\"", "surrogate", "" },
        { "\"\n\"", "control character", NULL },
        { "\"abcdefg\x1fijk\"", "control character", NULL },
        { "\"\\n\x01\"", "control character", NULL },
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        const char *error = skip_error(cases[i].text, strlen(cases[i].text));
        const char *python = error_of(true, cases[i].text, strlen(cases[i].text)),
                   *want = cases[i].python ? cases[i].python : cases[i].says;

        if (!error || !strstr(error, cases[i].says))
            fail_msg("%s: %s", cases[i].text, error ? error : "accepted");
        if (*want ? !python || !strstr(python, want) : python != NULL)
            fail_msg("%s as Python: %s", cases[i].text, python ? python : "accepted");
    }
    assert_non_null(skip_error("\"a\0b\"", 5));
    assert_non_null(skip_error("1\0", 2));
    assert_non_null(skip_error("\"\\\0\"", 4));
}

TEST(depth)
{
    char text[512];

    for (size_t n = 120; n < 130; n++) {
        memset(text, '[', n);
        memset(text + n, ']', n);
        assert_int_equal(skip_error(text, 2 * n) == NULL, n <= SW_JSON_DEPTH);
    }
}

/* A text of many brackets must not cost a stack. */
TEST(hostile_depth)
{
    size_t n = 10 << 20;
    char *text = malloc(n);

    assert_non_null(text);
    memset(text, '[', n);
    assert_non_null(skip_error(text, n));
    for (size_t i = 0; i + 4 <= n; i += 4)
        memcpy(text + i, "{\"\":", 4);
    assert_non_null(skip_error(text, n));
    free(text);
}

static void string_is(const char *text, const char *want, size_t want_len)
{
    char *c = copy(text, strlen(text)), *s;
    size_t len;
    sw_json j;

    sw_json_init(&j, c, strlen(text));
    if (!sw_json_string(&j, &s, &len))
        fail_msg("%s: %s", text, j.error);
    assert_int_equal(len, want_len);
    assert_memory_equal(s, want, len);
    assert_int_equal(s[len], 0);
    assert_true(sw_json_end(&j));
    free(c);
}

TEST(strings)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        { "\"\"", "" },
        { " \"abc\" ", "abc" },
        { "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t" },
        { "\"\\u0041\\u00e9\\u20ac\\ud834\\udd1e\\u007f\\u0080\\u07ff\\u0800\\uffff\"",
          "A\xc3\xa9\xe2\x82\xac\xf0\x9d\x84\x9e\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf" },
        { "\"\\ud800\\udc00\\udbff\\udfff\"", "\xf0\x90\x80\x80\xf4\x8f\xbf\xbf" },
        { "\"abcdefgh\\nijklmnopqrstuvwxyz\\u0041\"", "abcdefgh\nijklmnopqrstuvwxyzA" },
        { "\"\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\"", "\\\\\\\\\\\\\\\\" },
    };

    for (size_t i = 0; i < COUNT(cases); i++)
        string_is(cases[i].text, cases[i].want, strlen(cases[i].want));
    string_is("\"a\\u0000b\"", "a\0b", 3);
}

/* A string of len bytes that are plain, above ASCII or, at a and b, quotes; escaped in text. */
static void make_string(size_t len, size_t a, size_t b, char *text, char *want)
{
    *text++ = '"';
    for (size_t i = 0; i < len; i++) {
        want[i] = i % 2 ? 'x' : '\xb1';
        if (i == a || i == b) {
            want[i] = '"';
            *text++ = '\\';
        }
        *text++ = want[i];
    }
    *text++ = '"';
    *text = '\0';
}

/* Every length and place of an escape, for the part that goes by eight bytes. */
TEST(string_places)
{
    char text[128], want[128];

    for (size_t len = 1; len < 40; len++)
        for (size_t a = 0; a < len; a++)
            for (size_t b = a; b < len; b++) {
                make_string(len, a, b, text, want);
                string_is(text, want, len);
            }
}

TEST(numbers)
{
    static const struct {
        const char *text;
        uint64_t want;
        const char *says;
    } cases[] = {
        { "0", 0, NULL },
        { " 7", 7, NULL },
        { "9223372036854775808", UINT64_C(1) << 63, NULL },
        { "9223372036854775809", 0, "over 2^63" },
        { "18446744073709551615", 0, "over 2^63" },
        { "18446744073709551616", 0, "over 2^63" },
        { "18446744073709551617", 0, "over 2^63" },
        { "99999999999999999999999999999999999999", 0, "over 2^63" },
        { "-1", 0, "negative" },
        { "-0", 0, "negative" },
        { "1.0", 0, "fraction or an exponent" },
        { "1e2", 0, "fraction or an exponent" },
        { "1E2", 0, "fraction or an exponent" },
        { "00", 0, "leading zero" },
        { "01", 0, "leading zero" },
        { "\"1\"", 0, "whole number" },
        { "null", 0, "whole number" },
        { "", 0, "whole number" },
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        char *c = copy(cases[i].text, strlen(cases[i].text));
        uint64_t n = 1;
        sw_json j;
        bool good;

        sw_json_init(&j, c, strlen(cases[i].text));
        good = sw_json_uint(&j, &n);
        if (good != !cases[i].says || (good && n != cases[i].want) ||
            (!good && !strstr(j.error, cases[i].says)))
            fail_msg("%s: %s", cases[i].text, good ? "accepted" : j.error);
        free(c);
    }
}

TEST(members)
{
    char text[] = " { \"a\" : [ 1 , 2 ] , \"b\" : 3 } x", *key;
    bool first = true, inner = true;
    uint64_t n, sum = 0;
    size_t len;
    sw_json j;

    sw_json_init(&j, text, strlen(text));
    assert_true(sw_json_open(&j, '{'));
    while (sw_json_next(&j, '}', &first)) {
        assert_true(sw_json_string(&j, &key, &len) && sw_json_take(&j, ':'));
        if (sw_json_peek(&j) != '[') {
            assert_true(sw_json_uint(&j, &n));
            sum += n;
            continue;
        }
        assert_true(sw_json_open(&j, '['));
        for (inner = true; sw_json_next(&j, ']', &inner); sum += n)
            assert_true(sw_json_uint(&j, &n));
    }
    assert_null(j.error);
    assert_int_equal(sum, 6);
    assert_int_equal(j.depth, 0);
    assert_false(sw_json_end(&j));
    assert_int_equal(sw_json_pos(&j), 31);
    assert_string_equal(j.error, "more text after the value");
    /* The first note stays, and nothing goes on. */
    assert_false(sw_json_fail(&j, "another"));
    assert_false(sw_json_take(&j, 'x') || sw_json_open(&j, 'x') || sw_json_next(&j, 'x', &first) ||
                 sw_json_skip(&j) || sw_json_uint(&j, &n) || sw_json_string(&j, &key, &len) ||
                 sw_json_end(&j));
    assert_string_equal(j.error, "more text after the value");
}

static bool note_key(void *ctx, uint32_t object, const char *s, size_t len)
{
    char *notes = ctx;

    notes += strlen(notes);
    *notes++ = (char)('0' + object);
    memcpy(notes, s, len + 1);
    return *s != '!';
}

TEST(skipped_keys)
{
    char text[] = "[{\"a\":{\"b\":1,\"\\u0063\":{}},\"d\":[{\"e\":0}]},{\"!\":1,\"f\":1}]", notes[64] = "";
    sw_json j;

    sw_json_init(&j, text, strlen(text));
    j.key = note_key;
    j.ctx = notes;
    j.objects = 2;
    assert_false(sw_json_skip(&j));
    assert_string_equal(notes, "2a3b3c2d5e6!");
}
