/* How much memory a rank takes for data where nobody said. */
#include "par/bands.h"
#include "unit.h"

#define MIB (UINT64_C(1) << 20)
#define KIB (UINT64_C(1) << 10)

TEST(by_file_system)
{
    static const struct {
        const char *name;
        bool shared;
        sw_memory_need need;
        uint64_t weld, compare;
    } cases[] = {
        { "a disk", false, { .nranks = 1 }, 4 * MIB + 256 * KIB, 3 * MIB },
        { "a disk, what is cast", false, { .converts = true }, 4 * MIB + 768 * KIB, 3 * MIB + 256 * KIB },
        { "a network", true, { .nranks = 1 }, 64 * MIB, 32 * MIB },
        { "a network, what is cast", true, { .converts = true }, 64 * MIB, 32 * MIB },
        { "by FUSE", true, { .fuse = true }, 8 * MIB, 32 * MIB },
        { "by FUSE, ranks exchange", true, { .fuse = true, .by_owner = true }, 64 * MIB, 32 * MIB },
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        uint64_t weld = sw_memory_buffer(&sw_memory_of_weld, cases[i].shared, &cases[i].need),
                 compare = sw_memory_buffer(&sw_memory_of_compare, cases[i].shared, &cases[i].need);

        if (weld != cases[i].weld || compare != cases[i].compare)
            fail_msg("%s: %llu and %llu", cases[i].name, (unsigned long long)weld,
                     (unsigned long long)compare);
    }
}

/* By band a stream has little, wherever it goes. */
TEST(stream)
{
    sw_memory_need need = { .stream = true, .fuse = true };

    assert_int_equal(sw_memory_buffer(&sw_memory_of_weld, true, &need), 2 * MIB + 256 * KIB);
    need.by_owner = true;
    assert_int_equal(sw_memory_buffer(&sw_memory_of_weld, true, &need), 64 * MIB);
}
