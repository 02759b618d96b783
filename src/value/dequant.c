/* Dequantization; see dequant.h.
 *
 * Weights are made F32 as torch does it, which of FP8 is exact; the values of MXFP4 fit it exactly,
 * or are the infinity that every target would round them to. So all is computed in F32, a piece at
 * a time that stays in the cache, and rounded by sw_cast(). */
#include "value/dequant.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/num.h"
#include "value/cast.h"
#include "value/f32.h"
#include "value/fpmode.h"

#define ALWAYS_INLINE __attribute__((always_inline)) /* into functions for several CPUs */

#define PIECE 1024 /* elements that are computed before they are rounded */
#define STRIP 128  /* those of FP8 that are computed at once */

bool sw_dequant_is_target(sw_dtype dtype)
{
    return dtype == SW_F32 || dtype == SW_BF16 || dtype == SW_F16;
}

/* ---- FP8 ------------------------------------------------------------------------------------- */

/* A weight is its magnitude, shifted to where an F32 has exponent and mantissa, times a power of
 * two that rebases the exponent: exact, and subnormal weights become normal. Magnitudes above `top`
 * have the exponent of infinity and NaN. */
typedef struct fp8_format {
    sw_dtype dtype;
    unsigned mantissa; /* bits */
    float rebase;
    uint32_t top;
    /* the byte that is NaN in an FNUZ format; in others one that is above top anyway */
    uint32_t nan;
} fp8_format;

static const fp8_format fp8_formats[] = {
    { SW_F8_E4M3, 3, 0x1p120f, 0x7e, 0x7f },
    { SW_F8_E5M2, 2, 0x1p112f, 0x7b, 0x7f },
    { SW_F8_E4M3FNUZ, 3, 0x1p119f, 0x7f, 0x80 },
    { SW_F8_E5M2FNUZ, 2, 0x1p111f, 0x7f, 0x80 },
};

/* NULL: it is none of them. */
static const fp8_format *fp8_find(sw_dtype dtype)
{
    for (size_t i = 0; i < sizeof fp8_formats / sizeof fp8_formats[0]; i++)
        if (fp8_formats[i].dtype == dtype)
            return &fp8_formats[i];
    return NULL;
}

/* Infinity or NaN? */
static bool fp8_is_special(unsigned char byte, const fp8_format *f)
{
    return (byte & 0x7f) > f->top || byte == f->nan;
}

/* A weight that is a number. */
static inline float fp8_number(unsigned char byte, const fp8_format *f)
{
    uint32_t magnitude = (byte & 0x7fu) << (23 - f->mantissa), sign = (byte & 0x80u) << 24;

    return f32_of(magnitude | sign) * f->rebase;
}

/* Any weight, any scale. The sign of a NaN is set here: CPUs differ in what they make of one. */
static float fp8_product(unsigned char byte, const fp8_format *f, float scale)
{
    uint32_t sign = byte == f->nan ? 0 : (byte & 0x80u) << 24;
    float weight = fp8_number(byte, f), product;

    if (fp8_is_special(byte, f))
        weight = f32_of(f32_bits(weight) | (byte == f->nan ? F32_NAN : F32_INF));
    product = weight * scale;
    return isnan(product) ? f32_of(F32_NAN | sign) : product;
}

/* Is all of a strip a number, the scale too? Narrow, so that it costs little. */
static inline ALWAYS_INLINE bool fp8_all_numbers(const unsigned char *src, const fp8_format *f, float scale)
{
    const signed char top = (signed char)f->top;
    const unsigned char nan = (unsigned char)f->nan;
    unsigned char found = 0;

    for (unsigned i = 0; i < STRIP; i++)
        found |= (unsigned char)(((signed char)(src[i] & 0x7f) > top) | (src[i] == nan));
    return !found && isfinite(scale);
}

/* A strip in loops that compilers vectorise at -O2; false, and nothing done, when not all are
 * numbers. */
static inline ALWAYS_INLINE bool fp8_strip(const unsigned char *restrict src, const fp8_format *f,
                                           float scale, float *restrict dst)
{
    const fp8_format format = *f;

    if (!fp8_all_numbers(src, &format, scale))
        return false;
    for (unsigned i = 0; i < STRIP; i++)
        dst[i] = fp8_number(src[i], &format) * scale;
    return true;
}

/* Once for any CPU, */
static bool fp8_strip_portable(const unsigned char *src, const fp8_format *f, float scale, float *dst)
{
    return fp8_strip(src, f, scale, dst);
}

/* and once for those that can more. */
static AVX2 bool fp8_strip_avx2(const unsigned char *src, const fp8_format *f, float scale, float *dst)
{
    return fp8_strip(src, f, scale, dst);
}

/* Elements of one block. */
static void fp8_products(sw_cast_path path, const unsigned char *src, const fp8_format *f, float scale,
                         unsigned n, float *dst)
{
    for (unsigned i = 0, end; i < n; i = end) {
        end = (unsigned)sw_min(i + STRIP, n);
        if (end - i == STRIP &&
            (path == SW_CAST_AVX2 ? fp8_strip_avx2 : fp8_strip_portable)(src + i, f, scale, dst + i))
            continue;
        for (; i < end; i++)
            dst[i] = fp8_product(src[i], f, scale);
    }
}

