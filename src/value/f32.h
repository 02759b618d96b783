/* What conversions share: an F32 and its bits, and functions compiled for CPUs with AVX2 and F16C,
 * which are to be called only where sw_cast_path_usable() says so. */
#ifndef SW_VALUE_F32_H
#define SW_VALUE_F32_H

#include <stdint.h>
#include <string.h>

#define F32_SIGN 0x80000000u
#define F32_INF 0x7f800000u
#define F32_NAN 0x7fc00000u /* quiet, no payload */

/* The bits of an F32. */
static inline uint32_t f32_bits(float f)
{
    uint32_t x;

    memcpy(&x, &f, sizeof x);
    return x;
}

/* The F32 of these bits. */
static inline float f32_of(uint32_t x)
{
    float f;

    memcpy(&f, &x, sizeof f);
    return f;
}

#if defined(__x86_64__)
#include <immintrin.h>
#define AVX2 __attribute__((target("avx2,f16c")))
#else
#define AVX2
#endif

#endif
