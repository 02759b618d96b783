/* What can be said of a consolidated checkpoint by its headers and its index alone: which tensors
 * are those that should be there, and whether loaders find them. Local, the same on every rank. */
#ifndef SW_PAR_MATCH_H
#define SW_PAR_MATCH_H

#include "par/scan.h"
#include "plan/layout.h"
#include "plan/outputs.h"

#define SW_NO_PARTNER UINT32_MAX

typedef struct sw_match {
    const sw_outputs *o;
    const sw_plain *target;
    const sw_layout *layout; /* where each tensor should be; NULL = anywhere */
    /* rank 0: the target's directory without the input's own files; NULL = not known */
    const sw_dir *names;
    uint32_t *
        /* room for one an output; out: the target's tensor of equal dtype and shape, SW_NO_PARTNER
         * = none */
        partners;
    uint64_t matched; /* out: outputs that have one */
} sw_match;

/* Local. Pair outputs with the target's tensors, and list what is wrong: missing, of other dtype or
 * shape, in another file than the layout says, not made by the shards. Errors: SW_ENOMEM. O(n log
 * n). */
sw_code sw_match_tensors(sw_match *m, sw_findings *findings, sw_status *st);

/* Local. List what loaders mind (loader.h), an index that is missing or of other totals, and files
 * that are shards. Errors: SW_ENOMEM. */
sw_code sw_match_loaders(sw_match *m, sw_findings *findings, sw_status *st);

#endif
