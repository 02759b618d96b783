/* Checked arithmetic on 64-bit sizes and offsets: false = the result does not fit. */
#ifndef SW_BASE_NUM_H
#define SW_BASE_NUM_H

#include <stdbool.h>
#include <stdint.h>

/* The sum, if it fits. */
static inline bool sw_add(uint64_t a, uint64_t b, uint64_t *sum)
{
    return !__builtin_add_overflow(a, b, sum);
}

/* The product, if it fits. */
static inline bool sw_mul(uint64_t a, uint64_t b, uint64_t *product)
{
    return !__builtin_mul_overflow(a, b, product);
}

/* The lower of two. */
static inline uint64_t sw_min(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* The higher of two. */
static inline uint64_t sw_max(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* The digits at *at as a number, past which *at is moved: there is at least one, and they fit. */
static inline bool sw_take_decimal(const char **at, uint64_t *n)
{
    const char *begin = *at;

    for (*n = 0; **at >= '0' && **at <= '9'; ++*at)
        if (!sw_mul(*n, 10, n) || !sw_add(*n, (uint64_t)(**at - '0'), n))
            return false;
    return *at > begin;
}

/* What a hexadecimal digit stands for, in either case; -1 = it is none. */
static inline int sw_hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The number that n bytes (at most 8) stand for, the lowest first. */
static inline uint64_t sw_little(const unsigned char *bytes, unsigned n)
{
    uint64_t x = 0;

    for (unsigned i = n; i-- > 0;)
        x = x << 8 | bytes[i];
    return x;
}

/* a rounded up to a multiple of unit (> 0); a + unit must fit. */
static inline uint64_t sw_round_up(uint64_t a, uint64_t unit)
{
    return (a + unit - 1) / unit * unit;
}

/* a rounded down to a multiple of unit (> 0). */
static inline uint64_t sw_round_down(uint64_t a, uint64_t unit)
{
    return a / unit * unit;
}

#endif
