/* Shapes and offsets: n numbers, outermost first. */
#ifndef SW_PLAN_DIMS_H
#define SW_PLAN_DIMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Local. The product of n sizes; false when it does not fit (a zero among them makes it 0, whatever
 * the rest). */
bool sw_dims_product(const uint64_t *dims, unsigned n, uint64_t *product);

/* Local. "[4096, 11008]" into text; cut short with "..." where size does not suffice. Returns
 * text. */
char *sw_dims_text(const uint64_t *dims, unsigned n, char *text, size_t size);

#define SW_DIMS_TEXT 160 /* enough for what people look at */

#endif
