/* How many stripes a file gets, and of what size. The rest is in tests/e2e/test_stripes.py. */
#include "dir/stripes.h"

#include "base/status.h"
#include "unit.h"

#define MIB (UINT64_C(1) << 20)
#define GIB (1024 * MIB)
#define TIB (1024 * GIB)

TEST(by_size)
{
    static const struct {
        uint64_t bytes;
        uint32_t targets, count;
        uint64_t size;
    } cases[] = {
        { 0, 100, 0, 0 },
        { GIB, 100, 0, 0 },
        { GIB + 1, 100, 3, 4 * MIB },
        { 9 * 128 * MIB - 1, 100, 3, 4 * MIB },
        { 9 * 128 * MIB, 100, 4, 4 * MIB },
        { UINT64_C(5000000000), 100, 7, 4 * MIB },
        { UINT64_C(5000000000), 4, 4, 4 * MIB },
        { UINT64_C(5000000000), 1, 1, 16 * MIB },
        { 100 * GIB, 100, 29, 8 * MIB },
        { TIB, 100, 72, 16 * MIB },
        { TIB, 2000, 72, 16 * MIB },
        { UINT64_MAX, UINT32_MAX, 72, 16 * MIB },
        { TIB, 0, 0, 0 },
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        const sw_stripes s = { .targets = cases[i].targets };
        uint32_t count;
        uint64_t size;

        sw_stripes_of(&s, cases[i].bytes, &count, &size);
        if (count != cases[i].count || size != cases[i].size)
            fail_msg("case %zu: %u of %llu", i, count, (unsigned long long)size);
    }
}

TEST(as_the_user_says)
{
    sw_stripes s = { .targets = 8, .count = 5, .size = 64 * MIB };
    uint32_t count;
    uint64_t size;

    sw_stripes_of(&s, 1, &count, &size);
    assert_int_equal(count, 5);
    assert_int_equal(size, 64 * MIB);
    assert_int_equal(sw_stripes_block(&s), 64 * MIB);
    s.size = 0;
    sw_stripes_of(&s, 100 * GIB, &count, &size);
    assert_int_equal(count, 5);
    assert_int_equal(size, 16 * MIB);
    assert_int_equal(sw_stripes_block(&s), 16 * MIB);
    s.targets = 0;
    assert_int_equal(sw_stripes_block(&s), 0);
}

TEST(words)
{
    static const struct {
        const char *text;
        sw_stripe_kind kind;
        uint32_t count;
        uint64_t size;
    } cases[] = {
        { NULL, SW_STRIPE_AUTO, 0, 0 },
        { "auto", SW_STRIPE_AUTO, 0, 0 },
        { "none", SW_STRIPE_NONE, 0, 0 },
        { "1", SW_STRIPE_GIVEN, 1, 0 },
        { "2000:64KiB", SW_STRIPE_GIVEN, 2000, 65536 },
        { "16:8M", SW_STRIPE_GIVEN, 16, 8 * MIB },
    };
    sw_status st = SW_STATUS_INIT;
    sw_stripe_kind kind;
    uint32_t count;
    uint64_t size;

    for (size_t i = 0; i < COUNT(cases); i++) {
        assert_int_equal(sw_stripe_parse(cases[i].text, &kind, &count, &size, &st), SW_OK);
        assert_int_equal(kind, cases[i].kind);
        assert_int_equal(count, cases[i].count);
        assert_int_equal(size, cases[i].size);
    }
    assert_int_equal(sw_stripe_parse("1:65537", &kind, &count, &size, &st), SW_EUSAGE);
}
