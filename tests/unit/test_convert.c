/* Conversions of ranges: any range, made of few boxes and of exactly what it is said to be made of,
 * is that part of the whole, and so is it by chunks, from a file; and the whole is what comes of
 * converting one element at a time, by the plain path. */
#include <math.h>
#include <sys/stat.h>

#include "base/path.h"
#include "float_help.h"
#include "plan/parts.h"
#include "plan_help.h"
#include "read/convert.h"
#include "read/make.h"
#include "top_help.h"
#include "value/dequant.h"

#define NO SW_NDTYPES
#define TENSORS_MAX 2

/* A catalogue of one or two tensors, their bytes, and the one output that is made of them. */
typedef struct fixture {
    sw_catalog c;
    sw_outputs o;
    char *data[TENSORS_MAX];
    sw_source source; /* the file that has them */
} fixture;

/* Write the one shard file, and open it. */
static void write_file(fixture *f)
{
    sw_status st = SW_STATUS_INIT;
    sw_file *file = &f->c.files[0];
    char *path = at("file");
    struct stat s;
    FILE *out;

    assert_non_null(out = fopen(path, "w"));
    for (uint32_t i = 0; i < f->c.ntensors; i++) {
        const sw_tensor *t = &f->c.tensors[i];

        if (t->nboxes) {
            assert_int_equal(fseek(out, (long)f->c.boxes[t->box0].at, SEEK_SET), 0);
            assert_int_equal(fwrite(f->data[i], 1, t->bytes, out), t->bytes);
        }
    }
    assert_int_equal(fclose(out), 0);
    assert_int_equal(stat(path, &s), 0);
    sw_file_set_name(file, "file");
    file->size = (uint64_t)s.st_size;
    file->mtime_ns = sw_path_ns(&s.st_mtim);
    assert_int_equal(sw_source_init(&f->source, &f->c, top, 700, &st), SW_OK);
}

/* block: NULL = as it is. */
static void make_by(fixture *f, const test_box *boxes, size_t n, const sw_value_rule *rule,
                    const uint64_t *block, uint64_t *seed)
{
    char text[TENSORS_MAX][32], *names[TENSORS_MAX];
    sw_buf warnings = SW_BUF_INIT;
    sw_status st = SW_STATUS_INIT;

    assert_int_equal(test_catalog(boxes, n, 1, 1, &f->c, &st), SW_OK);
    for (uint32_t i = 0; i < n; i++) {
        snprintf(text[i], sizeof text[i], "%s", f->c.tensors[i].name);
        names[i] = text[i];
        f->data[i] = malloc(f->c.tensors[i].bytes + 1);
        for (uint64_t k = 0; k < f->c.tensors[i].bytes; k++)
            f->data[i][k] = (char)test_random(seed, 256);
    }
    if (block)
        memcpy(f->c.block, block, sizeof f->c.block);
    if (sw_outputs_build(&f->c, names, rule, &warnings, &f->o, &st))
        fail_msg("'%s': %s", st.tensor, st.reason);
    assert_int_equal(f->o.view.ntensors, 1);
    sw_buf_release(&warnings);
    write_file(f);
}

static void make(fixture *f, const test_box *boxes, size_t n, sw_dtype cast, sw_dtype dequantize,
                 uint64_t *seed)
{
    make_by(f, boxes, n, &(sw_value_rule){ cast, dequantize, NULL, NULL }, NULL, seed);
}

static void drop(fixture *f)
{
    for (uint32_t i = 0; i < f->c.ntensors; i++)
        free(f->data[i]);
    sw_source_release(&f->source);
    sw_outputs_release(&f->o);
    sw_catalog_release(&f->c);
}

static const sw_tensor *output_of(const fixture *f)
{
    return &f->o.view.tensors[0];
}

static const char *source_of(const fixture *f)
{
    return f->data[f->o.how[0].source];
}

static const char *scales_of(const fixture *f)
{
    return f->data[f->o.how[0].scale];
}

/* ---- a range --------------------------------------------------------------------------------- */

