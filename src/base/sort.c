/* Radix sort, lowest byte first; see sort.h. Bytes that are the same in all keys cost nothing, so
 * small numbers sort as fast as their width. */
#include "base/sort.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

#define DIGITS 8
#define VALUES 256
#define FEW 48 /* below this the counting costs more than it saves */

/* Keeps the order of equal keys, as the other one does. */
static void insertion_sort(sw_sort_item *items, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        sw_sort_item s = items[i];
        size_t k = i;

        for (; k > 0 && items[k - 1].key > s.key; k--)
            items[k] = items[k - 1];
        items[k] = s;
    }
}

/* Byte d of a key, from the lowest. */
static unsigned digit(uint64_t key, unsigned d)
{
    return (unsigned)(key >> 8 * d & 0xff);
}

/* Spread from by digit d over to; starts[v] is where the items with value v go. */
static void spread(const sw_sort_item *from, sw_sort_item *to, size_t n, unsigned d, size_t starts[VALUES])
{
    for (size_t i = 0; i < n; i++)
        to[starts[digit(from[i].key, d)]++] = from[i];
}

/* How often each value occurs becomes where its items begin. False: one value has them all. */
static bool make_starts(size_t counts[VALUES], size_t n)
{
    size_t start = 0;

    for (unsigned v = 0; v < VALUES; v++) {
        size_t count = counts[v];

        if (count == n)
            return false;
        counts[v] = start;
        start += count;
    }
    return true;
}

/* One pass a digit, from one array into the other. */
static void radix_sort(sw_sort_item *items, sw_sort_item *spare, size_t n, size_t counts[DIGITS][VALUES])
{
    sw_sort_item *from = items, *to = spare;

    for (size_t i = 0; i < n; i++)
        for (unsigned d = 0; d < DIGITS; d++)
            counts[d][digit(items[i].key, d)]++;
    for (unsigned d = 0; d < DIGITS; d++) {
        sw_sort_item *swap = from;

        if (!make_starts(counts[d], n))
            continue;
        spread(from, to, n, d, counts[d]);
        from = to;
        to = swap;
    }
    if (from != items)
        memcpy(items, from, n * sizeof *items);
}

sw_code sw_sort_items(sw_sort_item *items, size_t n, sw_status *st)
{
    size_t counts[DIGITS][VALUES] = { { 0 } };
    sw_sort_item *spare;

    if (n < FEW) {
        insertion_sort(items, n);
        return SW_OK;
    }
    spare = sw_calloc(n, sizeof *spare, st);
    if (!spare)
        return st->code;
    radix_sort(items, spare, n, counts);
    free(spare);
    return SW_OK;
}

uint32_t *sw_sorted_numbers(size_t n, int (*compare)(const void *, const void *, void *), void *ctx,
                            sw_status *st)
{
    uint32_t *numbers = sw_calloc(n, sizeof *numbers, st);

    for (size_t i = 0; numbers && i < n; i++)
        numbers[i] = (uint32_t)i;
    if (numbers && n > 1)
        qsort_r(numbers, n, sizeof *numbers, compare, ctx);
    return numbers;
}

int sw_by_bytes(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

size_t sw_sort_once(const char **texts, size_t n)
{
    size_t kept = 0;

    sw_sort(texts, n, sizeof *texts, sw_by_bytes);
    for (size_t i = 0; i < n; i++)
        if (i == 0 || strcmp(texts[kept - 1], texts[i]) != 0)
            texts[kept++] = texts[i];
    return kept;
}

int sw_by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}
