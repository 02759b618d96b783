/* A band filled by owner: each rank reads the shard files it owns, and the ranks exchange what they read.
 *
 * For a part of a round, rank p reads all that the others' bands need of its files, packed, and one
 * MPI_Alltoallw carries it: bytes as they lie in the shards on the sending side, subarrays of the band on the
 * receiving side. Own pieces are read straight into the band. The parts are so small that what a rank has
 * to send fits its memory, however the boxes are spread: in the worst case, one rank owns all that the
 * others need, a part is 1/ranks of a band. */
#ifndef SW_PAR_EXCHANGE_H
#define SW_PAR_EXCHANGE_H

#include "par/fill.h"
#include "plan/schedule.h"

typedef struct sw_exchange sw_exchange;

/* Local. All arguments are borrowed until sw_exchange_free(). send_size: bytes of memory for what is sent, at least
 * the schedule's band. comm must be an MPI one. NULL on failure. */
sw_exchange *sw_exchange_new(const sw_comm *comm, sw_source *source, const sw_layout *l,
                             const sw_schedule *sched, uint64_t send_size, sw_status *st);

/* Collective over comm: fill this rank's band of output file f in a round (headers included). st may come with an error; all
 * ranks return the same. */
sw_code sw_exchange_fill(sw_exchange *x, uint32_t f, uint64_t round, char *band, sw_status *st);

void sw_exchange_free(sw_exchange *x);

#endif
