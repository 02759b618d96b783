/* An item of a distributed checkpoint: an archive of torch.save inside of a file, which says for
 * itself where in it the elements of its tensor stand.
 *
 * It is read at its two ends: a few kilobytes in one or two calls, whatever it holds. There are as
 * many as boxes. */
#ifndef SW_DIR_TORCHITEM_H
#define SW_DIR_TORCHITEM_H

#include "format/boxlist.h"

/* What items of one file are looked up with, one after the other. */
typedef struct sw_torch_item sw_torch_item;

/* Local. fd and file are borrowed; NULL on error. NULL may be freed. */
sw_torch_item *sw_torch_item_new(int fd, const char *file, sw_status *st);
void sw_torch_item_free(sw_torch_item *k);

/* Local. Look an item up, which must be the tensor that the list speaks of.
 *   first    where its first element stands, bytes from the beginning of the file
 *   strides  of its elements, ndim of them; good until the next call
 * Errors: SW_EINPUT (no archive; another tensor), SW_EIO, SW_ENOMEM. */
sw_code sw_torch_item_find(sw_torch_item *k, const sw_listed_ref *item, uint64_t *first,
                           const uint64_t **strides, sw_status *st);

#endif
