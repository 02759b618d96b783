/* Coverage of tensors: gaps, overlaps, replicas, shapes; against a table and against marking
 * elements. */
#include <time.h>

#include "plan_help.h"

static const struct {
    const char *what, *boxes; /* see test_boxes() */
    sw_code want;
    const char *says;
    uint64_t nboxes, nreplicas;
    unsigned split;
} cases[] = {
    { "one box", "0: 0,0+4,4", SW_OK, "", 1, 0, 0 },
    { "rows", "1: 0,0+2,4; 0: 2,0+2,4", SW_OK, "", 2, 0, 1 },
    { "columns", "0: 0,0+4,1; 1: 0,1+4,3", SW_OK, "", 2, 0, 2 },
    { "pinwheel", "0: 0,0+1,2; 1: 0,2+2,1; 2: 2,1+1,2; 3: 1,0+2,1; 4: 1,1+1,1", SW_OK, "", 5, 0, 2 },
    { "pinwheel without its middle", "0: 0,0+1,2; 1: 0,2+2,1; 2: 2,1+1,2; 3: 1,0+2,1", SW_EINPUT,
      "offsets [1, 1]", 0, 0, 0 },
    { "scalar", "0: +", SW_OK, "", 1, 0, 0 },
    { "scalar replicas", "2: +; 0: +; 1: +", SW_OK, "", 1, 2, 0 },
    { "replicas", "0: 0+2; 1: 2+2; 2: 0+2; 3: 2+2", SW_OK, "", 2, 2, 1 },
    { "an empty box at the end", "0: 0,0+3,2; 1: 3,0+0,2", SW_OK, "", 1, 0, 0 },
    { "an empty tensor", "0: 0,0+0,7; 1: 0,0+0,7", SW_OK, "", 0, 0, 0 },
    { "a gap at the beginning", "0: 2+2", SW_EINPUT, "offsets [0]", 0, 0, 0 },
    { "a gap in the middle", "0: 0,0+1,4; 1: 2,0+1,4", SW_EINPUT, "offsets [1, 0]", 0, 0, 0 },
    { "a corner is missing", "0: 0,0+2,2; 1: 0,2+2,2; 2: 2,0+2,2", SW_EINPUT, "offsets [2, 2]", 0, 0, 0 },
    { "an overlap", "0: 0+3; 1: 2+3", SW_EINPUT, "_StridedShard", 0, 0, 0 },
    { "a box in a box", "0: 0,0+4,4; 1: 1,1+2,2", SW_EINPUT, "_StridedShard", 0, 0, 0 },
    { "an overlap and a gap of one size", "0: 0+2; 1: 1+3", SW_EINPUT, "_StridedShard", 0, 0, 0 },
    { "other number of dimensions", "0: 0+2; 1: 0,0+2,1", SW_EINPUT, "dimensions", 0, 0, 0 },
    { "other dtype", "0: 0+2; 1: I8 2+2", SW_EINPUT, "dtype is I8 here but U8 in f0", 0, 0, 0 },
    { "F4 in rows", "0: F4 0,0+2,3; 1: F4 2,0+2,3", SW_OK, "", 2, 0, 1 },
    { "F4 in columns", "0: F4 0,0+2,2; 1: F4 0,2+2,2", SW_EINPUT, "last dimension", 0, 0, 0 },
    { "F4 that begins within a byte", "0: F4 0,0,0+2,1,3; 1: F4 0,1,0+2,1,3", SW_EINPUT, "on a byte", 0, 0,
      0 },
    { "it overflows", "0: F64 0,0+1099511627776,1; 1: F64 0,1099511627776+1,1", SW_EINPUT, "overflows", 0, 0,
      0 },
};

TEST(table)
{
    for (size_t i = 0; i < COUNT(cases); i++) {
        for (int nranks = 1; nranks <= 3; nranks++) {
            sw_status st = SW_STATUS_INIT;
            test_box boxes[8];
            size_t n = test_boxes(cases[i].boxes, boxes);
            sw_catalog c;
            sw_code code = test_catalog(boxes, n, 5, nranks, &c, &st);

            if (code != cases[i].want || !strstr(st.reason, cases[i].says))
                fail_msg("%s: code %d, '%s'", cases[i].what, code, st.reason);
            if (code == SW_OK) {
                assert_int_equal(c.tensors[0].nboxes, cases[i].nboxes);
                assert_int_equal(c.tensors[0].nreplicas, cases[i].nreplicas);
                assert_int_equal(c.tensors[0].split_dims, cases[i].split);
            }
            sw_catalog_release(&c);
        }
    }
}

/* The first element that no box of the list holds, by marking; -1 = all are held. */
static int64_t first_unmarked(const test_box *boxes, size_t n, const uint64_t *shape)
{
    uint64_t total = shape[0] * shape[1] * shape[2];

    for (uint64_t i = 0; i < total; i++) {
        uint64_t at[3] = { i / (shape[1] * shape[2]), i / shape[2] % shape[1], i % shape[2] };
        bool held = false;

        for (size_t b = 0; b < n && !held; b++) {
            held = true;
            for (int d = 0; d < 3; d++)
                held =
                    held && at[d] >= boxes[b].offsets[d] && at[d] < boxes[b].offsets[d] + boxes[b].shape[d];
        }
        if (!held)
            return (int64_t)i;
    }
    return -1;
}

