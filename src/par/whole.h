/* Tensors shown whole to a proof, out of whatever boxes hold them: what shard files come to.
 *
 * All of them are laid out once more, in a virtual file without a header, put together band by band
 * as for writing, hashed and counted. A tensor begins where a leaf may, or lies within one: so no
 * leaf is cut between two ranks. Every byte of the source is read once, by one of the ranks. In
 * memory are 40 bytes a tensor beside what proof.h tells, and one band. */
#ifndef SW_PAR_WHOLE_H
#define SW_PAR_WHOLE_H

#include "par/bands.h"
#include "par/proof.h"

typedef struct sw_whole {
    /* from what; layout, schedule and proof are made here. Of its memory, band is a limit */
    sw_work work;
    bool by_owner;
    bool hashes, counts;
    /* out, rank 0: of each output of work.o; the caller's to free */
    sw_proof_slot *tensors;
    uint64_t bytes; /* out: that this rank has shown */
} sw_whole;

/* Collective over work.world. A rank may come with an error. All ranks return the same. Errors:
 * SW_EINPUT (a file that changed meanwhile), SW_EUSAGE (a library is missing), SW_EIO, SW_ENOMEM,
 * SW_ECANCEL. */
sw_code sw_whole_prove(sw_whole *w, sw_status *st);

#endif
