/* Files beside the input that somebody may have meant as a part of it: a shard whose name is wrong
 * would be left out without a word. */
#ifndef SW_DIR_STRAYS_H
#define SW_DIR_STRAYS_H

#include "dir/find.h"

/* Local, once the files are chosen without an index. An error is what carries sharding info, or has
 * the name of a shard file but for some detail; what is left out with good reason goes to soft.
 *   c         the files that were chosen
 *   findings  as in find.h
 * Errors: SW_EINPUT, SW_EIO, SW_ENOMEM. */
sw_code sw_strays_judge(const sw_find *f, const char *dir, const sw_catalog *c, sw_findings *soft,
                        sw_findings *findings, sw_status *st);

/* Local. What is in soft, as lines of warnings. */
sw_code sw_strays_tell(const sw_findings *soft, sw_buf *warnings, sw_status *st);

#endif
