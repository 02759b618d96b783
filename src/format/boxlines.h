/* A list of boxes that somebody wrote (docs/boxes.md): JSON, an object on each line for a box of a
 * tensor, which says where its elements lie plainly in a file. For whatever no other reader knows.
 *
 * Some 150 bytes a box; for 256 files of 1,000 tensors 40 MB. */
#ifndef SW_FORMAT_BOXLINES_H
#define SW_FORMAT_BOXLINES_H

#include "format/boxlist.h"

/* Local. Make a list of such lines, an sw_boxlist_reader. What one rank sees of them is checked:
 * numbers, boxes within their tensors, and that lines of one name speak of one tensor.
 * Errors: SW_EINPUT, with the line; SW_ENOMEM. O(n log n). */
sw_code sw_boxlines_read(char *text, size_t n, const char *file, sw_buf *list, sw_status *st);

#endif
