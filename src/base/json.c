/* The strict pull parser; see json.h. Headers reach 100 MB and are mostly strings, so these are
 * looked through eight bytes at a time; everything else goes byte by byte. */
#include "base/json.h"

#include <assert.h>
#include <endian.h>
#include <math.h>
#include <string.h>

#include "base/num.h"

#define EACH_BYTE UINT64_C(0x0101010101010101)
#define HIGH_BITS (0x80 * EACH_BYTE)
#define UINT_MAX_ALLOWED (UINT64_C(1) << 63)

/* ---- the parser ------------------------------------------------------------------------------ */

void sw_json_init(sw_json *j, char *text, size_t len)
{
    *j = (sw_json){ .at = text, .end = len ? text + len : text, .begin = text };
}

bool sw_json_fail(sw_json *j, const char *what)
{
    if (!j->error)
        j->error = what;
    return false;
}

uint64_t sw_json_pos(const sw_json *j)
{
    return (uint64_t)(j->at - j->begin);
}

/* White space of JSON. */
static bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

char sw_json_peek(sw_json *j)
{
    while (j->at < j->end && is_space(*j->at))
        j->at++;
    return j->at < j->end ? *j->at : '\0';
}

/* Another character stands where c, one of these, has to. */
static const char *expected(char c)
{
    static const char *const words[128] = {
        ['{'] = "expected an object", ['['] = "expected an array", ['"'] = "expected a string",
        [':'] = "expected ':'",       [','] = "expected ','",      ['}'] = "expected ',' or '}'",
        [']'] = "expected ',' or ']'"
    };

    assert(c > 0 && words[(unsigned char)c]);
    return words[(unsigned char)c];
}

bool sw_json_take(sw_json *j, char c)
{
    if (j->error)
        return false;
    if (sw_json_peek(j) != c || j->at == j->end)
        return sw_json_fail(j, j->at == j->end ? "unexpected end of the text" : expected(c));
    j->at++;
    return true;
}

bool sw_json_end(sw_json *j)
{
    if (j->error)
        return false;
    sw_json_peek(j);
    return j->at == j->end || sw_json_fail(j, "more text after the value");
}

bool sw_json_open(sw_json *j, char bracket)
{
    if (!sw_json_take(j, bracket))
        return false;
    if (++j->depth <= (j->python ? SW_JSON_PYTHON_DEPTH : SW_JSON_DEPTH))
        return true;
    return sw_json_fail(j, j->python ? "nested more than 500 deep" : "nested more than 127 deep");
}

bool sw_json_next(sw_json *j, char closing, bool *first)
{
    bool was_first = *first;

    *first = false;
    if (j->error)
        return false;
    if (sw_json_peek(j) == closing) {
        j->at++;
        j->depth--;
        return false;
    }
    if (was_first)
        return j->at < j->end || sw_json_fail(j, "unexpected end of the text");
    if (j->at < j->end && *j->at == ',') {
        j->at++;
        return true;
    }
    return sw_json_fail(j, j->at == j->end ? "unexpected end of the text" : expected(closing));
}

/* ---- strings --------------------------------------------------------------------------------- */

/* A high bit for each byte that ends a plain run: a quote, a backslash, a control character. The
 * borrow of a hit may also mark bytes above it, never below: the lowest mark is always true. */
static uint64_t special_bytes(uint64_t word)
{
    uint64_t quote = word ^ ('"' * EACH_BYTE), backslash = word ^ ('\\' * EACH_BYTE);
    uint64_t marks = ((word - 0x20 * EACH_BYTE) & ~word) | ((quote - EACH_BYTE) & ~quote) |
                     ((backslash - EACH_BYTE) & ~backslash);

    return marks & HIGH_BITS;
}

/* Does a plain run of a string end here? */
static bool is_special(char c)
{
    return (unsigned char)c < 0x20 || c == '"' || c == '\\';
}

/* Past the plain bytes at s. */
static char *skip_plain(char *s, const char *end)
{
    uint64_t word, marks;

    for (; end - s >= 8; s += 8) {
        memcpy(&word, s, sizeof word);
        marks = special_bytes(le64toh(word)); /* the first byte is the lowest */
        if (marks)
            return s + __builtin_ctzll(marks) / 8;
    }
    while (s < end && !is_special(*s))
        s++;
    return s;
}

/* Move the plain bytes at *from to *to, which lies before it. */
static void move_plain(char **to, char **from, const char *end)
{
    char *s = skip_plain(*from, end);
    size_t n = (size_t)(s - *from);

    memmove(*to, *from, n);
    *to += n;
    *from = s;
}

