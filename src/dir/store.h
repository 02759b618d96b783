/* What a store can do that a directory lies on: found out by trial, with a file of a few bytes, and
 * by the name of what is mounted there. */
#ifndef SW_DIR_STORE_H
#define SW_DIR_STORE_H

#include "base/below.h"
#include "shardweld.h"

/* Local. Make a file in dir, write into the middle of it by two descriptors, rename, lock and
 * reserve it, and remove it: nothing is left. What fails is what the store cannot do, whatever it
 * says of that. A store of objects that is mounted as a file system may take it all from one
 * machine, and copy a file at each rename, or keep only what one of two machines wrote: such a one
 * is known by its name.
 *   dir  where nobody else has a file of a name like ours
 *   out  type is filled in in any case
 * Errors: SW_EIO (not even a new file can be written there), SW_ENOMEM.
 * Cost: some 20 calls, of which a store that only takes a stream sees 10. */
sw_code sw_store_try(const sw_below *dir, sw_store *out, sw_status *st);

/* Local. How is it written to, where the caller wants this? */
sw_store_kind sw_store_choose(sw_store_kind wanted, const sw_store *store);

#endif
