/* How values are made of what was saved, box by box. Pure.
 *
 * A copy or a cast is made of the same box of one tensor; what is dequantized, of a box of codes
 * and a box of scales. Such a box has some hundred numbers at most in its description, and may be
 * as large as a band. */
#ifndef SW_PLAN_RECIPE_H
#define SW_PLAN_RECIPE_H

#include "plan/quantized.h"
#include "plan/runs.h"

typedef struct sw_recipe {
    sw_view view;           /* of the tensor that has the values, or the codes */
    const sw_tensor *scale; /* SCALED, MXFP4 only */
    sw_op op;
    sw_dtype to;
} sw_recipe;

#define SW_ANY_BOX UINT64_MAX

/* A box to be made, and where it goes. All but the numbers is borrowed.
 *   offsets, shape  in steps of how->view; but of MXFP4 these are values [E, R, G * 32] of blocks
 *                   [E, R, G, 16]
 *   strides         bits of memory from one step to the next; NULL = packed
 * Of an MXFP4 box of one expert, which outputs have transposed, the first column may be wanted only
 * from row skip on, and the last one only as far as row tail: then it is a range of the output. */
typedef struct sw_making {
    const sw_recipe *how;
    uint64_t source; /* the one source box that has all of it, or SW_ANY_BOX */
    const uint64_t *offsets, *shape;
    const int64_t *strides;
    int64_t to; /* bytes of the caller's memory before the first step of the box */
    uint64_t skip, tail;
} sw_making;

#define SW_NO_TAIL UINT64_MAX

/* A box of a saved tensor; packed, it stands at `at` of the input that a conversion takes. */
typedef struct sw_ingredient {
    sw_view view;
    uint64_t offsets[SW_MAX_DIMS], shape[SW_MAX_DIMS];
    uint64_t at, bytes;
} sw_ingredient;

/* The most that one element of any conversion needs: a block of MXFP4 and its scale, rounded up. */
#define SW_INPUT_MAX 32u

/* Local. What a box is made of; returns how many boxes that are. */
unsigned sw_ingredients(const sw_making *g, sw_ingredient out[2]);

/* Local. Visit the runs that make one up, packed: as sw_runs_each(). */
bool sw_ingredient_runs_each(const sw_ingredient *in, sw_run_fn fn, void *ctx);

/* Local. Bytes of all of them. */
uint64_t sw_ingredients_size(const sw_making *g);

/* Local. Bits of memory that one step of the box takes. */
unsigned sw_recipe_bits(const sw_recipe *how);

#endif