/* uXXXX at j->at. */
static bool take_hex(sw_json *j, uint32_t *unit)
{
    *unit = 0;
    if (j->end - j->at < 5)
        return sw_json_fail(j, j->python ? "a bad escape in a string" : "unexpected end of the text");
    for (int i = 1; i <= 4; i++) {
        int digit = sw_hex_digit(j->at[i]);

        if (digit < 0)
            return sw_json_fail(j, "a bad escape in a string");
        *unit = *unit << 4 | (uint32_t)digit;
    }
    j->at += 5;
    return true;
}

/* Write a character behind to; returns where the next one goes. */
static char *put_utf8(char *to, uint32_t code)
{
    static const unsigned char first[] = { 0, 0xc0, 0xe0, 0xf0 };
    unsigned more = code < 0x80 ? 0 : code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;

    *to++ = (char)(first[more] | code >> 6 * more);
    while (more-- > 0)
        *to++ = (char)(0x80 | (code >> 6 * more & 0x3f));
    return to;
}

/* uXXXX, or two that make a surrogate pair; half of one is written as if it were a character. */
static bool take_unicode(sw_json *j, char **to)
{
    uint32_t code, low = 0;
    char *behind;

    if (!take_hex(j, &code))
        return false;
    if (code >= 0xd800 && code <= 0xdfff) {
        behind = j->at;
        if (code < 0xdc00 && j->end - j->at >= 2 && j->at[0] == '\\' && j->at[1] == 'u') {
            j->at++;
            if (!take_hex(j, &low))
                return false;
        }
        if (low >= 0xdc00 && low <= 0xdfff)
            code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
        else if (!j->python)
            return sw_json_fail(j, "half a surrogate pair in a string");
        else
            j->at = behind;
    }
    *to = put_utf8(*to, code);
    return true;
}

/* What a letter behind a backslash stands for, 0 = nothing. */
static const char unescaped[256] = { ['"'] = '"',  ['\\'] = '\\', ['/'] = '/',  ['b'] = '\b',
                                     ['f'] = '\f', ['n'] = '\n',  ['r'] = '\r', ['t'] = '\t' };

/* What follows a backslash, which is never shorter than what it stands for. */
static bool take_escape(sw_json *j, char **to)
{
    char c;

    if (++j->at == j->end)
        return sw_json_fail(j, "unexpected end of the text");
    if (*j->at == 'u')
        return take_unicode(j, to);
    c = unescaped[(unsigned char)*j->at];
    if (!c)
        return sw_json_fail(j, "a bad escape in a string");
    *(*to)++ = c;
    j->at++;
    return true;
}

bool sw_json_string(sw_json *j, char **s, size_t *len)
{
    char *to;

    if (!sw_json_take(j, '"'))
        return false;
    *s = j->at;
    to = j->at = skip_plain(j->at, j->end);
    while (j->at < j->end && *j->at == '\\') {
        if (!take_escape(j, &to))
            return false;
        move_plain(&to, &j->at, j->end);
    }
    if (j->at == j->end)
        return sw_json_fail(j, "unexpected end of the text");
    if (*j->at != '"')
        return sw_json_fail(j, "a control character in a string");
    j->at++;
    *to = '\0';
    *len = (size_t)(to - *s);
    return true;
}

bool sw_json_member(sw_json *j, bool *first, char **key, size_t *len)
{
    return sw_json_next(j, '}', first) && sw_json_string(j, key, len) && sw_json_take(j, ':');
}

/* ---- numbers --------------------------------------------------------------------------------- */

/* A decimal digit. */
static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* The digits at j->at as a number; those that would overflow make *n larger than any that is
 * allowed. */
static void take_uint(sw_json *j, uint64_t *n)
{
    const uint64_t enough = UINT64_MAX / 10 - 1;
    const char *end = j->end;
    char *s = j->at;

    for (*n = 0; s < end && is_digit(*s); s++)
        *n = *n <= enough ? *n * 10 + (uint64_t)(*s - '0') : UINT64_MAX;
    j->at = s;
}

bool sw_json_uint(sw_json *j, uint64_t *n)
{
    char c = sw_json_peek(j);
    const char *start = j->at;

    if (j->error)
        return false;
    if (!is_digit(c))
        return sw_json_fail(j, c == '-' ? "a negative number" : "expected a whole number");
    take_uint(j, n);
    if (c == '0' && j->at - start > 1)
        return sw_json_fail(j, "a number with a leading zero");
    if (j->at < j->end && (*j->at == '.' || *j->at == 'e' || *j->at == 'E'))
        return sw_json_fail(j, "expected a whole number, found a fraction or an exponent");
    return *n <= UINT_MAX_ALLOWED || sw_json_fail(j, "a number over 2^63");
}

/* A number as serde_json holds it while it reads: digits x 10^exponent, digits that do not fit
 * dropped. */
typedef struct number {
    uint64_t digits;
    int64_t exponent;
} number;

