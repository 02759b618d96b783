/* A band filled by owner: each rank reads the shard files it owns, and the ranks exchange what they
 * read.
 *
 * For a part of a round, rank p reads all that the others' bands need of its files, packed, and one
 * MPI_Alltoallw carries it: bytes as they lie in the shards on the sending side, subarrays of the
 * band on the receiving side. Own pieces are read straight into the band. What is to be converted
 * goes to the filler's input first, and from there to the band. The parts are so small that what a
 * rank has to send fits its memory, and what it converts its input, however the boxes are
 * spread. */
#ifndef SW_PAR_EXCHANGE_H
#define SW_PAR_EXCHANGE_H

#include "plan/schedule.h"
#include "read/fill.h"

typedef struct sw_exchange sw_exchange;

/* Local. The least bytes for what is sent, and for the input of conversions where there are any:
 * with these the parts can be made so small that everything fits. */
static inline uint64_t sw_exchange_least(uint64_t nranks, bool converts)
{
    return nranks * (converts ? 256 : 2);
}

/* Local. All arguments are borrowed until sw_exchange_free(). comm must be an MPI one. NULL on
 * failure.
 *   filler     its input, if it has any, stands behind the band, in one allocation
 *   send_size  bytes of memory for what is sent; at least sw_exchange_least(), and so is the
 *              filler's room */
sw_exchange *sw_exchange_new(const sw_comm *comm, const sw_filler *filler, const sw_schedule *sched,
                             uint64_t send_size, sw_status *st);

/* Local. To the next round, the same on all ranks. False when no rank has a band left.
 *   own  this rank's; one without rounds while only others have */
bool sw_exchange_next(sw_exchange *x, sw_cursor *own);

/* Collective over comm: fill this rank's band of the round, but for headers. st may come with an
 * error; all ranks return the same. */
sw_code sw_exchange_fill(sw_exchange *x, char *band, sw_status *st);

void sw_exchange_free(sw_exchange *x);

#endif
