/* Elements as numbers, and how far two are apart; see distance.h. */
#include "plan/distance.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

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

/* A kind of floats of 16 bits and less: a sign, exponent, fraction. */
typedef struct small_float {
    unsigned exponent, fraction; /* bits */
    int bias;
    /* what is no number: the largest exponent, as IEEE has it; all ones; minus zero; nothing */
    enum { IEEE, ONE_NAN, ZERO_NAN, FINITE } top;
} small_float;

static const small_float *small_float_of(sw_dtype dtype)
{
    static const struct {
        sw_dtype dtype;
        small_float is;
    } all[] = {
        { SW_F16, { 5, 10, 15, IEEE } },           { SW_F8_E5M2, { 5, 2, 15, IEEE } },
        { SW_F8_E4M3, { 4, 3, 7, ONE_NAN } },      { SW_F8_E5M2FNUZ, { 5, 2, 16, ZERO_NAN } },
        { SW_F8_E4M3FNUZ, { 4, 3, 8, ZERO_NAN } }, { SW_F6_E3M2, { 3, 2, 3, FINITE } },
        { SW_F6_E2M3, { 2, 3, 1, FINITE } },       { SW_F4, { 2, 1, 1, FINITE } },
    };

    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i].dtype == dtype)
            return &all[i].is;
    return NULL;
}

/* What the bits of an F32 stand for. */
static inline double float_value(uint64_t bits)
{
    uint32_t word = (uint32_t)bits;
    float f;

    memcpy(&f, &word, sizeof f);
    return (double)f;
}

/* The same of an F64. */
static inline double double_value(uint64_t bits)
{
    double d;

    memcpy(&d, &bits, sizeof d);
    return d;
}

/* What its bits stand for. As the upper bits of a double they are it but for a power of two, also
 * where they have no leading one. */
static inline double small_value(const small_float *f, uint64_t bits)
{
    uint64_t ones = (UINT64_C(1) << f->exponent) - 1,
             size = bits & ((ones << f->fraction) | ((UINT64_C(1) << f->fraction) - 1)),
             e = size >> f->fraction, m = size & ((UINT64_C(1) << f->fraction) - 1);
    bool minus = bits >> (f->exponent + f->fraction) & 1;
    double value = double_value(size << (52 - f->fraction)) * double_value((uint64_t)(2046 - f->bias) << 52);

    if (e == ones && f->top == IEEE)
        value = m ? NAN : INFINITY;
    else if ((f->top == ONE_NAN && e == ones && m == (UINT64_C(1) << f->fraction) - 1) ||
             (f->top == ZERO_NAN && minus && size == 0))
        value = NAN;
    return minus ? -value : value;
}

int64_t sw_signed_of(sw_dtype dtype, uint64_t bits)
{
    unsigned unused = 64u - sw_dtype_bits(dtype);

    return (int64_t)(bits << unused) >> unused;
}

/* Is it a dtype of integers with a sign? */
static bool is_signed(sw_dtype dtype)
{
    return dtype == SW_I64 || dtype == SW_I32 || dtype == SW_I16 || dtype == SW_I8;
}

double sw_number_of(sw_dtype dtype, uint64_t value)
{
    const small_float *small = small_float_of(dtype);

    if (small)
        return small_value(small, value);
    switch (dtype) {
    case SW_F64:
        return double_value(value);
    case SW_F32:
        return float_value(value);
    case SW_BF16:
        return float_value(value << 16);
    case SW_F8_E8M0:
        return value == 255 ? NAN : ldexp(1, (int)value - 127);
    default:
        return is_signed(dtype) ? (double)sw_signed_of(dtype, value) : (double)value;
    }
}

/* All elements of one width, by an expression of each, x. */
#define EACH(type, expression)                                                                               \
    for (uint64_t i = 0; i < n; i++) {                                                                       \
        type x;                                                                                              \
                                                                                                             \
        memcpy(&x, (const char *)data + i * sizeof x, sizeof x);                                             \
        out[i] = (double)(expression);                                                                       \
    }

void sw_numbers_of(sw_dtype dtype, const void *data, uint64_t n, double *out)
{
    const small_float *small = small_float_of(dtype);
    unsigned bits = sw_dtype_bits(dtype);

    if (bits < 8)
        for (uint64_t i = 0; i < n; i++)
            out[i] = sw_number_of(dtype, sw_element_bits(data, i, bits));
    else if (small && bits == 16)
        EACH(uint16_t, small_value(small, x))
    else if (small)
        EACH(uint8_t, small_value(small, x))
    else if (dtype == SW_BF16)
        EACH(uint16_t, float_value((uint32_t)x << 16))
    else if (dtype == SW_F32)
        EACH(float, x)
    else if (dtype == SW_F64)
        EACH(double, x)
    else if (bits == 32)
        EACH(uint32_t, sw_number_of(dtype, x))
    else if (bits == 16)
        EACH(uint16_t, sw_number_of(dtype, x))
    else if (bits == 8)
        EACH(uint8_t, sw_number_of(dtype, x))
    else
        EACH(uint64_t, sw_number_of(dtype, x))
}

/* Integers are subtracted as such: doubles would lose the last bits of wide ones. */
static double distance(sw_dtype dtype, uint64_t a, uint64_t b)
{
    if (is_signed(dtype)) {
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
    re_a = float_value(a & UINT32_MAX);
    re_b = float_value(b & UINT32_MAX);
    im_a = float_value(a >> 32);
    im_b = float_value(b >> 32);
    return sw_gap_between(hypot(re_a, im_a), hypot(re_b, im_b), hypot(re_a - re_b, im_a - im_b));
}
