/* Elements as numbers, and how far apart they are. */
#include "unit.h"
#include "value/distance.h"

#include <math.h>

static const struct {
    sw_dtype dtype;
    uint64_t bits;
    double is;
} values[] = {
    { SW_F64, UINT64_C(0x3ff8000000000000), 1.5 },
    { SW_F32, 0xbfc00000, -1.5 },
    { SW_BF16, 0x4049, 3.140625 },
    { SW_F16, 0x3c00, 1 },
    { SW_F16, 0x0001, 0x1p-24 },
    { SW_F16, 0x03ff, 1023 * 0x1p-24 },
    { SW_F16, 0xfbff, -65504 },
    { SW_F16, 0x7c00, INFINITY },
    { SW_F16, 0x7c01, NAN },
    { SW_F8_E4M3, 0x7e, 448 },
    { SW_F8_E4M3, 0x01, 0x1p-9 },
    { SW_F8_E4M3, 0xff, NAN },
    { SW_F8_E5M2, 0x7b, 57344 },
    { SW_F8_E5M2, 0xfc, -INFINITY },
    { SW_F8_E5M2, 0x7d, NAN },
    { SW_F8_E5M2, 0x01, 0x1p-16 },
    { SW_F8_E4M3FNUZ, 0x80, NAN },
    { SW_F8_E4M3FNUZ, 0x7f, 240 },
    { SW_F8_E5M2FNUZ, 0x80, NAN },
    { SW_F8_E5M2FNUZ, 0xff, -57344 },
    { SW_F8_E8M0, 127, 1 },
    { SW_F8_E8M0, 0, 0x1p-127 },
    { SW_F8_E8M0, 255, NAN },
    { SW_F6_E2M3, 0x1f, 7.5 },
    { SW_F6_E2M3, 0x21, -0.125 },
    { SW_F6_E3M2, 0x1f, 28 },
    { SW_F4, 0x7, 6 },
    { SW_F4, 0x9, -0.5 },
    { SW_I64, UINT64_MAX, -1 },
    { SW_I8, 0x80, -128 },
    { SW_U8, 0x80, 128 },
    { SW_U64, UINT64_C(1) << 63, 0x1p63 },
    { SW_BOOL, 1, 1 },
};

TEST(numbers)
{
    for (size_t i = 0; i < COUNT(values); i++) {
        double is = sw_number_of(values[i].dtype, values[i].bits);

        if (isnan(values[i].is) ? !isnan(is) : is != values[i].is)
            fail_msg("%s 0x%llx is %g, not %g", sw_dtype_name(values[i].dtype),
                     (unsigned long long)values[i].bits, is, values[i].is);
    }
}

/* Many at once are what each is by itself: all bits that there are of up to 16. */
TEST(many)
{
    static unsigned char data[131072];
    static double out[65536];

    for (size_t i = 0; i < 65536; i++) {
        data[2 * i] = (unsigned char)i;
        data[2 * i + 1] = (unsigned char)(i >> 8);
    }
    for (int t = 0; t < SW_NDTYPES; t++) {
        unsigned bits = sw_dtype_bits((sw_dtype)t);
        uint64_t n = bits <= 16 ? 65536 : 8192;

        if (t == SW_C64)
            continue;
        sw_numbers_of((sw_dtype)t, data, n, out);
        for (uint64_t i = 0; i < n; i++) {
            double one = sw_number_of((sw_dtype)t, sw_element_bits(data, i, bits));

            if (isnan(one) ? !isnan(out[i]) : out[i] != one)
                fail_msg("%s %llu", sw_dtype_name((sw_dtype)t), (unsigned long long)i);
        }
    }
}

static const struct {
    sw_dtype dtype;
    uint64_t a, b;
    double absolute, relative;
} gaps[] = {
    { SW_F32, 0x3fc00000, 0x3f800000, 0.5, 1 / 3.0 }, /* 1.5, 1 */
    { SW_F32, 0x80000000, 0, 0, 0 },                  /* -0, 0 */
    { SW_F32, 0x7f800000, 0x3f800000, INFINITY, INFINITY },
    { SW_F32, 0x7f800000, 0xff800000, INFINITY, INFINITY },
    { SW_F32, 0x7fc00000, 0x3f800000, INFINITY, INFINITY },
    { SW_F32, 0x7fc00000, 0x7fc00001, 0, 0 },
    { SW_F64, UINT64_C(0x7fefffffffffffff), UINT64_C(0xffefffffffffffff), INFINITY, INFINITY },
    { SW_I64, UINT64_C(0x7fffffffffffffff), UINT64_C(0x7ffffffffffffffe), 1, 0x1p-63 },
    { SW_I64, UINT64_C(0x8000000000000000), UINT64_C(0x7fffffffffffffff), 0x1p64, 2 },
    { SW_U64, UINT64_MAX, UINT64_MAX - 2, 2, 0x1p-63 },
    { SW_I8, 0x80, 0x7f, 255, 255 / 128.0 },
    { SW_C64, UINT64_C(0x4080000000000000), UINT64_C(0x0000000040400000), 5, 1.25 }, /* 4i, 3 */
};

TEST(apart)
{
    for (size_t i = 0; i < COUNT(gaps); i++) {
        sw_gap g = sw_gap_of(gaps[i].dtype, gaps[i].a, gaps[i].b);

        if (g.absolute != gaps[i].absolute || g.relative != gaps[i].relative)
            fail_msg("%zu: %g, %g", i, g.absolute, g.relative);
    }
    assert_true(sw_gap_of(SW_F32, 0x7fc00000, 0x7fc00001).nan);
}
