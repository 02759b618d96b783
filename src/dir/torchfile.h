/* A file of torch.save with many tensors in it: dicts and lists, below which tensors stand, each
 * called by its way down ("layers.0.weight", "state.0.exp_avg"). It says for itself where in it the
 * elements of each stand.
 *
 * Its directory and its data.pkl are read once and kept: 250 bytes a tensor. What a tensor is, is
 * understood when it is asked for; what is asked for by nobody may be anything: what is no tensor
 * has a name, and no more. */
#ifndef SW_DIR_TORCHFILE_H
#define SW_DIR_TORCHFILE_H

#include "base/buf.h"
#include "format/torchtensor.h"

typedef struct sw_torch_file sw_torch_file;

/* Local. Is it an archive? fd is borrowed. */
bool sw_torch_file_is(int fd, const char *file, uint64_t size, sw_status *st);

/* Local. fd and file are borrowed; NULL on error. NULL may be freed.
 * Errors: SW_EINPUT (no archive of torch.save; parts that are named so often that they are more
 * than the file could hold), SW_EIO, SW_ENOMEM. */
sw_torch_file *sw_torch_file_open(int fd, const char *file, uint64_t size, sw_status *st);
void sw_torch_file_free(sw_torch_file *f);

/* Local. Append the names of what is no tensor in it, with a NUL, sorted; a list of such is one.
 *   before  len characters that stand before each
 * Errors: SW_EINPUT (so they are more than the file could hold), SW_ENOMEM. */
sw_code sw_torch_file_values(const sw_torch_file *f, const char *before, size_t len, sw_buf *out,
                             sw_status *st);

/* Local. The tensor of that name.
 *   tensor  for messages
 *   first   where its first element stands, bytes of the file
 * Errors: SW_EINPUT (there is none, it is no tensor, or one that safetensors has not; its elements
 * lie outside), SW_EIO, SW_ENOMEM. */
sw_code sw_torch_file_find(sw_torch_file *f, const char *name, const char *tensor, sw_torch_tensor *out,
                           uint64_t *first, sw_status *st);

#endif
