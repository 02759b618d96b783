/* NaN, infinite, least and most; see census.h. */
#include "value/census.h"

#include <endian.h>
#include <string.h>

#include "base/num.h"
#include "value/distance.h"
#include "value/f32.h"

#define BLOCK 4096 /* bytes: in a byte's width no count of a vector's element overflows */

/* What is finite, by its key: from -(finite) - 1 to finite, as sign and magnitude have it. What
 * lies beyond is infinite up to inf, and else a NaN. */
typedef struct kind {
    unsigned width; /* bytes */
    int64_t finite, inf;
    bool exponent; /* F8_E8M0: no sign, the key is the byte less 128 */
    bool fnuz;     /* the one NaN has the place of -0: its key is -1 */
} kind;

static const kind kinds[SW_NDTYPES] = {
    [SW_F64] = { 8, 0x7fefffffffffffff, 0x7ff0000000000000, false, false },
    [SW_F32] = { 4, 0x7f7fffff, 0x7f800000, false, false },
    [SW_BF16] = { 2, 0x7f7f, 0x7f80, false, false },
    [SW_F16] = { 2, 0x7bff, 0x7c00, false, false },
    [SW_F8_E5M2] = { 1, 0x7b, 0x7c, false, false },
    [SW_F8_E4M3] = { 1, 0x7e, 0x7e, false, false },
    [SW_F8_E5M2FNUZ] = { 1, 0x7f, 0x7f, false, true },
    [SW_F8_E4M3FNUZ] = { 1, 0x7f, 0x7f, false, true },
    [SW_F8_E8M0] = { 1, 0x7e, 0x7e, true, false },
};

bool sw_census_counts(sw_dtype dtype)
{
    return kinds[dtype].width > 0;
}

/* ---- keys ------------------------------------------------------------------------------------ */

/* The key of a number's bits, and back: what is negative is turned round. */
static inline int64_t turn(int64_t x, unsigned width)
{
    return x < 0 ? x ^ (int64_t)(UINT64_MAX >> (65 - 8 * width)) : x;
}

/* The key of element i. */
static int64_t key_at(const kind *k, const unsigned char *p, uint64_t i)
{
    uint64_t bits = sw_little(p + i * k->width, k->width);
    int64_t x;

    if (k->exponent)
        return (int64_t)bits - 128;
    bits <<= 64 - 8 * k->width;
    memcpy(&x, &bits, sizeof x);
    return turn(x >> (64 - 8 * k->width), k->width);
}

static bool is_finite(const kind *k, int64_t key)
{
    return key <= k->finite && (k->exponent || key >= -k->finite - 1) && !(k->fnuz && key == -1);
}

double sw_census_value(sw_dtype dtype, int64_t key)
{
    const kind *k = &kinds[dtype];

    return sw_number_of(dtype, (uint64_t)(k->exponent ? key + 128 : turn(key, k->width)));
}

/* ---- a block at once ------------------------------------------------------------------------- */

/* A comparison of vectors has all bits of an element, or none, and so is -1. Whether numbers are
 * finite costs nothing: memory is slower. Bytes of a little-endian machine. */
