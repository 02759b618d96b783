/* Files from one directory to another, as they are: each from front to back by one rank, by size,
 * the ranks side by side. */
#ifndef SW_PAR_COPY_H
#define SW_PAR_COPY_H

#include "base/passed.h"
#include "dir/place.h"
#include "par/rounds.h"

typedef struct sw_copy {
    const sw_comm *world;
    const char *from; /* a directory that files were made in (sw_staged_open()) */
    sw_writing to;
    /* borrowed; equal on all ranks; there, and their directories here */
    const sw_publication *files;
    uint64_t nfiles;
    uint64_t buffer;  /* bytes of memory */
    uint64_t written; /* out: bytes that this rank wrote */
} sw_copy;

/* Collective over world. All ranks return the same; on an error files may be left. Errors: SW_EIO,
 * also for one that is not of its size; SW_ENOMEM, SW_ECANCEL. */
sw_code sw_copy_files(sw_copy *c, sw_status *st);

#endif
