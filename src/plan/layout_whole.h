/* The layout of a consolidated checkpoint: whole tensors, placed by a map, by the shards' own
 * numbers, by size, or all in one file. Pure. */
#ifndef SW_PLAN_LAYOUT_WHOLE_H
#define SW_PLAN_LAYOUT_WHOLE_H

#include "format/maps.h"
#include "plan/layout.h"

typedef enum sw_layout_kind {
    SW_LAYOUT_NUMBERS, /* map of numbers: --fqn-map, .hf_metadata; model-j-of-n + index */
    SW_LAYOUT_NAMES,   /* map of file names: --like, the input's own index; these names + index */
    SW_LAYOUT_MODELS,  /* sw_tensor.model of each tensor; model-j-of-n + index */
    SW_LAYOUT_SIZE,    /* by size as huggingface_hub does */
    SW_LAYOUT_SINGLE,  /* one model.safetensors, no index */
} sw_layout_kind;

/* Equal on every rank. */
typedef struct sw_layout_rule {
    sw_layout_kind kind;
    const sw_map *map;      /* NUMBERS, NAMES */
    const char *map_file;   /* for messages */
    const char *index_name; /* NAMES: name of the index to write; NULL = the usual one */
    uint64_t max_size;      /* SIZE: bytes of tensor data per file */
    const uint8_t *dtypes;  /* SIZE: what each tensor counts as; NULL = as what it is written */
    uint64_t largest;       /* NUMBERS: the n of the names, if larger than all numbers of the map */
    /* the files and the index are called diffusion_pytorch_model; not NAMES' files */
    bool diffusers;
    bool diffusers_index; /* the index is */
} sw_layout_rule;

/* Local. Lay out all tensors of the catalogue.
 *   out  release with sw_layout_release(); empty on error
 * Numbered names are model-j-of-n with n the largest index of the map (also when no shard holds its
 * tensor), or for MODELS the largest n of the shards' names; numbers are kept, and a file without
 * tensors does not exist. NAMES must end in .safetensors, stay below OUTPUT_DIR and have no part
 * that begins with a dot (staging does). Without tensors: SIZE and SINGLE give one empty file, the
 * others an index of nothing.
 * Errors: SW_EINPUT (a tensor that the map lacks, named; a header over SW_HEADER_MAX, with the
 * advice to split; file names that clash with each other or with the index; sizes that overflow),
 * SW_ENOMEM.
 * Cost: O(n log n) for n tensors, and their names are escaped once. Source: SPEC 3, 4. */
sw_code sw_layout_build(const sw_catalog *c, const sw_layout_rule *rule, sw_layout *out, sw_status *st);

#endif
