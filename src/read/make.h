/* Boxes of values into memory: copied straight to where they belong; or read in chunks into scratch
 * memory, cast or dequantized, and put there. */
#ifndef SW_READ_MAKE_H
#define SW_READ_MAKE_H

#include "plan/recipe.h"
#include "read/pull.h"

#define SW_MAKE_ROOM_MIN 512u

/* What one thread works with. */
typedef struct sw_maker {
    sw_pull pull;
    char *memory; /* of conversions; NULL when there are none */
    /* bytes of it, at least SW_MAKE_ROOM_MIN; more where what is made is first packed */
    uint64_t room;
} sw_maker;

/* Local. Make a box; the caller's memory begins at memory. Errors: as sw_pull_run(). */
sw_code sw_make(const sw_maker *m, const sw_making *g, char *memory, sw_status *st);

#endif
