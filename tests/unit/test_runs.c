/* Any box of any tensor, from any cut into source boxes, to memory at any strides: each byte once,
 * to its place, and none beside it. */
#include "plan/runs.h"
#include "plan_help.h"

#define FILES 8
#define ROOM (1 << 16)
#define UNTOUCHED 0x5a

/* Byte b of element i of a tensor. */
static char mark(uint64_t i, uint64_t b)
{
    return (char)((i * 31 + i / 251 + b * 7) & 0x3f);
}

typedef struct world {
    char *files[FILES], *memory;
    sw_catalog c;
    const sw_tensor *t;
    uint64_t esize;
    /* what is asked for */
    uint64_t offsets[4], shape[4];
    int64_t strides[4]; /* bytes */
    int64_t origin;     /* of the first element in memory */
} world;

/* Element number `flat` of a box to an index for each dimension. */
static void unflatten(uint64_t flat, unsigned ndim, const uint64_t *shape, uint64_t *index)
{
    for (unsigned d = ndim; d-- > 0; flat /= shape[d])
        index[d] = flat % shape[d];
}

static uint64_t product(const uint64_t *shape, unsigned ndim)
{
    uint64_t n = 1;

    for (unsigned d = 0; d < ndim; d++)
        n *= shape[d];
    return n;
}

/* The number in the whole tensor of an element of a box. */
static uint64_t number(const world *w, const uint64_t *offsets, const uint64_t *index)
{
    const uint64_t *shape = sw_tensor_shape(&w->c, w->t);
    uint64_t n = 0;

    for (unsigned d = 0; d < w->t->ndim; d++)
        n = n * shape[d] + offsets[d] + index[d];
    return n;
}

static void write_boxes(world *w)
{
    for (uint64_t k = 0; k < w->t->nboxes; k++) {
        sw_placed placed;
        const sw_box *box = &sw_box_get(&w->c, w->t, k, &placed)->box;
        uint64_t index[4];

        for (uint64_t i = 0; i < product(placed.shape, w->t->ndim); i++) {
            unflatten(i, w->t->ndim, placed.shape, index);
            for (uint64_t b = 0; b < w->esize; b++)
                w->files[box->file][box->at + i * w->esize + b] = mark(number(w, placed.offsets, index), b);
        }
    }
}

/* A tensor in up to 40 boxes. */
static void make_world(world *w, uint64_t *seed)
{
    static const sw_dtype dtypes[] = { SW_U8, SW_BF16, SW_F32, SW_C64 };
    sw_status st = SW_STATUS_INIT;
    test_box boxes[40];
    size_t n;

    boxes[0] =
        (test_box){ "t", 0, dtypes[test_random(seed, 4)], (unsigned)test_random(seed, 5), { 0 }, { 0 } };
    for (unsigned d = 0; d < 4; d++)
        boxes[0].shape[d] = 1 + test_random(seed, 8);
    n = test_cut(seed, boxes, 1 + test_random(seed, 39));
    for (size_t i = 0; i < n; i++)
        boxes[i].file = (uint32_t)test_random(seed, FILES);
    assert_int_equal(test_catalog(boxes, n, FILES, 2, &w->c, &st), SW_OK);
    w->t = w->c.tensors;
    w->esize = sw_dtype_bits((sw_dtype)w->t->dtype) / 8;
    write_boxes(w);
}

static void choose_box(world *w, uint64_t *seed)
{
    const uint64_t *shape = sw_tensor_shape(&w->c, w->t);

    for (unsigned d = 0; d < w->t->ndim; d++) {
        w->offsets[d] = test_random(seed, shape[d]);
        w->shape[d] = 1 + test_random(seed, shape[d] - w->offsets[d]);
    }
}

/* Dimensions in any order in memory, with or without room between them, some of them backwards. */
static void choose_strides(world *w, uint64_t *seed)
{
    unsigned order[4] = { 0, 1, 2, 3 }, n = w->t->ndim;
    bool simple = test_random(seed, 3) == 0;
    int64_t step = (int64_t)w->esize;

    w->origin = 0;
    for (unsigned i = n; i-- > 0;) {
        unsigned j = simple ? i : (unsigned)test_random(seed, i + 1), d = order[j];

        order[j] = order[i];
        w->strides[d] = step;
        step *= (int64_t)w->shape[d] + (int64_t)(simple ? 0 : test_random(seed, 3));
        if (!simple && test_random(seed, 4) == 0) {
            w->origin += w->strides[d] * ((int64_t)w->shape[d] - 1);
            w->strides[d] = -w->strides[d];
        }
    }
    assert_true(step <= ROOM);
}

