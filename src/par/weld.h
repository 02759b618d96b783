/* The bytes move: every output file is written by its group, in rounds of one band a rank. */
#ifndef SW_PAR_WELD_H
#define SW_PAR_WELD_H

#include "par/comm.h"
#include "plan/schedule.h"

typedef struct sw_weld {
    const sw_comm *world;
    const sw_catalog *c;
    const sw_layout *l;
    const sw_schedule *sched; /* shared = by owner */
    const char *input_dir;
    const char *staged_dir; /* the files are made in it; sub-directories are there already */
    uint64_t scratch;       /* bytes of memory for short rows; a band comes on top, by owner a second one */
    bool sync;              /* make the files durable */
    const char *const *hints;
    const volatile int *cancel;
    void (*progress)(void *user, uint64_t done, uint64_t total); /* on rank 0; estimated from its part */
    void *user;
    uint64_t written; /* out: bytes that this rank wrote */
} sw_weld;

/* Collective over world. Write all files of the layout. All ranks return the same; on an error files may be left
 * in staged_dir. */
sw_code sw_weld_files(sw_weld *w, sw_status *st);

#endif
