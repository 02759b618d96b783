/* What the bits of elements stand for, and how far two of them are apart. Pure.
 *
 * Asked of elements that differ: mostly none, or nearly all, as between two steps of a training. */
#ifndef SW_VALUE_DISTANCE_H
#define SW_VALUE_DISTANCE_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#include "format/dtype.h"

/* Local. The bits of element i of data that begins with a whole one. Those of less than a byte lie
 * one behind the other from the lowest bit on. */
uint64_t sw_element_bits(const void *data, uint64_t i, unsigned bits);

/* Local. The value of an element of any dtype but C64, as near as a double comes. */
double sw_number_of(sw_dtype dtype, uint64_t bits);

/* Local. The same of n elements that lie one behind the other. */
void sw_numbers_of(sw_dtype dtype, const void *data, uint64_t n, double *out);

/* Local. The value of a dtype of integers with a sign. */
int64_t sw_signed_of(sw_dtype dtype, uint64_t bits);

typedef struct sw_gap {
    /* how far apart, and that in proportion to the larger of the two; infinite where one of them is
     * no finite number */
    double absolute, relative;
    bool nan; /* neither is a number: no distance */
} sw_gap;

/* Local. Of two numbers, so far apart. */
static inline sw_gap sw_gap_between(double a, double b, double apart)
{
    double x = fabs(a), y = fabs(b);
    sw_gap g = { fabs(apart), 0, false };

    if (!isfinite(g.absolute)) {
        g.nan = isnan(a) && isnan(b);
        g.absolute = g.relative = g.nan ? 0 : INFINITY;
    } else if (g.absolute > 0) {
        g.relative = g.absolute / (x > y ? x : y);
    }
    return g;
}

/* Local. Between two elements of whatever dtype. */
sw_gap sw_gap_of(sw_dtype dtype, uint64_t a, uint64_t b);

/* Local. Are doubles enough, so that sw_numbers_of() and sw_gap_between() come to the same? */
static inline bool sw_numbers_do(sw_dtype dtype)
{
    return dtype != SW_C64 && dtype != SW_I64 && dtype != SW_U64;
}

#endif
