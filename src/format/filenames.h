/* File names of checkpoints: what torch DCP, transformers and diffusers call their files. */
#ifndef SW_FORMAT_FILENAMES_H
#define SW_FORMAT_FILENAMES_H

#include "base/status.h"

#define SW_INDEX_NAME "model.safetensors.index.json"
#define SW_DIFFUSERS_INDEX_NAME "diffusion_pytorch_model.safetensors.index.json"
#define SW_SINGLE_NAME "model.safetensors"
#define SW_DIFFUSERS_STEM "diffusion_pytorch_" /* before "model" */
#define SW_METADATA_KEY "__metadata__"         /* in headers: no tensor may be called so */

/* In the __metadata__ of each shard file that we write: which files the set has; see
 * plan/numbers.h. */
#define SW_SHARDS_KEY "SHARDWELD_SHARDS"

/* The numbers in a name; 0 where the form has none. torch pads to five digits; longer numbers do
 * occur. */
typedef struct sw_shard_name {
    uint64_t shard; /* i of shard-i-model-j-of-n */
    uint64_t model; /* j */
    uint64_t of;    /* n */
} sw_shard_name;

/* Local. "shard-00002-model-00001-of-00003.safetensors": at least five digits each, numbers from 1,
 * j <= n. out: NULL = nobody wants the numbers. */
bool sw_shard_name_parse(const char *name, sw_shard_name *out);

#define SW_SHARD_NAME_SIZE 100

/* Local. The other way round: into text; returns text. */
char *sw_shard_name_text(const sw_shard_name *n, char text[SW_SHARD_NAME_SIZE]);

/* What the name of a file says to who looks for shard files. Case counts for the first only: file
 * systems and people change it. */
typedef enum sw_name_look {
    SW_LOOKS_OTHER,  /* hidden, a consolidated checkpoint's, or nothing to do with weights */
    SW_LOOKS_SHARD,  /* sw_shard_name_parse() takes it */
    SW_LOOKS_ALMOST, /* "shard-" and .safetensors, but not of that form */
    /* "shard-2-model-1-of-1" in it, but it does not end in .safetensors: .tmp, .part, .bak,
     * .sha256 */
    SW_LOOKS_LEFTOVER,
    SW_LOOKS_STRAY, /* .safetensors, and none of these */
} sw_name_look;

/* Local. out: the numbers in a SHARD or LEFTOVER. */
sw_name_look sw_name_judge(const char *name, sw_shard_name *out);

/* Local. Does a tool or a person end the name of an unfinished or an old copy so? */
bool sw_name_is_copy(const char *name);

/* Local. "model-00001-of-00003.safetensors", also with the stem diffusion_pytorch_model. out->shard
 * = 0; NULL as above. */
bool sw_model_name_parse(const char *name, sw_shard_name *out);

/* Local. A consolidated checkpoint's own files: what --overwrite replaces (SPEC 6):
 * model.safetensors, model-*-of-*.safetensors, both also with the stem diffusion_pytorch_model, and
 * the two indices. */
bool sw_name_is_consolidated(const char *name);

/* Local. An index, by its name: *.index.json, or of a variant, *.index.fp16.json. */
bool sw_name_is_index(const char *name);

/* Local. "model.safetensors", or diffusers' name for it: loaders take it whatever stands beside
 * it. */
bool sw_name_is_lone(const char *name);

bool sw_name_ends_with(const char *name, const char *suffix);

/* Local. ".safetensors", in any case. */
bool sw_name_is_weights(const char *name);

#endif
