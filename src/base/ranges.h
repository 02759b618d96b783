/* A set of numbers, as ranges, and in words: "1 to 8", "2, 3, 7". */
#ifndef SW_BASE_RANGES_H
#define SW_BASE_RANGES_H

#include "base/buf.h"

typedef struct sw_range {
    uint64_t from, to; /* both are in it */
} sw_range;

typedef struct sw_ranges {
    sw_range *items; /* ascending, with gaps between them */
    size_t n, cap;
} sw_ranges;

#define SW_RANGES_INIT SW_EMPTY

/* Local. Add from..to, which do not begin before the last range. Errors: SW_ENOMEM. */
sw_code sw_ranges_add(sw_ranges *r, uint64_t from, uint64_t to, sw_status *st);

/* Local. Add the numbers of 1..n that r lacks to out, which is empty. Errors: SW_ENOMEM. */
sw_code sw_ranges_lacking(const sw_ranges *r, uint64_t n, sw_ranges *out, sw_status *st);

/* Local. Append "1 to 8" or "2, 3, 7"; of a longer list the first numbers and "...". Errors:
 * SW_ENOMEM. */
sw_code sw_ranges_words(const sw_ranges *r, sw_buf *out, sw_status *st);

/* Local. How many numbers, and the highest (0 = none). */
uint64_t sw_ranges_count(const sw_ranges *r);
uint64_t sw_ranges_last(const sw_ranges *r);

void sw_ranges_release(sw_ranges *r);

#endif
