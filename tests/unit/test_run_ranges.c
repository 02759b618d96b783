/* Any range of any tensor, put together from its runs, is the same bytes; each byte once. */
#include "plan/parts.h"
#include "plan_help.h"

/* What files hold: byte i of a tensor is a function of i, so boxes can be written and ranges
 * checked. */
static char pattern(uint64_t i)
{
    return (char)(i * 31 + i / 251 + 7);
}

typedef struct world {
    char *files[8];
    const sw_catalog *c;
    sw_outputs o;
    char *band;
    uint64_t covered;
    size_t runs;
} world;

/* Write box k of a tensor where its file has it. */
static void write_box(world *w, const sw_tensor *t, uint64_t k, uint64_t esize)
{
    sw_placed placed;
    const sw_box *box = &sw_box_get(w->c, t, k, &placed)->box;
    const uint64_t *shape = sw_tensor_shape(w->c, t), *off = placed.offsets, *ext = placed.shape;
    uint64_t n = 1;

    for (unsigned d = 0; d < t->ndim; d++)
        n *= ext[d];
    for (uint64_t i = 0; i < n; i++) {
        uint64_t rest = i, at = 0, stride = 1;

        for (unsigned d = t->ndim; d-- > 0;) {
            at += (off[d] + rest % ext[d]) * stride;
            stride *= shape[d];
            rest /= ext[d];
        }
        for (uint64_t b = 0; b < esize; b++)
            w->files[box->file][box->at + i * esize + b] = pattern(at * esize + b);
    }
}

/* The tensor as it is, as the one output. */
static void make_output(world *w, const sw_catalog *c)
{
    static const sw_value_rule as_it_is = { SW_NDTYPES, SW_NDTYPES, NULL, NULL };
    char name[] = "t", *names[] = { name };
    sw_buf warnings = SW_BUF_INIT;
    sw_status st = SW_STATUS_INIT;

    w->c = c;
    assert_int_equal(sw_outputs_build(c, names, &as_it_is, &warnings, &w->o, &st), SW_OK);
    sw_buf_release(&warnings);
}

/* The runs of bytes [from, from + n), box by box. */
typedef struct range_visit {
    world *w;
    sw_run_fn fn;
    char *band;
} range_visit;

static bool visit_box(void *ctx, const sw_making *g)
{
    const range_visit *v = ctx;
    sw_run_target target = { g->offsets, g->shape, g->strides };

    v->w->band = v->band ? v->band + g->to : NULL;
    return sw_runs_each(&g->how->view, &target, v->fn, v->w);
}

static void visit_range(world *w, uint64_t from, uint64_t n, sw_run_fn fn)
{
    sw_part part = { .from = from, .n = n };
    range_visit v = { w, fn, w->band };

    assert_true(sw_part_boxes_each(&w->o, &part, visit_box, &v));
    w->band = v.band;
}

/* What a range has of one box lies together in its file, so that it can be read, or sent, as one
 * run. */
static bool take_run(void *ctx, const sw_run *s)
{
    world *w = ctx;
    uint64_t at, n = 0;
    int64_t to;

    for (uint64_t i = 0; n < s->n; i++, n += s->row) {
        sw_run_row(s, i, &at, &to);
        assert_int_equal(at, s->at + n);
        memcpy(w->band + to, w->files[s->file] + at, s->row);
    }
    assert_int_equal(n, s->n);
    w->covered += n;
    w->runs++;
    return true;
}

static void check_range(world *w, uint64_t from, uint64_t n, uint64_t seed)
{
    memset(w->band, 0, n);
    w->covered = 0;
    visit_range(w, from, n, take_run);
    assert_int_equal(w->covered, n);
    for (uint64_t i = 0; i < n; i++)
        if (w->band[i] != pattern(from + i))
            fail_msg("seed %d: byte %d of range %d+%d", (int)seed, (int)i, (int)from, (int)n);
}

