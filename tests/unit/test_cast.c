/* Floating-point conversions, by every path that this CPU can go: against torch's tables, and
 * element by element at every address and count, whatever the floating-point mode. */

#include "float_help.h"
#include "tables/cast.inc"
#include "unit.h"
#include "value/cast.h"
#include "value/fpmode.h"

static const sw_dtype floating[] = { SW_F64, SW_F32, SW_BF16, SW_F16 };

TEST(paths)
{
    assert_true(sw_cast_path_usable(SW_CAST_PORTABLE));
    assert_true(sw_cast_path_usable(sw_cast_path_best()));
    assert_false(sw_cast_path_usable(SW_CAST_NPATHS));
}

/* ---- whole sets ------------------------------------------------------------------------------ */

/* The same input as in tables/make_tables.py. */
static uint64_t random_f32(uint64_t i)
{
    uint64_t r = help_mix(i), sign = r >> 63 << 31, mantissa = r >> 20 & 0x7fffff, beside = r >> 8 & 3;
    uint64_t near = sign | (96 + (r & 63)) << 23;

    switch (i & 3) {
    case 0:
        return r >> 32;
    case 1:
        return near | mantissa;
    case 2:
        return near + (mantissa & 0x7fe000) + 0x0fff + beside;
    default:
        return ((sign | (r >> 10 & 255) << 23) + (mantissa & 0x7f0000) + 0x7fff + beside) & 0xffffffff;
    }
}

static uint64_t random_f64(uint64_t i)
{
    uint64_t r = help_mix(i), sign = r >> 63 << 63, mantissa = help_mix(r) & UINT64_C(0xfffffffffffff);
    uint64_t beside = r >> 16 & 3, wide = sign | (863 + (r & 255)) << 52,
             narrow = sign | (992 + (r & 63)) << 52;

    switch (i & 3) {
    case 0:
        return r ^ help_mix(mantissa);
    case 1:
        return wide | mantissa;
    case 2:
        return wide + (mantissa & UINT64_C(0xfffffe0000000)) + (UINT64_C(1) << 28) - 1 + beside;
    default:
        return narrow + (mantissa & UINT64_C(0xffc0000000000)) + (UINT64_C(1) << 41) - (UINT64_C(1) << 28) +
               (beside << 28) + (r >> 18 & 1);
    }
}

/* Of what a set consists. EDGES: every sign and exponent with every mantissa that is near a step,
 * of the format itself or of one it is rounded to. */
typedef enum set_kind { EVERY, RANDOM, EDGES } set_kind;

static uint64_t set_size(set_kind kind, sw_dtype from)
{
    help_format f = help_format_of(from);

    return kind == EVERY    ? 65536
           : kind == RANDOM ? CAST_RANDOM
                            : (UINT64_C(2) << f.exponent) * (uint64_t)(f.mantissa + 1) * 6;
}

static uint64_t set_bits(set_kind kind, sw_dtype from, uint64_t i)
{
    help_format f = help_format_of(from);
    uint64_t step = i / 6 % (uint64_t)(f.mantissa + 1), edge = (i & 1 ? UINT64_C(3) : UINT64_C(1)) << step;

    if (kind != EDGES)
        return kind == EVERY ? i : from == SW_F32 ? random_f32(i) : random_f64(i);
    return i / 6 / (uint64_t)(f.mantissa + 1) << f.mantissa |
           ((edge + i % 6 / 2 - 1) & ((UINT64_C(1) << f.mantissa) - 1));
}

static void *set_memory(set_kind kind, sw_dtype from)
{
    uint64_t n = set_size(kind, from);
    void *p = malloc(n * width(from));

    assert_non_null(p);
    for (uint64_t i = 0; i < n; i++)
        help_put(p, i, width(from), set_bits(kind, from, i));
    return p;
}

/* One element by itself tells which of many is wrong, torch's hash whether it is. */
static void check_set(sw_cast_path path, set_kind kind, sw_dtype from, sw_dtype to, uint64_t want)
{
    uint64_t n = set_size(kind, from), hash = 0;
    void *src = set_memory(kind, from), *dst = malloc(n * width(to));

    assert_non_null(dst);
    sw_cast_by(path, from, to, src, dst, n);
    for (uint64_t i = 0; i < n; i++) {
        uint64_t x = help_get(src, i, width(from)), y = help_get(dst, i, width(to));

        if (y != help_convert(from, to, x))
            fail_msg("path %d: %s %016llx to %s is %016llx, expected %016llx", path, sw_dtype_name(from),
                     (unsigned long long)x, sw_dtype_name(to), (unsigned long long)y,
                     (unsigned long long)help_convert(from, to, x));
        hash = help_hash(hash, i, y);
    }
    if (hash != want)
        fail_msg("path %d: %s to %s is not what torch gives", path, sw_dtype_name(from), sw_dtype_name(to));
    free(src);
    free(dst);
}

static void check_sets(sw_cast_path path)
{
#define SET(kind, from, to, hash) check_set(path, kind, SW_##from, SW_##to, UINT64_C(hash));
    CAST_SETS(SET)
#undef SET
}

