/* Sorting many 64-bit numbers that each carry an index, in linear time whatever they are. */
#ifndef SW_BASE_SORT_H
#define SW_BASE_SORT_H

#include "base/status.h"

typedef struct sw_sort_item {
    uint64_t key;
    uint32_t index;
} sw_sort_item;

/* Local. Sort n slots by key; equal keys keep their order. Takes as much memory again while it works.
 * Errors: SW_ENOMEM. */
sw_code sw_sort_items(sw_sort_item *slots, size_t n, sw_status *st);

#endif
