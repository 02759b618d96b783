/* Elements that differ between two copies of a tensor: counted, the first one kept. Pure.
 *
 * Nearly always there are none, so that what is equal must cost little more than memcmp(); what
 * differs is looked at element by element, those of 4 and 6 bits too. */
#ifndef SW_VALUE_DIFFERENCE_H
#define SW_VALUE_DIFFERENCE_H

#include "base/buf.h"
#include "format/dtype.h"
#include "shardweld.h"

/* The differing elements of one thing: a tensor, or a box of it. */
typedef struct sw_difference {
    uint64_t tensor; /* the caller's numbers for the thing */
    uint64_t box;
    uint64_t count;    /* elements that differ */
    uint64_t first;    /* the first of them, counted in the order of the data */
    uint64_t is, want; /* its two values, as they lie in memory, in the low bits */
    /* the most that two values are apart, and the most in proportion to the larger of them;
     * infinite where one of the two is no finite number */
    double largest, relative;
} sw_difference;

typedef struct sw_differences {
    sw_difference *items;
    size_t n, cap;
    uint64_t elements;    /* that were found to differ here, of all items */
    sw_tolerance allowed; /* what does not count: zeros = every bit does */
} sw_differences;

/* Ranges of data that are compared apart begin and end at multiples of this, in bytes, or with the
 * data: so no element, of whatever width, is cut. */
#define SW_ELEMENTS_UNIT 24u

/* Two copies of n bytes of a thing, which begin at its byte from, a multiple of
 * SW_ELEMENTS_UNIT. */
typedef struct sw_copies {
    uint64_t tensor, box;
    sw_dtype dtype;
    uint64_t from, n;
    const void *is, *want;
} sw_copies;

/* Local. Compare them. What differs is added to the last item if that is the same thing, else a new
 * one is made. Errors: SW_ENOMEM. */
sw_code sw_differences_compare(sw_differences *d, const sw_copies *k, sw_status *st);

/* Local. Sort by thing, and join what was found of one thing in several parts. */
void sw_differences_join(sw_differences *d);

void sw_differences_release(sw_differences *d);

/* Local. The position of element i of a tensor of n dimensions into index, outermost first. */
void sw_element_index(uint64_t i, const uint64_t *shape, unsigned n, uint64_t *index);

#define SW_VALUES_TEXT 192

/* Local. "1.5, expected 1.25" for people, if that is what stands between; where two values look
 * alike, their bits stand behind them. Returns text. */
char *sw_values_text(sw_dtype dtype, uint64_t is, const char *between, uint64_t want,
                     char text[SW_VALUES_TEXT]);

#endif
