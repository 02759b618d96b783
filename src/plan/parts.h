/* What a band of an output file holds: parts of outputs, and boxes of these. Pure.
 *
 * A band of some MiB meets a few tensors, of small ones hundreds; each part of one is at most
 * 2n - 1 boxes: a head, a middle, a tail along each dimension. */
#ifndef SW_PLAN_PARTS_H
#define SW_PLAN_PARTS_H

#include "plan/layout.h"
#include "plan/outputs.h"
#include "plan/recipe.h"

/* Part of an output, or of a box of it: bytes [from, from + n) of that stand at `at` in the
 * band. */
typedef struct sw_part {
    uint32_t output; /* index into the outputs */
    uint64_t from, n;
    uint64_t at;
    const uint64_t *box; /* offsets, then shape; NULL = all of the output */
    uint32_t slot;       /* which stands there: index into layout->order */
} sw_part;

/* Called for each tensor that a band meets, in order; false stops. */
typedef bool (*sw_part_fn)(void *ctx, const sw_part *part);

/* Local. Visit the parts of a band of output file f. False when fn did. O(log tensors + parts). */
bool sw_parts_each(const sw_layout *l, uint32_t f, sw_region band, sw_part_fn fn, void *ctx);

/* Called for each box, in order, which is to be made in the band; false stops. */
typedef bool (*sw_making_fn)(void *ctx, const sw_making *g);

/* Local. Visit the boxes of a part: of copies any bytes, of conversions whole elements. Each fixes
 * the outer dimensions, takes a range along one, and is whole along the inner ones; of MXFP4 a box
 * is a piece of one line of the output, or some lines, of which the first and the last may be
 * pieces; then it has at least as many elements as a line, so that its input stays in proportion.
 * False when fn did. */
bool sw_part_boxes_each(const sw_outputs *o, const sw_part *part, sw_making_fn fn, void *ctx);

/* Local. Of a tensor of c as it is saved, which the part calls its output. */
bool sw_saved_boxes_each(const sw_catalog *c, const sw_part *part, sw_making_fn fn, void *ctx);

/* Local. Of all parts of a band of output file f. */
bool sw_band_boxes_each(const sw_outputs *o, const sw_layout *l, uint32_t f, sw_region band, sw_making_fn fn,
                        void *ctx);

#endif
