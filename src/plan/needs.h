/* What a range of an output needs of the tensors that were saved. Pure.
 *
 * A copy needs the same range of one tensor. A conversion needs one range or more, which it takes
 * as one run of input, one need after the other. */
#ifndef SW_PLAN_NEEDS_H
#define SW_PLAN_NEEDS_H

#include "plan/outputs.h"

/* Bytes [from, from + n) of a saved tensor; they stand at `at` in the input. */
typedef struct sw_need {
    const sw_tensor *tensor;
    uint64_t from, n;
    uint64_t at;
} sw_need;

/* Called for each need, in the order of the input; false stops. */
typedef bool (*sw_need_fn)(void *ctx, const sw_need *need);

/* Local. Visit the needs of bytes [from, from + n) of output i; of a conversion both are multiples
 * of its element. False when fn did. */
bool sw_needs_each(const sw_outputs *o, uint32_t i, uint64_t from, uint64_t n, sw_need_fn fn, void *ctx);

/* Local. Bytes of input for the range. 0 for a copy: it needs no place of its own. */
uint64_t sw_needs_size(const sw_outputs *o, uint32_t i, uint64_t from, uint64_t n);

/* The most that one element of any conversion needs: a block of MXFP4 and its scale, rounded up. */
#define SW_NEED_MAX 32u

/* ---- scales of blocks ---------------------------------------------------------------------------
 * A weight [rows, columns] and scales [block rows, blocks], of catalog->block. */

/* The first part of a run of elements that is a box: whole rows, or a piece of one row. */
typedef struct sw_scaled_part {
    uint64_t row, rows;
    uint64_t column, columns;
    uint64_t block_row, block_rows; /* of scales that the rows lie in */
    uint64_t block, blocks;         /* the same for columns */
} sw_scaled_part;

/* Local. Of elements [x, x + n) of output i. False when n is 0. */
bool sw_scaled_segment(const sw_outputs *o, uint32_t i, uint64_t x, uint64_t n, sw_scaled_part *p);

/* ---- MXFP4 --------------------------------------------------------------------------------------
 * An output X of shape [experts, groups * 32, rows] is made of blocks [experts, rows, groups, 16]
 * and scales [experts, rows, groups]: element X[e, c, r] lies in block [e, r, c / 32]. */
typedef struct sw_mxfp4 {
    uint64_t experts, groups, rows;
} sw_mxfp4;

void sw_mxfp4_shape(const sw_outputs *o, uint32_t i, sw_mxfp4 *m);

/* The first part of a run of elements: of one expert, either a piece of one line (fixed c), or
 * lines, of which the first and the last may be pieces; then it has at least as many elements as a
 * line, so that its input stays in proportion. Its input is a box: blocks of some rows and groups,
 * then their scales. */
typedef struct sw_mxfp4_part {
    uint64_t elements;
    uint64_t expert;
    uint64_t column, columns; /* along c */
    uint64_t row, rows;       /* along r: all of them where there are several lines */
    uint64_t skip;            /* of the first line, so many elements are not wanted, */
    uint64_t tail;            /* and of the last only so many are: rows = all */
    uint64_t group, groups;   /* blocks along c that hold the columns */
} sw_mxfp4_part;

/* Local. Of elements [x, x + n). False when n is 0. */
bool sw_mxfp4_segment(const sw_mxfp4 *m, uint64_t x, uint64_t n, sw_mxfp4_part *p);

#endif
