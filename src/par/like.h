/* --like: the files that the given index names, where they exist, tell what the result should look
 * like. */
#ifndef SW_PAR_LIKE_H
#define SW_PAR_LIKE_H

#include "format/maps.h"
#include "par/comm.h"
#include "plan/catalog.h"

/* Collective. Read the index that --like names.
 *   weight_map  empty at first; release in any case
 * Errors: SW_EUSAGE when there is none; SW_EINPUT (not an index, or one that names nothing). All
 * ranks return the same. */
sw_code sw_like_read(const sw_comm *comm, const char *index, const volatile int *cancel, sw_map *weight_map,
                     sw_status *st);

typedef struct sw_like {
    const char *index; /* as it was named */
    const sw_map *weight_map;
    const sw_catalog *c;
    bool node_local;  /* then rank 0 reads the headers; else each is read by one rank */
    sw_buf *warnings; /* gets a line for tensors of another dtype */
    /* NULL: the first thing that is wrong is the error; else tensors of another shape go there, the
     * same on every rank. A file beside the index that is not valid is an error still: it is no
     * file of the checkpoint */
    sw_findings *findings;
} sw_like;

/* Collective. Compare shapes and dtypes of the catalogue with the files beside the index, as far as
 * they exist.
 * Errors: SW_EINPUT for a tensor of another shape, or a file that is not valid. All ranks return
 * the same. */
sw_code sw_like_compare(const sw_comm *comm, const sw_like *like, sw_status *st);

#endif
