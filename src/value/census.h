/* What the numbers of a tensor are like: how many are NaN or infinite, the least and the most of
 * the others. Pure, one pass, about as fast as memory can be read.
 *
 * A number that lies in memory as sign and magnitude is made a signed integer of the same order,
 * its key: so least and most are those of integers, whatever the dtype, and -0 comes before 0. */
#ifndef SW_VALUE_CENSUS_H
#define SW_VALUE_CENSUS_H

#include <stdbool.h>
#include <stdint.h>

#include "format/dtype.h"
#include "value/cast.h"

/* It can be sent as it lies. */
typedef struct sw_census {
    uint64_t nan, inf;
    int64_t least, most; /* keys; least > most: no number is finite */
} sw_census;

#define SW_CENSUS_INIT                                                                                       \
    {                                                                                                        \
        0, 0, INT64_MAX, INT64_MIN                                                                           \
    }

/* Local. F64 F32 F16 BF16, and FP8 of all kinds. */
bool sw_census_counts(sw_dtype dtype);

/* Local. n elements more, at any address, of a dtype that is counted. */
void sw_census_take(sw_census *c, sw_dtype dtype, const void *data, uint64_t n);

/* Local. The same by a path that is usable: for tests. */
void sw_census_take_by(sw_cast_path path, sw_census *c, sw_dtype dtype, const void *data, uint64_t n);

/* Local. What another part of the same tensor has come to. */
void sw_census_join(sw_census *c, const sw_census *other);

/* Local. Is any number finite? / The number of a key: exactly. */
bool sw_census_has_range(const sw_census *c);
double sw_census_value(sw_dtype dtype, int64_t key);

#endif