static uint64_t copy_run(const world *w, const sw_run *s)
{
    sw_run_loop one = { 1, 0, 0 }, in = s->nloops ? s->loops[s->nloops - 1] : one;
    uint64_t at, n = 0, last = 0;
    sw_run_walk walk;
    int64_t to;

    for (sw_run_begin(&walk, s); sw_run_next(&walk, s, &at, &to);) {
        for (uint64_t i = 0; i < in.count; i++, n += s->row) {
            assert_true(n == 0 || at + i * in.from >= last);
            last = at + i * in.from + s->row;
            memcpy(w->memory + w->origin + to + (int64_t)i * in.to, w->files[s->file] + at + i * in.from,
                   s->row);
        }
    }
    assert_int_equal(n, s->n);
    return n;
}

static void check_memory(world *w, uint64_t seed)
{
    uint64_t index[4], n = product(w->shape, w->t->ndim);

    for (uint64_t i = 0; i < n; i++) {
        int64_t at = w->origin;

        unflatten(i, w->t->ndim, w->shape, index);
        for (unsigned d = 0; d < w->t->ndim; d++)
            at += (int64_t)index[d] * w->strides[d];
        for (uint64_t b = 0; b < w->esize; b++) {
            if (w->memory[at + (int64_t)b] != mark(number(w, w->offsets, index), b))
                fail_msg("seed %d: element %d is not itself", (int)seed, (int)i);
            w->memory[at + (int64_t)b] = UNTOUCHED;
        }
    }
    for (size_t i = 0; i < ROOM; i++)
        if (w->memory[i] != UNTOUCHED)
            fail_msg("seed %d: byte %d was touched", (int)seed, (int)i);
}

/* All source boxes; the others than sw_run_range() says share nothing. */
static uint64_t copy_box(const world *w, const int64_t *strides)
{
    sw_view v = sw_view_elements(&w->c, w->t);
    sw_run_target target = { w->offsets, w->shape, strides };
    uint64_t first, end, n = 0;
    sw_run s;

    sw_run_range(&v, &target, &first, &end);
    for (uint64_t k = 0; k < w->t->nboxes; k++) {
        sw_run_kind kind = sw_run_make(&v, k, &target, &s);

        assert_int_not_equal(kind, SW_RUN_UNEVEN);
        assert_true(kind == SW_RUN_NONE || (k >= first && k < end));
        n += kind == SW_RUN_SHARED ? copy_run(w, &s) : 0;
    }
    return n;
}

static void check_box(world *w, uint64_t *seed, uint64_t name)
{
    int64_t bits[4];

    choose_box(w, seed);
    choose_strides(w, seed);
    for (unsigned d = 0; d < w->t->ndim; d++)
        bits[d] = w->strides[d] * 8;
    assert_int_equal(copy_box(w, bits), product(w->shape, w->t->ndim) * w->esize);
    check_memory(w, name);

    sw_strides_packed(w->t->ndim, w->shape, 8 * (unsigned)w->esize, w->strides);
    for (unsigned d = 0; d < w->t->ndim; d++)
        w->strides[d] /= 8;
    w->origin = 0;
    copy_box(w, NULL);
    check_memory(w, name);
}

/* A packed box in memory to strides: what sw_run_make() does from a file. */
static void check_scatter(world *w, uint64_t *seed, uint64_t name)
{
    uint64_t index[4], n;
    int64_t bits[4];
    sw_run s;

    choose_box(w, seed);
    choose_strides(w, seed);
    n = product(w->shape, w->t->ndim);
    for (uint64_t i = 0; i < n; i++) {
        unflatten(i, w->t->ndim, w->shape, index);
        for (uint64_t b = 0; b < w->esize; b++)
            w->files[0][i * w->esize + b] = mark(number(w, w->offsets, index), b);
    }
    for (unsigned d = 0; d < w->t->ndim; d++)
        bits[d] = w->strides[d] * 8;
    assert_int_equal(sw_run_scatter(w->t->ndim, w->shape, 8 * (unsigned)w->esize, bits, &s), SW_RUN_SHARED);
    assert_int_equal(copy_run(w, &s), n * w->esize);
    check_memory(w, name);
}

