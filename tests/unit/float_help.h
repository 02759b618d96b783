/* For tests of values: conversion by the book, an element at a time and in integers only, and what
 * the tables that torch made are compared by. */
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

/* ---- by the book ----------------------------------------------------------------------------- */

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

/* (-1)^negative * mantissa * 2^exponent, or what is none. */
typedef struct help_number {
    bool negative, inf, nan;
    uint64_t mantissa;
    int exponent;
} help_number;

static inline help_number help_decode(uint64_t bits, help_format f)
{
    int last = (1 << f.exponent) - 1, bias = last / 2;
    int field = (int)(bits >> f.mantissa & (uint64_t)last);
    help_number n = { 0 };

    n.mantissa = bits & ((UINT64_C(1) << f.mantissa) - 1);
    n.negative = bits >> (f.exponent + f.mantissa) & 1;
    n.nan = field == last && n.mantissa;
    n.inf = field == last && !n.mantissa;
    if (field)
        n.mantissa |= UINT64_C(1) << f.mantissa;
    n.exponent = (field ? field : 1) - bias - f.mantissa;
    return n;
}

/* m / 2^shift to the nearest, ties to even. */
static inline uint64_t help_shift(uint64_t m, int shift)
{
    uint64_t rest, half;

    if (shift > 63)
        return 0;
    if (shift <= 0)
        return m << -shift;
    half = UINT64_C(1) << (shift - 1);
    rest = m & (2 * half - 1);
    m = m >> (shift - 1) >> 1;
    return m + (rest > half || (rest == half && (m & 1)));
}

/* A finite number below 2^63 * 2^exponent, rounded once. */
static inline uint64_t help_round(uint64_t m, int exponent, help_format f)
{
    int last = (1 << f.exponent) - 1, least = 1 - last / 2 - f.mantissa, unit;
    uint64_t one = UINT64_C(1) << f.mantissa, inf = (uint64_t)last << f.mantissa;

    if (m == 0)
        return 0;
    unit = 63 - __builtin_clzll(m) + exponent - f.mantissa;
    unit = unit < least ? least : unit;
    m = help_shift(m, unit - exponent);
    if (m == 2 * one) {
        m = one;
        unit++;
    }
    if (m < one)
        return m;
    return unit - least + 1 >= last ? inf : ((uint64_t)(unit - least + 1) << f.mantissa) | (m - one);
}

static inline uint64_t help_encode(help_number n, help_format f)
{
    uint64_t sign = (uint64_t)n.negative << (f.exponent + f.mantissa);
    uint64_t inf = ((UINT64_C(1) << f.exponent) - 1) << f.mantissa;

    if (n.nan)
        return sign | inf | UINT64_C(1) << (f.mantissa - 1);
    return sign | (n.inf ? inf : help_round(n.mantissa, n.exponent, f));
}

static inline uint64_t help_convert_once(sw_dtype from, sw_dtype to, uint64_t bits)
{
    return help_encode(help_decode(bits, help_format_of(from)), help_format_of(to));
}

/* As sw_cast() has it: F64 to 16 bits by way of F32. */
static inline uint64_t help_convert(sw_dtype from, sw_dtype to, uint64_t bits)
{
    if (from == to)
        return bits;
    if (from == SW_F64 && to != SW_F32)
        return help_convert_once(SW_F32, to, help_convert_once(SW_F64, SW_F32, bits));
    return help_convert_once(from, to, bits);
}

#endif