typedef struct range {
    const fixture *f;
    char *to;
    const sw_maker *maker;   /* NULL = of ingredients in memory */
    char *input;             /* while a box is gathered */
    uint64_t elements, size; /* wanted of all boxes; of their ingredients, bytes */
    unsigned calls, stop_at; /* 0 = never */
} range;

static bool bring(void *ctx, const sw_run *run)
{
    const range *r = ctx;
    const fixture *f = r->f;
    uint32_t i = 0;
    uint64_t at;
    int64_t to;

    for (uint32_t k = 1; k < f->c.ntensors; k++)
        if (run->at >= f->c.boxes[f->c.tensors[k].box0].at)
            i = k;
    for (uint64_t row = 0; row < run->n / run->row; row++) {
        sw_run_row(run, row, &at, &to);
        memcpy(r->input + to, f->data[i] + (at - f->c.boxes[f->c.tensors[i].box0].at), run->row);
    }
    return true;
}

/* Of input of exactly its size: what goes beyond it is found by the address sanitizer. */
static bool make_box(void *ctx, const sw_making *g)
{
    range *r = ctx;
    sw_status st = SW_STATUS_INIT;
    sw_ingredient in[2];
    unsigned n = sw_ingredients(g, in);
    uint64_t sum = 0;
    char *all;

    if (r->maker) {
        assert_int_equal(sw_make(r->maker, g, r->to, &st), SW_OK);
        return ++r->calls > 0;
    }
    r->input = all = malloc(sw_ingredients_size(g));
    for (unsigned i = 0; i < n; i++) {
        sw_run_target target = { in[i].offsets, in[i].shape, NULL };

        assert_true(in[i].bytes > 0 && in[i].at == sum);
        r->input = all + in[i].at;
        sum += in[i].bytes;
        sw_runs_each(&in[i].view, &target, bring, r);
    }
    assert_int_equal(sum, sw_ingredients_size(g));
    r->size += sum;
    if (r->to && g->how->op != SW_OP_COPY)
        sw_convert(g, all, r->to + g->to);
    else if (r->to)
        memcpy(r->to + g->to, all, sum);
    free(all);
    return ++r->calls != r->stop_at;
}

/* A range is at most so many boxes: for each dimension but one a piece at either end, and what is
 * whole between them. Those of MXFP4 are turned: one of each expert, and one more where it is
 * short. */
static unsigned boxes_most(const fixture *f)
{
    unsigned ndim = output_of(f)->ndim;

    return f->o.how[0].op == SW_OP_MXFP4 ? 1 + (unsigned)sw_tensor_shape(&f->o.view, output_of(f))[0]
           : ndim                        ? 2 * ndim - 1
                                         : 1;
}

/* The range in memory of exactly its size. */
static char *convert_by(const fixture *f, uint64_t from, uint64_t n, const sw_maker *maker)
{
    sw_part part = { .from = from, .n = n };
    range r = { .f = f, .to = malloc(n), .maker = maker };

    memset(r.to, 0x5a, n);
    assert_true(sw_part_boxes_each(&f->o, &part, make_box, &r));
    assert_true(maker || r.size <= n / sw_output_element(&f->o, 0) * SW_INPUT_MAX);
    assert_true(r.calls <= boxes_most(f));
    return r.to;
}

static char *convert(const fixture *f, uint64_t from, uint64_t n)
{
    return convert_by(f, from, n, NULL);
}

/* By chunks, with as much scratch memory as comes. */
static char *convert_file(const fixture *f, uint64_t from, uint64_t n)
{
    static uint64_t seed = 99;
    sw_maker maker = { sw_pull_of((sw_source *)(uintptr_t)&f->source), NULL,
                       SW_MAKE_ROOM_MIN + test_random(&seed, test_random(&seed, 3) ? 1000 : 100000) };
    char *to;

    maker.memory = malloc(maker.room);
    to = convert_by(f, from, n, &maker);
    free(maker.memory);
    return to;
}

static uint64_t input_size(const fixture *f, uint64_t from, uint64_t n)
{
    sw_part part = { .from = from, .n = n };
    range r = { .f = f };

    sw_part_boxes_each(&f->o, &part, make_box, &r);
    return r.size;
}

