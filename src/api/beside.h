/* What stands beside the files of a shard set: the model's other files, and .hf_metadata with its
 * mappings, which speak of the shards. All functions are for rank 0: the caller agrees on the
 * outcome. */
#ifndef SW_API_BESIDE_H
#define SW_API_BESIDE_H

#include "api/job.h"

typedef struct sw_beside {
    sw_job *job;            /* its assets, old and warnings are filled */
    const sw_layout *whole; /* what a consolidated checkpoint would look like */
    /* what the mappings are to say; empty = what they say */
    sw_buf file_map, dtype_map;
} sw_beside;

/* Local, after the layout. Choose what comes along, with which mappings, and which mappings of
 * OUTPUT_DIR go with the shards that are replaced. Errors: SW_EINPUT (a mapping that cannot be
 * read), SW_EIO, SW_ENOMEM. */
sw_code sw_beside_list(sw_beside *b, sw_status *st);

/* Local. Stage all of it; sizes become those of the copies. Errors: as sw_asset_stage(),
 * SW_ECANCEL. */
sw_code sw_beside_stage(const sw_beside *b, const sw_place *stage, sw_status *st);

void sw_beside_release(sw_beside *b);

#endif
