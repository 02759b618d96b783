/* How a tensor is sharded, in words. Pure. */
#ifndef SW_PLAN_WORDS_H
#define SW_PLAN_WORDS_H

#include "plan/catalog.h"

/* Local. See sw_checkpoint_sharding_text(); text has SW_SHARDING_TEXT bytes. Errors: SW_ENOMEM. O(b
 * log b). */
sw_code sw_sharding_words(const sw_catalog *c, const sw_tensor *t, char *text, sw_status *st);

/* Local. See sw_checkpoint_cuts(). */
uint64_t sw_sharding_cuts(const sw_catalog *c, const sw_tensor *t, unsigned dim, uint64_t *cuts);

#endif
