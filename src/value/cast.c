/* Floating-point conversions; see cast.h.
 *
 * Every one of them goes by way of F32: a load widens an element to the bits of an F32 (F64: rounds
 * it), a store rounds those to the target. All loads but that of F64 are exact, so there is one
 * rounding, and two where SPEC wants two. The twelve pairs are put together from four loads and
 * four stores, once in plain C, in loops of a fixed count that compilers vectorise at -O2, and once
 * for AVX2 with F16C. */
#include "value/cast.h"

#include <assert.h>
#include <endian.h>
#include <string.h>

#include "value/f32.h"
#include "value/fpmode.h"

typedef void cast_fn(const unsigned char *restrict src, unsigned char *restrict dst, uint64_t n);

/* The pairs of different dtypes. */
#define PAIRS(X)                                                                                             \
    X(F64, F32)                                                                                              \
    X(F64, BF16)                                                                                             \
    X(F64, F16)                                                                                              \
    X(F32, F64)                                                                                              \
    X(F32, BF16)                                                                                             \
    X(F32, F16)                                                                                              \
    X(BF16, F64)                                                                                             \
    X(BF16, F32)                                                                                             \
    X(BF16, F16)                                                                                             \
    X(F16, F64)                                                                                              \
    X(F16, F32)                                                                                              \
    X(F16, BF16)

enum { WIDTH_F64 = 8, WIDTH_F32 = 4, WIDTH_BF16 = 2, WIDTH_F16 = 2 };

/* ---- plain C --------------------------------------------------------------------------------- */

#define CHUNK 32 /* elements in an inner loop: enough for any vector, and no epilogue */

/* All bits where a > b, else none; both below 2^31. No comparison: compilers make branches of
 * those, and branches keep them from vectorising. */
static inline uint32_t above(uint32_t a, uint32_t b)
{
    return 0 - ((b - a) >> 31);
}

/* By bits: yes where the mask has them, else no. */
static inline uint32_t pick(uint32_t mask, uint32_t yes, uint32_t no)
{
    return (yes & mask) | (no & ~mask);
}

/* Loads: the bits of the F32 that an element is. */
static inline uint32_t load_F32(const unsigned char *p)
{
    uint32_t x;

    memcpy(&x, p, sizeof x);
    return le32toh(x);
}

/* Its upper half. */
static inline uint32_t load_BF16(const unsigned char *p)
{
    uint16_t x;

    memcpy(&x, p, sizeof x);
    return (uint32_t)le16toh(x) << 16;
}

/* The exponent is rebased by a product, which is exact and makes normal numbers of subnormal
 * ones. */
static inline uint32_t load_F16(const unsigned char *p)
{
    uint16_t h;
    uint32_t magnitude, x;

    memcpy(&h, p, sizeof h);
    h = le16toh(h);
    magnitude = (uint32_t)(h & 0x7fff) << 13;
    x = f32_bits(f32_of(magnitude) * 0x1p112f);
    x |= above(magnitude, 0x0f7fffffu) & F32_INF;
    return x | (uint32_t)(h & 0x8000) << 16;
}

/* The sign is taken from the source: not every CPU keeps that of a NaN. */
static inline uint32_t load_F64(const unsigned char *p)
{
    uint64_t x;
    double d;

    memcpy(&x, p, sizeof x);
    x = le64toh(x);
    memcpy(&d, &x, sizeof d);
    return (f32_bits((float)d) & ~F32_SIGN) | ((uint32_t)(x >> 32) & F32_SIGN);
}

/* NaNs to the quiet NaN with their sign, all else as it is. */
static inline uint32_t quiet(uint32_t x)
{
    return pick(above(x & ~F32_SIGN, F32_INF), (x & F32_SIGN) | F32_NAN, x);
}

/* Stores: the bits of an F32, rounded to the target. */
static inline void store_F32(unsigned char *p, uint32_t x)
{
    x = htole32(quiet(x));
    memcpy(p, &x, sizeof x);
}

/* A quiet NaN ends in zeros, so that rounding leaves it alone. */
static inline void store_BF16(unsigned char *p, uint32_t x)
{
    uint32_t y = quiet(x);
    uint16_t h = htole16((uint16_t)((y + 0x7fff + (y >> 16 & 1)) >> 16));

    memcpy(p, &h, sizeof h);
}

