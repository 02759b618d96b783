/* Are the tensors as large, and the layers as many, as config.json says? Pure.
 *
 * The boxes of a tensor prove that nothing is missing between them, but not where it ends: a model
 * whose last shard is lost is a smaller model without a gap. Its configuration knows. Only what is
 * certain counts: there are models of all kinds, so a size that the configuration tells of in any
 * other place is right, more than it says is padding or a layer on top, and where it is not clear
 * which tensors are meant nothing is said. Of the 986 model classes of transformers 5.23 that can
 * be made from their default configurations none is refused. */
#ifndef SW_PLAN_SIZED_H
#define SW_PLAN_SIZED_H

#include "format/config.h"
#include "plan/catalog.h"

/* Local. Compare the rows of the embedding and of lm_head.weight with vocab_size, the width of the
 * embedding and of the norms with hidden_size, the layers with num_hidden_layers.
 *   c         as the input has it: names are its own
 *   file      of the configuration, for messages
 *   findings  NULL: the first contradiction is the error. Else all of them go there
 * Errors: SW_EINPUT, SW_ENOMEM. O(n log n) for n tensors. */
sw_code sw_check_sizes(const sw_catalog *c, const sw_config_sizes *sizes, const char *file,
                       sw_findings *findings, sw_status *st);

#endif
