/* Bands of shard files, and of files of whole tensors, broken down to boxes, and these to runs of
 * the boxes that were saved: any range of any file is the same bytes as whole tensors give; each
 * once. */
#include "plan/layout_cut.h"
#include "plan/layout_whole.h"
#include "plan/parts.h"
#include "plan_help.h"

#define TENSORS 4
#define BOXES 12 /* of a tensor, at most */
#define FILES 8
#define ROOM (1u << 14)

typedef struct world {
    sw_catalog c;
    sw_outputs o;
    sw_layout whole, l;
    sw_shard_rules rules;
    char saved[FILES][ROOM], file[ROOM], band[ROOM];
    /* tensors are written whole: what a range has of one box lies together in its file */
    bool together;
    bool count; /* runs are counted, and not copied */
    int64_t to; /* where the box that is looked at goes */
    uint64_t covered, n, calls, runs, rows, limit;
} world;

/* The bytes of a box of a tensor, of which byte i is a function of i, element by element; elements
 * of less than a byte, byte by byte. Returns what stands behind them. */
static char *put_box(char *to, const sw_catalog *c, uint32_t tensor, const uint64_t *off, const uint64_t *ext)
{
    const sw_tensor *t = &c->tensors[tensor];
    const uint64_t *all = sw_tensor_shape(c, t);
    uint64_t bits = sw_dtype_bits((sw_dtype)t->dtype), n = test_product(ext, t->ndim), index[4];

    for (uint64_t i = 0; i < n; i++) {
        uint64_t at = 0;

        test_unflatten(i, t->ndim, ext, index);
        for (unsigned d = 0; d < t->ndim; d++)
            at = at * all[d] + off[d] + index[d];
        at = at * bits / 8;
        for (uint64_t b = 0; b < bits / 8 + (bits == 4 && i % 2 == 0); b++, at++)
            *to++ = (char)(at * 31 + at / 251 + 7 + tensor * UINT64_C(57));
    }
    return to;
}

/* What was saved. */
static void write_boxes(world *w)
{
    for (uint32_t i = 0; i < w->c.ntensors; i++)
        for (uint64_t k = 0; k < w->c.tensors[i].nboxes; k++) {
            sw_placed placed;
            const sw_box *box = &sw_box_get(&w->c, &w->c.tensors[i], k, &placed)->box;

            put_box(w->saved[box->file] + box->at, &w->c, i, placed.offsets, placed.shape);
        }
}

/* What a file holds behind its header. */
static void write_file(world *w, const sw_layout_file *file)
{
    static const uint64_t zeros[4] = { 0 };
    char *to = w->file;

    assert_true(file->size - 8 - file->header_len <= ROOM);
    for (uint32_t k = file->first; k < file->first + file->count; k++) {
        const sw_slot *slot = &w->l.order[k];
        const sw_tensor *t = &w->c.tensors[slot->tensor];
        const uint64_t *box = sw_slot_box(&w->l, slot);

        to = put_box(to, &w->c, slot->tensor, box ? box : zeros,
                     box ? box + t->ndim : sw_tensor_shape(&w->c, t));
        assert_int_equal(to - w->file, slot->end);
    }
}

static bool take_run(void *ctx, const sw_run *run)
{
    world *w = ctx;
    uint64_t at;
    int64_t to;

    for (uint64_t row = 0; !w->count && row < run->n / run->row; row++) {
        sw_run_row(run, row, &at, &to);
        assert_true(w->to + to >= 0 && (uint64_t)(w->to + to) + run->row <= w->n);
        assert_true(!w->together || at == run->at + row * run->row);
        memcpy(w->band + w->to + to, w->saved[run->file] + at, run->row);
    }
    w->covered += run->n;
    w->runs++;
    w->rows += run->n / run->row;
    return true;
}

static bool take(void *ctx, const sw_making *g)
{
    world *w = ctx;
    sw_run_target target = { g->offsets, g->shape, g->strides };

    w->to = g->to;
    assert_true(sw_runs_each(&g->how->view, &target, take_run, w));
    return ++w->calls != w->limit;
}

/* All runs of a band, or of as many boxes as the limit lets through. */
static bool visit(world *w, uint32_t f, uint64_t begin, uint64_t end, uint64_t limit)
{
    w->covered = w->calls = w->runs = w->rows = 0;
    w->n = end - begin;
    w->limit = limit;
    return sw_band_boxes_each(&w->o, &w->l, f, (sw_region){ begin, end }, take, w);
}

