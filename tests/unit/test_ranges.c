/* Sets of numbers in words. */
#include "base/ranges.h"
#include "unit.h"

/* Numbers, a 0 behind them. */
static const struct {
    uint64_t numbers[12];
    const char *words;
    uint64_t n;          /* the numbers of 1..n that are not among them: */
    const char *lacking; /* in words */
} cases[] = {
    { { 0 }, "", 0, "" },
    { { 0 }, "", 3, "1 to 3" },
    { { 1, 0 }, "1", 1, "" },
    { { 1, 2, 0 }, "1, 2", 4, "3, 4" },
    { { 1, 2, 3, 4, 5, 6, 7, 8, 0 }, "1 to 8", 8, "" },
    { { 2, 3, 7, 0 }, "2, 3, 7", 7, "1, 4 to 6" },
    { { 2, 3, 7, 0 }, "2, 3, 7", 9, "1, 4 to 6, 8, 9" },
    { { 5, 5, 6, 6, 7, 0 }, "5 to 7", 5, "1 to 4" },
    { { 5, 0 }, "5", 3, "1 to 3" },
    { { 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 0 }, "1, 3, 5, 7, 9, 11, 13, 15, 17, 19, ...", 4, "2, 4" },
    { { 4, UINT64_MAX, 0 }, "4, 18446744073709551615", UINT64_MAX, "1 to 3, 5 to 18446744073709551614" },
};

static void assert_words(const sw_ranges *r, const char *want)
{
    sw_status st = SW_STATUS_INIT;
    sw_buf words = SW_BUF_INIT;

    assert_int_equal(sw_ranges_words(r, &words, &st), SW_OK);
    assert_int_equal(words.len, strlen(want));
    assert_true(words.len == 0 || memcmp(words.data, want, words.len) == 0);
    sw_buf_release(&words);
}

TEST(words)
{
    for (size_t i = 0; i < COUNT(cases); i++) {
        sw_ranges r = SW_RANGES_INIT, lacking = SW_RANGES_INIT;
        sw_status st = SW_STATUS_INIT;
        uint64_t n = 0, last = 0;

        for (const uint64_t *k = cases[i].numbers; *k; k++) {
            assert_int_equal(sw_ranges_add(&r, *k, *k, &st), SW_OK);
            assert_int_equal(sw_ranges_last(&r), *k);
            n += *k != last;
            last = *k;
        }
        print_message("%s\n", cases[i].words);
        assert_int_equal(sw_ranges_count(&r), n);
        assert_words(&r, cases[i].words);
        assert_int_equal(sw_ranges_lacking(&r, cases[i].n, &lacking, &st), SW_OK);
        assert_words(&lacking, cases[i].lacking);
        sw_ranges_release(&lacking);
        sw_ranges_release(&r);
    }
}
