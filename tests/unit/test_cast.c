/* Floating-point conversions, by every path that this CPU can go: against torch's tables, against
 * conversion by the book, at every address and count, whatever the floating-point mode. */

#include "float_help.h"
#include "tables/cast.inc"
#include "unit.h"
#include "value/cast.h"
#include "value/fpmode.h"

static const sw_dtype floating[] = { SW_F64, SW_F32, SW_BF16, SW_F16 };

typedef void path_fn(sw_cast_path path);

static void on_all_paths(path_fn *fn)
{
    for (unsigned p = 0; p < SW_CAST_NPATHS; p++)
        if (sw_cast_path_usable((sw_cast_path)p))
            fn((sw_cast_path)p);
}

static unsigned width(sw_dtype dtype)
{
    return sw_dtype_bits(dtype) / 8;
}

/* n elements of bits as memory. */
static void *memory_of(const uint64_t *bits, uint64_t n, sw_dtype dtype)
{
    void *p = malloc(n * width(dtype) + 1);

    assert_non_null(p);
    for (uint64_t i = 0; i < n; i++)
        help_put(p, i, width(dtype), bits[i]);
    return p;
}

TEST(paths)
{
    assert_true(sw_cast_path_usable(SW_CAST_PORTABLE));
    assert_true(sw_cast_path_usable(sw_cast_path_best()));
    assert_false(sw_cast_path_usable(SW_CAST_NPATHS));
}

/* ---- torch ----------------------------------------------------------------------------------- */

static void check_torch_values(sw_cast_path path)
{
    static const struct {
        sw_dtype from;
        uint64_t x;
        sw_dtype to;
        uint64_t want;
    } cases[] = {
#define CASE(from, x, to, want) { SW_##from, UINT64_C(x), SW_##to, UINT64_C(want) },
        CAST_VALUES(CASE)
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        unsigned char x[8], y[8];

        help_put(x, 0, width(cases[i].from), cases[i].x);
        sw_cast_by(path, cases[i].from, cases[i].to, x, y, 1);
        if (help_get(y, 0, width(cases[i].to)) != cases[i].want)
            fail_msg("path %d: %s %016llx to %s is %016llx, torch gives %016llx", path,
                     sw_dtype_name(cases[i].from), (unsigned long long)cases[i].x, sw_dtype_name(cases[i].to),
                     (unsigned long long)help_get(y, 0, width(cases[i].to)),
                     (unsigned long long)cases[i].want);
    }
}

TEST(torch_values)
{
    on_all_paths(check_torch_values);
}

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

/* Every value of 16 bits, random ones of more. */
static uint64_t set_size(sw_dtype from)
{
    return width(from) == 2 ? 65536 : CAST_RANDOM;
}

static uint64_t set_bits(sw_dtype from, uint64_t i)
{
    return width(from) == 2 ? i : width(from) == 4 ? random_f32(i) : random_f64(i);
}

static void *set_memory(sw_dtype from)
{
    uint64_t n = set_size(from), *bits = malloc(n * sizeof *bits);
    void *p;

    assert_non_null(bits);
    for (uint64_t i = 0; i < n; i++)
        bits[i] = set_bits(from, i);
    p = memory_of(bits, n, from);
    free(bits);
    return p;
}

static void check_torch_sets(sw_cast_path path)
{
    static const struct {
        sw_dtype from, to;
        uint64_t hash;
    } cases[] = {
#define SET(from, to, hash) { SW_##from, SW_##to, UINT64_C(hash) },
        CAST_SETS(SET)
    };

    for (size_t c = 0; c < COUNT(cases); c++) {
        uint64_t n = set_size(cases[c].from), hash = 0;
        void *src = set_memory(cases[c].from), *dst = malloc(n * width(cases[c].to));

        assert_non_null(dst);
        sw_cast_by(path, cases[c].from, cases[c].to, src, dst, n);
        for (uint64_t i = 0; i < n; i++)
            hash = help_hash(hash, i, help_get(dst, i, width(cases[c].to)));
        if (hash != cases[c].hash)
            fail_msg("path %d: %s to %s is not what torch gives", path, sw_dtype_name(cases[c].from),
                     sw_dtype_name(cases[c].to));
        free(src);
        free(dst);
    }
}

