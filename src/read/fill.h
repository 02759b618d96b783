/* A band of an output file, put together in memory from the shards. Local. */
#ifndef SW_READ_FILL_H
#define SW_READ_FILL_H

#include "plan/parts.h"
#include "read/make.h"

/* All that filling needs. */
typedef struct sw_filler {
    sw_maker maker; /* from the shards */
    const sw_outputs *o;
    const sw_layout *l;
    /* of a shard file, which is made as a whole: the last one, kept for the next band; release it
     * with sw_buf_release() */
    sw_buf header;
    uint32_t header_file; /* 1 + its file; 0 = none */
} sw_filler;

/* Local. Write the header bytes of a band, which is `at` of the file, to band. */
sw_code sw_fill_header(sw_filler *f, uint32_t file, sw_region at, char *band, sw_status *st);

/* Local. Fill a band, but for headers, by reading all of it from the shards. */
sw_code sw_fill_band(const sw_filler *f, uint32_t file, sw_region at, char *band, sw_status *st);

/* Local. Ask the system to begin reading what a band needs. */
void sw_fill_advise(const sw_filler *f, uint32_t file, sw_region at);

#endif
