/* A list of boxes: which tensors there are, and in which file the bytes of each box stand, where
 * files do not tell it of themselves. One rank makes it of what describes a checkpoint as a whole
 * (`.metadata`, a list that somebody wrote), all get it as it lies, and each looks up the files
 * that it owns.
 *
 * Packed: 40 + 8 n bytes and its name for an n-dimensional tensor, 24 + 16 n for a box of it, or 24
 * + 24 n where a box says more of its place. */
#ifndef SW_FORMAT_BOXLIST_H
#define SW_FORMAT_BOXLIST_H

#include "base/buf.h"
#include "format/header.h"

/* What stands at the place of a box. */
typedef enum sw_box_form {
    SW_FORM_PLAIN, /* its elements; the numbers behind its shape, if any, are their strides */
    /* what torch writes of a tensor: an archive of torch.save, which tells where in it the elements
     * are; or the entry of its name in a safetensors file that begins there */
    SW_FORM_ITEM,
    /* the entry of its name in a safetensors file, or the tensor of its name in one of torch.save;
     * the numbers behind its shape, if any, tell where in it the box begins */
    SW_FORM_ENTRY,
} sw_box_form;

/* A tensor, as it lies; its shape, its name with a NUL (padded to 8) and its boxes follow. */
typedef struct sw_listed_tensor {
    uint64_t nboxes, next; /* next: bytes from here to the tensor behind it */
    uint32_t name_len;
    /* so many characters of the name are that of a dict in which it stood, with the dot */
    uint32_t top;
    uint8_t dtype, ndim;
    uint8_t sets;     /* numbers behind each box: ndim offsets, ndim sizes, perhaps ndim more */
    uint8_t left_out; /* it was not chosen */
    uint8_t cut;      /* characters of its name that it loses */
    uint8_t zero[3];
} sw_listed_tensor;

/* A box, as it lies; its offsets, its shape and perhaps more numbers follow. */
typedef struct sw_listed_box {
    uint64_t at, length; /* bytes of the file */
    uint32_t file;       /* among the files of the list */
    uint16_t form;       /* sw_box_form */
    uint16_t skip;       /* the entry's name lacks so many of the first characters */
} sw_listed_box;

/* Which of the tensors are the model's. */
typedef struct sw_model_names {
    char prefix[64];   /* before the names of all of them; "" = nothing is */
    uint32_t training; /* which of sw_training_names stand beside them, a bit each */
} sw_model_names;

/* The front of a list; a byte for each of its files follows (0 = it is not needed), padded to 8,
 * then their names, with their NULs, padded to 8, and the tensors. At the end stand the names of
 * what was saved and is no tensor, with their NULs. */
typedef struct sw_boxlist_front {
    uint64_t nfiles, names_at, tensors_at, ntensors, values_at, nvalues;
    sw_model_names chosen;
} sw_boxlist_front;

/* Local. Makes a list of n bytes that describe a checkpoint; they may be changed.
 *   file  their name, for messages
 *   list  is empty
 * Errors: SW_EINPUT, SW_ENOMEM. */
typedef sw_code sw_boxlist_reader(char *text, size_t n, const char *file, sw_buf *list, sw_status *st);

/* Of the `.metadata` of a torch distributed checkpoint (dcpmeta.c).
 * Errors: SW_EINPUT with the tensor (not such a pickle; a class, dtype or layout that is not
 * understood; a box outside of its tensor, or without an item; a file name that leads out);
 * SW_ENOMEM. Cost: O(n + b log b) for b boxes. Source: torch/distributed/checkpoint/metadata.py and
 * filesystem.py, 2.4 to 2.15. */
#define SW_DCP_METADATA_NAME ".metadata"
sw_boxlist_reader sw_dcp_list;

/* Of the `metadata.pkl` of torch_checkpointing (tcmeta.c). Items in other forms (JSON) are values
 * of the list, but for a model: that is an error.
 * Errors: SW_EINPUT with the tensor (not such a pickle; placements that are not understood; a box
 * outside of its tensor), SW_ENOMEM. Cost: O(tensors x ranks). Source: torch_checkpointing 0.1.1,
 * distributed_metadata.py, dtensor_metadata.py, default_metadata.py. */
#define SW_TC_METADATA_NAME "metadata.pkl"
sw_boxlist_reader sw_tc_list;

/* Of lines that somebody wrote (boxlines.c). What one rank sees of them is checked: numbers, boxes
 * within their tensors, and that lines of one name speak of one tensor.
 * Errors: SW_EINPUT, with the line; SW_ENOMEM. O(n log n). */
sw_boxlist_reader sw_boxlines_read;

