/* The model's other files (config.json, tokenizer, chat template, code, licence): which come along,
 * and copies of them.
 *
 * All functions are local and for one rank (rank 0): the caller agrees on the outcome. There are
 * some dozens of these files, mostly small; a tokenizer may have 30 MB. */
#ifndef SW_DIR_ASSETS_H
#define SW_DIR_ASSETS_H

#include "base/below.h"
#include "format/config.h"
#include "plan/catalog.h"

/* Where a sharded checkpoint keeps the model's other files, and mappings. */
#define SW_METADATA_DIR ".hf_metadata"
#define SW_FILE_MAP_NAME SW_METADATA_DIR "/fqn_to_file_index_mapping.json"
#define SW_DTYPE_MAP_NAME SW_METADATA_DIR "/fqn_to_dtype_mapping.json"

/* Local. Weights that a loader might take instead of ours, and indices: never a side file, by the
 * last part of its name. */
bool sw_asset_is_never(const char *name);

typedef struct sw_asset {
    char *name;   /* first, for sw_by_bytes(): relative to where it was found, and to OUTPUT_DIR */
    char *source; /* its path */
    /* what the copy is to hold instead, borrowed; NULL = what the source holds */
    const sw_buf *text;
    uint64_t size; /* bytes; once staged, of the copy */
    uint64_t ino;  /* of the source, as its times */
    int64_t mtime_ns, ctime_ns;
    bool exists; /* OUTPUT_DIR has something of this name, which is replaced */
} sw_asset;

typedef struct sw_assets {
    sw_asset *items; /* by name, bytewise */
    size_t n, cap;
    /* OUTPUT_DIR's config.json is the one to be copied: it is not listed, nor edited */
    bool config_stays;
} sw_assets;

#define SW_ASSETS_GIVEN 2

/* Where the files are, and where they go. */
typedef struct sw_assets_rule {
    const char *input_dir;
    const char *assets_dir; /* NULL = not given */
    const char *output_dir; /* need not exist */
    const char *skip;       /* a name that does not come along: of the index; NULL = none */
    /* the checkpoint does, so what stands beside it goes to the same places */
    bool stays_sharded;
    /* files that options name, which tell of this run and are no part of the model; NULL = none */
    const char *given[SW_ASSETS_GIVEN];
} sw_assets_rule;

/* Local. Choose the files (SPEC 3): all below assets_dir; else all below INPUT_DIR/.hf_metadata if
 * it holds any; else those at the top of INPUT_DIR whose names are known for it; where it stays
 * sharded those, and all of INPUT_DIR/.hf_metadata, the mappings too, under that name. Never names
 * that begin with a dot (directories too), weights of any kind, indices, the mappings of
 * .hf_metadata, OUTPUT_DIR where it lies inside, and files that are OUTPUT_DIR's own under their
 * name already. Links to files are followed, those to directories are not; assets_dir itself may be
 * one, .hf_metadata may not.
 *   warnings    gets a line for what looks like one but is no regular file, a link to a directory
 *               or to nowhere, or has no printable name; and one for links that lead out of
 *               assets_dir, or INPUT_DIR
 *   out         release with sw_assets_release(); empty on error
 * Errors: SW_EUSAGE (assets_dir is no directory), SW_EIO, SW_ENOMEM. */
sw_code sw_assets_list(const sw_assets_rule *rule, sw_buf *warnings, sw_assets *out, sw_status *st);

/* How a copy is made. */
typedef struct sw_asset_copy {
    /* config.json (the one at the top, and of .hf_metadata) is edited by it; NULL = copies only */
    const sw_config_rule *rule;
    uint64_t piece;   /* bytes of memory, at least 1; an edited config.json is read whole */
    bool sync;        /* durable */
    sw_buf *warnings; /* gets a line for a config.json that is not JSON: it is copied as it is */
} sw_asset_copy;

/* Local. Copy one to its name below to, where its directory is and nothing of that name; its mode
 * is the source's & 0666 & ~umask. a->size becomes the size of the copy.
 * Errors: SW_EINPUT (it became shorter meanwhile, or is no regular file any more), SW_EIO,
 * SW_ENOMEM. */
sw_code sw_asset_stage(sw_asset *a, const sw_below *to, const sw_asset_copy *how, sw_status *st);

/* Local. Is the file at path, byte for byte, what sw_asset_stage() would make there?
 *   why  emptied; what is wrong with it, if anything is, ending in a NUL
 * Errors as above; 2 * piece bytes of memory. */
sw_code sw_asset_compare(sw_asset *a, const char *path, const sw_asset_copy *how, sw_buf *why, sw_status *st);

/* Local. sw_config_block_size() of the config.json that comes along: that of assets_dir (NULL = not
 * given), else of INPUT_DIR/.hf_metadata, else of INPUT_DIR (NULL = none). False when there is none
 * that can be read, or it does not say. */
bool sw_assets_block_size(const char *input_dir, const char *assets_dir, uint64_t block[2]);

void sw_assets_release(sw_assets *a);

/* Local. Ask config.json whether tensors or layers are missing at the end of a checkpoint
 * (plan/sized.h): that of assets_dir (NULL = not given), else of INPUT_DIR/.hf_metadata, else of
 * INPUT_DIR. Where there is none, or it is no JSON, it says nothing.
 *   findings  as sw_check_sizes()
 * Errors: as sw_check_sizes(), SW_EIO. */
sw_code sw_assets_check_sizes(const char *input_dir, const char *assets_dir, const sw_catalog *c,
                              sw_findings *findings, sw_status *st);

#endif
