/* Dequantization, by every path that this CPU can go, against torch's tables. */
#include <math.h>

#include "float_help.h"
#include "tables/dequant.inc"
#include "unit.h"
#include "value/dequant.h"
#include "value/fpmode.h"

#define GUARD 0xa5

static const sw_dtype fp8s[] = { SW_F8_E4M3, SW_F8_E5M2, SW_F8_E4M3FNUZ, SW_F8_E5M2FNUZ };
static const sw_dtype targets[] = { SW_F32, SW_BF16, SW_F16 };

static float float_of(uint32_t bits)
{
    float f;

    memcpy(&f, &bits, sizeof f);
    return f;
}

static uint64_t bits_of(double d)
{
    uint64_t bits;

    memcpy(&bits, &d, sizeof bits);
    return bits;
}

static uint64_t hash_of(const void *p, uint64_t n, sw_dtype dtype)
{
    uint64_t hash = 0;

    for (uint64_t i = 0; i < n; i++)
        hash = help_hash(hash, i, help_get(p, i, width(dtype)));
    return hash;
}

/* Weights of a row under scales of 128 columns. */
static void dequant_by(sw_cast_path path, sw_dtype from, const void *src, const float *of_row,
                       uint64_t column, sw_dtype to, void *dst, uint64_t n)
{
    sw_dequant_row(path, &(sw_scaled_row){ from, to, 128, of_row }, src, column, dst, n);
}

/* ---- scales ---------------------------------------------------------------------------------- */

TEST(scales)
{
    unsigned char all[257];
    float got[256];

    for (unsigned i = 0; i < 256; i++)
        all[i + 1] = (unsigned char)i;
    sw_dequant_numbers(SW_F8_E8M0, all + 1, got, 256);
    assert_int_equal(hash_of(got, 256, SW_F32), E8M0_HASH);
    for (int i = 0; i < 255; i++)
        assert_true((double)got[i] == ldexp(1, i - 127));
    assert_true(isnan(got[255]));
    sw_dequant_numbers(SW_BF16, (const unsigned char[]){ 0, 0xc0, 0x3f, 1, 0 } + 1, got, 2);
    assert_true(got[0] == 1.5f && (double)got[1] == ldexp(1, -133));
    sw_dequant_numbers(SW_F16, (const unsigned char[]){ 0, 0x3e, 1, 0 }, got, 2);
    assert_true(got[0] == 1.5f && (double)got[1] == ldexp(1, -24));
    sw_dequant_numbers(SW_F32, &got[1], &got[2], 1);
    assert_true(got[2] == got[1]);
}

TEST(kinds)
{
    for (unsigned d = 0; d < SW_NDTYPES; d++) {
        assert_int_equal(sw_dequant_is_target((sw_dtype)d), d == SW_F32 || d == SW_BF16 || d == SW_F16);
    }
}

/* ---- FP8 ------------------------------------------------------------------------------------- */

static const uint32_t torch_scales[] = { FP8_SCALES };

/* In whole blocks, and in pieces too small for the fast way. */
static void check_fp8_set(sw_cast_path path, sw_dtype fp8, sw_dtype to, uint64_t want)
{
    enum { NSCALES = COUNT(torch_scales) };
    unsigned char weights[256], whole[NSCALES * 256 * 4], pieces[sizeof whole];

    for (unsigned i = 0; i < 256; i++)
        weights[i] = (unsigned char)i;
    for (unsigned s = 0; s < NSCALES; s++) {
        float both[] = { float_of(torch_scales[s]), float_of(torch_scales[s]) };
        unsigned char *at = whole + s * 256 * width(to), *piece = pieces + s * 256 * width(to);

        dequant_by(path, fp8, weights, both, 0, to, at, 256);
        for (unsigned i = 0; i < 256; i += 2)
            dequant_by(path, fp8, weights + i, both, i, to, piece + i * width(to), 2);
    }
    assert_memory_equal(whole, pieces, NSCALES * 256 * width(to));
    if (hash_of(whole, NSCALES * 256, to) != want)
        fail_msg("path %d: %s to %s is not what torch gives", path, sw_dtype_name(fp8), sw_dtype_name(to));
}

