/* The layout of a sharded checkpoint: which shard file holds which box of which tensor. Pure: equal
 * input, equal layout. */
#ifndef SW_PLAN_LAYOUT_CUT_H
#define SW_PLAN_LAYOUT_CUT_H

#include "plan/layout.h"
#include "plan/mesh.h"
#include "plan/outputs.h"

/* Placements for the tensors whose input name a glob matches. */
typedef struct sw_shard_rule {
    char *glob;       /* owned */
    const char *text; /* as it was given; for messages */
    sw_placements placements;
} sw_shard_rule;

typedef struct sw_shard_rules {
    sw_mesh mesh;
    sw_placements usual;  /* where no rule matches */
    sw_shard_rule *items; /* the first that matches counts */
    size_t n;
} sw_shard_rules;

/* Local. From words as --mesh, --placements (NULL = shard0 everywhere) and --rule (NULL-terminated,
 * NULL = none) take them.
 *   out  release with sw_shard_rules_release(), after an error too
 * Errors: SW_EUSAGE, SW_ENOMEM. */
sw_code sw_shard_rules_parse(const char *mesh, const char *placements, const char *const *rules,
                             sw_shard_rules *out, sw_status *st);
void sw_shard_rules_release(sw_shard_rules *r);

/* Local. Cut all outputs into boxes, and put each into the shard file of its rank and model.
 *   whole     what a consolidated checkpoint would look like: its files are the models
 *   warnings  gets a line for a rule that no tensor matches
 *   out       release with sw_layout_release(); files by shard, then model; empty on error
 * Errors: SW_EUSAGE (F4 or F6 cut along their last dimension or within a byte; too many boxes; a
 * header over SW_HEADER_MAX), SW_ENOMEM. O(b log b) for b boxes. */
sw_code sw_shard_layout_build(const sw_outputs *o, const sw_layout *whole, const sw_shard_rules *rules,
                              sw_buf *warnings, sw_layout *out, sw_status *st);

/* Local. The model number of each file of a whole layout (as many as it has files), and their
 * largest into *of: the numbers in their names, or where these have none, their order. NULL on
 * failure. */
uint64_t *sw_shard_models(const sw_layout *whole, uint64_t *of, sw_status *st);

#endif
