/* Elements that differ: counted whatever their width and wherever a range is cut, and told in
 * words. */
#include "unit.h"
#include "value/difference.h"

#include <math.h>

#define BYTES (SW_ELEMENTS_UNIT * 100u)

/* Change element i; a and b differ nowhere else. */
static void change(unsigned char *data, uint64_t i, unsigned bits)
{
    data[i * bits / 8] = (unsigned char)(data[i * bits / 8] ^ 1u << i * bits % 8);
}

static void compare(sw_differences *d, sw_dtype dtype, const unsigned char *is, const unsigned char *want,
                    uint64_t piece)
{
    sw_status st = SW_STATUS_INIT;

    for (uint64_t at = 0, n; at < BYTES; at += n) {
        n = BYTES - at < piece ? BYTES - at : piece;
        assert_int_equal(
            sw_differences_compare(d, &(sw_copies){ 5, 0, dtype, at, n, is + at, want + at }, &st), SW_OK);
    }
    sw_differences_join(d);
}

static const sw_dtype widths[] = { SW_F64, SW_F32, SW_BF16, SW_I8, SW_F6_E2M3, SW_F4 };

/* First, last, and neighbours across every kind of cut. */
TEST(count_and_place)
{
    static const uint64_t pieces[] = { BYTES, SW_ELEMENTS_UNIT, SW_ELEMENTS_UNIT * 7 };
    unsigned char is[BYTES], want[BYTES];

    for (size_t w = 0; w < COUNT(widths); w++) {
        unsigned bits = sw_dtype_bits(widths[w]);
        uint64_t n = BYTES * UINT64_C(8) / bits, cut = SW_ELEMENTS_UNIT * UINT64_C(8) / bits;
        const uint64_t changed[] = { 1, cut - 1, cut, n / 2, n - 1 };

        for (size_t p = 0; p < COUNT(pieces); p++) {
            sw_differences d = { 0 };

            memset(is, 0, sizeof is);
            memset(want, 0, sizeof want);
            compare(&d, widths[w], is, want, pieces[p]);
            assert_int_equal(d.n, 0);
            for (size_t i = 0; i < COUNT(changed); i++)
                change(is, changed[i], bits);
            compare(&d, widths[w], is, want, pieces[p]);
            assert_int_equal(d.n, 1);
            assert_int_equal(d.items[0].tensor, 5);
            assert_int_equal(d.items[0].count, 5);
            assert_int_equal(d.items[0].first, 1);
            assert_int_equal(d.items[0].is, 1);
            assert_int_equal(d.items[0].want, 0);
            sw_differences_release(&d);
        }
    }
}

/* An element of 6 bits that lies in two bytes, one bit of each changed, is one element. */
TEST(element_in_two_bytes)
{
    unsigned char is[BYTES] = { 0 }, want[BYTES] = { 0 };
    sw_differences d = { 0 };

    is[0] = 0x80; /* element 1: bits 6 to 11 */
    is[1] = 0x01;
    compare(&d, SW_F6_E3M2, is, want, BYTES);
    assert_int_equal(d.n, 1);
    assert_int_equal(d.items[0].count, 1);
    assert_int_equal(d.items[0].first, 1);
    assert_int_equal(d.items[0].is, 6);
    sw_differences_release(&d);
}

/* What several ranks found comes in any order. */
TEST(join)
{
    sw_difference items[] = { { 3, 0, 2, 70, 1, 0, 0, 0 },
                              { 1, 2, 1, 4, 9, 8, 0, 0 },
                              { 3, 0, 5, 10, 7, 6, 0, 0 },
                              { 1, 1, 1, 0, 2, 3, 0, 0 },
                              { 3, 0, 1, 90, 0, 0, 0, 0 } };
    sw_differences d = { 0 };

    d.items = items;
    d.n = COUNT(items);
    sw_differences_join(&d);
    assert_int_equal(d.n, 3);
    assert_int_equal(d.items[0].box, 1);
    assert_int_equal(d.items[1].box, 2);
    assert_int_equal(d.items[2].count, 8);
    assert_int_equal(d.items[2].first, 10);
    assert_int_equal(d.items[2].is, 7);
}