static void check_fp8_values(sw_cast_path path)
{
#define SET(fp8, to, hash) check_fp8_set(path, SW_##fp8, SW_##to, UINT64_C(hash));
    FP8_VALUES(SET)
#undef SET
}

TEST(fp8_values)
{
    on_all_paths(check_fp8_values);
}

/* The same scales as in tables/make_tables.py. */
static uint64_t scale_bits(sw_dtype dtype, uint64_t r)
{
    switch ((int)dtype) {
    case SW_F8_E8M0:
        return 118 + r % 9;
    case SW_F8_E4M3:
    case SW_F8_E5M2:
        return 0x30 + r % 0x10;
    case SW_F64:
        return UINT64_C(0x3fd0000000000000) + r % UINT64_C(0x0100000000000000);
    case SW_F32:
        return 0x38000000 + r % 0x04000000;
    default:
        return 0x3800 + r % 0x0400;
    }
}

static void load_scales(sw_dtype dtype, unsigned n, float *out)
{
    char bytes[8];

    for (unsigned i = 0; i < n; i++) {
        help_put(bytes, 0, width(dtype), scale_bits(dtype, help_mix(i + 1000)));
        sw_dequant_numbers(dtype, bytes, out + i, 1);
    }
}

typedef struct matrix {
    sw_dtype from, scale;
    unsigned block;
    sw_dtype to;
    uint64_t want;
} matrix;

/* A whole row at a time, and in pieces that begin and end anywhere. */
static void check_matrix(sw_cast_path path, const matrix *m)
{
    enum { ELEMENTS = FP8_ROWS * FP8_COLUMNS };
    static unsigned char weights[ELEMENTS * 8 + 1], rows[ELEMENTS * 4], pieces[sizeof rows];
    static float scales[ELEMENTS];
    const unsigned across = (FP8_COLUMNS + m->block - 1) / m->block;
    const size_t in = width(m->from), out = width(m->to);

    load_scales(m->scale, (FP8_ROWS + m->block - 1) / m->block * across, scales);
    for (unsigned i = 0; i < ELEMENTS; i++)
        help_put((char *)weights + 1, i, (unsigned)in, help_mix(i) >> (64 - 8 * in));
    for (unsigned r = 0; r < FP8_ROWS; r++) {
        const sw_scaled_row row = { m->from, m->to, m->block, scales + r / m->block * across };
        const unsigned char *src = weights + 1 + r * FP8_COLUMNS * in;
        size_t at = r * FP8_COLUMNS * out;

        sw_dequant_row(path, &row, src, 0, rows + at, FP8_COLUMNS);
        for (unsigned c = 0, n; c < FP8_COLUMNS; c += n) {
            n = 1 + (r * 7 + c) % 200;
            n = n < FP8_COLUMNS - c ? n : FP8_COLUMNS - c;
            sw_dequant_row(path, &row, src + c * in, c, pieces + at + c * out, n);
        }
    }
    assert_memory_equal(rows, pieces, ELEMENTS * out);
    if (hash_of(rows, ELEMENTS, m->to) != m->want)
        fail_msg("path %d: %s with %s to %s is not what torch gives", path, sw_dtype_name(m->from),
                 sw_dtype_name(m->scale), sw_dtype_name(m->to));
}

static void check_matrices(sw_cast_path path)
{
    static const matrix all[] = {
#define FP8(fp8, scale, to, hash) { SW_##fp8, SW_##scale, 128, SW_##to, UINT64_C(hash) },
#define SCALED(from, scale, block, to, hash) { SW_##from, SW_##scale, block, SW_##to, UINT64_C(hash) },
        FP8_MATRICES(FP8) SCALED_MATRICES(SCALED)
#undef FP8
#undef SCALED
    };

    for (size_t i = 0; i < COUNT(all); i++)
        check_matrix(path, &all[i]);
}

TEST(matrices)
{
    on_all_paths(check_matrices);
}

/* A row longer than what is computed at once, all of it numbers but for one weight somewhere; any
 * address. What each weight becomes by itself, fp8_values has shown. */
