/* The layout: which output file holds which tensor, or which box of one, and at which byte. Pure:
 * equal input, equal layout.
 *
 * Who makes one says what goes into which file (layout_whole.h: whole tensors into the files of a
 * consolidated checkpoint; layout_cut.h: boxes into shard files); what is the same for all stands
 * here: tensors in the order of sw_dtype, then name, their bytes, and the header before them. A
 * header can reach 100 MB, so it is never kept: sw_layout_header() writes any range of it. */
#ifndef SW_PLAN_LAYOUT_H
#define SW_PLAN_LAYOUT_H

#include "base/buf.h"
#include "plan/catalog.h"

typedef struct sw_layout_file {
    char *name;            /* relative to OUTPUT_DIR; owned */
    uint32_t first, count; /* its slots in layout->order */
    uint64_t header_len;   /* bytes of JSON with padding; data begins at 8 + header_len */
    uint64_t size;         /* of the whole file */
} sw_layout_file;

/* A tensor in its file, or a box of it. */
typedef struct sw_slot {
    uint32_t tensor; /* index into catalog->tensors */
    /* where its entry begins in the header JSON (its comma included) */
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
    bool shards; /* the files are shard files */
    char *set;   /* what each of these says of all of them: sw_numbers_list() */
    /* for each tensor the number of its slot in the order in which sharding infos list them, file
     * by file; NULL = that of the data */
    uint32_t *told;
    uint64_t *box_dims; /* 2 * ndim numbers for each box: offsets, shape */
    uint64_t nbox_dims;
    char *index_name;    /* NULL = no index is written */
    uint64_t parameters; /* elements of all tensors */
    uint64_t bytes;      /* of tensor data, as written */
    uint64_t unused;     /* FQNs of the map that no shard holds */
    /* the first ten of them, ", " between, NUL behind: for the warning; data may be NULL */
    sw_buf unused_names;
} sw_layout;

/* Bytes of an output file; may be empty. */
typedef struct sw_region {
    uint64_t begin, end;
} sw_region;

/* Local. Bytes [from, from + n) of file f's front matter (8 bytes of length + header JSON +
 * padding) into to; from + n <= 8 + header_len. Cost: O(log tensors + n), and at most two entries
 * more than the range needs; of a shard file also its whole head, if the range meets that.
 * Seven parameters: of what, where in it, where to. */
sw_code sw_layout_header(const sw_catalog *c, const sw_layout *l, uint32_t f, uint64_t from, uint64_t n,
                         char *to, sw_status *st);

/* Local. Where the box of a slot lies: ndim offsets, then ndim sizes; NULL = it is all of the
 * tensor. */
static inline const uint64_t *sw_slot_box(const sw_layout *l, const sw_slot *s)
{
    return s->box ? l->box_dims + (s->box - 1) : NULL;
}

/* Local. Bytes of tensor t as it will be written; UINT64_MAX when that does not fit (never in a
 * layout). */
uint64_t sw_tensor_out_bytes(const sw_catalog *c, const sw_tensor *t);

void sw_layout_release(sw_layout *l);

/* ---- making one ------------------------------------------------------------------------------ */

/* Names the file of a key; newly allocated, NULL on failure. */
typedef char *(*sw_layout_name)(void *ctx, uint64_t key, sw_status *st);

/* Local. Sort slots into files: l->order holds l->nslots of them, with the tensor and the box of
 * each; begin is the key of its file. A layout without index or shards has a file even where
 * nothing is in it (key 0): it is all that tells of the checkpoint.
 * Errors: SW_ENOMEM. O(n log n). */
sw_code sw_layout_arrange(const sw_catalog *c, sw_layout *l, sw_layout_name name, void *ctx, sw_status *st);

/* Local. Give all slots their bytes, and all files their headers and sizes. l->set is there if
 * l->shards. Errors: SW_EINPUT (sizes that overflow, a header over SW_HEADER_MAX), of shard files
 * SW_EUSAGE; SW_ENOMEM. */
sw_code sw_layout_measure(const sw_catalog *c, sw_layout *l, sw_status *st);

#endif
