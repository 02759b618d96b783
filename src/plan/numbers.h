/* Which shard numbers of which model files are there, and which are missed. Pure: names of files
 * only. */
#ifndef SW_PLAN_NUMBERS_H
#define SW_PLAN_NUMBERS_H

#include "base/ranges.h"
#include "plan/catalog.h"

/* Local. The shard numbers that occur, of model file j or (0) of any; none where names carry no
 * numbers.
 *   out  release with sw_ranges_release()
 * Errors: SW_ENOMEM. O(n log n). */
sw_code sw_numbers_there(const sw_catalog *c, uint64_t model, sw_ranges *out, sw_status *st);

/* Local. The same in words, "1 to 8" or "2, 3, 7": text is owned by the caller, NULL where there
 * are none. Errors: SW_ENOMEM. */
sw_code sw_numbers_text(const sw_catalog *c, char **text, sw_status *st);

/* Local. What is to be said of a gap in a tensor of model file j (0 = of several): "shard 3 of
 * model 1 is missing". Nothing is added where names carry no numbers. Errors: SW_ENOMEM. */
sw_code sw_numbers_missing(const sw_catalog *c, uint64_t model, sw_buf *words, sw_status *st);

/* Local. A line in warnings for numbers below the highest that occur in no file; and one for model
 * files without any shard. Both are legal: torch leaves a file out where a rank has nothing to
 * write. A set that lists its files needs no such word. Errors: SW_ENOMEM. */
sw_code sw_numbers_warn_holes(const sw_catalog *c, sw_buf *warnings, sw_status *st);
sw_code sw_numbers_warn_models(const sw_catalog *c, sw_buf *warnings, sw_status *st);

/* Local. --expect-shards: do the numbers 1..n all occur, and none larger? A model file that lacks
 * some adds a line to warnings. findings as in sw_catalog_check(). n = 0: nothing was asked.
 * Errors: SW_EINPUT, SW_ENOMEM. */
sw_code sw_numbers_expect(const sw_catalog *c, uint64_t n, sw_buf *warnings, sw_findings *findings,
                          sw_status *st);

/* ---- the list that a set carries ------------------------------------------------------------- */

/* Local. The value of SW_SHARDS_KEY for n files in any order, with a NUL: words "MODEL:FROM-TO".
 * Errors: SW_ENOMEM. */
sw_code sw_numbers_list(const sw_shard_name *names, size_t n, sw_buf *text, sw_status *st);

/* Local. Add what such a text names to c->listed. Errors: SW_EINPUT (it is no such text; file is
 * for the message), SW_ENOMEM. */
sw_code sw_numbers_take(sw_catalog *c, const char *text, const char *file, sw_status *st);

/* Local. Is every file there that the others list? findings as in sw_catalog_check(). Errors:
 * SW_EINPUT, SW_ENOMEM. */
sw_code sw_numbers_check_listed(const sw_catalog *c, sw_findings *findings, sw_status *st);

#endif
