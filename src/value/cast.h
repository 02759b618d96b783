/* One floating-point dtype to another, as torch does it. Pure: buffer to buffer. */
#ifndef SW_VALUE_CAST_H
#define SW_VALUE_CAST_H

#include <stdbool.h>
#include <stdint.h>

#include "format/dtype.h"

/* Local. Convert n elements.
 *   from, to  F64, F32, BF16 or F16; where they are equal bytes are copied
 *   src, dst  little-endian elements at any address; they do not overlap
 * Every result that is no NaN has torch's bits: to nearest, ties to even; F64 to 16 bits by way of
 * F32; signed zeros and subnormals kept; overflow to infinity. A NaN becomes the quiet NaN of the
 * target (7e00, 7fc0, 7fc00000, 7ff8000000000000) with the sign of the source. The result is the
 * same for every CPU, address, n and floating-point mode of the caller, which is left as it was.
 * Source: SPEC 5. */
void sw_cast(sw_dtype from, sw_dtype to, const void *src, void *dst, uint64_t n);

/* The ways to do it. They differ in speed only; sw_cast() takes the best one. Named for tests and
 * benchmarks. */
typedef enum sw_cast_path {
    SW_CAST_PORTABLE,
    SW_CAST_AVX2, /* with F16C */
    SW_CAST_NPATHS
} sw_cast_path;

/* Local. Can this CPU go this way? */
bool sw_cast_path_usable(sw_cast_path path);

/* Local. The fastest path that is usable. */
sw_cast_path sw_cast_path_best(void);

/* Local. sw_cast() by a path that is usable. */
void sw_cast_by(sw_cast_path path, sw_dtype from, sw_dtype to, const void *src, void *dst, uint64_t n);

#endif