static void check_band(world *w, uint32_t f, uint64_t begin, uint64_t end, uint64_t seed)
{
    uint64_t data = 8 + w->l.files[f].header_len, lo = begin > data ? begin : data, calls;

    assert_true(visit(w, f, begin, end, UINT64_MAX));
    assert_int_equal(w->covered, end > lo ? end - lo : 0);
    if (end > lo && memcmp(w->band + (lo - begin), w->file + (lo - data), end - lo) != 0)
        fail_msg("seed %d: bytes %d to %d of file %d", (int)seed, (int)begin, (int)end, (int)f);
    calls = w->calls;
    if (calls > 1) {
        assert_false(visit(w, f, begin, end, calls - 1));
        assert_int_equal(w->calls, calls - 1);
    }
}

static void make(world *w, const test_box *boxes, size_t n, const char *mesh, const char *placements,
                 uint64_t seed)
{
    static const sw_value_rule values = { SW_NDTYPES, SW_NDTYPES, NULL, NULL };
    static const sw_layout_rule single = { .kind = SW_LAYOUT_SINGLE };
    sw_buf warnings = SW_BUF_INIT;
    sw_status st = SW_STATUS_INIT;
    char *names[TENSORS];

    assert_int_equal(test_catalog(boxes, n, FILES, 2, &w->c, &st), SW_OK);
    for (uint32_t i = 0; i < w->c.ntensors; i++)
        names[i] = (char *)(uintptr_t)w->c.tensors[i].name;
    if (sw_outputs_build(&w->c, names, &values, &warnings, &w->o, &st) ||
        sw_layout_build(&w->o.view, &single, &w->whole, &st) ||
        sw_shard_rules_parse(mesh, placements, NULL, &w->rules, &st) ||
        sw_shard_layout_build(&w->o, &w->whole, &w->rules, &warnings, &w->l, &st))
        fail_msg("seed %d: %s", (int)seed, st.reason);
    sw_buf_release(&warnings);
}

static void release(world *w)
{
    sw_layout_release(&w->l);
    sw_layout_release(&w->whole);
    sw_shard_rules_release(&w->rules);
    sw_outputs_release(&w->o);
    sw_catalog_release(&w->c);
}

static void check_files(world *w, uint64_t *s, uint64_t seed)
{
    write_boxes(w);
    for (uint32_t f = 0; f < w->l.nfiles; f++) {
        uint64_t size = w->l.files[f].size;

        write_file(w, &w->l.files[f]);
        check_band(w, f, 0, size, seed);
        check_band(w, f, size, size, seed);
        for (int i = 0; i < 12; i++) {
            uint64_t begin = test_random(s, size);

            check_band(w, f, begin, begin + 1 + test_random(s, size - begin), seed);
        }
    }
}

TEST(random_meshes)
{
    static const sw_dtype dtypes[] = { SW_U8, SW_BF16, SW_F32, SW_C64 };
    static const char *const places[] = { "shard0", "shard1", "replicate", "shard2", "shard3" };
    static const char *const names[TENSORS] = { "a", "b", "c", "d" };
    world *w = calloc(1, sizeof *w);

    for (uint64_t seed = 1; seed <= 400; seed++) {
        char placements[64], mesh[16];
        test_box boxes[TENSORS * BOXES];
        uint64_t s = seed;
        size_t n = 0;

        w->together = seed % 4 == 0;
        for (size_t i = 0; i < TENSORS; i++) {
            test_box *b = &boxes[n];
            bool empty = false;

            *b = (test_box){ names[i], 0,    dtypes[test_random(&s, 4)], (unsigned)test_random(&s, 5),
                             { 0 },    { 0 } };
            for (unsigned d = 0; d < 4; d++) {
                b->shape[d] = test_random(&s, 20) ? 1 + test_random(&s, 4) : 0;
                empty = empty || (d < b->ndim && b->shape[d] == 0);
            }
            n += empty ? 1 : test_cut(&s, b, 1 + test_random(&s, BOXES));
            for (; b < boxes + n; b++)
                b->file = (uint32_t)test_random(&s, FILES);
        }
        snprintf(mesh, sizeof mesh, "%dx%d", 1 + (int)test_random(&s, 3), 1 + (int)test_random(&s, 4));
        snprintf(placements, sizeof placements, "%s,%s", places[w->together ? 2 : test_random(&s, 5)],
                 places[w->together ? 2 : test_random(&s, 5)]);
        make(w, boxes, n, mesh, placements, seed);
        check_files(w, &s, seed);
        release(w);
    }
    free(w);
}

