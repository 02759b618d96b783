/* From what was saved to values, in memory. Local, pure. */
#ifndef SW_READ_CONVERT_H
#define SW_READ_CONVERT_H

#include "plan/recipe.h"

/* Can sw_convert() put the box of a conversion where its strides say? Else it must be made
 * packed. */
bool sw_convert_can_place(const sw_making *g);

/* Make a box, which is no copy, of its ingredients, packed in input one after the other
 * (sw_ingredients()); its first step goes to to (g->to is not looked at). */
void sw_convert(const sw_making *g, const char *input, char *to);

#endif
