/* How much of a tensor boxes hold that may overlap. */
#ifndef SW_PLAN_COVER_H
#define SW_PLAN_COVER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

typedef struct sw_cover {
    /* false: the boxes lie in too many ways over one another, and nothing is known */
    bool counted;
    bool open;       /* some element is in no box */
    uint64_t held;   /* elements that are in any */
    uint64_t *first; /* room for ndim; out: where the first element is that is in none, if open */
} sw_cover;

/* Local. n boxes (fewer than 2^32) within a shape whose elements can be counted; dims: offsets,
 * then shape of each. Errors: SW_ENOMEM. A sweep: no element is marked, and a number of steps is
 * never exceeded. */
sw_code sw_cover_count(const uint64_t *dims, uint64_t n, unsigned ndim, const uint64_t *shape, sw_cover *out,
                       sw_status *st);

#endif
