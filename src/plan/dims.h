/* Shapes and offsets: n numbers, outermost first. */
#ifndef SW_PLAN_DIMS_H
#define SW_PLAN_DIMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Local. The product of n sizes; false when it does not fit (a zero among them makes it 0, whatever
 * the rest). */
bool sw_dims_product(const uint64_t *dims, unsigned n, uint64_t *product);

/* Local. The same of a box of a tensor whose size was checked. */
static inline uint64_t sw_dims_count(const uint64_t *dims, unsigned n)
{
    uint64_t count = 1;

    for (unsigned d = 0; d < n; d++)
        count *= dims[d];
    return count;
}

/* Local. Is there nothing in it: is one of the sizes 0? */
static inline bool sw_dims_empty(const uint64_t *dims, unsigned n)
{
    for (unsigned d = 0; d < n; d++)
        if (dims[d] == 0)
            return true;
    return false;
}

#define SW_DIMS_TEXT 160 /* enough for what people look at */

/* Local. "[4096, 11008]" into text; cut short with "..." where that does not suffice. Returns
 * text. */
char *sw_dims_text(const uint64_t *dims, unsigned n, char text[SW_DIMS_TEXT]);

#endif
