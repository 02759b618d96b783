/* Writing JSON strings, byte for byte as two other programs do: serde_json (safetensors headers)
 * and Python's json.dumps (index files). Called once per tensor name, so plain runs are appended
 * whole. */
#include "base/json.h"

/* What follows the backslash for the characters that both writers escape in two letters; 0 =
 * none. */
static const char short_escapes[128] = {
    ['"'] = '"', ['\\'] = '\\', ['\b'] = 'b', ['\t'] = 't', ['\n'] = 'n', ['\f'] = 'f', ['\r'] = 'r'
};

/* uXXXX behind a backslash. */
static sw_code add_u16(sw_buf *b, unsigned unit, sw_status *st)
{
    static const char hex[] = "0123456789abcdef";
    const char text[6] = { '\\',          'u', hex[unit >> 12 & 15], hex[unit >> 8 & 15], hex[unit >> 4 & 15],
                           hex[unit & 15] };

    return sw_buf_add(b, text, sizeof text, st);
}

/* A character below 0x80, in its short form if it has one. */
static sw_code add_escaped(sw_buf *b, unsigned char c, sw_status *st)
{
    const char text[2] = { '\\', short_escapes[c] };

    return text[1] ? sw_buf_add(b, text, sizeof text, st) : add_u16(b, c, st);
}

/* A character that Python escapes. *used: its bytes. */
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
    return add_u16(b, 0xd800 | code >> 10, st) ? st->code : add_u16(b, 0xdc00 | (code & 0x3ff), st);
}

/* A string in quotes; bytes from `end` on are escaped as Python does. */
static sw_code add_string(sw_buf *b, const char *s, size_t len, unsigned end, sw_status *st)
{
    const unsigned char *u = (const unsigned char *)s;
    size_t run;

    if (sw_buf_add(b, "\"", 1, st))
        return st->code;
    for (size_t i = 0; i < len; i += run) {
        for (run = 0; i + run < len && u[i + run] >= 0x20 && u[i + run] < end && u[i + run] != '"' &&
                      u[i + run] != '\\';)
            run++;
        if (run ? sw_buf_add(b, s + i, run, st) : add_python_char(b, s + i, len - i, &run, st))
            return st->code;
    }
    return sw_buf_add(b, "\"", 1, st);
}

sw_code sw_json_add_serde(sw_buf *b, const char *s, size_t len, sw_status *st)
{
    return add_string(b, s, len, 0x100, st);
}

sw_code sw_json_add_python(sw_buf *b, const char *s, size_t len, sw_status *st)
{
    return add_string(b, s, len, 0x7f, st);
}