/* Normal numbers are rounded in integers. For subnormal ones the unit of the last place is that of
 * 0.5, and the sum rounds. */
static inline void store_F16(unsigned char *p, uint32_t x)
{
    uint32_t magnitude = x & ~F32_SIGN;
    uint32_t limited = pick(above(magnitude, 0x47800000u), 0x47800000u, magnitude);
    uint32_t normal = (limited - 0x38000000u + 0xfff + (limited >> 13 & 1)) >> 13;
    uint32_t subnormal = f32_bits(f32_of(limited) + 0.5f) - 0x3f000000u;
    uint32_t y = pick(above(0x38800000u, magnitude), subnormal, normal);
    uint16_t h;

    y = pick(above(magnitude, F32_INF), 0x7e00, y);
    h = htole16((uint16_t)(y | (x >> 16 & 0x8000)));
    memcpy(p, &h, sizeof h);
}

/* The sign again from the source. */
static inline void store_F64(unsigned char *p, uint32_t x)
{
    double d = (double)f32_of(quiet(x));
    uint64_t y;

    memcpy(&y, &d, sizeof y);
    y = (y & ~(UINT64_C(1) << 63)) | (uint64_t)(x & F32_SIGN) << 32;
    y = htole64(y);
    memcpy(p, &y, sizeof y);
}

#define PORTABLE(FROM, TO)                                                                                   \
    static void FROM##_to_##TO(const unsigned char *restrict src, unsigned char *restrict dst, uint64_t n)   \
    {                                                                                                        \
        for (; n >= CHUNK; n -= CHUNK, src += CHUNK * WIDTH_##FROM, dst += CHUNK * WIDTH_##TO)               \
            for (unsigned i = 0; i < CHUNK; i++)                                                             \
                store_##TO(dst + i * WIDTH_##TO, load_##FROM(src + i * WIDTH_##FROM));                       \
        for (; n; n--, src += WIDTH_##FROM, dst += WIDTH_##TO)                                               \
            store_##TO(dst, load_##FROM(src));                                                               \
    }
PAIRS(PORTABLE)

/* ---- x86 with AVX2 and F16C ------------------------------------------------------------------ */

#if defined(__x86_64__)

#define LANES 8

/* The same loads and stores, eight elements at a time. */
static inline AVX2 __m256 load8_F32(const unsigned char *p)
{
    return _mm256_castsi256_ps(_mm256_loadu_si256((const __m256i *)p));
}

/* Shifted into the upper halves. */
static inline AVX2 __m256 load8_BF16(const unsigned char *p)
{
    __m256i x = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));

    return _mm256_castsi256_ps(_mm256_slli_epi32(x, 16));
}

/* There is an instruction for it. */
static inline AVX2 __m256 load8_F16(const unsigned char *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}

/* Two halves of four; the instruction rounds to nearest. */
static inline AVX2 __m256 load8_F64(const unsigned char *p)
{
    __m256d low = _mm256_castsi256_pd(_mm256_loadu_si256((const __m256i *)p));
    __m256d high = _mm256_castsi256_pd(_mm256_loadu_si256((const __m256i *)(p + 32)));

    return _mm256_set_m128(_mm256_cvtpd_ps(high), _mm256_cvtpd_ps(low));
}

/* NaNs are what is not equal to itself. */
static inline AVX2 __m256i quiet8(__m256 x)
{
    __m256 sign = _mm256_and_ps(x, _mm256_set1_ps(-0.0f));
    __m256 nan = _mm256_or_ps(sign, _mm256_castsi256_ps(_mm256_set1_epi32((int)F32_NAN)));

    return _mm256_castps_si256(_mm256_blendv_ps(x, nan, _mm256_cmp_ps(x, x, _CMP_UNORD_Q)));
}

/* Nothing is rounded. */
static inline AVX2 void store8_F32(unsigned char *p, __m256 x)
{
    _mm256_storeu_si256((__m256i *)p, quiet8(x));
}

/* As store_BF16(); packing leaves 16 bits of each. */
static inline AVX2 void store8_BF16(unsigned char *p, __m256 x)
{
    __m256i y = quiet8(x);
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(y, 16), _mm256_set1_epi32(1));

    y = _mm256_add_epi32(y, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    y = _mm256_srli_epi32(y, 16);
    _mm_storeu_si128((__m128i *)p,
                     _mm_packus_epi32(_mm256_castsi256_si128(y), _mm256_extracti128_si256(y, 1)));
}

