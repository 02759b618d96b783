/* What will be written: which tensors, under which names, of which dtype and shape, made how from
 * what was saved. Pure.
 *
 * Mostly an output is a tensor of the catalogue as it is. It may have another name, be cast, or be
 * made of two tensors: a quantized one and its scales, which then disappear. */
#ifndef SW_PLAN_OUTPUTS_H
#define SW_PLAN_OUTPUTS_H

#include "format/maps.h"
#include "plan/quantized.h"

/* How an output is made. MXFP4 is transposed. */
typedef struct sw_output {
    sw_op op;
    uint32_t source; /* index into the catalogue's tensors */
    uint32_t scale;  /* the same for its scales; SCALED, MXFP4 only */
} sw_output;

typedef struct sw_outputs {
    const sw_catalog *c; /* borrowed */
    /* tensors by output name with their output dtypes and shapes, as a layout takes them; no files,
     * no boxes */
    sw_catalog view;
    sw_output *how; /* one for each tensor of view */
} sw_outputs;

/* What to do with values (SPEC 5). SW_NDTYPES = not asked for. */
typedef struct sw_value_rule {
    sw_dtype cast;        /* floating tensors become this */
    sw_dtype dequantize;  /* quantized ones with scales become this */
    const sw_map *map;    /* {input FQN: dtype name}; NULL = none */
    const char *map_file; /* for messages */
} sw_value_rule;

/* Local. Decide on all outputs.
 *   c         checked; borrowed as long as out lives
 *   names     output name of each tensor of c; NULL = left out; borrowed for the call
 *   rule      borrowed for the call
 *   warnings  gets lines
 *   out       release with sw_outputs_release(); empty on error
 * Errors: SW_EINPUT (a name in the map that is no dtype; scales without what they scale, or that
 * cannot be made use of), SW_EUSAGE (two tensors of one output name), SW_ENOMEM. O(n log n). */
sw_code sw_outputs_build(const sw_catalog *c, char *const *names, const sw_value_rule *rule, sw_buf *warnings,
                         sw_outputs *out, sw_status *st);

/* Local. Bytes of one element of a conversion's output. */
static inline uint64_t sw_output_element(const sw_outputs *o, uint32_t i)
{
    return sw_dtype_bits((sw_dtype)o->view.tensors[i].out_dtype) / 8;
}

void sw_outputs_release(sw_outputs *o);

#endif