static void check_range(const fixture *f, const char *whole, uint64_t from, uint64_t n)
{
    uint64_t size = sw_output_element(&f->o, 0);

    for (int way = 0; way < 2; way++) {
        char *part = (way ? convert_file : convert)(f, from * size, n * size);

        for (uint64_t k = 0; k < n; k++)
            if (memcmp(part + k * size, whole + (from + k) * size, size) != 0)
                fail_msg("%s: element %d of [%d, +%d) differs", output_of(f)->name, (int)k, (int)from,
                         (int)n);
        free(part);
    }
}

/* Bits of element i of the output, by the plain path. */
typedef uint64_t one_fn(const fixture *f, uint64_t i);

/* The whole against the book, then ranges of any size and of few elements; of a small output, every
 * range. */
static void check_all(const fixture *f, one_fn *one, unsigned ranges, uint64_t *seed)
{
    uint64_t size = sw_output_element(&f->o, 0), total = output_of(f)->elements;
    char *whole = convert(f, 0, total * size);

    for (uint64_t i = 0; i < total; i++)
        if (help_get(whole, i, (unsigned)size) != one(f, i))
            fail_msg("%s: element %d of %d is %llx, expected %llx", output_of(f)->name, (int)i, (int)total,
                     (unsigned long long)help_get(whole, i, (unsigned)size), (unsigned long long)one(f, i));
    for (uint64_t from = 0; total <= 40 && from <= total; from++)
        for (uint64_t n = 0; n <= total - from; n++)
            check_range(f, whole, from, n);
    for (unsigned k = 0; k < ranges; k++) {
        uint64_t from = test_random(seed, total + 1);

        check_range(f, whole, from, test_random(seed, total - from + 1));
        check_range(f, whole, from, sw_min(total - from, test_random(seed, 300)));
        check_range(f, whole, from, sw_min(total - from, 1));
    }
    free(whole);
}

/* ---- casts ----------------------------------------------------------------------------------- */

static const sw_dtype floats[] = { SW_F64, SW_F32, SW_BF16, SW_F16 };

static uint64_t cast_one(const fixture *f, uint64_t i)
{
    sw_dtype from = (sw_dtype)f->c.tensors[0].dtype;

    return help_convert(from, (sw_dtype)output_of(f)->out_dtype,
                        help_get(f->data[0], i, sw_dtype_bits(from) / 8));
}

TEST_IN_TOP(casts)
{
    uint64_t seed = 2;

    for (size_t a = 0; a < COUNT(floats); a++) {
        for (size_t b = 0; b < COUNT(floats); b++) {
            for (unsigned round = 0; a != b && round < 4; round++) {
                test_box box = { "a",       0,
                                 floats[a], round ? 3 : 0,
                                 { 0 },     { test_random(&seed, 4), 1 + test_random(&seed, 9), 13 } };
                fixture f;

                make(&f, &box, 1, floats[b], NO, &seed);
                assert_int_equal(f.o.how[0].op, SW_OP_CAST);
                check_all(&f, cast_one, 20, &seed);
                drop(&f);
            }
        }
    }
}

/* ---- scales of blocks ------------------------------------------------------------------------ */

/* Of FP8 in blocks of 128, and of others. */
typedef struct scaled_kind {
    sw_dtype from, scale, to;
    uint64_t block[2];
} scaled_kind;

static const scaled_kind scaled_kinds[] = {
    { SW_F8_E4M3, SW_F32, SW_F32, { 128, 128 } },     { SW_F8_E5M2, SW_BF16, SW_BF16, { 128, 128 } },
    { SW_F8_E4M3, SW_F8_E8M0, SW_F16, { 128, 128 } }, { SW_F8_E5M2, SW_F32, SW_BF16, { 128, 128 } },
    { SW_I8, SW_F32, SW_BF16, { 128, 128 } },         { SW_BF16, SW_F32, SW_BF16, { 64, 64 } },
    { SW_F32, SW_F64, SW_F16, { 3, 100 } },           { SW_F64, SW_F16, SW_F32, { 1, 1 } },
    { SW_F8_E4M3, SW_F8_E4M3, SW_F32, { 1, 32 } },    { SW_I16, SW_BF16, SW_F32, { 500, 7 } },
};

