/* The text of the progress bar and of its line form. */
#include "cmd/progress.h"
#include "unit.h"

#define GB UINT64_C(1000000000)

TEST(text)
{
    static const struct {
        sw_phase phase;
        size_t width;
        uint64_t done, total;
        double seconds;
        const char *want;
    } cases[] = {
        { SW_PHASE_WRITING, 0, 1 * GB, 4 * GB, 2,
          "shardweld: writing: 25 %, 1.00 GB of 4.00 GB, 500.00 MB/s, 0:06 left" },
        { SW_PHASE_WRITING, 0, 4 * GB, 4 * GB, 2,
          "shardweld: writing: 100 %, 4.00 GB of 4.00 GB, 2.00 GB/s, 0:00 left" },
        { SW_PHASE_WRITING, 0, UINT64_C(3999999999), 4 * GB, 2,
          "shardweld: writing: 99 %, 4.00 GB of 4.00 GB, 2.00 GB/s, 0:00 left" },
        { SW_PHASE_WRITING, 0, 0, 4 * GB, 0, "shardweld: writing: 0 %, 0 B of 4.00 GB, 0 B/s, - left" },
        { SW_PHASE_WRITING, 0, 0, 0, 1, "shardweld: writing, 1 s" },
        { SW_PHASE_WRITING, 0, 1 * GB, 3601 * GB, 1,
          "shardweld: writing: 0 %, 1.00 GB of 3.60 TB, 1.00 GB/s, 1:00:00 left" },
        { SW_PHASE_VERIFYING, 79, 2 * GB, 4 * GB, 2,
          "[######-------] verifying  50 %    2.00 GB of   4.00 GB    1.00 GB/s  0:02 left" },
        { SW_PHASE_VERIFYING, 79, 4 * GB, 4 * GB, 2,
          "[#############] verifying 100 %    4.00 GB of   4.00 GB    2.00 GB/s  0:00 left" },
        { SW_PHASE_COPYING, 64, 2 * GB, 4 * GB, 2,
          "copying    50 %    2.00 GB of   4.00 GB    1.00 GB/s  0:02 left" },
        { SW_PHASE_WRITING, 20, 2 * GB, 4 * GB, 2, "writing    50 %    2" },
        { SW_PHASE_PLANNING, 0, 0, 0, 31, "shardweld: planning, 31 s" },
        { SW_PHASE_SYNCING, 79, 0, 0, 12, "syncing, 12 s" },
        { SW_PHASE_PUBLISHING, 0, 0, 0, 0, "shardweld: publishing, 0 s" },
    };
    char text[300];

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const sw_progress p = { .phase = cases[i].phase, .done = cases[i].done, .total = cases[i].total };

        sw_progress_text(text, sizeof text, cases[i].width, &p, cases[i].seconds);
        assert_string_equal(text, cases[i].want);
    }
}

/* Whatever the terminal, the bar stays on one line. */
TEST(width)
{
    char text[300];

    for (size_t width = 1; width < 280; width++) {
        for (uint64_t done = 0; done <= 7; done++) {
            for (int phase = SW_PHASE_PLANNING; phase <= SW_PHASE_PUBLISHING; phase++) {
                const sw_progress p = { .phase = (sw_phase)phase, .done = done * GB, .total = 7 * GB };

                sw_progress_text(text, sizeof text, width, &p, 3);
                assert_true(strlen(text) <= width);
            }
        }
    }
}
