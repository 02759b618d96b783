/* Quantized weights and their scales to plain numbers. Pure: buffer to buffer.
 *
 * The results are of dtype `to`: F32, BF16 or F16, rounded as sw_cast() does, NaNs too; they are
 * the same by every path that is usable (sw_cast_path_best()). Source: SPEC 5. */
#ifndef SW_VALUE_DEQUANT_H
#define SW_VALUE_DEQUANT_H

#include <stdbool.h>
#include <stdint.h>

#include "format/dtype.h"
#include "value/cast.h"

/* Local. What the results can be. */
bool sw_dequant_is_target(sw_dtype dtype);

/* ---- scales of blocks ------------------------------------------------------------------------ */

/* Local. Numbers (sw_dtype_is_number()) as F32, to nearest: scales, weights. An F8_E8M0 s is
 * 2^(s-127), 255 a NaN; src at any address. */
void sw_dequant_numbers(sw_dtype dtype, const void *src, float *dst, uint64_t n);

/* Elements of a row.
 *   from    the dtype of the weights: any number
 *   block   columns under one scale
 *   scales  of the row's blocks, at least as far as the last element */
typedef struct sw_scaled_row {
    sw_dtype from, to;
    uint64_t block;
    const float *scales;
} sw_scaled_row;

/* Local. n elements from column `column` on: dst[i] = F32(src[i]) * scales[(column + i) / block],
 * the product rounded to F32, then to `to`. Of a part of the scales: `column` counts from where its
 * first block begins.
 *   src, dst  at any address; no overlap
 * A NaN has the sign of the weight (a FNUZ weight's NaN has none: +). */
void sw_dequant_row(sw_cast_path path, const sw_scaled_row *row, const void *src, uint64_t column, void *dst,
                    uint64_t n);

/* ---- MXFP4 ----------------------------------------------------------------------------------- */

/* Blocks of 32 FP4 values in 16 bytes, low nibble first, each with the byte s of its scale: value x
 * 2^(s-127), exact, rounded once. s = 255 is 2^128, as in torch, and no NaN.
 *   blocks, scales  of the first; those of the next stand block_step and scale_step bytes later
 *   nblocks
 *   first, nvalues  only these values of each block; first + nvalues <= 32
 *   value_step      elements of dst between one value and the next
 *   out_step        elements of dst between the same value of one block and the next
 * So value first + k of block b becomes element b * out_step + k * value_step. Rows of X[E, R, G *
 * 32] have steps 1 and 32; X[E, G * 32, R] has value_step R, and blocks of one column group, G * 16
 * bytes apart, with out_step 1. */
typedef struct sw_mxfp4_run {
    const void *blocks, *scales;
    uint64_t block_step, scale_step;
    uint64_t nblocks;
    unsigned first, nvalues;
    uint64_t value_step, out_step;
} sw_mxfp4_run;

/* Local. dst at any address; no overlap. */
void sw_dequant_mxfp4(sw_cast_path path, const sw_mxfp4_run *run, sw_dtype to, void *dst);

#endif
