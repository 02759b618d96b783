/* The text of headers, piece by piece: what the layout measures and sw_layout_header() copies. */
#ifndef SW_PLAN_SERIALIZE_H
#define SW_PLAN_SERIALIZE_H

#include "plan/layout.h"

/* A header is SW_HEADER_HEAD, the entries with a comma before each, SW_HEADER_TAIL, spaces up to a
 * multiple of 8. */
#define SW_HEADER_HEAD "{\"__metadata__\":{\"format\":\"pt\"}"
#define SW_HEADER_TAIL "}"

/* Local. Replace text by the entry of one tensor, its comma included. */
sw_code sw_header_entry(const sw_catalog *c, const sw_slot *slot, sw_buf *text, sw_status *st);

#endif
