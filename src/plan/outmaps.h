/* The maps of a checkpoint, {FQN: something}, told for what is written: those that lay it out, the
 * index, and the two mappings of .hf_metadata. Pure; one line a tensor, once. */
#ifndef SW_PLAN_OUTMAPS_H
#define SW_PLAN_OUTMAPS_H

#include "plan/layout.h"
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

/* Local. The text of the index file, appended to out: Python's json.dumps({"metadata":
 * {"total_parameters", "total_size"}, "weight_map": {fqn: file}}, indent=2, sort_keys=True) and a
 * newline. c: what the layout is of. */
sw_code sw_layout_index(const sw_catalog *c, const sw_layout *l, sw_buf *out, sw_status *st);

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
