/* The layout: which output file holds which tensor, or which box of one, and at which byte. Pure:
 * equal input, equal layout.
 *
 * Boxes are for shard files (shardlayout.h makes such a layout). Otherwise a file's bytes are those
 * of the reference serializer: 8 bytes of length, the header JSON padded with spaces to 8, then the
 * tensors in the order of sw_dtype, then name. A header can reach 100 MB, so it is never kept:
 * sw_layout_header() writes any range of it. */
#ifndef SW_PLAN_LAYOUT_H
#define SW_PLAN_LAYOUT_H

#include "base/buf.h"
#include "format/maps.h"
#include "plan/catalog.h"

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
    uint64_t largest;       /* NUMBERS: the n of the names, if larger than all numbers of the map */
    /* the files and the index are called diffusion_pytorch_model; not NAMES' files */
    bool diffusers;
    bool diffusers_index; /* the index is */
} sw_layout_rule;

typedef struct sw_layout_file {
    char *name;            /* relative to OUTPUT_DIR; owned */
    uint32_t first, count; /* its slots in layout->order */
    uint64_t header_len;   /* bytes of JSON with padding; data begins at 8 + header_len */
    uint64_t size;         /* of the whole file */
} sw_layout_file;

/* A tensor in its file, or a box of it. */
typedef struct sw_slot {
    uint32_t tensor; /* index into catalog->tensors */
    /* where its entry begins in the header JSON (its comma included); not of shard files */
    uint32_t header_at;
    uint64_t begin, end; /* of its data, bytes from the end of the header */
    /* 1 + where its offsets and shape stand in layout->box_dims; 0 = all of the tensor */
    uint64_t box;
} sw_slot;

typedef struct sw_layout {
    sw_layout_file *files; /* by number, or by name */
    uint32_t nfiles;
    sw_slot *order; /* all tensors (or boxes of them), file by file, in the order of the data */
    uint32_t nslots;
    bool shards;        /* the files are shard files */
    char *set;          /* what each of these says of all of them: sw_numbers_list() */
    uint64_t *box_dims; /* 2 * ndim numbers for each box: offsets, shape */
    uint64_t nbox_dims;
    char *index_name;    /* NULL = no index is written */
    uint64_t parameters; /* elements of all tensors */
    uint64_t bytes;      /* of tensor data, as written */
    uint64_t unused;     /* FQNs of the map that no shard holds */
    /* the first ten of them, ", " between, NUL behind: for the warning; data may be NULL */
    sw_buf unused_names;
} sw_layout;

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

/* Local. Bytes [from, from + n) of file f's front matter (8 bytes of length + header JSON +
 * padding) into to; from + n <= 8 + header_len. Cost: O(log tensors + n), and at most two entries
 * more than the range needs; of a shard file the whole header is made each time
 * (sw_shard_layout_header()). */
sw_code sw_layout_header(const sw_catalog *c, const sw_layout *l, uint32_t f, uint64_t from, uint64_t n,
                         char *to, sw_status *st);

/* Local. Where the box of a slot lies: ndim offsets, then ndim sizes; NULL = it is all of the
 * tensor. */
static inline const uint64_t *sw_slot_box(const sw_layout *l, const sw_slot *s)
{
    return s->box ? l->box_dims + (s->box - 1) : NULL;
}

/* Local. The text of the index file, appended to out: Python's json.dumps({"metadata":
 * {"total_parameters", "total_size"}, "weight_map": {fqn: file}}, indent=2, sort_keys=True) and a
 * newline. */
sw_code sw_layout_index(const sw_catalog *c, const sw_layout *l, sw_buf *out, sw_status *st);

/* Local. Bytes of tensor t as it will be written; UINT64_MAX when that does not fit (never in a
 * layout). */
uint64_t sw_tensor_out_bytes(const sw_catalog *c, const sw_tensor *t);

void sw_layout_release(sw_layout *l);

#endif
