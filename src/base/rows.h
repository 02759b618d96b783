/* Rows that lie at equal distances: copied, compared. */
#ifndef SW_BASE_ROWS_H
#define SW_BASE_ROWS_H

#include <stdbool.h>
#include <stdint.h>

/* Rows that begin so many bytes apart. */
typedef struct sw_rows {
    uint64_t row, count; /* bytes of a row; rows */
    int64_t from_step, to_step;
} sw_rows;

/* Local. Copy the rows at from to where they go, the first one to to. */
void sw_rows_copy(char *to, const char *from, const sw_rows *rows);

/* Local. Are the rows at from the same as those where they would go? */
bool sw_rows_equal(const char *to, const char *from, const sw_rows *rows);

/* Local. Copy them past the processor's caches, for more memory than they hold and which nobody is
 * about to look at; it is faster where rows lie far apart, because several are under way at once.
 * Rows of less than SW_ROWS_STREAM bytes are copied as above. */
void sw_rows_stream(char *to, const char *from, const sw_rows *rows);

#define SW_ROWS_STREAM 512u

#endif
