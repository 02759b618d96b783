/* From what each rank found to the one catalogue that all have: once a run, for millions of
 * boxes. */
#ifndef SW_PLAN_MERGE_H
#define SW_PLAN_MERGE_H

#include "plan/entries.h"

/* What all ranks found (entries.h), one rank's behind the other's. */
typedef struct sw_gathered {
    int nranks;
    const sw_buf *names; /* records of rank r at [name_starts[r], name_starts[r + 1]) */
    const uint64_t *name_starts;
    sw_buf *boxes; /* likewise */
    const uint64_t *box_starts;
    bool plain; /* no rules are made */
} sw_gathered;

/* Local, the same result on every rank. Join it.
 *   c     has files and nfiles; the rest is filled in but for what sw_catalog_check() decides
 *   from  its boxes are released
 *   findings  as in sw_catalog_check()
 * Errors: SW_EINPUT for a tensor whose dtype, number of dimensions or global_shape differs from
 * file to file; SW_ENOMEM. O(b log b). */
sw_code sw_catalog_merge(sw_catalog *c, const sw_gathered *from, sw_findings *findings, sw_status *st);

#endif
