/* What the `metadata.pkl` of torch_checkpointing says: for each item that was saved ("model",
 * "optimizer"), how each of its tensors was cut over the ranks, and which file a rank wrote.
 *
 * It is a pickle (pickle.h) of dicts, lists, texts and numbers. A tensor is cut by the placements
 * of a DTensor on a mesh of ranks, which are followed here as DTensor does, strided ones too; or
 * each rank says which slices of what it holds are which boxes. A file is one of safetensors or of
 * torch.save, of a rank's part of an item. */
#ifndef SW_FORMAT_TCMETA_H
#define SW_FORMAT_TCMETA_H

#include "format/boxlist.h"

#define SW_TC_METADATA_NAME "metadata.pkl"

/* Local. Make a list of such a pickle, an sw_boxlist_reader. Items in other forms (JSON)
 * are values of the list, but for a model: that is an error.
 * Errors: SW_EINPUT with the tensor (not such a pickle; placements that are not understood; a box
 * outside of its tensor), SW_ENOMEM. Cost: O(tensors x ranks). Source: torch_checkpointing 0.1.1,
 * distributed_metadata.py, dtensor_metadata.py, default_metadata.py. */
sw_code sw_tc_list(char *text, size_t n, const char *file, sw_buf *list, sw_status *st);

#endif
