/* Maps that speak of the input's tensors, or of the output's, made to speak of what is written.
 * Pure. */
#ifndef SW_PLAN_REMAP_H
#define SW_PLAN_REMAP_H

#include "plan/outputs.h"

typedef struct sw_remap {
    const sw_outputs *o;
    char *const *names; /* output name of each tensor of the catalogue, NULL = left out */
    bool by_input;      /* the map's keys are names of the input, else of the output */
    bool diffusers;     /* file names model-* become diffusion_pytorch_model-* */
} sw_remap;

/* Local. Into out a map with the outputs' names as keys. A tensor made of blocks stands where the
 * map has it or its blocks. Keys of tensors that are left out or become part of others go; keys of
 * tensors that the shards do not hold stay, so that a layout can tell of them.
 *   out      release with sw_map_release(); empty on error
 *   largest  the largest number of map; 0 for one of texts
 * Errors: SW_ENOMEM. O(n log n). */
sw_code sw_map_for_outputs(const sw_remap *r, const sw_map *map, sw_map *out, uint64_t *largest,
                           sw_status *st);

#endif
