/* What each tensor will be in the output: its dtype. Pure. */
#ifndef SW_PLAN_VALUES_H
#define SW_PLAN_VALUES_H

#include "format/maps.h"
#include "plan/catalog.h"

/* Local. Set out_dtype of all tensors by the mapping {fqn: dtype name} of the model's own dtypes (SPEC 5).
 *   map   NULL = none: everything stays as it was saved
 *   kept  counts tensors that are mapped to a quantized or integer dtype but saved as another: they stay
 * Errors: SW_EINPUT for a name that is no dtype; SW_EUSAGE where a tensor would have to be converted. */
sw_code sw_values_decide(sw_catalog *c, const sw_map *map, const char *map_file, uint64_t *kept,
                         sw_status *st);

#endif
