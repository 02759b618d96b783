/* Writing JSON strings, byte for byte as two other programs do: serde_json (safetensors headers)
 * and Python's json.dumps (index files). Called once per tensor name, so plain runs are appended
 * whole. */
#include "base/json.h"

/* What follows the backslash for the characters that both writers escape in two letters; 0 =
 * none. */
static char short_escape(unsigned char c)
{
    switch (c) {
    case '"':
    case '\\':
        return (char)c;
    case '\b':
        return 'b';
    case '\t':
        return 't';
    case '\n':
        return 'n';
    case '\f':
        return 'f';
    case '\r':
        return 'r';
    default:
        return 0;
    }
}

static sw_code add_u16(sw_buf *b, unsigned unit, sw_status *st)
{
    static const char hex[] = "0123456789abcdef";
    const char text[6] = { '\\',          'u', hex[unit >> 12 & 15], hex[unit >> 8 & 15], hex[unit >> 4 & 15],
                           hex[unit & 15] };

    return sw_buf_add(b, text, sizeof text, st);
}

static sw_code add_escaped(sw_buf *b, unsigned char c, sw_status *st)
{
    const char text[2] = { '\\', short_escape(c) };

    return text[1] ? sw_buf_add(b, text, sizeof text, st) : add_u16(b, c, st);
}

static bool serde_is_plain(unsigned char c)
{
    return c >= 0x20 && c != '"' && c != '\\';
}

static bool python_is_plain(unsigned char c)
{
    return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

static sw_code add_python_char(sw_buf *b, const char *s, size_t len, size_t *used, sw_status *st)
{
    uint32_t code;

    *used = sw_text_char(s, len, &code);
    if (*used == 0)
        return sw_fail(st, SW_EINPUT, NULL, NULL, "a name is not valid UTF-8");
    if (code < 0x80)
        return add_escaped(b, (unsigned char)code, st);
    if (code < 0x10000)
        return add_u16(b, code, st);
    code -= 0x10000;
    if (add_u16(b, 0xd800 | code >> 10, st))
        return st->code;
    return add_u16(b, 0xdc00 | (code & 0x3ff), st);
}

/* Bytes from s[i] on that need no escape. */
static size_t plain_run(const unsigned char *s, size_t i, size_t len, bool (*is_plain)(unsigned char))
{
    size_t end = i;

    while (end < len && is_plain(s[end]))
        end++;
    return end - i;
}

sw_code sw_json_add_serde(sw_buf *b, const char *s, size_t len, sw_status *st)
{
    const unsigned char *u = (const unsigned char *)s;
    size_t run;

    if (sw_buf_add(b, "\"", 1, st))
        return st->code;
    for (size_t i = 0; i < len; i += run) {
        run = plain_run(u, i, len, serde_is_plain);
        if (run ? sw_buf_add(b, s + i, run, st) : add_escaped(b, u[i], st))
            return st->code;
        run += run == 0;
    }
    return sw_buf_add(b, "\"", 1, st);
}

sw_code sw_json_add_python(sw_buf *b, const char *s, size_t len, sw_status *st)
{
    const unsigned char *u = (const unsigned char *)s;
    size_t run;

    if (sw_buf_add(b, "\"", 1, st))
        return st->code;
    for (size_t i = 0; i < len; i += run) {
        run = plain_run(u, i, len, python_is_plain);
        if (run ? sw_buf_add(b, s + i, run, st) : add_python_char(b, s + i, len - i, &run, st))
            return st->code;
    }
    return sw_buf_add(b, "\"", 1, st);
}
