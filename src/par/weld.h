/* The bytes move: every output file is written by its group, in rounds of one band a rank. */
#ifndef SW_PAR_WELD_H
#define SW_PAR_WELD_H

#include "par/comm.h"
#include "par/transport.h"
#include "plan/memboxes.h"
#include "plan/outputs.h"
#include "plan/schedule.h"

/* Bytes of memory that a rank has for data, besides a band (sched->band). */
typedef struct sw_memory {
    uint64_t scratch; /* for short rows */
    uint64_t input;   /* for what conversions take; 0 = there are none */
    uint64_t send;    /* by owner: for what is sent */
} sw_memory;

typedef struct sw_weld {
    const sw_comm *world;
    const sw_outputs *o;
    const sw_layout *l;
    const sw_schedule *sched; /* shared = by owner */
    const char *input_dir;
    const sw_memboxes *
        /* what this rank holds, in the place of input_dir; NULL = files. With several ranks:
         * shared, or no MPI */
        held;
    /* the files are made in it (sw_staged_open()); sub-directories are there already */
    const char *staged_dir;
    sw_memory memory;
    bool sync; /* make the files durable */
    sw_transport how;
    const volatile int *cancel;
    /* on rank 0; estimated from its part */
    void (*progress)(void *user, uint64_t done, uint64_t total);
    void *user;
    uint64_t written; /* out: bytes that this rank wrote */
} sw_weld;

/* Collective over world. Write all files of the layout. All ranks return the same; on an error
 * files may be left in staged_dir. */
sw_code sw_weld_files(sw_weld *w, sw_status *st);

#endif
