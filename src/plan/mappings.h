/* The two mappings of .hf_metadata, for shards that are written again under other names, as other
 * dtypes or in other files. Pure. */
#ifndef SW_PLAN_MAPPINGS_H
#define SW_PLAN_MAPPINGS_H

#include "plan/layout.h"
#include "plan/outputs.h"

/* Local. fqn_to_file_index_mapping.json: the model of each output. JSON text, appended to out,
 * unless the largest number that it would hold is not the n of the shards' names (those of its
 * tensors were left out): then nothing, and the names tell more.
 *   unused  keep what `was` says of tensors that no shard holds (tied weights): numbers are as they
 *           were
 * Errors: SW_ENOMEM. */
sw_code sw_mapping_of_files(const sw_outputs *o, const sw_layout *whole, const sw_map *was, bool unused,
                            sw_buf *out, sw_status *st);

/* Local. fqn_to_dtype_mapping.json: of outputs that `was` names: its word, or the dtype that they
 * have been given since. Likewise.
 *   cast  floating tensors have been given theirs, also those that had it */
sw_code sw_mapping_of_dtypes(const sw_outputs *o, const sw_map *was, bool cast, sw_buf *out, sw_status *st);

#endif