static void make_scaled(fixture *f, uint64_t rows, uint64_t columns, const scaled_kind *k, uint64_t *seed)
{
    const test_box boxes[] = { { "a.weight", 0, k->from, 2, { 0 }, { rows, columns } },
                               { "a.weight_scale_inv",
                                 0,
                                 k->scale,
                                 2,
                                 { 0 },
                                 { (rows + k->block[0] - 1) / k->block[0],
                                   (columns + k->block[1] - 1) / k->block[1] } } };

    make_by(f, boxes, 2, &(sw_value_rule){ NO, k->to, NULL, NULL }, k->block, seed);
    assert_int_equal(f->o.how[0].op, SW_OP_SCALED);
}

/* One weight under its scale. */
static uint64_t scaled_one(const fixture *f, uint64_t i)
{
    const sw_tensor *weight = &f->c.tensors[f->o.how[0].source], *scale = &f->c.tensors[f->o.how[0].scale];
    const uint64_t *shape = sw_tensor_shape(&f->c, weight);
    uint64_t row = i / shape[1], column = i % shape[1];
    uint64_t at = row / f->c.block[0] * sw_tensor_shape(&f->c, scale)[1] + column / f->c.block[1];
    sw_dtype from = (sw_dtype)weight->dtype, to = (sw_dtype)output_of(f)->out_dtype;
    float factor;
    sw_scaled_row one = { from, to, 1, &factor };
    char bits[4];

    sw_dequant_numbers((sw_dtype)scale->dtype, scales_of(f) + at * sw_dtype_bits((sw_dtype)scale->dtype) / 8,
                       &factor, 1);
    sw_dequant_row(sw_cast_path_best(), &one, source_of(f) + i * sw_dtype_bits(from) / 8, 0, bits, 1);
    return help_get(bits, 0, sw_dtype_bits(to) / 8);
}

static void check_scaled(uint64_t rows, uint64_t columns, unsigned kind, unsigned ranges, uint64_t *seed)
{
    fixture f;

    make_scaled(&f, rows, columns, &scaled_kinds[kind % COUNT(scaled_kinds)], seed);
    check_all(&f, scaled_one, ranges, seed);
    drop(&f);
}

TEST_IN_TOP(scaled)
{
    static const uint64_t shapes[][2] = { { 1, 1 },     { 5, 1 },   { 300, 1 },   { 1, 300 },   { 3, 127 },
                                          { 3, 128 },   { 3, 129 }, { 127, 129 }, { 128, 128 }, { 129, 129 },
                                          { 129, 257 }, { 257, 3 }, { 2, 8192 },  { 2, 8193 },  { 3, 8320 },
                                          { 1, 20000 }, { 0, 5 },   { 5, 0 },     { 130, 8321 } };
    uint64_t seed = 4;

    for (unsigned i = 0; i < COUNT(shapes); i++)
        check_scaled(shapes[i][0], shapes[i][1], i * 3, 20, &seed);
    for (unsigned kind = 0; kind < 2 * COUNT(scaled_kinds); kind++)
        check_scaled(1 + test_random(&seed, 300), 1 + test_random(&seed, 300), kind, 10, &seed);
    for (unsigned round = 0; round < 30; round++)
        check_scaled(1 + test_random(&seed, 8), 1 + test_random(&seed, 8), round, 0, &seed);
}

/* ---- MXFP4 ----------------------------------------------------------------------------------- */

static const sw_dtype targets[] = { SW_F32, SW_BF16, SW_F16 };

static void make_mxfp4(fixture *f, uint64_t experts, uint64_t rows, uint64_t groups, sw_dtype to,
                       uint64_t *seed)
{
    const test_box boxes[] = { { "a_blocks", 0, SW_U8, 4, { 0 }, { experts, rows, groups, SW_MXFP4_BYTES } },
                               { "a_scales", 0, SW_U8, 3, { 0 }, { experts, rows, groups } } };

    make(f, boxes, 2, NO, to, seed);
    assert_int_equal(f->o.how[0].op, SW_OP_MXFP4);
}

