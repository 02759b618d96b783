/* A strict pull parser for JSON text in memory, as (pointer, length), never NUL-terminated.
 *
 * It follows RFC 8259 as serde_json does: UTF-8 is checked by the caller once (utf8.h),
 * strings are unescaped in place, lone surrogates and raw control characters are refused, so are
 * numbers that overflow a double, and nesting ends at SW_JSON_DEPTH. For headers and sharding info,
 * which are hostile and large: 76 MB in the time of a few copies, without an allocation; and for
 * config.json, where jansson takes neither Infinity nor tells where a value stands in the text. The
 * other small files go through jansson (format/maps.h). */
#ifndef SW_BASE_JSON_H
#define SW_BASE_JSON_H

#include "base/buf.h"

#define SW_JSON_DEPTH 127u        /* objects and arrays inside one another; serde_json refuses the 128th */
#define SW_JSON_PYTHON_DEPTH 500u /* Python's own reader ends somewhat later */

typedef struct sw_json {
    char *at, *end; /* what is left */
    char *begin;
    unsigned depth;
    const char *error; /* what is wrong with the text, NULL = nothing yet; set once */

    /* Called by sw_json_skip() for each key of each object it passes, so that the caller can look
     * for duplicates; keys of one object share a number. False ends the parse. NULL = not
     * wanted. */
    bool (*key)(void *ctx, uint32_t object, const char *s, size_t len);
    void *ctx;
    /* the next number; the caller may take some for objects that it parses itself */
    uint32_t objects;

    /* set by the caller: take what Python's json takes as well, bare Infinity and NaN, numbers
     * beyond a double, halves of surrogate pairs, deeper nesting */
    bool python;
} sw_json;

/* Local. Start on text, which is changed by the strings taken from it. Sets every member. */
void sw_json_init(sw_json *j, char *text, size_t len);

/* All of these return false once the text is broken, with j->error set. */

/* The next character other than white space is c: take it. */
bool sw_json_take(sw_json *j, char c);
/* Look at the next character other than white space without taking it; '\0' at the end. */
char sw_json_peek(sw_json *j);
/* A string, unescaped in place and NUL-terminated there (the NUL takes the closing quote's place or
 * an earlier one). It may hold NULs of its own: compare *len with strlen. */
bool sw_json_string(sw_json *j, char **s, size_t *len);
/* An integer from 0 to 2^63 without sign, fraction or exponent. */
bool sw_json_uint(sw_json *j, uint64_t *n);
/* Any value, checked and left out. */
bool sw_json_skip(sw_json *j);
/* Nothing but white space is left. */
bool sw_json_end(sw_json *j);
/* Note what is wrong; returns false. The first note stays. */
bool sw_json_fail(sw_json *j, const char *what);
/* Where the parser stands, bytes from the beginning: for messages. */
uint64_t sw_json_pos(const sw_json *j);

/* Members of an object and items of an array:
 *     if (sw_json_open(j, '{'))
 *         while (sw_json_next(j, '}', &first)) ...
 * first is true before the first call. sw_json_next() is false at the closing bracket, which it
 * takes, or on an error. sw_json_member() is the same for an object, and takes the key (as
 * sw_json_string() does) and the colon, too. */
bool sw_json_open(sw_json *j, char bracket);
bool sw_json_next(sw_json *j, char closing, bool *first);
bool sw_json_member(sw_json *j, bool *first, char **key, size_t *len);

/* ---- writing: exact text --------------------------------------------------------------------- */

/* Append s as a JSON string in quotes. serde: raw UTF-8, only what must be is escaped (\" \\ \b \t
 * \n \f \r, \u00xx for other control characters). python: as json.dumps with ensure_ascii (\uxxxx,
 * surrogate pairs). */
sw_code sw_json_add_serde(sw_buf *b, const char *s, size_t len, sw_status *st);
sw_code sw_json_add_python(sw_buf *b, const char *s, size_t len, sw_status *st);

#endif
