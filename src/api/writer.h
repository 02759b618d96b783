/* What the calls that save from memory share. */
#ifndef SW_API_WRITER_H
#define SW_API_WRITER_H

#include "par/comm.h"
#include "plan/held.h"

/* Collective. Take this rank's items, once all ranks have come with the same call (a name for it), OUTPUT_DIR and options.
 *   out  release with sw_held_release(); empty on error
 * All ranks return the same. Errors: SW_EUSAGE (ranks that differ; as sw_held_init()), SW_ENOMEM. */
sw_code sw_writer_begin(const sw_comm *comm, const char *call, const char *output_dir, const sw_item *items,
                        size_t n, const sw_options *opt, sw_held *out, sw_status *st);

#endif
