/* A list of boxes: which tensors there are, and in which file the bytes of each box stand, where
 * files do not tell it of themselves. One rank makes it of what describes a checkpoint as a whole
 * (`.metadata`), all get it as it lies, and each looks up the files that it owns.
 *
 * Packed: 40 + 8 n bytes and its name for an n-dimensional tensor, 24 + 16 n for a box of it. */
#ifndef SW_FORMAT_BOXLIST_H
#define SW_FORMAT_BOXLIST_H

#include "base/buf.h"
#include "format/header.h"

/* What stands at the place of a box. */
typedef enum sw_box_form {
    SW_FORM_ARCHIVE, /* an archive of torch.save, which tells where in it the elements are */
} sw_box_form;

/* A tensor, as it lies; its shape, its name with a NUL (padded to 8) and its boxes follow. */
typedef struct sw_listed_tensor {
    uint64_t nboxes, next; /* next: bytes from here to the tensor behind it */
    uint32_t name_len;
    /* so many characters of the name are that of a dict in which it stood, with the dot */
    uint32_t top;
    uint8_t dtype, ndim, zero[6];
} sw_listed_tensor;

/* A box, as it lies; its offsets and its shape follow. */
typedef struct sw_listed_box {
    uint64_t at, length; /* bytes of the file */
    uint32_t file;       /* among the files of the list */
    uint32_t form;       /* sw_box_form */
} sw_listed_box;

/* The front of a list; the names of its files follow, with their NULs, padded to 8. */
typedef struct sw_boxlist_front {
    uint64_t nfiles, files_len, ntensors, nvalues; /* nvalues: what is no tensor was left out */
} sw_boxlist_front;

/* Local. Begin a list of these files, sorted by bytes. b is empty. */
sw_code sw_boxlist_begin(sw_buf *b, char *const *files, size_t nfiles, uint64_t nvalues, sw_status *st);

/* Local. Append a tensor, all of whose boxes come next. t: next is set. */
sw_code sw_boxlist_add(sw_buf *b, const sw_listed_tensor *t, const uint64_t *shape, const char *name,
                       sw_status *st);

/* Local. dims: offsets, then shape. */
sw_code sw_boxlist_add_box(sw_buf *b, const sw_listed_box *box, const uint64_t *dims, unsigned ndim,
                           sw_status *st);

/* Local. The names of its files, one after the other; NULL = no more. *at is 0 at first. */
const char *sw_boxlist_file(const sw_buf *b, size_t *at);

/* Local. How much was saved that is no tensor. */
uint64_t sw_boxlist_values(const sw_buf *b);

/* Which of the tensors are the model's. */
typedef struct sw_model_names {
    char prefix[64];   /* before the names of all of them; "" = nothing is */
    uint32_t training; /* which of sw_training_names stand beside them, a bit each */
} sw_model_names;

/* Patterns of names that stand for the state of training, not of a model. */
#define SW_NTRAINING 13
extern const char *const sw_training_names[SW_NTRAINING];

/* Local. How many characters of a name are such a dict's, with the dot; 0 = it is none of them. */
size_t sw_training_top(const char *name, size_t len);

/* Local. Ask where in a state dict the tensors stood: in one of the name "model"; or, where there
 * is none, at the top, beside what is known to be no model. */
void sw_boxlist_model(const sw_buf *b, sw_model_names *out);

/* One box, and the tensor that it is of. */
typedef struct sw_listed_ref {
    const sw_listed_tensor *tensor;
    const sw_listed_box *box;
} sw_listed_ref;

static inline const uint64_t *sw_listed_shape(const sw_listed_tensor *t)
{
    return (const uint64_t *)(const void *)(t + 1);
}

static inline const char *sw_listed_name(const sw_listed_tensor *t)
{
    return (const char *)(sw_listed_shape(t) + t->ndim);
}

static inline const uint64_t *sw_listed_dims(const sw_listed_box *b)
{
    return (const uint64_t *)(const void *)(b + 1);
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

/* Local. b is borrowed. O(boxes log boxes). Release it in any case. */
sw_code sw_boxlist_sort(const sw_buf *b, sw_boxlist_index *out, sw_status *st);
void sw_boxlist_index_release(sw_boxlist_index *i);

#endif
