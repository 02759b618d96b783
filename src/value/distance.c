/* Elements as numbers, and how far two are apart; see distance.h. */
#include "value/distance.h"

#include <endian.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/num.h"
#include "value/dequant.h"

#define PIECE 512u /* elements */

uint64_t sw_element_bits(const void *data, uint64_t i, unsigned bits)
{
    const unsigned char *bytes = data;
    uint64_t at = i * bits, value = 0;

    if (bits >= 8) {
        memcpy(&value, bytes + at / 8, bits / 8);
        return value;
    }
    value = bytes[at / 8];
    if (at % 8 + bits > 8)
        value |= (uint64_t)bytes[at / 8 + 1] << 8;
    return value >> at % 8 & ((UINT64_C(1) << bits) - 1);
}

/* What a float of 4 or 6 bits stands for: a sign, exponent, fraction, and all are numbers. */
static double narrow_value(sw_dtype dtype, uint64_t bits)
{
    unsigned fraction = dtype == SW_F6_E2M3 ? 3 : dtype == SW_F6_E3M2 ? 2 : 1;
    int bias = dtype == SW_F6_E3M2 ? 3 : 1;
    uint64_t one = UINT64_C(1) << fraction, size = bits & ((UINT64_C(1) << (sw_dtype_bits(dtype) - 1)) - 1);
    int exponent = (int)(size >> fraction);
    double value =
        ldexp((double)(size % one + (exponent ? one : 0)), (exponent ? exponent : 1) - bias - (int)fraction);

    return size == bits ? value : -value;
}

int64_t sw_signed_of(sw_dtype dtype, uint64_t bits)
{
    unsigned unused = 64u - sw_dtype_bits(dtype);

    return (int64_t)(bits << unused) >> unused;
}

/* All elements of one width, as they are. */
#define EACH(id, type)                                                                                       \
    case id:                                                                                                 \
        for (uint64_t i = 0; i < n; i++) {                                                                   \
            type x;                                                                                          \
                                                                                                             \
            memcpy(&x, (const char *)data + i * sizeof x, sizeof x);                                         \
            out[i] = (double)x;                                                                              \
        }                                                                                                    \
        return;

/* Floats of 8 to 32 bits: an F32 has all that they have. */
static void widen(sw_dtype dtype, const char *data, uint64_t n, double *out)
{
    unsigned size = sw_dtype_bits(dtype) / 8;
    float piece[PIECE];

    for (uint64_t at = 0, now; at < n; at += now) {
        now = sw_min(n - at, PIECE);
        sw_dequant_numbers(dtype, data + at * size, piece, now);
        for (uint64_t i = 0; i < now; i++)
            out[at + i] = (double)piece[i];
    }
}

void sw_numbers_of(sw_dtype dtype, const void *data, uint64_t n, double *out)
{
    unsigned bits = sw_dtype_bits(dtype);

    switch ((int)dtype) {
        SW_INTEGERS(EACH)
        EACH(SW_F64, double)
        EACH(SW_BOOL, uint8_t)
    default:
        if (bits >= 8)
            widen(dtype, data, n, out);
        for (uint64_t i = 0; bits < 8 && i < n; i++)
            out[i] = narrow_value(dtype, sw_element_bits(data, i, bits));
    }
}

double sw_number_of(sw_dtype dtype, uint64_t bits)
{
    uint64_t lying = htole64(bits);
    double number;

    sw_numbers_of(dtype, &lying, 1, &number);
    return number;
}

/* Integers are subtracted as such: doubles would lose the last bits of wide ones. */
static double distance(sw_dtype dtype, uint64_t a, uint64_t b)
{
    if (sw_dtype_is_signed(dtype)) {
        int64_t x = sw_signed_of(dtype, a), y = sw_signed_of(dtype, b);

        return (double)(x > y ? (uint64_t)x - (uint64_t)y : (uint64_t)y - (uint64_t)x);
    }
    if (dtype == SW_U64)
        return (double)(a > b ? a - b : b - a);
    return sw_number_of(dtype, a) - sw_number_of(dtype, b);
}

sw_gap sw_gap_of(sw_dtype dtype, uint64_t a, uint64_t b)
{
    double re_a, re_b, im_a, im_b;

    if (dtype != SW_C64)
        return sw_gap_between(sw_number_of(dtype, a), sw_number_of(dtype, b), distance(dtype, a, b));
    re_a = sw_number_of(SW_F32, a & UINT32_MAX);
    re_b = sw_number_of(SW_F32, b & UINT32_MAX);
    im_a = sw_number_of(SW_F32, a >> 32);
    im_b = sw_number_of(SW_F32, b >> 32);
    return sw_gap_between(hypot(re_a, im_a), hypot(re_b, im_b), hypot(re_a - re_b, im_a - im_b));
}
