/* A tensor as torch.save describes it: the pickle `data.pkl` of an archive, whose bytes are a
 * member of it. Pure. */
#ifndef SW_FORMAT_TORCHTENSOR_H
#define SW_FORMAT_TORCHTENSOR_H

#include "format/dtype.h"
#include "format/header.h"
#include "format/pickle.h"

/* Counted in elements, outermost first. */
typedef struct sw_torch_tensor {
    sw_dtype dtype;
    unsigned ndim;
    uint64_t shape[SW_MAX_DIMS], strides[SW_MAX_DIMS];
    uint64_t first;        /* element of the storage */
    uint64_t storage_size; /* bytes */
    char member[32];       /* the member that holds it: "data/0" */
} sw_torch_tensor;

/* Local. Understand n bytes of data.pkl: one tensor, or parameter, of a CPU or other device's
 * storage. All its elements lie within the storage.
 *   file, tensor  for messages
 * Errors: SW_EINPUT (names what it is instead: another object, a dtype that safetensors has not),
 * SW_ENOMEM.
 * Source: torch/_utils.py, _rebuild_tensor_v2 and _v3. */
sw_code sw_torch_tensor_parse(const void *pickle, size_t n, const char *file, const char *tensor,
                              sw_torch_tensor *out, sw_status *st);

/* Local. The same of a value of a pickle: a tensor, a parameter, or the part of a DTensor that its
 * rank held. */
sw_code sw_torch_tensor_take(const sw_pickle *p, sw_value v, const char *file, const char *tensor,
                             sw_torch_tensor *out, sw_status *st);

/* Local. The dtype that a global of torch names. Errors: SW_EINPUT (names what it is instead: no
 * dtype, or one that safetensors has not). */
sw_code sw_torch_dtype(const sw_pickle *p, sw_value v, const char *file, const char *tensor, sw_dtype *out,
                       sw_status *st);

/* Local. A name from a pickle, for messages: "module.name"; what has no name, by its kind. */
void sw_torch_words(const sw_pickle *p, sw_value v, char text[128]);

#endif
