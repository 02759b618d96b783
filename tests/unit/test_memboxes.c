/* Boxes in memory: how few loops their strides make. What is read of them: test_writer.c. */
#include "plan/memboxes.h"
#include "unit.h"

#define DIMS 4
#define ROOM 4096

static const uint64_t zeros[DIMS], large[DIMS] = { 100, 100, 100, 100 };

TEST(loops)
{
    static const struct {
        const char *name;
        unsigned ndim;
        uint64_t shape[DIMS];
        bool packed;
        int64_t strides[DIMS];
        uint64_t row;
        unsigned nloops;
    } cases[] = {
        { "no strides", 2, { 3, 5 }, true, { 0 }, 30, 0 },
        { "strides of a packed box", 3, { 3, 5, 2 }, false, { 20, 4, 2 }, 60, 0 },
        { "rows of a wider array", 2, { 3, 5 }, false, { 64, 2 }, 10, 1 },
        { "whole rows of blocks", 3, { 3, 5, 2 }, false, { 40, 4, 2 }, 20, 1 },
        { "transposed", 2, { 3, 5 }, false, { 2, 6 }, 2, 2 },
        { "every second element", 2, { 3, 5 }, false, { 20, 4 }, 2, 1 },
        { "backwards", 1, { 5 }, false, { -2 }, 2, 1 },
        { "one element again and again", 2, { 3, 5 }, false, { 0, 0 }, 2, 1 },
        { "a dimension of one element has any stride", 3, { 3, 1, 5 }, false, { 10, 999, 2 }, 30, 0 },
        { "a scalar", 0, { 0 }, true, { 0 }, 2, 0 },
        { "empty", 2, { 0, 5 }, false, { 10, 2 }, 0, 0 },
    };
    static char memory[ROOM];

    for (size_t i = 0; i < COUNT(cases); i++) {
        sw_item item = {
            "a",   "BF16",         cases[i].ndim,     large,
            zeros, cases[i].shape, memory + ROOM / 2, cases[i].packed ? NULL : cases[i].strides
        };
        sw_status st = SW_STATUS_INIT;
        sw_memboxes h;
        sw_run run = { .row = 0 };

        if (sw_memboxes_init(&item, 1, "rank", &h, &st))
            fail_msg("%s: %s", cases[i].name, st.reason);
        if (cases[i].row)
            sw_membox_run(&h.boxes[0], &run);
        if (run.row != cases[i].row || run.nloops != cases[i].nloops)
            fail_msg("%s: rows of %u bytes, %u loops", cases[i].name, (unsigned)run.row, run.nloops);
        assert_int_equal(sw_membox_direct(&h.boxes[0], 0) != NULL, cases[i].nloops == 0);
        sw_memboxes_release(&h);
    }
}
