/* NaN, infinite, least and most: of every bit pattern of the small dtypes against the numbers that
 * they are, of the large ones at every edge, at every address and count. */
#include <math.h>

#include "float_help.h"
#include "unit.h"
#include "value/census.h"
#include "value/dequant.h"

static const sw_dtype all[] = { SW_F64,     SW_F32,     SW_BF16,        SW_F16,        SW_F8_E4M3,
                                SW_F8_E5M2, SW_F8_E8M0, SW_F8_E4M3FNUZ, SW_F8_E5M2FNUZ };

/* The number that lies there. */
static double number_at(sw_dtype dtype, const unsigned char *p)
{
    double d;
    float f;

    if (dtype == SW_F64) {
        memcpy(&d, p, sizeof d);
        return d;
    }
    sw_dequant_numbers(dtype, p, &f, 1);
    return (double)f;
}

static sw_cast_path way;

/* By the book. -0 is less than 0. */
static void check(sw_dtype dtype, const unsigned char *p, uint64_t n)
{
    const size_t bytes = width(dtype);
    sw_census c = SW_CENSUS_INIT;
    double least = INFINITY, most = -INFINITY;
    uint64_t nan = 0, inf = 0;

    for (uint64_t i = 0; i < n; i++) {
        double x = number_at(dtype, p + i * bytes);

        nan += isnan(x) != 0;
        inf += isinf(x) != 0;
        if (isfinite(x) && (x < least || (x <= least && signbit(x))))
            least = x;
        if (isfinite(x) && (x > most || (x >= most && !signbit(x))))
            most = x;
    }
    sw_census_take_by(way, &c, dtype, p, n);
    assert_int_equal(c.nan, nan);
    assert_int_equal(c.inf, inf);
    assert_int_equal(sw_census_has_range(&c), least <= most);
    if (least > most)
        return;
    assert_memory_equal(&(double){ sw_census_value(dtype, c.least) }, &least, sizeof least);
    assert_memory_equal(&(double){ sw_census_value(dtype, c.most) }, &most, sizeof most);
}

TEST(which)
{
    assert_true(sw_census_counts(SW_F8_E8M0) && sw_census_counts(SW_F64));
    assert_false(sw_census_counts(SW_C64) || sw_census_counts(SW_U8) || sw_census_counts(SW_F4));
}

/* Each pattern of 8 and 16 bits alone, and then all together: more than a block. */
static void try_patterns(sw_cast_path path)
{
    static unsigned char memory[65536 * 2];

    way = path;
    for (size_t d = 0; d < COUNT(all); d++) {
        const size_t bytes = width(all[d]);

        if (bytes > 2)
            continue;
        for (unsigned x = 0; x < 1u << 8 * bytes; x++) {
            memory[x * bytes] = (unsigned char)x;
            memory[x * bytes + bytes - 1] = (unsigned char)(x >> 8 * (bytes - 1));
            check(all[d], memory + x * bytes, 1);
        }
        check(all[d], memory, UINT64_C(1) << 8 * bytes);
    }
}

TEST(every_pattern)
{
    on_all_paths(try_patterns);
}

/* The numbers beside the edges of F32 and F64, of both signs. */
TEST(edges)
{
    static const uint64_t f32[] = { 0,          1,          0x007fffff, 0x00800000, 0x7f7fffff,
                                    0x7f800000, 0x7f800001, 0x7fbfffff, 0x7fc00000, 0x7fffffff };
    static const uint64_t f64[] = { 0,
                                    1,
                                    0x000fffffffffffff,
                                    0x0010000000000000,
                                    0x7fefffffffffffff,
                                    0x7ff0000000000000,
                                    0x7ff0000000000001,
                                    0x7ff8000000000000,
                                    0x7fffffffffffffff };
    unsigned char p[8];

    for (size_t i = 0; i < 2 * COUNT(f32); i++) {
        uint32_t x = (uint32_t)f32[i / 2] | (uint32_t)(i % 2) << 31;

        memcpy(p, &x, sizeof x);
        check(SW_F32, p, 1);
    }
    for (size_t i = 0; i < 2 * COUNT(f64); i++) {
        uint64_t x = f64[i / 2] | (uint64_t)(i % 2) << 63;

        memcpy(p, &x, sizeof x);
        check(SW_F64, p, 1);
    }
}

/* Blocks and what is left of them; all NaN, all infinite, all -0; none. */
static void try_counts(sw_cast_path path)
{
    static unsigned char memory[3 * 4096 + 64];

    way = path;
    for (int fill = 0; fill < 5; fill++) {
        for (size_t i = 0; i < sizeof memory; i++)
            memory[i] = fill < 2 ? (unsigned char)help_mix(i) : fill == 2 ? 0xff : fill == 3 ? 0x80 : 0;
        if (fill == 1) /* mostly finite */
            for (size_t i = 0; i < sizeof memory; i++)
                memory[i] &= 0x3f;
        for (size_t d = 0; d < COUNT(all); d++) {
            const uint64_t most = 3 * 4096 / width(all[d]);

            for (uint64_t n = 0; n <= most; n += n < 70 ? 1 : 509)
                check(all[d], memory + n % 9, n);
        }
    }
}

TEST(counts_and_addresses)
{
    on_all_paths(try_counts);
}

TEST(joined)
{
    const float x[] = { 3, -1, NAN, INFINITY, 7, -INFINITY };
    sw_census a = SW_CENSUS_INIT, b = SW_CENSUS_INIT;

    sw_census_take(&a, SW_F32, x, 3);
    sw_census_take(&b, SW_F32, x + 3, 3);
    sw_census_join(&a, &b);
    assert_int_equal(a.nan, 1);
    assert_int_equal(a.inf, 2);
    assert_true(sw_census_value(SW_F32, a.least) == -1 && sw_census_value(SW_F32, a.most) == 7);
}