TEST(random_ranges)
{
    static const sw_dtype dtypes[] = { SW_U8, SW_BF16, SW_F32, SW_C64 };
    enum { ROOM = 1 << 16 };
    test_box boxes[40];
    world w = { 0 };

    w.band = malloc(ROOM);
    for (int f = 0; f < 8; f++)
        w.files[f] = malloc(ROOM);
    for (uint64_t seed = 1; seed <= 600; seed++) {
        uint64_t s = seed, esize;
        sw_status st = SW_STATUS_INIT;
        sw_catalog c;
        const sw_tensor *t = NULL;
        size_t n;

        boxes[0] =
            (test_box){ "t", 0, dtypes[test_random(&s, 4)], (unsigned)test_random(&s, 5), { 0 }, { 0 } };
        for (unsigned d = 0; d < 4; d++)
            boxes[0].shape[d] = 1 + test_random(&s, 8);
        n = test_cut(&s, boxes, 1 + test_random(&s, 39));
        for (size_t i = 0; i < n; i++)
            boxes[i].file = (uint32_t)test_random(&s, 8);
        assert_int_equal(test_catalog(boxes, n, 8, 2, &c, &st), SW_OK);
        t = c.tensors;
        make_output(&w, &c);
        esize = sw_dtype_bits((sw_dtype)t->dtype) / 8;
        for (uint64_t k = 0; k < t->nboxes; k++)
            write_box(&w, t, k, esize);
        check_range(&w, 0, t->bytes, seed);
        for (int i = 0; i < 20; i++) {
            uint64_t from = test_random(&s, t->bytes + 1);

            check_range(&w, from, test_random(&s, t->bytes - from + 1), seed);
        }
        sw_outputs_release(&w.o);
        sw_catalog_release(&c);
    }
    for (int f = 0; f < 8; f++)
        free(w.files[f]);
    free(w.band);
}

static bool count_run(void *ctx, const sw_run *s)
{
    world *w = ctx;

    w->runs++;
    w->covered += s->n;
    return true;
}

/* Rows are one run each, whatever the number of rows in a box; a band of few rows does not look
 * at all boxes. */
TEST(rows_are_whole)
{
    enum { N = 1000 };
    test_box *boxes = calloc(N, sizeof *boxes);
    sw_status st = SW_STATUS_INIT;
    world w = { 0 };
    sw_catalog c;

    for (uint64_t i = 0; i < N; i++) {
        boxes[i] = (test_box){ "t", (uint32_t)(i % 10), SW_F32, 2, { 0 }, { 64, 128 } };
        boxes[i].offsets[0] = i * 64;
    }
    assert_int_equal(test_catalog(boxes, N, 10, 1, &c, &st), SW_OK);
    make_output(&w, &c);
    visit_range(&w, 64 * 512 * 500 + 100, 64 * 512 * 3, count_run);
    sw_outputs_release(&w.o);
    assert_in_range(w.runs, 4, 6); /* a head and a tail within rows */
    assert_int_equal(w.covered, 64 * 512 * 3);
    sw_catalog_release(&c);
    free(boxes);
}

/* Numbers beyond 2^32 in dimensions, offsets and positions. */
TEST(large)
{
    const uint64_t rows = UINT64_C(5) << 32;
    const test_box boxes[] = {
        { "t", 0, SW_F32, 2, { 0, 0 }, { rows, 1 } },
        { "t", 1, SW_F32, 2, { 0, 1 }, { rows, 2 } },
    };
    sw_status st = SW_STATUS_INIT;
    world w = { 0 };
    sw_catalog c;

    assert_int_equal(test_catalog(boxes, 2, 2, 1, &c, &st), SW_OK);
    assert_int_equal(c.tensors[0].bytes, rows * 12);
    make_output(&w, &c);
    visit_range(&w, rows * 12 - 24, 24, count_run);
    sw_outputs_release(&w.o);
    assert_int_equal(w.runs, 2);
    assert_int_equal(w.covered, 24);
    sw_catalog_release(&c);
}