TEST(sets)
{
    on_all_paths(check_sets);
}

/* Any payload becomes the quiet NaN with its sign; where dtypes are equal it stays. */
static void check_nans(sw_cast_path path)
{
    static const struct {
        sw_dtype dtype;
        uint64_t quiet, payload;
    } nans[] = {
        { SW_F64, UINT64_C(0x7ff8000000000000), UINT64_C(0x7ff0000000000001) },
        { SW_F32, 0x7fc00000, 0x7f800001 },
        { SW_BF16, 0x7fc0, 0x7f81 },
        { SW_F16, 0x7e00, 0x7c01 },
    };

    for (size_t f = 0; f < COUNT(nans); f++)
        for (size_t t = 0; t < COUNT(nans); t++) {
            unsigned from = width(nans[f].dtype), to = width(nans[t].dtype);
            unsigned char src[80 * 8], dst[80 * 8];

            for (unsigned i = 0; i < 80; i++)
                help_put(src, i, from, nans[f].payload | (uint64_t)(i & 1) << (8 * from - 1));
            sw_cast_by(path, nans[f].dtype, nans[t].dtype, src, dst, 80);
            for (unsigned i = 0; i < 80; i++)
                assert_int_equal(help_get(dst, i, to), (f == t ? nans[f].payload : nans[t].quiet) |
                                                           (uint64_t)(i & 1) << (8 * to - 1));
        }
}

TEST(nans)
{
    on_all_paths(check_nans);
}

/* ---- any place, any mode --------------------------------------------------------------------- */

#define PLACES 9  /* addresses that are tried */
#define COUNTS 83 /* numbers of elements */
#define GUARD 0xa5

static void check_place(sw_cast_path path, sw_dtype from, sw_dtype to, const unsigned char *src, unsigned at,
                        unsigned n)
{
    unsigned char in[COUNTS * 8 + PLACES], out[COUNTS * 8 + 2 * PLACES];
    unsigned begin = PLACES - at, end = begin + n * width(to);

    memcpy(in + at, src, n * width(from));
    memset(out, GUARD, sizeof out);
    sw_cast_by(path, from, to, in + at, out + begin, n);
    for (unsigned i = 0; i < begin; i++)
        assert_int_equal(out[i], GUARD);
    for (unsigned i = 0; i < n; i++)
        assert_int_equal(help_get(out + begin, i, width(to)),
                         help_convert(from, to, help_get(src, i, width(from))));
    for (unsigned i = end; i < sizeof out; i++)
        assert_int_equal(out[i], GUARD);
}

static void check_places(sw_cast_path path)
{
    for (size_t f = 0; f < COUNT(floating); f++) {
        unsigned char src[COUNTS * 8];

        for (unsigned i = 0; i < COUNTS; i++)
            help_put(src, i, width(floating[f]), set_bits(f < 2 ? RANDOM : EVERY, floating[f], i * 797));
        for (size_t t = 0; t < COUNT(floating); t++)
            for (unsigned at = 0; at < PLACES; at++)
                for (unsigned n = 0; n < COUNTS; n++)
                    check_place(path, floating[f], floating[t], src, at, n);
    }
}

TEST(places)
{
    on_all_paths(check_places);
}

#if defined(__SSE2__)
TEST(modes)
{
    /* Subnormals flushed; rounded up; the same, truncated; with traps. */
    static const unsigned controls[] = { 0x9fc0, 0x5f80, 0xffc0, 0x1000 };

    for (size_t i = 0; i < COUNT(controls); i++) {
        sw_fpmode saved = _mm_getcsr();
        unsigned after;

        _mm_setcsr(controls[i]);
        if (i == 2) /* as far from usual as it gets */
            on_all_paths(check_sets);
        on_all_paths(check_places);
        on_all_paths(check_nans);
        after = _mm_getcsr();
        _mm_setcsr(saved);
        assert_int_equal(after, controls[i]);
    }
}
#else
#include <fenv.h>

#include "unit.h"

TEST(modes)
{
    assert_int_equal(fesetround(FE_UPWARD), 0);
    on_all_paths(check_sets);
    on_all_paths(check_places);
    on_all_paths(check_nans);
    assert_int_equal(fegetround(), FE_UPWARD);
    fesetround(FE_TONEAREST);
}
#endif

/* The one that all others call takes a path by itself. */
TEST(by_itself)
{
    uint64_t n = set_size(RANDOM, SW_F32);
    void *src = set_memory(RANDOM, SW_F32), *a = malloc(2 * n), *b = malloc(2 * n);

    assert_true(a && b);
    sw_cast(SW_F32, SW_F16, src, a, n);
    sw_cast_by(SW_CAST_PORTABLE, SW_F32, SW_F16, src, b, n);
    assert_memory_equal(a, b, 2 * n);
    sw_cast(SW_F32, SW_F16, NULL, NULL, 0);
    sw_cast(SW_F32, SW_F32, NULL, NULL, 0);
    free(src);
    free(a);
    free(b);
}
