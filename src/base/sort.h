/* Sorting: many 64-bit numbers that each carry an index, in linear time whatever they are; and
 * names. */
#ifndef SW_BASE_SORT_H
#define SW_BASE_SORT_H

#include <stdlib.h>

#include "base/status.h"

/* Local. A search among n things, of which some first ones come before a place and all others do
 * not; then at is the first that does not:
 *     sw_search s = { .end = n };
 *     while (sw_search_on(&s))
 *         sw_search_tell(&s, thing s.mid comes before); */
typedef struct sw_search {
    uint64_t at, end, mid;
} sw_search;

static inline bool sw_search_on(sw_search *s)
{
    s->mid = s->at + (s->end - s->at) / 2;
    return s->at < s->end;
}

static inline void sw_search_tell(sw_search *s, bool before)
{
    if (before)
        s->at = s->mid + 1;
    else
        s->end = s->mid;
}

/* Local. The last thing that comes before the place: 0 where none does. */
static inline uint64_t sw_search_last(const sw_search *s)
{
    return s->at ? s->at - 1 : 0;
}

typedef struct sw_sort_item {
    uint64_t key;
    uint32_t index;
} sw_sort_item;

/* Local. Sort n items by key; equal keys keep their order. Takes as much memory again while it
 * works.
 * Errors: SW_ENOMEM. */
sw_code sw_sort_items(sw_sort_item *items, size_t n, sw_status *st);

/* Local. The numbers 0..n-1 (n below 2^32) in the order of compare, which is as for qsort_r: it
 * gets two of them and ctx. Newly allocated; NULL on failure. */
uint32_t *sw_sorted_numbers(size_t n, int (*compare)(const void *, const void *, void *), void *ctx,
                            sw_status *st);

/* Local. qsort() of n items, if there are any: items may be NULL. */
static inline void sw_sort(void *items, size_t n, size_t size, int (*order)(const void *, const void *))
{
    if (items && n > 1)
        qsort(items, n, size, order);
}

/* Local. For sw_sort() and bsearch() of arrays of strings (char *): by bytes, which is by code
 * points for UTF-8. */
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
