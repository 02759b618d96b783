/* Operands that are URLs: see sw_local_path() in shardweld.h. */
#include <string.h>
#include <strings.h>

#include "base/num.h"
#include "base/status.h"

/* A letter of ASCII: no locale. */
static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* Bytes of "scheme" in "scheme://..."; 0 = there is none. */
static size_t scheme_of(const char *text)
{
    size_t n = 0;

    while (is_letter(text[n]) || (n > 0 && text[n] && strchr("0123456789+-.", text[n])))
        n++;
    return strncmp(text + n, "://", 3) == 0 ? n : 0;
}

/* The byte that "%XX" stands for; -1: it is no such thing, or a NUL. */
static int byte_of(const char *text)
{
    int high = sw_hex_digit(text[1]), low = high < 0 ? -1 : sw_hex_digit(text[2]);

    return low < 0 || (high | low) == 0 ? -1 : high * 16 + low;
}

/* Does every percent sign begin a byte? */
static bool is_encoded(const char *text)
{
    while ((text = strchr(text, '%')) && byte_of(text) >= 0)
        text += 3;
    return !text;
}

/* It does not grow: to may lie before from, in the same text. */
static void decode(const char *from, char *to)
{
    for (; *from; from += *from == '%' ? 3 : 1)
        *to++ = *from == '%' ? (char)byte_of(from) : *from;
    *to = '\0';
}

sw_code sw_local_path(const char *operand, char *path, sw_status *st)
{
    size_t scheme = scheme_of(operand);
    const char *rest = operand + scheme + 3;

    if (scheme == 0) {
        memmove(path, operand, strlen(operand) + 1);
        return SW_OK;
    }
    if (scheme != 4 || strncasecmp(operand, "file", 4) != 0)
        return sw_fail(st, SW_EUSAGE, operand, NULL,
                       "is a URL, expected a path: write to a file system and upload from there, or download "
                       "first");
    if (strncasecmp(rest, "localhost/", 10) == 0)
        rest += 9;
    if (*rest != '/' || !is_encoded(rest))
        return sw_fail(st, SW_EUSAGE, operand, NULL,
                       "expected file:///PATH, with %%XX for what is no plain text");
    decode(rest, path);
    return SW_OK;
}
