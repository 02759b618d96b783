/* Sorting slots: against the order that counting smaller ones gives, for sizes around the switch of
 * methods. */
#include "base/sort.h"
#include "unit.h"

static uint64_t next(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    return *seed ^= *seed << 17;
}

static void check(size_t n, uint64_t mask, uint64_t *seed)
{
    sw_sort_item *slots = calloc(n + 1, sizeof *slots);
    uint64_t *keys = calloc(n + 1, sizeof *keys);
    sw_status st = SW_STATUS_INIT;

    assert_true(slots && keys);
    for (size_t i = 0; i < n; i++)
        slots[i] = (sw_sort_item){ keys[i] = next(seed) & mask, (uint32_t)i };
    assert_int_equal(sw_sort_items(slots, n, &st), SW_OK);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(slots[i].key, keys[slots[i].index]);
        if (i > 0)
            assert_true(slots[i - 1].key < slots[i].key ||
                        (slots[i - 1].key == slots[i].key && slots[i - 1].index < slots[i].index));
    }
    free(slots);
    free(keys);
}

TEST(sizes_and_widths)
{
    static const uint64_t masks[] = { 0, 1, 0xff, 0xff00, 0xffff, UINT64_C(0xff000000000000ff), UINT64_MAX };
    uint64_t seed = UINT64_C(0x9e3779b97f4a7c15);

    for (size_t m = 0; m < COUNT(masks); m++) {
        for (size_t n = 0; n < 120; n++)
            check(n, masks[m], &seed);
        check(10000, masks[m], &seed);
    }
}
