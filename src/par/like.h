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

/* Collective. Compare shapes and dtypes of the catalogue with the files beside the index, as far as
 * they exist; each header is read by one rank (by rank 0 when node-local).
 *   weight_map  of the index; dir: where the index is
 *   warnings    gets a line for tensors of another dtype
 *   findings    NULL: the first thing that is wrong is the error; else tensors of another shape go
 *               there, the same on every rank. A file beside the index that is not valid is an
 *               error still: it is no file of the checkpoint
 * Errors: SW_EINPUT for a tensor of another shape, or a file that is not valid. All ranks return
 * the same. */
sw_code sw_like_compare(const sw_comm *comm, const sw_catalog *c, const char *dir, const sw_map *weight_map,
                        bool node_local, sw_buf *warnings, sw_findings *findings, sw_status *st);

#endif