/* ---- numbers --------------------------------------------------------------------------------- */

/* 2^(s-127); the least is subnormal. */
static inline float e8m0_value(unsigned s)
{
    return f32_of(s == 0 ? 0x00400000u : s == 255 ? F32_NAN : (uint32_t)s << 23);
}

/* FP8 and E8M0. */
static void bytes_to_f32(sw_dtype dtype, const unsigned char *src, float *dst, uint64_t n)
{
    const fp8_format *f = fp8_find(dtype);

    for (uint64_t i = 0; i < n; i++)
        dst[i] = f ? fp8_product(src[i], f, 1) : e8m0_value(src[i]);
}

/* False: it is no integer. */
static bool integers_to_f32(sw_dtype dtype, const unsigned char *src, float *dst, uint64_t n)
{
    switch ((int)dtype) {
#define CASE(id, type)                                                                                       \
    case id:                                                                                                 \
        for (uint64_t i = 0; i < n; i++) {                                                                   \
            type x;                                                                                          \
                                                                                                             \
            memcpy(&x, src + i * sizeof x, sizeof x);                                                        \
            dst[i] = (float)x;                                                                               \
        }                                                                                                    \
        return true;
        SW_INTEGERS(CASE)
#undef CASE
    default:
        return false;
    }
}

/* Any number to F32, as torch does it. */
static void to_f32(sw_cast_path path, sw_dtype dtype, const void *src, float *dst, uint64_t n)
{
    assert(sw_dtype_is_number(dtype));
    if (sw_dtype_is_floating(dtype))
        sw_cast_by(path, dtype, SW_F32, src, dst, n);
    else if (!integers_to_f32(dtype, src, dst, n))
        bytes_to_f32(dtype, src, dst, n);
}

void sw_dequant_numbers(sw_dtype dtype, const void *src, float *dst, uint64_t n)
{
    sw_fpmode saved = sw_fpmode_enter();

    to_f32(sw_cast_path_best(), dtype, src, dst, n);
    sw_fpmode_leave(saved);
}

/* ---- scales of blocks ------------------------------------------------------------------------ */

/* Times a scale, in place. */
static void scale_all(float *x, unsigned n, float scale)
{
    for (unsigned i = 0; i < n; i++) {
        float product = x[i] * scale;

        x[i] = isnan(product) ? f32_of(F32_NAN | (f32_bits(x[i]) & F32_SIGN)) : product;
    }
}

void sw_dequant_row(sw_cast_path path, const sw_scaled_row *row, const void *src, uint64_t column, void *dst,
                    uint64_t n)
{
    const size_t in = sw_dtype_bits(row->from) / 8, out = sw_dtype_bits(row->to) / 8;
    const fp8_format *f = fp8_find(row->from);
    const float *scale = n ? row->scales + column / row->block : NULL;
    uint64_t left = row->block - column % row->block; /* under this scale */
    const unsigned char *p = src;
    unsigned char *q = dst;
    float piece[PIECE];
    sw_fpmode saved = sw_fpmode_enter();

    assert(sw_dequant_is_target(row->to));
    for (unsigned filled = 0, part; n; n -= part, p += part * in) {
        part = (unsigned)sw_min(sw_min(n, left), PIECE - filled);
        if (f) {
            fp8_products(path, p, f, *scale, part, piece + filled);
        } else {
            to_f32(path, row->from, p, piece + filled, part);
            scale_all(piece + filled, part, *scale);
        }
        filled += part;
        left -= part;
        if (left == 0) {
            left = row->block;
            scale++;
        }
        if (n == part || filled == PIECE) {
            sw_cast_by(path, SW_F32, row->to, piece, q, filled);
            q += filled * out;
            filled = 0;
        }
    }
    sw_fpmode_leave(saved);
}

/* ---- MXFP4 ----------------------------------------------------------------------------------- */

#define VALUES 32             /* of a block */
#define TILE (PIECE / VALUES) /* blocks that are computed together */

/* Twice the values of each byte, the low nibble first. */
#define FP4_LOW(high)                                                                                        \
    { 0, high }, { 1, high }, { 2, high }, { 3, high }, { 4, high }, { 6, high }, { 8, high }, { 12, high }, \
        { -0.0f, high }, { -1, high }, { -2, high }, { -3, high }, { -4, high }, { -6, high }, { -8, high }, \
    {                                                                                                        \
        -12, high                                                                                            \
    }
static const float fp4_twice[256][2] = {
    FP4_LOW(0),  FP4_LOW(1),  FP4_LOW(2),     FP4_LOW(3),   FP4_LOW(4),  FP4_LOW(6),
    FP4_LOW(8),  FP4_LOW(12), FP4_LOW(-0.0f), FP4_LOW(-1),  FP4_LOW(-2), FP4_LOW(-3),
    FP4_LOW(-4), FP4_LOW(-6), FP4_LOW(-8),    FP4_LOW(-12),
};
#undef FP4_LOW