static bool any_overlap(const test_box *boxes, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < i; j++) {
            bool apart = false;

            for (int d = 0; d < 3; d++)
                apart = apart || boxes[i].offsets[d] + boxes[i].shape[d] <= boxes[j].offsets[d] ||
                        boxes[j].offsets[d] + boxes[j].shape[d] <= boxes[i].offsets[d];
            if (!apart)
                return true;
        }
    }
    return false;
}

static void find_end(const test_box *boxes, size_t n, uint64_t *end)
{
    memset(end, 0, 3 * sizeof *end);
    for (size_t i = 0; i < n; i++)
        for (int d = 0; d < 3; d++)
            if (boxes[i].offsets[d] + boxes[i].shape[d] > end[d])
                end[d] = boxes[i].offsets[d] + boxes[i].shape[d];
}

TEST(random_cuts)
{
    test_box boxes[40];

    for (uint64_t seed = 1; seed <= 400; seed++) {
        uint64_t s = seed,
                 shape[3] = { 1 + test_random(&s, 9), 1 + test_random(&s, 9), 1 + test_random(&s, 9) };
        sw_status st = SW_STATUS_INIT;
        char want[64];
        uint64_t end[3];
        int64_t missing;
        sw_catalog c;
        size_t n;

        boxes[0] = (test_box){ "t", 0, SW_U8, 3, { 0 }, { shape[0], shape[1], shape[2] } };
        n = test_cut(&s, boxes, 2 + test_random(&s, 30));
        for (size_t i = 0; i < n; i++)
            boxes[i].file = (uint32_t)test_random(&s, 8);
        if (test_catalog(boxes, n, 8, 1 + (int)(seed % 3), &c, &st))
            fail_msg("seed %d: '%s'", (int)seed, st.reason);
        assert_int_equal(c.tensors[0].elements, shape[0] * shape[1] * shape[2]);
        sw_catalog_release(&c);
        if (n < 2)
            continue;

        /* Without one of them, the first missing element is named. */
        boxes[test_random(&s, n)] = boxes[n - 1];
        find_end(boxes, n - 1, end);
        missing = first_unmarked(boxes, n - 1, end);
        test_catalog(boxes, n - 1, 8, 2, &c, &st);
        assert_int_equal(st.code, missing < 0 ? SW_OK : SW_EINPUT);
        if (missing >= 0) {
            snprintf(want, sizeof want, "offsets [%d, %d, %d]", (int)((uint64_t)missing / (end[1] * end[2])),
                     (int)((uint64_t)missing / end[2] % end[1]), (int)((uint64_t)missing % end[2]));
            if (!strstr(st.reason, want))
                fail_msg("seed %d: '%s', but missing are %s", (int)seed, st.reason, want);
        }
        sw_catalog_release(&c);

        /* One made longer by an element: it overlaps another, or leaves a gap beside it, or is just
         * longer. */
        boxes[0].shape[0]++;
        find_end(boxes, n - 1, end);
        sw_status_clear(&st);
        test_catalog(boxes, n - 1, 8, 1, &c, &st);
        assert_int_equal(st.code == SW_OK,
                         !any_overlap(boxes, n - 1) && first_unmarked(boxes, n - 1, end) < 0);
        assert_int_equal(strstr(st.reason, "_StridedShard") != NULL, any_overlap(boxes, n - 1));
        sw_catalog_release(&c);
    }
}

/* A thousand rows, a grid of 64 x 64, and a hostile diagonal of boxes: none takes long. */
TEST(cost)
{
    size_t n = 64 * 64;
    test_box *boxes = calloc(n, sizeof *boxes);
    clock_t begin = clock();
    sw_catalog c;

    for (int what = 0; what < 3; what++) {
        sw_status st = SW_STATUS_INIT;

        for (uint64_t i = 0; i < n; i++) {
            uint64_t j = n - 1 - i;

            boxes[i] = (test_box){ "t", (uint32_t)(i % 50), SW_BF16, 2, { 0 }, { 0 } };
            boxes[i].offsets[0] = what == 0 ? j * 3 : what == 1 ? j / 64 * 5 : j;
            boxes[i].offsets[1] = what == 0 ? 0 : what == 1 ? j % 64 * 7 : j;
            boxes[i].shape[0] = what == 0 ? 3 : what == 1 ? 5 : 1;
            boxes[i].shape[1] = what == 0 ? 11 : what == 1 ? 7 : 1;
        }
        assert_int_equal(test_catalog(boxes, n, 50, 2, &c, &st), what == 2 ? SW_EINPUT : SW_OK);
        if (what == 2)
            assert_non_null(strstr(st.reason, "offsets [0, 1]"));
        sw_catalog_release(&c);
    }
    assert_true(clock() - begin < 2 * CLOCKS_PER_SEC);
    free(boxes);
}