/* A list that is being made: boxes have the numbers of files as the maker counts them. Zero at
 * first; release it in any case. */
typedef struct sw_boxlist_draft {
    sw_buf tensors, values; /* as in the list */
    uint64_t ntensors, nvalues;
} sw_boxlist_draft;

/* Local. Append a tensor, all of whose boxes come next. t: next is set. */
sw_code sw_boxlist_add(sw_boxlist_draft *d, const sw_listed_tensor *t, const uint64_t *shape,
                       const char *name, sw_status *st);

/* Local. dims: n numbers, offsets, then shape, then what the form wants to know. */
sw_code sw_boxlist_add_box(sw_boxlist_draft *d, const sw_listed_box *box, const uint64_t *dims, unsigned n,
                           sw_status *st);

/* Local. The name of what is no tensor. */
sw_code sw_boxlist_add_value(sw_boxlist_draft *d, const char *name, size_t len, sw_status *st);

/* Local. The list of a draft, which is spent then.
 *   files  in any order, and as often as the maker met them
 *   all    files of no box are in the list as well
 *   list   is empty, and stays so on error
 * O(n log n) for n files. */
sw_code sw_boxlist_finish(sw_boxlist_draft *d, const char *const *files, size_t nfiles, bool all,
                          sw_buf *list, sw_status *st);
void sw_boxlist_draft_release(sw_boxlist_draft *d);

/* A walk over the files that are needed. Zero at first. */
typedef struct sw_listed_files {
    uint64_t number; /* 1 + that of the last one */
    size_t at;       /* bytes of names that it has passed */
} sw_listed_files;

/* Local. The name of the next file; NULL = there are no more. */
const char *sw_boxlist_file(const sw_buf *b, sw_listed_files *walk);

/* Local. Append the names of what was saved and is no tensor, with their NULs. *n: how many. */
sw_code sw_boxlist_values(const sw_buf *b, uint64_t *n, sw_buf *names, sw_status *st);

/* Patterns of names that stand for the state of training, not of a model. */
#define SW_NTRAINING 13
extern const char *const sw_training_names[SW_NTRAINING];

/* Local. How many characters of a name are such a dict's, with the dot; 0 = it is none of them. */
size_t sw_training_top(const char *name, size_t len);

/* Local. Choose the tensors of the model, by where in a state dict they stood: those in a dict of
 * the name "model", without its name; or, where there is none, all but what is known to be no
 * model. Files of which nothing was chosen are not needed. / What was chosen so; empty = all. */
void sw_boxlist_choose(sw_buf *b);
const sw_model_names *sw_boxlist_chosen(const sw_buf *b);

/* One box, and the tensor that it is of. */
typedef struct sw_listed_ref {
    const sw_listed_tensor *tensor;
    const sw_listed_box *box;
} sw_listed_ref;

static inline const uint64_t *sw_listed_shape(const sw_listed_tensor *t)
{
    return (const uint64_t *)(const void *)(t + 1);
}

/* The tensor behind one. */
static inline sw_listed_tensor *sw_listed_next(sw_listed_tensor *t)
{
    return (void *)((char *)t + t->next);
}

/* The name that it was saved with, and the one that it has here. */
static inline const char *sw_listed_saved_name(const sw_listed_tensor *t)
{
    return (const char *)(sw_listed_shape(t) + t->ndim);
}

static inline const char *sw_listed_name(const sw_listed_tensor *t)
{
    return sw_listed_saved_name(t) + t->cut;
}

static inline const uint64_t *sw_listed_dims(const sw_listed_box *b)
{
    return (const uint64_t *)(const void *)(b + 1);
}

/* The strides, in elements, of a box whose elements lie row by row. */
static inline void sw_listed_strides(const uint64_t *shape, unsigned ndim, uint64_t *strides)
{
    uint64_t n = 1;

    for (unsigned d = ndim; d-- > 0; n *= shape[d])
        strides[d] = n;
}

/* Those of one file. */
typedef struct sw_listed_boxes {
    const sw_listed_ref *boxes;
    uint64_t n;
} sw_listed_boxes;

/* The boxes of each file, in the order of their places. */
typedef struct sw_boxlist_index {
    sw_listed_ref *boxes;
    uint64_t *starts; /* of file i: [starts[i], starts[i + 1]) */
} sw_boxlist_index;

/* Local. The boxes of tensors that are not left out. b is borrowed. O(boxes log boxes). Release it
 * in any case. */
sw_code sw_boxlist_sort(const sw_buf *b, sw_boxlist_index *out, sw_status *st);
void sw_boxlist_index_release(sw_boxlist_index *i);

#endif
