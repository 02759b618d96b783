/* Ranks that came with different calls would wait for one another for ever: they find out first. */
#ifndef SW_API_CALL_H
#define SW_API_CALL_H

#include "api/options.h"

/* What a call was given, with file:// URLs as paths: here operands enter the library. */
typedef struct sw_given {
    sw_call call;
    const char *in, *out; /* NULL = the call has none */
    sw_options opt;       /* with paths of its own; all else is borrowed */
    char *owned[2 + SW_OPTION_PATHS];
    sw_status st; /* what is wrong with it: this rank's own matter until sw_call_begin() */
} sw_given;

/* Local. Look at all that a call was given by itself: directories, options. opt: NULL = defaults.
 * g: release it with sw_given_release(). Errors, in g->st: SW_EUSAGE, SW_ENOMEM. */
void sw_given_take(sw_given *g, sw_call call, const sw_comm *comm, const char *in, const char *out,
                   const sw_options *opt);
void sw_given_release(sw_given *g);

/* Collective. How a call begins: st is emptied; have all ranks come with the same call, options and
 * (where that is not looked at otherwise) OUTPUT_DIR, and can all take what they were given? If
 * not, they have nothing more to do together. All ranks return the same.
 *   more  a hash of what else must be equal
 * Errors: SW_EUSAGE, SW_ENOMEM, SW_ECOMM. */
sw_code sw_call_begin(const sw_comm *comm, const sw_given *g, uint64_t more, sw_status *st);

#endif
