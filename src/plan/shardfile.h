/* The front matter of a shard file as torch's DCP writes it. Pure. */
#ifndef SW_PLAN_SHARDFILE_H
#define SW_PLAN_SHARDFILE_H

#include "base/buf.h"
#include "format/filenames.h"
#include "format/header.h"

/* A box in a shard file. */
typedef struct sw_shard_box {
    const char *name;
    sw_dtype dtype;
    unsigned ndim;
    const uint64_t *offsets, *shape; /* ndim, elements; may be NULL where ndim is 0 */
    /* of the whole tensor, likewise: so that a lost end is missed */
    const uint64_t *global_shape;
    uint64_t begin, end; /* set: where its data lie, bytes from the end of the header */
} sw_shard_box;

/* Local. The length, the JSON and its padding: what stands before the data. Beside what torch
 * writes each box has its global_shape, and the file a list of all that belong to the set; torch's
 * reader ignores both.
 *   boxes  n of them, of different names, in the order in which the sharding info lists them
 *   set    of sw_numbers_list()
 *   order  set: n indices of boxes, in the order of their data
 *   text   replaced
 * Errors: SW_EUSAGE (a header over SW_HEADER_MAX), SW_ENOMEM. O(n log n). */
sw_code sw_shard_header(sw_shard_box *boxes, size_t n, const char *set, uint32_t *order, sw_buf *text,
                        sw_status *st);

#define SW_SHARD_NAME_SIZE 100

/* Local. "shard-00002-model-00001-of-00003.safetensors" into text; returns text. */
char *sw_shard_name_text(const sw_shard_name *n, char text[SW_SHARD_NAME_SIZE]);

#endif