/* The instruction cuts a NaN's payload: that of a quiet one is the target's quiet one. */
static inline AVX2 void store8_F16(unsigned char *p, __m256 x)
{
    __m256 y = _mm256_castsi256_ps(quiet8(x));

    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(y, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

/* Exact; two halves of four. */
static inline AVX2 void store8_F64(unsigned char *p, __m256 x)
{
    __m256 y = _mm256_castsi256_ps(quiet8(x));

    _mm256_storeu_si256((__m256i *)p, _mm256_castpd_si256(_mm256_cvtps_pd(_mm256_castps256_ps128(y))));
    _mm256_storeu_si256((__m256i *)(p + 32),
                        _mm256_castpd_si256(_mm256_cvtps_pd(_mm256_extractf128_ps(y, 1))));
}

/* The upper halves are emptied by hand: gcc does not do it before what is called last, and with
 * them full all that is done by SSE afterwards, by whoever it is, takes twice as long. */
#define BY_AVX2(FROM, TO)                                                                                    \
    static AVX2 void FROM##_to_##TO##_avx2(const unsigned char *restrict src, unsigned char *restrict dst,   \
                                           uint64_t n)                                                       \
    {                                                                                                        \
        for (; n >= LANES; n -= LANES, src += LANES * WIDTH_##FROM, dst += LANES * WIDTH_##TO)               \
            store8_##TO(dst, load8_##FROM(src));                                                             \
        _mm256_zeroupper();                                                                                  \
        FROM##_to_##TO(src, dst, n);                                                                         \
    }
PAIRS(BY_AVX2)

/* Older clang cannot ask for F16C; no CPU has AVX2 without it. */
static bool avx2_usable(void)
{
#if defined(__clang__)
    return __builtin_cpu_supports("avx2");
#else
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("f16c");
#endif
}

#define AVX2_NAME(FROM, TO) FROM##_to_##TO##_avx2
#else

/* No other CPU has it. */
static bool avx2_usable(void)
{
    return false;
}

#define AVX2_NAME(FROM, TO) NULL
#endif

/* ---- which ----------------------------------------------------------------------------------- */

enum { F64, F32, BF16, F16, NFLOATING };

/* The row, or the column, of a dtype in the table of functions. */
static const uint8_t index_of[SW_NDTYPES] = {
    [SW_F64] = F64, [SW_F32] = F32, [SW_BF16] = BF16, [SW_F16] = F16
};

bool sw_cast_path_usable(sw_cast_path path)
{
    return path == SW_CAST_PORTABLE || (path == SW_CAST_AVX2 && avx2_usable());
}

sw_cast_path sw_cast_path_best(void)
{
    return avx2_usable() ? SW_CAST_AVX2 : SW_CAST_PORTABLE;
}

void sw_cast_by(sw_cast_path path, sw_dtype from, sw_dtype to, const void *src, void *dst, uint64_t n)
{
    static cast_fn *const by[SW_CAST_NPATHS][NFLOATING][NFLOATING] = {
#define PORTABLE_ENTRY(FROM, TO) [FROM][TO] = FROM##_to_##TO,
#define AVX2_ENTRY(FROM, TO) [FROM][TO] = AVX2_NAME(FROM, TO),
        [SW_CAST_PORTABLE] = { PAIRS(PORTABLE_ENTRY) },
        [SW_CAST_AVX2] = { PAIRS(AVX2_ENTRY) },
    };
    sw_fpmode saved;

    assert(sw_dtype_is_floating(from) && sw_dtype_is_floating(to));
    if (n == 0)
        return;
    if (from == to) {
        memcpy(dst, src, (size_t)n * sw_dtype_bits(from) / 8);
        return;
    }
    assert(sw_dtype_is_floating(from) && sw_dtype_is_floating(to));
    saved = sw_fpmode_enter();
    by[path][index_of[from]][index_of[to]](src, dst, n);
    sw_fpmode_leave(saved);
}

void sw_cast(sw_dtype from, sw_dtype to, const void *src, void *dst, uint64_t n)
{
    sw_cast_by(sw_cast_path_best(), from, to, src, dst, n);
}
