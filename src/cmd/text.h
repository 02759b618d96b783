/* Text for people: names that others chose made harmless, numbers that can be read, columns. All
 * local. */
#ifndef SW_CMD_TEXT_H
#define SW_CMD_TEXT_H

#include <stdio.h>

#include "shardweld.h"

#define SW_COUNT(array) (sizeof(array) / sizeof *(array))

typedef enum sw_text_form { SW_TEXT_PLAIN, SW_TEXT_JSON, SW_TEXT_XML } sw_text_form;

/* Write a name as sw_text_clean() makes it, so that a terminal can take it; for JSON (between
 * quotes) and XML (content or attribute) with what these escape. JSON escapes what is harmful, too,
 * in place of '?'. */
void sw_text_put(FILE *to, const char *text, sw_text_form form);

/* Write "[4096, 11008]". */
void sw_dims_put(FILE *to, const uint64_t *dims, unsigned n);

/* Write "file: tensor 'x': reason" of an sw_finding. */
void sw_finding_print(FILE *to, const void *finding);

/* A copy of a name that a terminal can take: see sw_text_clean(). Free it. NULL when memory is
 * short. */
char *sw_clean_copy(const char *name);

/* Columns that a clean text takes on a terminal: two for a character of full width (CJK, kana,
 * Hangul, emoji), none for a mark upon another one. No locale is asked. */
size_t sw_text_width(const char *text);

/* Shorten a clean text in place to at most width columns (at least 5), with "..." in its middle;
 * or, where its end tells most, at its beginning. */
void sw_text_shorten(char *text, size_t width, bool end);

#define SW_NUMBER_TEXT 32

/* "6,738,415,616". Returns text. */
char *sw_number_text(uint64_t n, char text[SW_NUMBER_TEXT]);

/* "6.74 B", "13.1 M"; the number itself below a thousand. Returns text. */
char *sw_count_text(uint64_t n, char text[SW_NUMBER_TEXT]);

/* "1.10 GB", to be read as per second. Returns text. */
char *sw_rate_text(uint64_t bytes, double seconds, char text[SW_SIZE_TEXT]);

/* "band" or "owner": what ran. */
const char *sw_assign_text(sw_assign assign);

/* "s" but for one. */
const char *sw_plural(uint64_t n);

/* Write text in lines of at most width columns (0 = any), each with these words before it: first,
 * then the rest. Words longer than a line are not broken. */
void sw_text_wrap(FILE *to, const char *text, const char *first, const char *rest, size_t width);

/* Columns of a terminal; 80 where it does not say. */
size_t sw_terminal_columns(int fd);

/* How wide lines on standard output may be: COLUMNS, the terminal's width, 80 where that is not
 * known; 0 = any, for a file or pipe. */
size_t sw_text_columns(void);

#endif