/* The most that two are apart, by itself and in proportion, also where it was found in parts. */
TEST(how_far)
{
    const float is[6] = { 1, 2, NAN, -4, 0, 100 }, want[6] = { 1, 2.5f, NAN, 4, 1, 101 };
    sw_status st = SW_STATUS_INIT;
    sw_differences d = { 0 };

    sw_differences_compare(&d, &(sw_copies){ 1, 0, SW_F32, 24, 24, is, want }, &st);
    sw_differences_compare(&d, &(sw_copies){ 2, 0, SW_F32, 0, 8, is, want }, &st);
    sw_differences_compare(&d, &(sw_copies){ 1, 0, SW_F32, 0, 8, is, want }, &st);
    sw_differences_join(&d);
    assert_int_equal(st.code, SW_OK);
    assert_int_equal(d.n, 2);
    assert_int_equal(d.items[0].count, 5);
    assert_int_equal(d.items[0].first, 1);
    assert_true(d.items[0].largest == 8 && d.items[0].relative == 2);
    assert_true(d.items[1].largest == 0.5 && d.items[1].relative == 0.2);
    sw_differences_release(&d);
}

/* What is near enough does not count, by either measure; two that are no numbers are near then. */
TEST(tolerance)
{
    static const struct {
        sw_tolerance allowed;
        uint64_t count, first;
    } cases[] = {
        { { 0, 0 }, 5, 1 }, { { 0.5, 0 }, 3, 3 }, { { 0, 0.2 }, 2, 3 },
        { { 1, 0 }, 1, 3 }, { { 8, 0 }, 0, 0 },   { { 1, 2 }, 0, 0 },
    };
    float is[6] = { 1, 2, NAN, -4, 0, 100 }, want[6] = { 1, 2.5f, NAN, 4, 1, 101 };
    sw_status st = SW_STATUS_INIT;
    uint32_t other = 0x7fc00001;

    memcpy(&want[2], &other, sizeof other);
    for (size_t i = 0; i < COUNT(cases); i++) {
        sw_differences d = { .allowed = cases[i].allowed };

        sw_differences_compare(&d, &(sw_copies){ 1, 0, SW_F32, 0, 24, is, want }, &st);
        assert_int_equal(st.code, SW_OK);
        assert_int_equal(d.n, cases[i].count > 0);
        if (d.n) {
            assert_int_equal(d.items[0].count, cases[i].count);
            assert_int_equal(d.items[0].first, cases[i].first);
        }
        sw_differences_release(&d);
    }
}

TEST(index)
{
    static const uint64_t shape[] = { 4, 3, 5 };
    uint64_t index[3];

    sw_element_index(0, shape, 3, index);
    assert_true(index[0] == 0 && index[1] == 0 && index[2] == 0);
    sw_element_index(59, shape, 3, index);
    assert_true(index[0] == 3 && index[1] == 2 && index[2] == 4);
    sw_element_index(17, shape, 3, index);
    assert_true(index[0] == 1 && index[1] == 0 && index[2] == 2);
    sw_element_index(0, shape, 0, index);
}

static const struct {
    sw_dtype dtype;
    uint64_t is, want;
    const char *text;
} words[] = {
    { SW_F64, UINT64_C(0x3ff8000000000000), UINT64_C(0x3fb999999999999a),
      "1.5, expected 0.10000000000000001" },
    { SW_F32, 0x3fc00000, 0x3dcccccd, "1.5, expected 0.100000001" },
    { SW_F32, 0x80000000, 0, "-0, expected 0" },
    { SW_F32, 0x7fc00001, 0x7fc00000, "nan (0x7fc00001), expected nan (0x7fc00000)" },
    { SW_BF16, 0x3fc0, 0xff80, "1.5, expected -inf" },
    { SW_F16, 0x3e00, 0x0001, "1.5, expected 5.96046448e-08" },
    { SW_F16, 0xfc00, 0x7bff, "-inf, expected 65504" },
    { SW_F16, 0x7e00, 0xfe00, "nan, expected -nan" },
    { SW_C64, UINT64_C(0xbf8000003f800000), 0, "1-1i, expected 0+0i" },
    { SW_U64, UINT64_MAX, 7, "18446744073709551615, expected 7" },
    { SW_I64, UINT64_MAX, 7, "-1, expected 7" },
    { SW_I32, 0xfffffffe, 7, "-2, expected 7" },
    { SW_I8, 0x80, 0x7f, "-128, expected 127" },
    { SW_U8, 0x80, 0x7f, "128, expected 127" },
    { SW_BOOL, 1, 0, "true, expected false" },
    { SW_BOOL, 2, 1, "0x02, expected true" },
    { SW_F8_E4M3, 0x0f, 0xff, "0x0f, expected 0xff" },
    { SW_F6_E2M3, 0x3f, 1, "0x3f, expected 0x01" },
    { SW_F4, 0xf, 1, "0xf, expected 0x1" },
};

TEST(words)
{
    char text[SW_VALUES_TEXT];

    for (size_t i = 0; i < COUNT(words); i++)
        assert_string_equal(sw_values_text(words[i].dtype, words[i].is, ", expected ", words[i].want, text),
                            words[i].text);
}
