/* What the `.metadata` of a torch distributed checkpoint says: which tensors there are, of which
 * boxes they consist, and where in which file the item of each box stands.
 *
 * It is a pickle (pickle.h) of 170 bytes a box: for 256 ranks x 1,000 tensors 45 MB. All of it is
 * known at once here, so a box that no file holds is always noticed. */
#ifndef SW_FORMAT_DCPMETA_H
#define SW_FORMAT_DCPMETA_H

#include "format/boxlist.h"

#define SW_DCP_METADATA_NAME ".metadata"

/* Local. Understand such a text, an sw_boxlist_reader.
 * Errors: SW_EINPUT with the tensor (not such a pickle; a class, dtype or layout that is not
 * understood; a box outside of its tensor, or without an item; a file name that leads out);
 * SW_ENOMEM. Cost: O(n + b log b) for b boxes. Source: torch/distributed/checkpoint/metadata.py and
 * filesystem.py, 2.4 to 2.15. */
sw_code sw_dcp_list(char *text, size_t n, const char *file, sw_buf *list, sw_status *st);

#endif