TEST(random_boxes)
{
    world w = { 0 };

    w.memory = malloc(ROOM);
    memset(w.memory, UNTOUCHED, ROOM);
    for (int f = 0; f < FILES; f++)
        w.files[f] = malloc(ROOM);
    for (uint64_t seed = 1; seed <= 400; seed++) {
        uint64_t s = seed;

        make_world(&w, &s);
        for (int i = 0; i < 8; i++)
            check_box(&w, &s, seed);
        check_scatter(&w, &s, seed);
        sw_catalog_release(&w.c);
    }
    for (int f = 0; f < FILES; f++)
        free(w.files[f]);
    free(w.memory);
}

/* ---- rows are as long as they can be --------------------------------------------------------- */

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

/* Numbers beyond 2^32 in dimensions and positions. */
TEST(large)
{
    const uint64_t rows = UINT64_C(5) << 32, offsets[2] = { rows - 6, 2 }, shape[2] = { 6, 1 };
    const test_box boxes[] = {
        { "t", 0, SW_F32, 2, { 0, 0 }, { rows, 1 } },
        { "t", 1, SW_F32, 2, { 0, 1 }, { rows, 2 } },
    };
    sw_run_target target = { offsets, shape, NULL };
    sw_status st = SW_STATUS_INIT;
    sw_catalog c;
    sw_view v;
    sw_run s;

    assert_int_equal(test_catalog(boxes, 2, 2, 1, &c, &st), SW_OK);
    v = sw_view_elements(&c, c.tensors);
    assert_int_equal(sw_run_make(&v, 0, &target, &s), SW_RUN_NONE);
    assert_int_equal(sw_run_make(&v, 1, &target, &s), SW_RUN_SHARED);
    assert_int_equal(s.at - c.boxes[1].at, (rows - 6) * 8 + 4);
    assert_int_equal(s.n, 24);
    sw_catalog_release(&c);
}

/* ---- parts of boxes -------------------------------------------------------------------------- */

/* Elements [from, end) of a box cut into boxes: in order, without holes, none too large, all of it
 * in one where there is room, and no more than a head and a tail for each dimension where it is not
 * cut otherwise. */
static void check_cuts(unsigned ndim, const uint64_t *offsets, const uint64_t *shape, uint64_t limit,
                       uint64_t from, uint64_t end)
{
    const sw_run_target box = { offsets, shape, NULL };
    uint64_t next = from, at[4], n[4], index[4], boxes = 0;

    for (uint64_t x = from, got; x < end; x += got, boxes++) {
        uint64_t most = end - x < limit ? end - x : limit;

        got = sw_first_box(&box, ndim, x, most, at, n);
        assert_true(got > 0 && got <= most && got == product(n, ndim));
        for (uint64_t e = 0; e < got; e++) {
            uint64_t flat = 0;

            unflatten(e, ndim, n, index);
            for (unsigned d = 0; d < ndim; d++)
                flat = flat * shape[d] + at[d] - offsets[d] + index[d];
            assert_int_equal(flat, next++);
        }
    }
    assert_int_equal(next, end);
    if (limit >= end - from && ndim)
        assert_true(boxes <= 2 * ndim - 1);
    if (from == 0 && end == product(shape, ndim) && limit >= end)
        assert_int_equal(boxes, 1);
}

TEST(cuts)
{
    uint64_t seed = 5, offsets[4], shape[4];

    for (int i = 0; i < 2000; i++) {
        for (unsigned d = 0; d < 4; d++) {
            offsets[d] = test_random(&seed, 9);
            shape[d] = 1 + test_random(&seed, 6);
        }
        unsigned ndim = (unsigned)test_random(&seed, 5);
        uint64_t total = product(shape, ndim), from = test_random(&seed, total);

        check_cuts(ndim, offsets, shape, 1 + test_random(&seed, 300), 0, total);
        check_cuts(ndim, offsets, shape, UINT64_MAX, 0, total);
        check_cuts(ndim, offsets, shape, UINT64_MAX, from, from + 1 + test_random(&seed, total - from));
    }
}
