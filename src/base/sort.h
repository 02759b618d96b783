/* Sorting: many 64-bit numbers that each carry an index, in linear time whatever they are; and
 * names. */
#ifndef SW_BASE_SORT_H
#define SW_BASE_SORT_H

#include "base/status.h"

typedef struct sw_sort_item {
    uint64_t key;
    uint32_t index;
} sw_sort_item;

/* Local. Sort n items by key; equal keys keep their order. Takes as much memory again while it
 * works.
 * Errors: SW_ENOMEM. */
sw_code sw_sort_items(sw_sort_item *items, size_t n, sw_status *st);

/* Local. For qsort and bsearch of arrays of strings (char *): by bytes, which is by code points for
 * UTF-8. */
int sw_by_bytes(const void *a, const void *b);

/* Local. Sort n texts so; of what is there twice one stays. Returns how many that are, at the
 * front. */
size_t sw_sort_once(const char **texts, size_t n);

/* Local. For uint64_t, ascending. */
int sw_by_number(const void *a, const void *b);

/* Local. The order of two lists of n numbers: by the first that differs; 0 = they are equal. */
static inline int sw_by_all(const uint64_t *a, const uint64_t *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (a[i] != b[i])
            return a[i] < b[i] ? -1 : 1;
    return 0;
}

#endif
