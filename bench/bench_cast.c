/* How fast values are converted, beside memcpy of the same source bytes in the same memory.
 *
 *     bench_cast [MIB [ROUNDS]]   prints GB/s of source bytes, the best of the rounds, for each way
 *                                 to go
 *     bench_cast --check          the same, and fails when F32 to BF16 takes over 1.5 times as long
 *                                 as memcpy */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "value/cast.h"
#include "value/dequant.h"

#define LIMIT 1.5
#define GROWTH 8 /* the most bytes that a byte of source becomes: FP4 to F32 */
#define COLUMNS 4096

typedef struct bench {
    unsigned char *src, *dst;
    float scales[COLUMNS / 128];
    size_t size; /* of src; a multiple of what one work takes at a time */
    int rounds;
    double copy; /* seconds of memcpy */
} bench;

typedef struct work {
    enum { COPY, CAST, FP8, MXFP4 } kind;
    sw_cast_path path;
    sw_dtype from, to;
} work;

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void dequantize_fp8(const bench *b, const work *w)
{
    size_t size = COLUMNS * sw_dtype_bits(w->to) / 8;
    sw_scaled_row row = { w->from, w->to, 128, b->scales };

    for (size_t r = 0; r < b->size / COLUMNS; r++)
        sw_dequant_row(w->path, &row, b->src + r * COLUMNS, 0, b->dst + r * size, COLUMNS);
}

/* Turned round, as a column group of an expert is: rows of COLUMNS blocks, whose scales are the
 * bytes before. */
static void dequantize_mxfp4(const bench *b, const work *w)
{
    for (size_t at = 0; b->size - at >= (size_t)COLUMNS * 17; at += (size_t)COLUMNS * 17) {
        sw_mxfp4_run run = {
            .blocks = b->src + at + COLUMNS,
            .scales = b->src + at,
            .block_step = 16,
            .scale_step = 1,
            .nblocks = COLUMNS,
            .nvalues = 32,
            .value_step = COLUMNS,
            .out_step = 1,
        };

        sw_dequant_mxfp4(w->path, &run, w->to, b->dst + at / 17 * sw_dtype_bits(w->to) * 4);
    }
}

static void once(const bench *b, const work *w)
{
    switch (w->kind) {
    case COPY:
        memcpy(b->dst, b->src, b->size);
        break;
    case CAST:
        sw_cast_by(w->path, w->from, w->to, b->src, b->dst, b->size * 8 / sw_dtype_bits(w->from));
        break;
    case FP8:
        dequantize_fp8(b, w);
        break;
    case MXFP4:
        dequantize_mxfp4(b, w);
        break;
    }
}

static double seconds(const bench *b, const work *w)
{
    double best = 0;

    for (int i = 0; i < b->rounds; i++) {
        double t = now();

        once(b, w);
        t = now() - t;
        best = i == 0 || t < best ? t : best;
    }
    return best;
}

/* Seconds in units of a copy. */
static double report(const bench *b, const work *w, const char *from)
{
    static const char *const paths[] = { [SW_CAST_PORTABLE] = "portable", [SW_CAST_AVX2] = "avx2" };
    double t = seconds(b, w);

    printf("%-8s  %-7s -> %-4s  %6.2f GB/s  %5.2f of a copy\n", paths[w->path], from, sw_dtype_name(w->to),
           (double)b->size / t / 1e9, t / b->copy);
    return t / b->copy;
}

/* How F32 to BF16 compares with a copy, in the way that is used. */
static double all_of(const bench *b, sw_cast_path path)
{
    static const sw_dtype floating[] = { SW_F64, SW_F32, SW_BF16, SW_F16 };
    double compared = 0;

    for (int f = 0; f < 4; f++)
        for (int t = 0; t < 4; t++) {
            work w = { CAST, path, floating[f], floating[t] };
            double r = f == t ? 0 : report(b, &w, sw_dtype_name(w.from));

            compared = w.from == SW_F32 && w.to == SW_BF16 ? r : compared;
        }
    for (int t = 1; t < 4; t++) {
        work fp8 = { FP8, path, SW_F8_E4M3, floating[t] }, fp4 = { MXFP4, path, SW_F4, floating[t] };

        report(b, &fp8, sw_dtype_name(fp8.from));
        report(b, &fp4, "MXFP4");
    }
    return compared;
}

/* Bytes that are numbers in every dtype, and scales, none of them extreme. */
static void fill(bench *b)
{
    uint64_t r = 1;

    for (size_t i = 0; i < b->size; i++) {
        r = r * UINT64_C(6364136223846793005) + 1442695040888963407;
        b->src[i] = (unsigned char)((0x38 + (r >> 60)) | (r >> 59 & 1) << 7);
    }
    for (size_t i = 0; i < COLUMNS / 128; i++)
        b->scales[i] = 0.01f * (float)(i + 1);
    memset(b->dst, 1, GROWTH * b->size);
}

int main(int argc, char **argv)
{
    int check = argc > 1 && strcmp(argv[1], "--check") == 0;
    int mib = !check && argc > 1 ? atoi(argv[1]) : 32, rounds = !check && argc > 2 ? atoi(argv[2]) : 5;
    bench b = { .size = (size_t)(mib < 1 ? 1 : mib) << 20, .rounds = rounds < 1 ? 1 : rounds };
    work copy = { .kind = COPY };
    double compared = 0;

    b.src = malloc(b.size);
    b.dst = malloc(GROWTH * b.size);
    if (b.src && b.dst) {
        fill(&b);
        b.copy = seconds(&b, &copy);
        printf("memcpy of %zu MiB: %.2f GB/s\n", b.size >> 20, (double)b.size / b.copy / 1e9);
        for (unsigned p = 0; p < SW_CAST_NPATHS; p++)
            if (sw_cast_path_usable((sw_cast_path)p))
                compared = all_of(&b, (sw_cast_path)p);
    }
    free(b.src);
    free(b.dst);
    if (compared == 0) {
        fprintf(stderr, "bench_cast: out of memory\n");
        return 4;
    }
    if (check && compared > LIMIT)
        fprintf(stderr, "bench_cast: F32 to BF16 takes %.2f of a copy, over the limit of %.2f\n", compared,
                LIMIT);
    return check && compared > LIMIT;
}
