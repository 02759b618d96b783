/* Quantized tensors and the scales that belong to them: the rule of SPEC 5, for writing and for reading. Pure. */
#ifndef SW_PLAN_QUANTIZED_H
#define SW_PLAN_QUANTIZED_H

#include "plan/catalog.h"

#define SW_FP8_BLOCK 128u  /* rows and columns under one scale */
#define SW_MXFP4_BLOCK 32u /* elements under one scale */
#define SW_MXFP4_BYTES 16u /* the bytes that hold them */

/* How names end: X.weight has X.weight_scale_inv, X_blocks has X_scales. */
#define SW_END_WEIGHT ".weight"
#define SW_END_SCALE_INV "_scale_inv"
#define SW_END_BLOCKS "_blocks"
#define SW_END_SCALES "_scales"

/* Local. The tensor called name without its last `cut` bytes and with `end` behind it; *found is NULL when there is none.
 * Errors: SW_ENOMEM. O(log n). */
sw_code sw_find_partner(const sw_catalog *c, const char *name, size_t cut, const char *end,
                        const sw_tensor **found, sw_status *st);

/* Local. By dtype: F8_E4M3 or F8_E5M2. */
bool sw_is_fp8(const sw_tensor *t);

/* Local. By dtype and shape: U8 [E, R, G, 16]. */
bool sw_is_mxfp4(const sw_catalog *c, const sw_tensor *t);

/* Local. Are these the scales of such a tensor, by dtype and shape? */
bool sw_scales_fp8(const sw_catalog *c, const sw_tensor *scale, const sw_tensor *weight);
bool sw_scales_mxfp4(const sw_catalog *c, const sw_tensor *scale, const sw_tensor *blocks);

/* Local. Fail with SW_EINPUT because they are not. */
sw_code sw_fail_scale(const sw_catalog *c, const sw_tensor *scale, const sw_tensor *of, sw_status *st);

#endif
