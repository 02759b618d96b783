/* Runs: as long as they can be, and of elements of less than a byte. That each byte comes to its
 * place, whatever the numbers: test_reader.c, test_fill.c, test_convert.c. */
#include "plan/runs.h"
#include "plan_help.h"

TEST(joined)
{
    /* Rows over two files; asked for: offsets, shape; the run of file 1 */
    static const struct {
        uint64_t offsets[3], shape[3];
        int64_t strides[3]; /* bytes; 0 = packed */
        uint64_t at, row, count, from;
        int64_t to, step;
        unsigned nloops;
    } cases[] = {
        { { 0, 0, 0 }, { 8, 4, 6 }, { 0 }, 0, 384, 0, 0, 384, 0, 0 }, /* all: one row */
        { { 5, 0, 0 }, { 2, 4, 6 }, { 0 }, 96, 192, 0, 0, 0, 0, 0 },  /* rows */
        /* a part of each row */
        { { 0, 1, 0 }, { 8, 2, 6 }, { 0 }, 24, 48, 4, 96, 192, 48, 1 },
        /* a column: loops joined */
        { { 0, 0, 3 }, { 8, 4, 1 }, { 0 }, 12, 4, 16, 24, 64, 4, 1 },
        /* padded rows: joined too */
        { { 0, 0, 0 }, { 8, 4, 6 }, { 128, 32, 4 }, 0, 24, 16, 24, 512, 32, 1 },
        { { 4, 2, 0 }, { 1, 2, 6 }, { 0 }, 48, 48, 0, 0, 0, 0, 0 },
    };
    static const test_box boxes[] = {
        { "t", 0, SW_F32, 3, { 0, 0, 0 }, { 4, 4, 6 } },
        { "t", 1, SW_F32, 3, { 4, 0, 0 }, { 4, 4, 6 } },
    };
    sw_status st = SW_STATUS_INIT;
    sw_catalog c;

    assert_int_equal(test_catalog(boxes, 2, 2, 1, &c, &st), SW_OK);
    for (size_t i = 0; i < COUNT(cases); i++) {
        int64_t bits[3] = { cases[i].strides[0] * 8, cases[i].strides[1] * 8, cases[i].strides[2] * 8 };
        sw_run_target target = { cases[i].offsets, cases[i].shape, bits[0] ? bits : NULL };
        sw_view v = sw_view_elements(&c, c.tensors);
        sw_run s;

        assert_int_equal(sw_run_make(&v, 1, &target, &s), SW_RUN_SHARED);
        assert_int_equal(s.file, 1);
        assert_int_equal(s.at - c.boxes[1].at, cases[i].at);
        assert_int_equal(s.row, cases[i].row);
        assert_int_equal(s.to, cases[i].to);
        assert_int_equal(s.nloops, cases[i].nloops);
        if (s.nloops) {
            assert_int_equal(s.loops[0].count, cases[i].count);
            assert_int_equal(s.loops[0].from, cases[i].from);
            assert_int_equal(s.loops[0].to, cases[i].step);
        }
    }
    sw_catalog_release(&c);
}

/* ---- less than a byte ------------------------------------------------------------------------ */

TEST(narrow)
{
    static const struct {
        sw_dtype dtype;
        uint64_t whole[2], offsets[2], shape[2];
        sw_run_kind kind;
        uint64_t at, row, n;
    } cases[] = {
        { SW_F4, { 4, 6 }, { 0, 0 }, { 4, 6 }, SW_RUN_SHARED, 0, 12, 12 },
        { SW_F4, { 4, 6 }, { 1, 0 }, { 2, 6 }, SW_RUN_SHARED, 3, 6, 6 },
        { SW_F4, { 4, 6 }, { 0, 2 }, { 4, 2 }, SW_RUN_SHARED, 1, 1, 4 },
        /* begins within a byte */
        { SW_F4, { 4, 6 }, { 0, 1 }, { 4, 2 }, SW_RUN_UNEVEN, 0, 0, 0 },
        { SW_F4, { 4, 6 }, { 0, 0 }, { 4, 3 }, SW_RUN_UNEVEN, 0, 0, 0 }, /* ends within one */
        { SW_F4,
          { 2, 3 },
          { 0, 0 },
          { 2, 3 },
          SW_RUN_SHARED,
          0,
          3,
          3 }, /* its row is 12 bits, but it is whole */
        { SW_F4, { 4, 3 }, { 2, 0 }, { 2, 3 }, SW_RUN_SHARED, 3, 3, 3 },
        { SW_F4, { 4, 3 }, { 1, 0 }, { 2, 3 }, SW_RUN_UNEVEN, 0, 0, 0 },
        /* rows begin within bytes */
        { SW_F4, { 4, 3 }, { 0, 0 }, { 2, 2 }, SW_RUN_UNEVEN, 0, 0, 0 },
        { SW_F6_E2M3, { 2, 8 }, { 0, 4 }, { 2, 4 }, SW_RUN_SHARED, 3, 3, 6 },
        { SW_F6_E2M3, { 2, 8 }, { 0, 0 }, { 2, 2 }, SW_RUN_UNEVEN, 0, 0, 0 },
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        test_box box = { "t", 0, cases[i].dtype, 2, { 0 }, { cases[i].whole[0], cases[i].whole[1] } };
        sw_run_target target = { cases[i].offsets, cases[i].shape, NULL };
        sw_status st = SW_STATUS_INIT;
        sw_catalog c;
        sw_view v;
        sw_run s;

        assert_int_equal(test_catalog(&box, 1, 1, 1, &c, &st), SW_OK);
        v = sw_view_elements(&c, c.tensors);
        if (sw_run_make(&v, 0, &target, &s) != cases[i].kind)
            fail_msg("case %d", (int)i);
        if (cases[i].kind == SW_RUN_SHARED) {
            assert_int_equal(s.at - c.boxes[0].at, cases[i].at);
            assert_int_equal(s.row, cases[i].row);
            assert_int_equal(s.n, cases[i].n);
        }
        sw_catalog_release(&c);
    }
}