static void check_row(sw_cast_path path)
{
    enum { LENGTH = 2500, FIRST = 77 };
    unsigned char src[LENGTH + 1], dst[(LENGTH + 1) * 4 + 1], one[4];
    float row[(FIRST + LENGTH + 127) / 128];

    for (unsigned i = 0; i < COUNT(row); i++)
        row[i] = (float)(i + 1) * 0.01f;
    for (unsigned i = 0; i < LENGTH; i++)
        src[i + 1] = (unsigned char)(help_mix(i) % 0x70 | (i & 1) << 7);
    for (unsigned k = 0; k < COUNT(fp8s) * COUNT(targets); k++) {
        sw_dtype fp8 = fp8s[k / COUNT(targets)], to = targets[k % COUNT(targets)];

        src[1 + 1000 + k] = k % 2 ? 0xff : 0x80;
        memset(dst, GUARD, sizeof dst);
        dequant_by(path, fp8, src + 1, row, FIRST, to, dst + 1, LENGTH);
        for (unsigned i = 0; i < LENGTH; i++) {
            dequant_by(SW_CAST_PORTABLE, fp8, src + i + 1, &row[(FIRST + i) / 128], 0, to, one, 1);
            assert_memory_equal(dst + 1 + i * width(to), one, width(to));
        }
        assert_int_equal(dst[0], GUARD);
        assert_int_equal(dst[1 + LENGTH * width(to)], GUARD);
    }
    dequant_by(path, SW_F8_E4M3, NULL, NULL, 5, SW_F32, NULL, 0);
}

TEST(fp8_row)
{
    on_all_paths(check_row);
}

/* ---- MXFP4 ----------------------------------------------------------------------------------- */

static double fp4_of(unsigned nibble)
{
    static const double values[] = { 0, 0.5, 1, 1.5, 2, 3, 4, 6 };

    return copysign(values[nibble & 7], nibble & 8 ? -1 : 1);
}

static uint64_t fp4_bits(unsigned nibble, unsigned scale, sw_dtype to)
{
    return help_convert(SW_F64, to, bits_of(ldexp(fp4_of(nibble), (int)scale - 127)));
}

/* A block with every nibble twice, under every scale. */
static void fp4_all(sw_cast_path path, sw_dtype to, void *dst)
{
    unsigned char block[16], scales[256];
    sw_mxfp4_run run = { block, scales, 0, 1, 256, 0, 32, 1, 32 };

    for (unsigned i = 0; i < 16; i++)
        block[i] = (unsigned char)(2 * i % 16 | (2 * i + 1) % 16 << 4);
    for (unsigned i = 0; i < 256; i++)
        scales[i] = (unsigned char)i;
    sw_dequant_mxfp4(path, &run, to, dst);
}

static void check_fp4_set(sw_cast_path path, sw_dtype to, uint64_t want)
{
    unsigned char all[256 * 32 * 4];
    uint64_t hash = 0;

    fp4_all(path, to, all);
    for (unsigned s = 0; s < 256; s++)
        for (unsigned i = 0; i < 32; i++) {
            uint64_t got = help_get(all, s * 32 + i, width(to));

            assert_int_equal(got, fp4_bits(i % 16, s, to));
            hash = i < 16 ? help_hash(hash, s * 16 + i, got) : hash;
        }
    assert_true(hash == want);
}

static void check_fp4_values(sw_cast_path path)
{
#define SET(to, hash) check_fp4_set(path, SW_##to, UINT64_C(hash));
    MXFP4_SETS(SET)
#undef SET
}

TEST(fp4_values)
{
    on_all_paths(check_fp4_values);
}

enum { EXPERTS = 2, ROWS = 71, GROUPS = 3, COLUMNS = GROUPS * 32, ELEMENTS = EXPERTS * ROWS * COLUMNS };

static unsigned char blocks[EXPERTS * ROWS * GROUPS * 16], block_scales[EXPERTS * ROWS * GROUPS];

static void make_model(void)
{
    for (unsigned i = 0; i < sizeof blocks; i++)
        blocks[i] = (unsigned char)help_mix(i);
    for (unsigned i = 0; i < sizeof block_scales; i++)
        block_scales[i] = (unsigned char)(help_mix(i) % 40 + 100);
}