/* Two elements in a byte: rows are whole bytes, and bands may begin at any. */
TEST(narrow)
{
    static const struct {
        test_box t;
        const char *mesh, *placements;
    } cases[] = {
        { { "t", 0, SW_F4, 2, { 0 }, { 5, 4 } }, "3", "shard0" },
        { { "t", 0, SW_F4, 3, { 0 }, { 3, 5, 6 } }, "2x2", "shard1,shard0" },
        { { "t", 0, SW_F4, 4, { 0 }, { 2, 4, 3, 2 } }, "3", "shard2" },
        { { "t", 0, SW_F4, 3, { 0 }, { 4, 2, 3 } }, "4", "shard0" },
        { { "t", 0, SW_F4, 1, { 0 }, { 30 } }, "4", "replicate" },
    };
    world *w = calloc(1, sizeof *w);

    for (size_t i = 0; i < COUNT(cases); i++) {
        uint64_t s = i;

        make(w, &cases[i].t, 1, cases[i].mesh, cases[i].placements, i);
        check_files(w, &s, i);
        release(w);
    }
    free(w);
}

/* A row of the box that lies together in the tensor is copied as one, and so are all of them where
 * they do. */
TEST(number_of_rows)
{
    static const struct {
        test_box t;
        const char *placements;
        uint64_t rows; /* of the first file of two */
    } cases[] = {
        { { "t", 0, SW_U8, 2, { 0 }, { 8, 6 } }, "shard0", 1 },
        { { "t", 0, SW_U8, 2, { 0 }, { 8, 6 } }, "shard1", 8 },
        { { "t", 0, SW_U8, 3, { 0 }, { 8, 6, 5 } }, "shard1", 8 },
        { { "t", 0, SW_U8, 3, { 0 }, { 8, 6, 5 } }, "shard2", 48 },
        { { "t", 0, SW_U8, 3, { 0 }, { 8, 6, 5 } }, "replicate", 1 },
    };
    world *w = calloc(1, sizeof *w);

    for (size_t i = 0; i < COUNT(cases); i++) {
        make(w, &cases[i].t, 1, "2", cases[i].placements, i);
        assert_true(visit(w, 0, 0, w->l.files[0].size, UINT64_MAX));
        assert_int_equal(w->rows, cases[i].rows);
        release(w);
    }
    free(w);
}

/* Rows are one run each, whatever the number of rows in a box, and a band of few rows does not look
 * at all boxes; numbers beyond 2^32 in dimensions, offsets and positions. */
TEST(number_of_runs)
{
    enum { N = 1000 };
    const uint64_t rows = UINT64_C(5) << 32;
    const test_box large[] = { { "t", 0, SW_F32, 2, { 0, 0 }, { rows, 1 } },
                               { "t", 1, SW_F32, 2, { 0, 1 }, { rows, 2 } } };
    test_box *boxes = calloc(N, sizeof *boxes);
    world *w = calloc(1, sizeof *w);
    uint64_t data, end;

    w->count = true;
    for (uint64_t i = 0; i < N; i++)
        boxes[i] = (test_box){ "t", (uint32_t)(i % FILES), SW_F32, 2, { i * 64 }, { 64, 128 } };
    make(w, boxes, N, "1", NULL, 0);
    data = 8 + w->l.files[0].header_len + 64 * 512 * 500 + 100;
    assert_true(visit(w, 0, data, data + 64 * 512 * 3, UINT64_MAX));
    assert_in_range(w->runs, 4, 6); /* a head and a tail within rows */
    assert_int_equal(w->covered, 64 * 512 * 3);
    release(w);
    make(w, large, 2, "1", NULL, 0);
    assert_int_equal(w->c.tensors[0].bytes, rows * 12);
    end = w->l.files[0].size;
    assert_true(visit(w, 0, end - 24, end, UINT64_MAX));
    assert_int_equal(w->runs, 2);
    assert_int_equal(w->covered, 24);
    release(w);
    free(w);
    free(boxes);
}
