/* Ranks that came with different calls would wait for one another for ever: they find out first. */
#ifndef SW_API_CALL_H
#define SW_API_CALL_H

#include "par/comm.h"

/* Local. A hash of all that decides what is written, and how many collective calls it takes. call: a name for the
 * function. output_dir: NULL = it may differ. */
uint64_t sw_call_hash(const char *call, const char *output_dir, const sw_options *o);

/* Collective. Have all ranks come with the same hash? Those that have not have nothing more to do together. All ranks return the same.
 * Errors: SW_EUSAGE, SW_ECOMM. */
sw_code sw_call_compare(const sw_comm *comm, uint64_t mine, sw_status *st);

#endif
