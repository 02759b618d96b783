/* Characters of text that others chose. What is public of it, sw_text_char() and what may be shown,
 * stands in shardweld.h. */
#ifndef SW_BASE_UTF8_H
#define SW_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* Local. Is a text of so many bytes this one, and no NUL in it? */
static inline bool sw_text_is(const char *text, size_t len, const char *known)
{
    size_t n = strlen(known);

    return len == n && memcmp(text, known, n) == 0;
}

/* Local. As strcmp(), of texts of so many bytes. */
static inline int sw_text_compare(const char *a, size_t na, const char *b, size_t nb)
{
    int order = memcmp(a, b, na < nb ? na : nb);

    return order ? order : (na > nb) - (na < nb);
}

/* Local. The first byte that is not UTF-8 (no overlong forms, no surrogates), or NULL. Fast on
 * ASCII. */
const char *sw_utf8_invalid(const char *text, size_t len);

#endif
