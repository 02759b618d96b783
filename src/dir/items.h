/* Where the elements of the boxes stand that a list speaks of, file by file: the list says it, or
 * what stands there does. */
#ifndef SW_DIR_ITEMS_H
#define SW_DIR_ITEMS_H

#include "dir/front.h"
#include "format/boxlist.h"

/* Local. Look up the boxes of a file of size bytes, in the order of their places, and tell of them
 * in f as a header would: positions count from the beginning of the file. Names are the list's. The
 * hash is of what the list and the file say of them. What else is in a file of torch.save, and is
 * no tensor, is named in f->values. What stood in f is replaced.
 * Errors: SW_EINPUT (a box that lies outside of the file, an item that is none or not the tensor
 * that the list speaks of), SW_EIO, SW_ENOMEM. */
sw_code sw_items_read(sw_front *f, const char *dir, const char *name, uint64_t size, sw_listed_boxes boxes,
                      sw_status *st);

#endif
