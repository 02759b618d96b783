/* A band of an output file, put together in memory from the shards. Local. */
#ifndef SW_PAR_FILL_H
#define SW_PAR_FILL_H

#include "par/source.h"
#include "plan/layout.h"

/* Where a band's bytes come from. Part of a tensor: bytes [from, from + n) of it stand at `at` in the band. */
typedef struct sw_part {
    const sw_tensor *tensor;
    uint64_t from, n;
    uint64_t at;
} sw_part;

/* Called for each tensor that a band meets, in order; false stops. */
typedef bool (*sw_part_fn)(void *ctx, const sw_part *part);

/* Visit the parts of bytes [begin, end) of output file f. False when fn did. O(log tensors + parts). */
bool sw_parts_each(const sw_catalog *c, const sw_layout *l, uint32_t f, uint64_t begin, uint64_t end,
                   sw_part_fn fn, void *ctx);

/* Write the header bytes among [begin, end) of output file f into the band. */
sw_code sw_fill_header(const sw_catalog *c, const sw_layout *l, uint32_t f, uint64_t begin, uint64_t end,
                       char *band, sw_status *st);

/* Fill a band by reading all of it from the shards. */
sw_code sw_fill_band(sw_source *s, const sw_layout *l, uint32_t f, uint64_t begin, uint64_t end, char *band,
                     sw_status *st);

/* Ask the system to begin reading what the band [begin, end) needs. */
void sw_fill_advise(sw_source *s, const sw_layout *l, uint32_t f, uint64_t begin, uint64_t end);

#endif
