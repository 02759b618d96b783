/* For tests of values: elements as bits, and what the tables that torch made are compared by. */
#ifndef TEST_FLOAT_HELP_H
#define TEST_FLOAT_HELP_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "value/cast.h"

/* ---- every way ------------------------------------------------------------------------------- */

/* Bytes of an element. */
static inline unsigned width(sw_dtype dtype)
{
    return sw_dtype_bits(dtype) / 8;
}

/* Call fn for each path that this CPU can go. */
static inline void on_all_paths(void (*fn)(sw_cast_path path))
{
    for (unsigned p = 0; p < SW_CAST_NPATHS; p++)
        if (sw_cast_path_usable((sw_cast_path)p))
            fn((sw_cast_path)p);
}

/* ---- pseudo-random input and hashes: tables/make_tables.py has the same ---------------------- */

static inline uint64_t help_mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

/* The i-th element of a result joins a hash. */
static inline uint64_t help_hash(uint64_t hash, uint64_t i, uint64_t bits)
{
    return hash + help_mix(bits ^ i * UINT64_C(0x9e3779b97f4a7c15));
}

/* ---- elements as bits ------------------------------------------------------------------------ */

static inline uint64_t help_get(const void *p, uint64_t i, unsigned width)
{
    const unsigned char *at = (const unsigned char *)p + i * width;
    uint64_t bits = 0;

    for (unsigned k = 0; k < width; k++)
        bits |= (uint64_t)at[k] << 8 * k;
    return bits;
}

static inline void help_put(void *p, uint64_t i, unsigned width, uint64_t bits)
{
    unsigned char bytes[8];

    for (unsigned k = 0; k < sizeof bytes; k++)
        bytes[k] = (unsigned char)(bits >> 8 * k);
    memcpy((unsigned char *)p + i * width, bytes, width);
}

/* ---- formats --------------------------------------------------------------------------------- */

/* Sizes of the fields of a format. */
typedef struct help_format {
    int exponent, mantissa;
} help_format;

static inline help_format help_format_of(sw_dtype dtype)
{
    switch (dtype) {
    case SW_F64:
        return (help_format){ 11, 52 };
    case SW_F32:
        return (help_format){ 8, 23 };
    case SW_BF16:
        return (help_format){ 8, 7 };
    default:
        return (help_format){ 5, 10 };
    }
}

/* One element, by the path that has no vectors. What it gives is held against torch's tables in
 * test_cast.c. */
static inline uint64_t help_convert(sw_dtype from, sw_dtype to, uint64_t bits)
{
    unsigned char in[8], out[8];

    help_put(in, 0, width(from), bits);
    sw_cast_by(SW_CAST_PORTABLE, from, to, in, out, 1);
    return help_get(out, 0, width(to));
}

#endif
