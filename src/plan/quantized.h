/* Quantized tensors and the scales that belong to them: the rule of SPEC 5, for writing and for
 * reading. Pure. */
#ifndef SW_PLAN_QUANTIZED_H
#define SW_PLAN_QUANTIZED_H

#include "plan/catalog.h"

/* What is done to a tensor's values. */
typedef enum sw_op {
    SW_OP_COPY,   /* bytes as they are */
    SW_OP_CAST,   /* one floating dtype to another */
    SW_OP_SCALED, /* numbers times the scales of their blocks: X.weight */
    SW_OP_MXFP4,  /* FP4 pairs and their scales: X_blocks */
} sw_op;

#define SW_SCALED_BLOCK 128u /* rows and columns under one scale where nothing else is told */
#define SW_MXFP4_BLOCK 32u   /* elements under one scale */
#define SW_MXFP4_BYTES 16u   /* the bytes that hold them */

/* How names end: X.weight has X.weight_scale_inv, X_blocks has X_scales. */
#define SW_END_WEIGHT ".weight"
#define SW_END_SCALE_INV "_scale_inv"
#define SW_END_BLOCKS "_blocks"
#define SW_END_SCALES "_scales"

/* Local. Find the scales of each tensor by its name and dtype, whether they can be made use of or
 * not: scale, scaled. X.weight_scale_inv belongs to X.weight whatever that is; the scales of other
 * schemes to what is quantized. Part of sw_catalog_check(). O(n log n).
 * Errors: SW_ENOMEM. */
sw_code sw_find_scales(sw_catalog *c, sw_status *st);

/* Local. How a tensor that has scales becomes plain numbers: SCALED or MXFP4.
 * Errors: SW_EINPUT (they are of another kind, or of a shape or dtype that does not fit). */
sw_code sw_find_dequantizer(const sw_catalog *c, const sw_tensor *t, sw_op *op, sw_status *st);

/* Local. By dtype: a weight of a byte that says little without scales. */
bool sw_is_fp8(const sw_tensor *t);

/* Local. By dtype and shape: U8 [E, R, G, 16]. */
bool sw_is_mxfp4(const sw_catalog *c, const sw_tensor *t);

#endif
