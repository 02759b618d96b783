/* Text that others chose, character by character: what it says, and what of it may be shown; see
 * utf8.h and shardweld.h. */
#include "base/utf8.h"

#include <string.h>

#include "base/status.h"

#define HIGH_BITS UINT64_C(0x8080808080808080)

size_t sw_text_char(const char *text, size_t n, uint32_t *code)
{
    static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
    const unsigned char *s = (const unsigned char *)text;
    size_t len = s[0] < 0x80 ? 1 : s[0] >> 5 == 6 ? 2 : s[0] >> 4 == 14 ? 3 : s[0] >> 3 == 30 ? 4 : 0;
    uint32_t value = len <= 1 ? s[0] : s[0] & (0x7fu >> len);

    if (len == 0 || len > n)
        return 0;
    for (size_t i = 1; i < len; i++) {
        if (s[i] >> 6 != 2)
            return 0;
        value = value << 6 | (s[i] & 0x3fu);
    }
    if (value < least[len] || value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff))
        return 0;
    *code = value;
    return len;
}

/* Do the 16 bytes at p hold ASCII only? */
static bool is_ascii(const char *p)
{
    uint64_t words[2];

    memcpy(words, p, sizeof words);
    return ((words[0] | words[1]) & HIGH_BITS) == 0;
}

const char *sw_utf8_invalid(const char *text, size_t len)
{
    uint32_t code;

    for (size_t i = 0, n; i < len; i += n) {
        while (len - i >= 16 && is_ascii(text + i))
            i += 16;
        n = i < len ? sw_text_char(text + i, len - i, &code) : 1;
        if (n == 0)
            return text + i;
    }
    return NULL;
}

bool sw_text_harmless(uint32_t code)
{
    static const struct {
        uint32_t first, last;
    } harmful[] = {
        { 0, 0x1f },        { 0x7f, 0x9f },     { 0x61c, 0x61c },
        { 0x200e, 0x200f }, { 0x2028, 0x202e }, { 0x2066, 0x2069 },
        { 0xd800, 0xdfff }, { 0xfffe, 0xffff }, { 0x110000, UINT32_MAX },
    };

    if (code >= 0x20 && code < 0x7f)
        return true;
    for (size_t i = 0; i < sizeof harmful / sizeof *harmful; i++)
        if (code >= harmful[i].first && code <= harmful[i].last)
            return false;
    return true;
}

size_t sw_text_clean(char *text, size_t n)
{
    size_t to = 0, len;

    for (size_t at = 0; at < n; at += len ? len : 1) {
        uint32_t code;

        len = sw_text_char(text + at, n - at, &code);
        if (len == 0 || !sw_text_harmless(code)) {
            text[to++] = '?';
        } else {
            memmove(text + to, text + at, len);
            to += len;
        }
    }
    if (to < n)
        text[to] = '\0';
    return to;
}