static uint64_t model_bits(unsigned e, unsigned r, unsigned c, sw_dtype to)
{
    unsigned block = (e * ROWS + r) * GROUPS + c / 32, byte = blocks[block * 16 + c % 32 / 2];

    return fp4_bits(c % 2 ? byte >> 4 : byte & 15, block_scales[block], to);
}

/* Columns [first, first + n) of a group and rows [row, row + nrows) of X[E, G * 32, R]; the rest is
 * left alone. */
static void check_part(sw_cast_path path, sw_dtype to, unsigned group, unsigned first, unsigned n,
                       unsigned row, unsigned nrows)
{
    static unsigned char out[ELEMENTS * 4 + 2];
    unsigned block = (ROWS + row) * GROUPS + group, at = COLUMNS * ROWS + (group * 32 + first) * ROWS + row;
    sw_mxfp4_run run = {
        blocks + block * 16, block_scales + block, GROUPS * 16, GROUPS, nrows, first, n, ROWS, 1
    };

    memset(out, GUARD, sizeof out);
    sw_dequant_mxfp4(path, &run, to, out + 1 + at * width(to));
    for (unsigned c = 0; c < COLUMNS; c++)
        for (unsigned r = 0; r < ROWS; r++) {
            bool in = c >= group * 32 + first && c < group * 32 + first + n && r >= row && r < row + nrows;
            uint64_t guard = UINT64_C(0xa5a5a5a5) >> (32 - 8 * width(to));

            assert_int_equal(help_get(out + 1, (COLUMNS + c) * ROWS + r, width(to)),
                             in ? model_bits(1, r, c, to) : guard);
        }
    assert_int_equal(out[0], GUARD);
    assert_int_equal(out[1 + ELEMENTS * width(to)], GUARD);
}

static void check_turned(sw_cast_path path)
{
    static const struct {
        unsigned group, first, n, row, nrows;
    } cases[] = {
        { 0, 0, 32, 0, ROWS }, { 2, 0, 32, 0, ROWS }, { 1, 5, 1, 3, 64 }, { 1, 0, 31, 0, 1 },
        { 0, 31, 1, 70, 1 },   { 2, 1, 31, 1, 33 },   { 1, 8, 16, 9, 0 }, { 1, 7, 0, 9, 40 },
        { 0, 0, 32, 7, 32 },   { 2, 0, 32, 70, 1 },
    };

    make_model();
    for (size_t t = 0; t < COUNT(targets); t++)
        for (size_t i = 0; i < COUNT(cases); i++)
            check_part(path, targets[t], cases[i].group, cases[i].first, cases[i].n, cases[i].row,
                       cases[i].nrows);
}

TEST(fp4_turned)
{
    on_all_paths(check_turned);
}

/* ---- any mode -------------------------------------------------------------------------------- */

#if defined(__SSE2__)
TEST(modes)
{
    static const unsigned controls[] = { 0x9fc0, 0x5f80, 0x1000 };

    for (size_t i = 0; i < COUNT(controls); i++) {
        sw_fpmode saved = _mm_getcsr();
        unsigned char turned[256 * 32 * 4], plain[sizeof turned], products[2][256 * 4], weights[256];
        float scale[] = { float_of(1), float_of(0x00400000) };

        for (unsigned k = 0; k < 256; k++)
            weights[k] = (unsigned char)k;
        fp4_all(SW_CAST_PORTABLE, SW_F32, plain);
        dequant_by(sw_cast_path_best(), SW_F8_E4M3, weights, scale, 0, SW_F32, products[0], 256);
        _mm_setcsr(controls[i]);
        fp4_all(sw_cast_path_best(), SW_F32, turned);
        dequant_by(sw_cast_path_best(), SW_F8_E4M3, weights, scale, 0, SW_F32, products[1], 256);
        _mm_setcsr(saved);
        assert_memory_equal(plain, turned, sizeof plain);
        assert_memory_equal(products[0], products[1], sizeof products[0]);
    }
}
#endif