#define COUNTS(BITS)                                                                                         \
    typedef int##BITS##_t vector_##BITS __attribute__((vector_size(32)));                                    \
    static inline __attribute__((always_inline)) void count_##BITS(const unsigned char *p, const kind *k,    \
                                                                   sw_census *c)                             \
    {                                                                                                        \
        const int##BITS##_t finite = (int##BITS##_t)k->finite, inf = (int##BITS##_t)k->inf;                  \
        vector_##BITS nans = { 0 }, others = { 0 }, lo = nans + INT##BITS##_MAX,                             \
                      hi = nans + INT##BITS##_MIN;                                                           \
        uint64_t nan = 0, other = 0;                                                                         \
                                                                                                             \
        for (unsigned at = 0; at < BLOCK; at += sizeof nans) {                                               \
            vector_##BITS x, magnitude, out, a, b, less, more;                                               \
                                                                                                             \
            memcpy(&x, p + at, sizeof x);                                                                    \
            magnitude = x & INT##BITS##_MAX;                                                                 \
            out = magnitude > finite;                                                                        \
            nans += magnitude > inf;                                                                         \
            others += out;                                                                                   \
            x ^= (x < 0) & INT##BITS##_MAX;                                                                  \
            a = (x & ~out) | (out & INT##BITS##_MAX);                                                        \
            b = (x & ~out) | (out & INT##BITS##_MIN);                                                        \
            less = a < lo;                                                                                   \
            more = b > hi;                                                                                   \
            lo = (a & less) | (lo & ~less);                                                                  \
            hi = (b & more) | (hi & ~more);                                                                  \
        }                                                                                                    \
        for (unsigned i = 0; i < sizeof nans * 8 / BITS; i++) {                                              \
            nan -= (uint64_t)nans[i];                                                                        \
            other -= (uint64_t)others[i];                                                                    \
            c->least = lo[i] < c->least && lo[i] <= hi[i] ? lo[i] : c->least;                                \
            c->most = hi[i] > c->most && lo[i] <= hi[i] ? hi[i] : c->most;                                   \
        }                                                                                                    \
        c->nan += nan;                                                                                       \
        c->inf += other - nan;                                                                               \
    }                                                                                                        \
    static void count_##BITS##_portable(const unsigned char *p, const kind *k, sw_census *c)                 \
    {                                                                                                        \
        count_##BITS(p, k, c);                                                                               \
    }                                                                                                        \
    static AVX2 void count_##BITS##_avx2(const unsigned char *p, const kind *k, sw_census *c)                \
    {                                                                                                        \
        count_##BITS(p, k, c);                                                                               \
    }

COUNTS(8)
COUNTS(16)
COUNTS(32)
COUNTS(64)

typedef void count_fn(const unsigned char *p, const kind *k, sw_census *c);

/* By width and path. */
static count_fn *count_of(sw_cast_path path, unsigned width)
{
    static count_fn *const portable[] = {
        [1] = count_8_portable, [2] = count_16_portable, [4] = count_32_portable, [8] = count_64_portable
    };
    static count_fn *const avx2[] = {
        [1] = count_8_avx2, [2] = count_16_avx2, [4] = count_32_avx2, [8] = count_64_avx2
    };

    return path == SW_CAST_AVX2 ? avx2[width] : portable[width];
}

/* ---- taking ---------------------------------------------------------------------------------- */

/* One after the other. */
static void count_each(sw_census *c, const kind *k, const unsigned char *p, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        int64_t key = key_at(k, p, i), magnitude = key < 0 ? ~key : key;

        if (is_finite(k, key)) {
            c->least = key < c->least ? key : c->least;
            c->most = key > c->most ? key : c->most;
        } else if (!k->fnuz && magnitude == k->inf && k->inf > k->finite) {
            c->inf++;
        } else {
            c->nan++;
        }
    }
}

void sw_census_take_by(sw_cast_path path, sw_census *c, sw_dtype dtype, const void *data, uint64_t n)
{
    const kind *k = &kinds[dtype];
    bool blocks = __BYTE_ORDER == __LITTLE_ENDIAN && !k->exponent && !k->fnuz;
    count_fn *count = count_of(path, k->width);
    const unsigned char *p = data;
    uint64_t each = BLOCK / k->width;

    for (; blocks && n >= each; n -= each, p += BLOCK)
        count(p, k, c);
    count_each(c, k, p, n);
}

void sw_census_take(sw_census *c, sw_dtype dtype, const void *data, uint64_t n)
{
    sw_census_take_by(sw_cast_path_best(), c, dtype, data, n);
}

void sw_census_join(sw_census *c, const sw_census *other)
{
    c->nan += other->nan;
    c->inf += other->inf;
    c->least = other->least < c->least ? other->least : c->least;
    c->most = other->most > c->most ? other->most : c->most;
}

bool sw_census_has_range(const sw_census *c)
{
    return c->least <= c->most;
}