/* A run of digits into *n. True when there is at least one. */
static bool take_digits(sw_json *j, number *n, bool fraction)
{
    const char *start = j->at;
    uint64_t more;
    bool full = false;

    for (; j->at < j->end && is_digit(*j->at); j->at++) {
        full = full || !sw_mul(n->digits, 10, &more) || !sw_add(more, (uint64_t)(*j->at - '0'), &more);
        if (!full)
            n->digits = more;
        n->exponent += fraction ? (full ? 0 : -1) : (full ? 1 : 0);
    }
    return j->at > start;
}

/* The exponent of a number, its sign included. True when there is one. */
static bool take_exponent(sw_json *j, number *n)
{
    /* beyond any exponent that digits of a header could balance */
    const int64_t enough = INT64_C(1) << 40;
    int64_t e = 0;
    bool negative = false;

    if (j->at < j->end && (*j->at == '+' || *j->at == '-'))
        negative = *j->at++ == '-';
    if (j->at == j->end || !is_digit(*j->at))
        return false;
    for (; j->at < j->end && is_digit(*j->at); j->at++)
        e = e < enough ? 10 * e + (*j->at - '0') : e;
    n->exponent += negative ? -e : e;
    return true;
}

/* serde_json multiplies digits by a power of ten in doubles and refuses an infinity. Below 1e289
 * there is none. */
static bool is_finite(const number *n)
{
    static const double powers[] = { 1e289, 1e290, 1e291, 1e292, 1e293, 1e294, 1e295, 1e296, 1e297, 1e298,
                                     1e299, 1e300, 1e301, 1e302, 1e303, 1e304, 1e305, 1e306, 1e307, 1e308 };

    if (n->digits == 0 || n->exponent < 289)
        return true;
    return n->exponent <= 308 && !isinf((double)n->digits * powers[n->exponent - 289]);
}

/* ---- values that nobody asked for ------------------------------------------------------------ */

/* true, false, null and the like. */
static bool skip_word(sw_json *j, const char *word)
{
    size_t n = strlen(word);

    if ((size_t)(j->end - j->at) < n || memcmp(j->at, word, n) != 0)
        return sw_json_fail(j, "expected a value");
    j->at += n;
    return true;
}

/* A number, checked. */
static bool skip_number(sw_json *j)
{
    number n = { 0, 0 };
    char *start;
    bool good;

    if (*j->at == '-')
        j->at++;
    if (j->python && j->at < j->end && *j->at == 'I')
        return skip_word(j, "Infinity");
    start = j->at;
    good = take_digits(j, &n, false) && (*start != '0' || j->at - start == 1 || j->python);
    if (good && *start == '0')
        j->at = start + 1; /* Python finds fault with what follows */
    if (good && j->at < j->end && *j->at == '.') {
        j->at++;
        good = take_digits(j, &n, true);
    }
    if (good && j->at < j->end && (*j->at == 'e' || *j->at == 'E')) {
        j->at++;
        good = take_exponent(j, &n);
    }
    if (!good)
        return sw_json_fail(j, "a malformed number");
    return j->python || is_finite(&n) || sw_json_fail(j, "a number beyond the range of a double");
}

/* An object: each key is shown to who wants to see it. */
static bool skip_object(sw_json *j)
{
    uint32_t object = j->objects++;
    bool first = true;
    char *s;
    size_t len;

    if (!sw_json_open(j, '{'))
        return false;
    while (sw_json_member(j, &first, &s, &len)) {
        if (j->key && !j->key(j->ctx, object, s, len))
            return sw_json_fail(j, "the key was not taken");
        if (!sw_json_skip(j))
            return false;
    }
    return !j->error;
}

/* An array. */
static bool skip_array(sw_json *j)
{
    bool first = true;

    if (!sw_json_open(j, '['))
        return false;
    while (sw_json_next(j, ']', &first))
        if (!sw_json_skip(j))
            return false;
    return !j->error;
}

/* The recursion is as deep as the text is nested: at most SW_JSON_DEPTH. */
bool sw_json_skip(sw_json *j)
{
    char c = sw_json_peek(j), *s;
    size_t len;

    if (j->error)
        return false;
    if (c == '-' || is_digit(c))
        return skip_number(j);
    switch (c) {
    case '{':
        return skip_object(j);
    case '[':
        return skip_array(j);
    case '"':
        return sw_json_string(j, &s, &len);
    case 't':
        return skip_word(j, "true");
    case 'f':
        return skip_word(j, "false");
    case 'n':
        return skip_word(j, "null");
    case 'N':
    case 'I':
        if (j->python)
            return skip_word(j, c == 'N' ? "NaN" : "Infinity");
        break;
    default:
        break;
    }
    return sw_json_fail(j, j->at == j->end ? "unexpected end of the text" : "expected a value");
}
