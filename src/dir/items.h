/* The items of a file that a list of boxes speaks of: each says for itself where in it the elements
 * stand.
 *
 * An item is read at its two ends: a few kilobytes in one or two calls, whatever it holds. */
#ifndef SW_DIR_ITEMS_H
#define SW_DIR_ITEMS_H

#include "dir/front.h"
#include "format/boxlist.h"

/* Local. Look up the items of a file of size bytes, in the order of their places, and tell of them
 * in f as a header would: positions count from the beginning of the file. Names are the list's. The
 * hash is of what the list and the items say of the file. What stood in f is replaced.
 * Errors: SW_EINPUT (an item that lies outside of the file, is no archive, or not the tensor that
 * the list speaks of), SW_EIO, SW_ENOMEM. */
sw_code sw_items_read(sw_front *f, const char *dir, const char *name, uint64_t size, sw_listed_boxes items,
                      sw_status *st);

#endif
