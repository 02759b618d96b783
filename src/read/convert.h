/* From what was saved to what is written: one range of an output, in memory. Local, pure. */
#ifndef SW_READ_CONVERT_H
#define SW_READ_CONVERT_H

#include "plan/needs.h"

/* Bytes [from, from + n) of output i into to; input holds its needs, one after the other
 * (sw_needs_each()). Not for copies. */
void sw_convert(const sw_outputs *o, uint32_t i, uint64_t from, uint64_t n, const char *input, char *to);

/* Where the blocks and scales of some rows of an MXFP4 tensor lie in memory. */
typedef struct sw_mxfp4_input {
    /* of the first of these rows and the first group of the part */
    const char *blocks, *scales;
    uint64_t block_stride, scale_stride; /* bytes from row to row */
} sw_mxfp4_input;

/* What rows [first, first + rows) of the input box of a part (counted from its own first row) give,
 * into to, where the part begins. in tells where the first of these rows is.
 *   m  of the whole tensor */
void sw_convert_mxfp4(const sw_mxfp4 *m, const sw_mxfp4_part *p, uint64_t first, uint64_t rows,
                      const sw_mxfp4_input *in, sw_dtype to_dtype, char *to);

#endif