/* X[e, c, r] is nibble c of the blocks [e, r, ...], times 2^(s - 127), rounded once. */
static uint64_t mxfp4_one(const fixture *f, uint64_t i)
{
    static const double values[] = { 0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6 };
    const uint64_t *shape = sw_tensor_shape(&f->o.view, output_of(f));
    uint64_t r = i % shape[2], c = i / shape[2] % shape[1], e = i / shape[2] / shape[1];
    uint64_t block = (e * shape[2] + r) * (shape[1] / 32) + c / 32, bits;
    unsigned pair = (unsigned char)source_of(f)[block * 16 + c % 32 / 2];
    double value = ldexp(values[c % 2 ? pair >> 4 : pair & 15], (unsigned char)scales_of(f)[block] - 127);

    memcpy(&bits, &value, sizeof bits);
    return help_convert(SW_F64, (sw_dtype)output_of(f)->out_dtype, bits);
}

static void check_mxfp4(uint64_t experts, uint64_t rows, uint64_t groups, sw_dtype to, unsigned ranges,
                        uint64_t *seed)
{
    fixture f;

    make_mxfp4(&f, experts, rows, groups, to, seed);
    check_all(&f, mxfp4_one, ranges, seed);
    drop(&f);
}

TEST_IN_TOP(mxfp4)
{
    uint64_t seed = 6;

    for (uint64_t e = 0; e <= 3; e++)
        for (uint64_t r = 0; r <= 4; r++)
            for (uint64_t g = 0; g <= 3; g++)
                check_mxfp4(e, r, g, targets[(e + r + g) % 3], 20, &seed);
    for (unsigned round = 0; round < 20; round++)
        check_mxfp4(1 + test_random(&seed, 4), 1 + test_random(&seed, 90), 1 + test_random(&seed, 6),
                    targets[round % 3], 20, &seed);
    check_mxfp4(2, 700, 3, SW_BF16, 30, &seed);
}

/* ---- any ------------------------------------------------------------------------------------- */

/* False from the visitor ends the visit. */
TEST_IN_TOP(stop)
{
    uint64_t seed = 8;
    fixture f;

    make_mxfp4(&f, 2, 5, 2, SW_F32, &seed);
    for (unsigned stop = 1; stop <= 2; stop++) {
        range r = { .f = &f, .stop_at = stop };
        sw_part part = { .from = 0, .n = 2 * 5 * 64 * 4 };

        assert_false(sw_part_boxes_each(&f.o, &part, make_box, &r));
        assert_int_equal(r.calls, stop);
    }
    drop(&f);
    make_scaled(&f, 3, 3, &scaled_kinds[0], &seed);
    for (unsigned stop = 1; stop <= 3; stop++) {
        range r = { .f = &f, .stop_at = stop };
        sw_part part = { .from = 4, .n = 28 };

        assert_false(sw_part_boxes_each(&f.o, &part, make_box, &r));
        assert_int_equal(r.calls, stop);
    }
    drop(&f);
}

/* What one element needs: the bound that any buffer must hold. */
TEST_IN_TOP(one_element)
{
    uint64_t seed = 9;
    fixture f;

    make_mxfp4(&f, 1, 3, 2, SW_F32, &seed);
    for (uint64_t from = 0; from < output_of(&f)->bytes; from += 4)
        assert_int_equal(input_size(&f, from, 4), 17);
    drop(&f);
    make_scaled(&f, 130, 130, &scaled_kinds[3], &seed);
    for (uint64_t from = 0; from < output_of(&f)->bytes; from += 2)
        assert_int_equal(input_size(&f, from, 2), 5);
    assert_int_equal(input_size(&f, 127 * 2, 4), 2 + 2 * 4);
    assert_int_equal(input_size(&f, 0, output_of(&f)->bytes), 130 * 130 + 4 * 4);
    drop(&f);
}
