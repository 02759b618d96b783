/* Boxes that change on the way into memory: read in chunks into scratch memory, cast or
 * dequantized, put where they belong. */
#ifndef SW_READ_RECAST_H
#define SW_READ_RECAST_H

#include "plan/requests.h"
#include "read/pull.h"

#define SW_ANY_BOX UINT64_MAX
#define SW_RECAST_ROOM_MIN 3000u

/* What one thread works with. */
typedef struct sw_recast {
    const sw_catalog *c;
    const sw_pull *pull;
    char *memory;  /* aligned for floats */
    uint64_t room; /* bytes of it, at least SW_RECAST_ROOM_MIN */
} sw_recast;

/* Local. Part of a want, which is no copy: a box that lies in the want's.
 *   box  the one source box that holds all of it, or SW_ANY_BOX
 * Errors: as sw_pull_run(). */
sw_code sw_recast_box(const sw_recast *r, const sw_request *w, uint64_t box, const uint64_t *offsets,
                      const uint64_t *shape, sw_status *st);

#endif
