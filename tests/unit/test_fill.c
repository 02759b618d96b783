/* Bands of shard files, broken down to boxes, and these to runs of whole tensors: any cut of any
 * file is the same bytes as a whole tensor gives; each once. */
#include "plan/layout_cut.h"
#include "plan/layout_whole.h"
#include "plan/parts.h"
#include "plan_help.h"

#define TENSORS 4
#define ROOM (1u << 14)

/* Byte i of a tensor. */
static char pattern(uint32_t tensor, uint64_t i)
{
    return (char)(i * 31 + i / 251 + 7 + tensor * 57);
}

typedef struct world {
    sw_catalog c;
    sw_outputs o;
    sw_layout whole, l;
    sw_shard_rules rules;
    char file[ROOM], band[ROOM];
    const sw_tensor *t; /* of the box that is looked at */
    int64_t to;         /* and where it goes */
    uint64_t covered, n, calls, rows, limit;
} world;

/* What the file holds behind its header, element by element; elements of less than a byte, byte by
 * byte. */
static void write_file(world *w, const sw_layout_file *file)
{
    char *to = w->file;

    assert_true(file->size - 8 - file->header_len <= ROOM);
    for (uint32_t k = file->first; k < file->first + file->count; k++) {
        const sw_slot *slot = &w->l.order[k];
        const sw_tensor *t = &w->o.view.tensors[slot->tensor];
        const uint64_t *all = sw_tensor_shape(&w->o.view, t), *box = sw_slot_box(&w->l, slot);
        static const uint64_t zeros[4] = { 0 };
        const uint64_t *off = box ? box : zeros, *ext = box ? box + t->ndim : all;
        uint64_t bits = sw_dtype_bits((sw_dtype)t->dtype), n = 1;

        for (unsigned d = 0; d < t->ndim; d++)
            n *= ext[d];
        for (uint64_t i = 0; i < n; i++) {
            uint64_t rest = i, at = 0, stride = 1;

            for (unsigned d = t->ndim; d-- > 0;) {
                at += (off[d] + rest % ext[d]) * stride;
                stride *= all[d];
                rest /= ext[d];
            }
            for (uint64_t b = 0; b < bits / 8; b++)
                *to++ = pattern(slot->tensor, at * bits / 8 + b);
            if (bits == 4 && i % 2 == 0)
                *to++ = pattern(slot->tensor, at / 2);
        }
        assert_int_equal(to - w->file, slot->end);
    }
}

/* Rows of the tensor, which is one box of a file. */
static bool take_run(void *ctx, const sw_run *run)
{
    world *w = ctx;
    const sw_box *box = &w->c.boxes[w->t->box0];
    uint64_t at;
    int64_t to;

    for (uint64_t row = 0; row < run->n / run->row; row++) {
        sw_run_row(run, row, &at, &to);
        assert_true(at - box->at + run->row <= w->t->bytes);
        assert_true(w->to + to >= 0 && (uint64_t)(w->to + to) + run->row <= w->n);
        for (uint64_t i = 0; i < run->row; i++)
            w->band[w->to + to + (int64_t)i] = pattern((uint32_t)(w->t - w->c.tensors), at - box->at + i);
    }
    w->covered += run->n;
    w->rows += run->n / run->row;
    return true;
}

static bool take(void *ctx, const sw_making *g)
{
    world *w = ctx;
    sw_run_target target = { g->offsets, g->shape, g->strides };

    w->t = g->how->view.t;
    w->to = g->to;
    assert_true(sw_runs_each(&g->how->view, &target, take_run, w));
    return ++w->calls != w->limit;
}

static void check_band(world *w, uint32_t f, uint64_t begin, uint64_t end, uint64_t seed)
{
    uint64_t data = 8 + w->l.files[f].header_len, lo = begin > data ? begin : data;

    w->covered = w->calls = w->rows = 0;
    w->n = end - begin;
    w->limit = UINT64_MAX;
    assert_true(sw_band_boxes_each(&w->o, &w->l, f, (sw_region){ begin, end }, take, w));
    assert_int_equal(w->covered, end > lo ? end - lo : 0);
    if (end > lo && memcmp(w->band + (lo - begin), w->file + (lo - data), end - lo) != 0)
        fail_msg("seed %d: bytes %d to %d of file %d", (int)seed, (int)begin, (int)end, (int)f);
    if (w->calls > 1) {
        w->limit = w->calls - 1;
        w->calls = 0;
        assert_false(sw_band_boxes_each(&w->o, &w->l, f, (sw_region){ begin, end }, take, w));
        assert_int_equal(w->calls, w->limit);
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

    assert_int_equal(test_catalog(boxes, n, 1, 1, &w->c, &st), SW_OK);
    for (size_t i = 0; i < n; i++)
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
    world *w = malloc(sizeof *w);

    for (uint64_t seed = 1; seed <= 400; seed++) {
        char placements[64], mesh[16];
        test_box boxes[TENSORS];
        uint64_t s = seed;

        for (size_t i = 0; i < TENSORS; i++) {
            boxes[i] = (test_box){ names[i], 0,    dtypes[test_random(&s, 4)], (unsigned)test_random(&s, 5),
                                   { 0 },    { 0 } };
            for (unsigned d = 0; d < 4; d++)
                boxes[i].shape[d] = test_random(&s, 20) ? 1 + test_random(&s, 4) : 0;
        }
        snprintf(mesh, sizeof mesh, "%dx%d", 1 + (int)test_random(&s, 3), 1 + (int)test_random(&s, 4));
        snprintf(placements, sizeof placements, "%s,%s", places[test_random(&s, 5)],
                 places[test_random(&s, 5)]);
        make(w, boxes, TENSORS, mesh, placements, seed);
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
    world *w = malloc(sizeof *w);

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
    world *w = malloc(sizeof *w);

    for (size_t i = 0; i < COUNT(cases); i++) {
        make(w, &cases[i].t, 1, "2", cases[i].placements, i);
        w->n = w->l.files[0].size;
        w->calls = w->rows = 0;
        w->limit = UINT64_MAX;
        assert_true(sw_band_boxes_each(&w->o, &w->l, 0, (sw_region){ 0, w->n }, take, w));
        assert_int_equal(w->rows, cases[i].rows);
        release(w);
    }
    free(w);
}
