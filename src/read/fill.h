/* A band of an output file, put together in memory from the shards. Local. */
#ifndef SW_READ_FILL_H
#define SW_READ_FILL_H

#include "plan/layout.h"
#include "plan/needs.h"
#include "read/pull.h"

/* Where a band's bytes come from. Part of an output, or of a box of it: bytes [from, from + n) of
 * that stand at `at` in the band. */
typedef struct sw_part {
    uint32_t output; /* index into the outputs */
    uint64_t from, n;
    uint64_t at;
    const uint64_t *box; /* offsets, then shape; NULL = all of the output */
} sw_part;

/* Called for each tensor that a band meets, in order; false stops. */
typedef bool (*sw_part_fn)(void *ctx, const sw_part *part);

/* Visit the parts of bytes [begin, end) of output file f. False when fn did. O(log tensors +
 * parts). */
bool sw_parts_each(const sw_layout *l, uint32_t f, uint64_t begin, uint64_t end, sw_part_fn fn, void *ctx);

/* The same, with parts of boxes broken down to runs of the whole output (box = NULL): as many as a
 * box has rows. */
bool sw_part_rows_each(const sw_outputs *o, const sw_layout *l, uint32_t f, uint64_t begin, uint64_t end,
                       sw_part_fn fn, void *ctx);

/* All that filling needs. */
typedef struct sw_filler {
    sw_pull pull; /* from the shards */
    const sw_outputs *o;
    const sw_layout *l;
    char *input;   /* what conversions take; NULL when there are none */
    uint64_t room; /* bytes of it; at least SW_NEED_MAX */
    /* of a shard file, which is made as a whole: the last one, kept for the next band; release it
     * with sw_buf_release() */
    sw_buf header;
    uint32_t header_file; /* 1 + its file; 0 = none */
} sw_filler;

/* Local. Write the header bytes among [begin, end) of output file f into the band. */
sw_code sw_fill_header(sw_filler *f, uint32_t file, uint64_t begin, uint64_t end, char *band, sw_status *st);

/* Local. Fill a band, but for headers, by reading all of it from the shards. */
sw_code sw_fill_band(const sw_filler *f, uint32_t file, uint64_t begin, uint64_t end, char *band,
                     sw_status *st);

/* Local. Ask the system to begin reading what the band [begin, end) needs. */
void sw_fill_advise(const sw_filler *f, uint32_t file, uint64_t begin, uint64_t end);

#endif
