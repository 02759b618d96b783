/* What the `.metadata` of a torch distributed checkpoint says: which tensors there are, of which
 * boxes they consist, and where in which file the item of each box stands.
 *
 * It is a pickle (pickle.h) of 170 bytes a box: for 256 ranks x 1,000 tensors 45 MB. All of it is
 * known at once here, so a box that no file holds is always noticed. */
#ifndef SW_FORMAT_DCPMETA_H
#define SW_FORMAT_DCPMETA_H

#include "format/boxlist.h"
#include "format/pickle.h"

#define SW_DCP_METADATA_NAME ".metadata"

/* Names lie inside the text and are not NUL-terminated. */
typedef struct sw_dcp_name {
    const char *text;
    size_t len;
    /* so many of its characters name the dict that it stood in, with the dot behind: 6 of
     * "model.layers.0.weight" where "model" was a dict; 0 = it stood at the top */
    size_t top;
} sw_dcp_name;

typedef struct sw_dcp_tensor {
    sw_dcp_name name;
    uint8_t dtype; /* sw_dtype */
    uint8_t ndim;
    uint64_t shape;         /* where in dims its ndim sizes stand */
    uint64_t first, nboxes; /* its boxes */
} sw_dcp_tensor;

typedef struct sw_dcp_box {
    uint64_t dims;       /* where in dims: offsets, then sizes; elements */
    uint64_t at, length; /* its item in the file, bytes */
    uint32_t file;       /* which of the files */
} sw_dcp_box;

typedef struct sw_dcp {
    sw_dcp_tensor *tensors; /* in the order of the pickle */
    size_t ntensors, cap_tensors;
    sw_dcp_name *values; /* what was saved and is no tensor */
    size_t nvalues, cap_values;
    sw_dcp_box *boxes; /* by tensor */
    size_t nboxes, cap_boxes;
    uint64_t *dims;
    size_t ndims, cap_dims;
    char **files; /* names, each once, sorted by bytes; below the directory */
    size_t nfiles, cap_files;
} sw_dcp;

#define SW_DCP_INIT                                                                                          \
    {                                                                                                        \
        .tensors = NULL                                                                                      \
    }

/* Local. Understand n bytes, which are borrowed and must outlive out.
 *   out  SW_DCP_INIT at first; release with sw_dcp_release(); empty on error
 * Errors: SW_EINPUT with the tensor (not such a pickle; a class, dtype or layout that is not
 * understood; a box outside of its tensor, or without an item; a file name that leads out);
 * SW_ENOMEM. Cost: O(n + b log b) for b boxes. Source: torch/distributed/checkpoint/metadata.py and
 * filesystem.py, 2.4 to 2.15. */
sw_code sw_dcp_parse(const void *text, size_t n, const char *file, sw_dcp *out, sw_status *st);

/* Local. As a list for all ranks, appended to out. */
sw_code sw_dcp_pack(const sw_dcp *d, sw_buf *out, sw_status *st);

/* Local. Both, an sw_boxlist_reader: list is empty on error. */
sw_code sw_dcp_list(char *text, size_t n, const char *file, sw_buf *list, sw_status *st);

void sw_dcp_release(sw_dcp *d);

#endif
