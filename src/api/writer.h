/* What the calls that write share: all ranks must come with the same one, and what those that save from memory hold. */
#ifndef SW_API_WRITER_H
#define SW_API_WRITER_H

#include "par/comm.h"
#include "plan/held.h"

/* Local. A hash of all that decides what is written, and how many collective calls it takes. call: a name for the function. */
uint64_t sw_call_hash(const char *call, const char *output_dir, const sw_options *o);

/* Collective. Have all ranks come with the same hash? Those that have not have nothing more to do together. All ranks return the same.
 * Errors: SW_EUSAGE, SW_ECOMM. */
sw_code sw_call_compare(const sw_comm *comm, uint64_t mine, sw_status *st);

/* Collective. Take this rank's items, once all ranks have come with the same call (a name for it), OUTPUT_DIR and options.
 *   out  release with sw_held_release(); empty on error
 * All ranks return the same. Errors: SW_EUSAGE (ranks that differ; as sw_held_init()), SW_ENOMEM. */
sw_code sw_writer_begin(const sw_comm *comm, const char *call, const char *output_dir, const sw_item *items,
                        size_t n, const sw_options *opt, sw_held *out, sw_status *st);

#endif