TEST(torch_sets)
{
    on_all_paths(check_torch_sets);
}

/* ---- by the book ----------------------------------------------------------------------------- */

static void check_book(sw_cast_path path, sw_dtype from, sw_dtype to, const void *src, uint64_t n)
{
    void *dst = malloc(n * width(to));

    assert_non_null(dst);
    sw_cast_by(path, from, to, src, dst, n);
    for (uint64_t i = 0; i < n; i++) {
        uint64_t x = help_get(src, i, width(from)), want = help_convert(from, to, x);

        if (help_get(dst, i, width(to)) != want)
            fail_msg("path %d: %s %016llx to %s is %016llx, expected %016llx", path, sw_dtype_name(from),
                     (unsigned long long)x, sw_dtype_name(to),
                     (unsigned long long)help_get(dst, i, width(to)), (unsigned long long)want);
    }
    free(dst);
}

static void check_sets_by_the_book(sw_cast_path path)
{
    for (size_t f = 0; f < COUNT(floating); f++) {
        void *src = set_memory(floating[f]);

        for (size_t t = 0; t < COUNT(floating); t++)
            check_book(path, floating[f], floating[t], src, set_size(floating[f]));
        free(src);
    }
}

TEST(sets_by_the_book)
{
    on_all_paths(check_sets_by_the_book);
}

/* Every sign and exponent with every mantissa that is near a step: of the format itself, or of one
 * it is rounded to. */
static uint64_t edges_of(sw_dtype from, uint64_t *bits)
{
    help_format f = help_format_of(from);
    uint64_t n = 0, mask = (UINT64_C(1) << f.mantissa) - 1;

    for (uint64_t high = 0; high < UINT64_C(2) << f.exponent; high++)
        for (int step = 0; step <= f.mantissa; step++)
            for (unsigned k = 0; k < 6; k++) {
                uint64_t edge = (k & 1 ? UINT64_C(3) : UINT64_C(1)) << step;

                bits[n++] = high << f.mantissa | ((edge + k / 2 - 1) & mask);
            }
    return n;
}

static void check_edges(sw_cast_path path)
{
    for (size_t f = 0; f < 2; f++) {
        uint64_t *bits = malloc(((size_t)2 << 11) * 53 * 6 * sizeof *bits), n;
        void *src;

        assert_non_null(bits);
        n = edges_of(floating[f], bits);
        src = memory_of(bits, n, floating[f]);
        for (size_t t = 0; t < COUNT(floating); t++)
            check_book(path, floating[f], floating[t], src, n);
        free(src);
        free(bits);
    }
}

TEST(edges)
{
    on_all_paths(check_edges);
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
            help_put(src, i, width(floating[f]), set_bits(floating[f], i * 797));
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
        on_all_paths(check_places);
        on_all_paths(check_torch_values);
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
    on_all_paths(check_places);
    on_all_paths(check_torch_values);
    assert_int_equal(fegetround(), FE_UPWARD);
    fesetround(FE_TONEAREST);
}
#endif

/* The one that all others call takes a path by itself. */
TEST(by_itself)
{
    uint64_t n = set_size(SW_F32);
    void *src = set_memory(SW_F32), *a = malloc(2 * n), *b = malloc(2 * n);

    assert_non_null(a);
    assert_non_null(b);
    sw_cast(SW_F32, SW_F16, src, a, n);
    sw_cast_by(SW_CAST_PORTABLE, SW_F32, SW_F16, src, b, n);
    assert_memory_equal(a, b, 2 * n);
    sw_cast(SW_F32, SW_F16, NULL, NULL, 0);
    sw_cast(SW_F32, SW_F32, NULL, NULL, 0);
    free(src);
    free(a);
    free(b);
}
