/* How much boxes hold that overlap: against marking elements. */
#include "plan/cover.h"
#include "plan_help.h"

#define BOXES 12

TEST(random_boxes)
{
    for (uint64_t seed = 1; seed <= 600; seed++) {
        uint64_t s = seed, shape[3], dims[BOXES * 6], first[3] = { 0 }, held = 0, missing = UINT64_MAX;
        uint64_t n = test_random(&s, BOXES + 1);
        bool marks[8 * 8 * 8] = { false };
        sw_cover cover = { .first = first };
        sw_status st = SW_STATUS_INIT;

        for (int d = 0; d < 3; d++)
            shape[d] = 1 + test_random(&s, 8);
        for (uint64_t b = 0; b < n; b++) {
            uint64_t *o = dims + 6 * b, *e = o + 3;

            for (int d = 0; d < 3; d++) {
                o[d] = test_random(&s, shape[d]);
                e[d] = 1 + test_random(&s, shape[d] - o[d]);
            }
            for (uint64_t i = o[0]; i < o[0] + e[0]; i++)
                for (uint64_t j = o[1]; j < o[1] + e[1]; j++)
                    for (uint64_t k = o[2]; k < o[2] + e[2]; k++)
                        marks[(i * shape[1] + j) * shape[2] + k] = true;
        }
        for (uint64_t i = 0; i < shape[0] * shape[1] * shape[2]; i++) {
            held += marks[i];
            if (!marks[i] && missing == UINT64_MAX)
                missing = i;
        }
        assert_int_equal(sw_boxes_count(&(sw_boxes){ dims, n, 3 }, shape, &cover, &st), SW_OK);
        assert_true(cover.counted);
        assert_int_equal(cover.held, held);
        assert_int_equal(cover.open, missing != UINT64_MAX);
        if (cover.open)
            assert_int_equal((first[0] * shape[1] + first[1]) * shape[2] + first[2], missing);
    }
}

TEST(scalar)
{
    sw_cover cover = { .first = NULL };
    sw_status st = SW_STATUS_INIT;

    assert_int_equal(sw_boxes_count(&(sw_boxes){ NULL, 2, 0 }, NULL, &cover, &st), SW_OK);
    assert_int_equal(cover.held, 1);
    assert_false(cover.open);
}

/* Thousands of boxes that all lie over one another take no time, but are not counted. */
TEST(too_many)
{
    uint64_t n = 4000, shape[3] = { 8000, 8000, 8000 }, first[3];
    uint64_t *dims = calloc(n * 6, sizeof *dims);
    sw_cover cover = { .first = first };
    sw_status st = SW_STATUS_INIT;

    for (uint64_t i = 0; i < 6 * n; i++)
        dims[i] = i % 6 < 3 ? i / 6 : 4000;
    assert_int_equal(sw_boxes_count(&(sw_boxes){ dims, n, 3 }, shape, &cover, &st), SW_OK);
    assert_false(cover.counted);
    free(dims);
}

/* Disjoint boxes that cut every dimension into slabs and hold all but the last element: slabs that
 * are full are not looked into, or there would be 51^8 of them. */
TEST(last_corner)
{
    const size_t ndim = 8, each = 50;
    uint64_t shape[8], first[8] = { 0 }, n = 0;
    uint64_t *dims = calloc(ndim * each * 2 * ndim, sizeof *dims);
    sw_cover cover = { .disjoint = true, .first = first };
    sw_status st = SW_STATUS_INIT;

    for (size_t d = 0; d < ndim; d++)
        shape[d] = each + 1;
    for (size_t j = 0; j < ndim; j++)
        for (uint64_t at = 0; at < each; at++, n++)
            for (size_t d = 0; d < ndim; d++) {
                dims[n * 2 * ndim + d] = d < j ? each : d == j ? at : 0;
                dims[n * 2 * ndim + ndim + d] = d <= j ? 1 : each + 1;
            }
    assert_int_equal(sw_boxes_count(&(sw_boxes){ dims, n, ndim }, shape, &cover, &st), SW_OK);
    assert_true(cover.open);
    for (size_t d = 0; d < ndim; d++)
        assert_int_equal(first[d], each);
    free(dims);
}
