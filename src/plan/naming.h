/* Which tensors come along, and what they are called in the output. Pure: the same on every rank.
 *
 * Globs choose among the names of the input; then the rules change the names of those that were
 * chosen, one rule after the other in the order in which they were given. A checkpoint has up to a
 * million names, each looked at once by every glob and rule. */
#ifndef SW_PLAN_NAMING_H
#define SW_PLAN_NAMING_H

#include "base/buf.h"
#include "plan/catalog.h"

/* Zero = all tensors under their own names. Borrowed. */
typedef struct sw_name_options {
    const char *const
        *include; /* NULL-terminated fnmatch patterns, '*' matches dots too; NULL or none = all */
    const char *const *exclude; /* the same; wins over include */
    const sw_name_rule *rules;
    size_t nrules;
} sw_name_options;

typedef struct sw_naming {
    char **names;  /* output name of each tensor of the catalogue; NULL = left out */
    uint32_t n;    /* tensors of the catalogue */
    uint32_t kept; /* those that have a name */
    char *pool;    /* that names point into */
} sw_naming;

/* Local. Decide on all tensors of c.
 *   o         NULL = all, unchanged
 *   warnings  gets lines: globs and prefixes that match nothing; a prefix that all output names
 *             share and that only a wrapper puts there, with the option that takes it off
 *   out       release with sw_naming_release(); empty on error
 * Errors: SW_EUSAGE (two tensors would get one name, both are told; a name would become empty or
 * __metadata__; no tensor is left of those that there are; an empty prefix to strip; a prefix that
 * is not UTF-8), SW_ENOMEM. O(n log n) comparisons. */
sw_code sw_naming_build(const sw_catalog *c, const sw_name_options *o, sw_buf *warnings, sw_naming *out,
                        sw_status *st);

/* Local. How many leading bytes of every kept name are "_orig_mod." (torch.compile) and "module."
 * (DDP), in any order and number, with something left behind them; 0 = none, or no names. *prefix
 * (may be NULL) points at such a name. */
size_t sw_naming_wrapper(const sw_naming *names, const char **prefix);

void sw_naming_release(sw_naming *names);

#endif
