/* Characters of text that others chose. What is public of it, sw_text_char() and what may be shown,
 * stands in shardweld.h. */
#ifndef SW_BASE_UTF8_H
#define SW_BASE_UTF8_H

#include <stddef.h>

/* Local. The first byte that is not UTF-8 (no overlong forms, no surrogates), or NULL. Fast on
 * ASCII. */
const char *sw_utf8_invalid(const char *text, size_t len);

#endif
