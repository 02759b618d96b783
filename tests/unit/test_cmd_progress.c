/* The text of the progress bar and of its line form. */
#include "cmd/progress.h"
#include "unit.h"

#define GB UINT64_C(1000000000)

TEST(text)
{
    static const struct {
        size_t width;
        uint64_t done, total;
        double seconds;
        const char *want;
    } cases[] = {
        { 0, 1 * GB, 4 * GB, 2, "shardweld: 25 %, 1.00 GB of 4.00 GB, 500.00 MB/s, 0:06 left" },
        { 0, 4 * GB, 4 * GB, 2, "shardweld: 100 %, 4.00 GB of 4.00 GB, 2.00 GB/s, 0:00 left" },
        { 0, UINT64_C(3999999999), 4 * GB, 2, "shardweld: 99 %, 4.00 GB of 4.00 GB, 2.00 GB/s, 0:00 left" },
        { 0, 0, 4 * GB, 0, "shardweld: 0 %, 0 B of 4.00 GB, 0 B/s, - left" },
        { 0, 0, 0, 1, "shardweld: 100 %, 0 B of 0 B, 0 B/s, 0:00 left" },
        { 0, 1 * GB, 3601 * GB, 1, "shardweld: 0 %, 1.00 GB of 3.60 TB, 1.00 GB/s, 1:00:00 left" },
        { 79, 2 * GB, 4 * GB, 2,
          "[###########------------]  50 %    2.00 GB of   4.00 GB    1.00 GB/s  0:02 left" },
        { 79, 4 * GB, 4 * GB, 2,
          "[#######################] 100 %    4.00 GB of   4.00 GB    2.00 GB/s  0:00 left" },
        { 60, 2 * GB, 4 * GB, 2, " 50 %    2.00 GB of   4.00 GB    1.00 GB/s  0:02 left" },
        { 20, 2 * GB, 4 * GB, 2, " 50 %    2.00 GB of " },
    };
    char text[300];

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sw_progress_text(text, sizeof text, cases[i].width, cases[i].done, cases[i].total, cases[i].seconds);
        assert_string_equal(text, cases[i].want);
    }
}

/* Whatever the terminal, the bar stays on one line. */
TEST(width)
{
    char text[300];

    for (size_t width = 1; width < 280; width++) {
        for (uint64_t done = 0; done <= 7; done++) {
            sw_progress_text(text, sizeof text, width, done * GB, 7 * GB, 3);
            assert_true(strlen(text) <= width);
        }
    }
}