/* Half of 2^(s-127): a number of F32 for every s. */
static inline float half_scale(unsigned s)
{
    return f32_of(s == 0 ? 0x00200000u : s == 1 ? 0x00400000u : (uint32_t)(s - 1) << 23);
}

/* Blocks that stand where a run's do, value by value: nvalues of each, one block after the
 * other. */
static void fp4_blocks_portable(const sw_mxfp4_run *run, const unsigned char *block,
                                const unsigned char *scale, unsigned n, float *dst)
{
    const unsigned first = run->first, end = first + run->nvalues;

    for (; n; n--, block += run->block_step, scale += run->scale_step) {
        const float factor = half_scale(*scale);

        for (unsigned k = first; k < end; k++)
            *dst++ = fp4_twice[block[k / 2]][k % 2] * factor;
    }
}

#if defined(__x86_64__)

/* Whole blocks. The eight magnitudes fill a register, and an instruction looks up eight in it. */
static AVX2 void fp4_blocks_avx2(const sw_mxfp4_run *run, const unsigned char *block,
                                 const unsigned char *scale, unsigned n, float *dst)
{
    const __m256 twice = _mm256_setr_ps(0, 1, 2, 3, 4, 6, 8, 12);
    const __m256i sign_bit = _mm256_set1_epi32((int)F32_SIGN);
    const __m128i low = _mm_set1_epi8(15);
    uint64_t nibbles[VALUES / 8];

    for (; n; n--, block += run->block_step, scale += run->scale_step) {
        __m256 values = _mm256_mul_ps(twice, _mm256_set1_ps(half_scale(*scale)));
        __m128i x = _mm_loadu_si128((const __m128i *)block);
        __m128i even = _mm_and_si128(x, low), odd = _mm_and_si128(_mm_srli_epi16(x, 4), low);

        _mm_storeu_si128((__m128i *)nibbles, _mm_unpacklo_epi8(even, odd));
        _mm_storeu_si128((__m128i *)(nibbles + 2), _mm_unpackhi_epi8(even, odd));
        for (unsigned i = 0; i < VALUES / 8; i++, dst += 8) {
            __m256i eight = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)nibbles[i]));
            __m256i sign = _mm256_and_si256(_mm256_slli_epi32(eight, 28), sign_bit);

            _mm256_storeu_ps(
                dst, _mm256_or_ps(_mm256_permutevar8x32_ps(values, eight), _mm256_castsi256_ps(sign)));
        }
    }
}

#else
#define fp4_blocks_avx2 fp4_blocks_portable
#endif

/* n blocks from block b on. Twice a value times half its scale is a number of F32, or else
 * overflows every target. */
static void fp4_blocks(sw_cast_path path, const sw_mxfp4_run *run, uint64_t b, unsigned n, sw_dtype to,
                       void *dst)
{
    const unsigned char *block = (const unsigned char *)run->blocks + b * run->block_step;
    const unsigned char *scale = (const unsigned char *)run->scales + b * run->scale_step;
    float piece[PIECE];

    if (path == SW_CAST_AVX2 && run->nvalues == VALUES)
        fp4_blocks_avx2(run, block, scale, n, piece);
    else
        fp4_blocks_portable(run, block, scale, n, piece);
    sw_cast_by(path, SW_F32, to, piece, dst, (uint64_t)n * run->nvalues);
}

/* Values of n blocks to where they belong. Inline for the sake of a constant width. */
static inline void fp4_put(const sw_mxfp4_run *run, const unsigned char *src, unsigned n, size_t width,
                           unsigned char *dst)
{
    const size_t next = run->nvalues * width, out_step = run->out_step * width;

    for (unsigned k = 0; k < run->nvalues; k++, src += width, dst += run->value_step * width)
        for (unsigned b = 0; b < n; b++)
            memcpy(dst + b * out_step, src + b * next, width);
}

void sw_dequant_mxfp4(sw_cast_path path, const sw_mxfp4_run *run, sw_dtype to, void *dst)
{
    const size_t width = sw_dtype_bits(to) / 8;
    unsigned char tile[PIECE * sizeof(float)];
    sw_fpmode saved = sw_fpmode_enter();

    assert(sw_dequant_is_target(to) && run->first + run->nvalues <= VALUES);
    for (uint64_t b = 0; b < run->nblocks; b += TILE) {
        unsigned n = (unsigned)sw_min(TILE, run->nblocks - b);
        unsigned char *to_block = (unsigned char *)dst + b * run->out_step * width;

        if (run->value_step == 1 && run->out_step == run->nvalues) {
            fp4_blocks(path, run, b, n, to, to_block);
            continue;
        }
        fp4_blocks(path, run, b, n, to, tile);
        if (width == 2)
            fp4_put(run, tile, n, 2, to_block);
        else
            fp4_put(run, tile, n, 4, to_block);
    }
    sw_fpmode_leave(saved);
}
