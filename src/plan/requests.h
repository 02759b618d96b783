/* What a caller of the reader wants: looked up in the catalogue, checked, completed. Pure. */
#ifndef SW_PLAN_REQUESTS_H
#define SW_PLAN_REQUESTS_H

#include "plan/recipe.h"

typedef struct sw_request {
    sw_recipe how;        /* element by element */
    unsigned ndim;        /* as it is read: of MXFP4 one less than saved */
    char *data;           /* where the first element of the box goes */
    uint64_t bytes;       /* of the box, as it is read */
    uint64_t whole_bytes; /* the same of the whole tensor */
    uint64_t whole[SW_MAX_DIMS];
    uint64_t offsets[SW_MAX_DIMS], shape[SW_MAX_DIMS]; /* of the box */
    int64_t strides[SW_MAX_DIMS];                      /* bits, in memory */
} sw_request;

/* Local. A tensor as a whole, read as dtype (NULL = as saved): all but data and strides; the box is
 * all of it.
 * Errors: as sw_checkpoint_read_shape(). */
sw_code sw_request_tensor(const sw_catalog *c, const char *name, const char *dtype, sw_request *out,
                          sw_status *st);

/* Local. A box of it. Errors: as sw_checkpoint_read(). */
sw_code sw_request_box(const sw_catalog *c, const sw_read *read, sw_request *out, sw_status *st);

/* Local. No two of n wants go to the same memory, as far as that is plain: of those that fill
 * theirs to the last byte. O(n log n).
 * Errors: SW_EUSAGE, SW_ENOMEM. */
sw_code sw_requests_apart(const sw_request *wants, size_t n, sw_status *st);

#endif
