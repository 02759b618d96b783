/* What can be said of a plain checkpoint by its headers and its index alone: which tensors are
 * those that should be there, and whether loaders find them. Local, and the same wherever it is
 * asked. */
#ifndef SW_DIR_MATCH_H
#define SW_DIR_MATCH_H

#include "dir/find.h"
#include "plan/layout.h"
#include "plan/outputs.h"

#define SW_NO_PARTNER UINT32_MAX

typedef struct sw_match {
    const sw_outputs *o;     /* what should be there */
    const sw_catalog *there; /* what is, every tensor in one box, and with which index */
    const sw_find *found;
    const sw_layout *layout; /* where each tensor should be; NULL = anywhere */
    /* room for one an output; out: the tensor there of equal dtype and shape, SW_NO_PARTNER =
     * none */
    uint32_t *partners;
    uint64_t matched; /* out: outputs that have one */
} sw_match;

/* Local. Pair outputs with the tensors that are there, and list what is wrong: missing, of other
 * dtype or shape, in another file than the layout says, not made by the shards. Errors: SW_ENOMEM.
 * O(n log n). */
sw_code sw_match_tensors(sw_match *m, sw_findings *findings, sw_status *st);

/* Local. The same of any two checkpoints, in words for A and B: what only one has, and what is of
 * another dtype or shape. Nothing but o, there and partners is looked at.
 *   chosen  of each tensor there: NULL = it is left out */
sw_code sw_match_any(sw_match *m, char *const *chosen, sw_findings *findings, sw_status *st);

/* Local. List what loaders mind (pitfalls.h), an index that is missing, and files that are shards.
 *   names  what lies beside the checkpoint; NULL = not known
 * Errors: SW_ENOMEM. */
sw_code sw_match_loaders(const sw_match *m, const sw_dir *names, sw_findings *findings, sw_status *st);

#endif
