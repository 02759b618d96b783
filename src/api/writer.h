/* What the calls that save from memory share. */
#ifndef SW_API_WRITER_H
#define SW_API_WRITER_H

#include "api/call.h"
#include "plan/memboxes.h"

/* Collective. Take this rank's items, once all ranks have come with the same call, OUTPUT_DIR
 * and options.
 *   out  release with sw_memboxes_release(); empty on error
 * All ranks return the same. Errors: as sw_call_begin(); as sw_memboxes_init(). */
sw_code sw_writer_begin(const sw_comm *comm, const sw_given *g, const sw_item *items, size_t n,
                        sw_memboxes *out, sw_status *st);

#endif
