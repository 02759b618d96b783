/* The lock of a staging directory: one run at a time, across machines (SPEC 6). */
#ifndef SW_PAR_LOCK_H
#define SW_PAR_LOCK_H

#include "base/status.h"

#define SW_LOCK_NAME "lock"

typedef struct sw_lock sw_lock;

/* Local. Take the lock file dir/lock; while it is held a thread gives a sign of life every 30 s (it touches the file; it
 * takes no signals).
 *   show  what is locked, for messages
 *   gone  set, with SW_OK and *out NULL, when dir is not there (any more)
 * Errors: SW_EUSAGE when another run holds it (names host, pid and job); SW_EIO; SW_ENOMEM.
 * Cost: at once; but up to 35 s for what a run on another machine left in the last two minutes on a shared file system. */
sw_code sw_lock_take(const char *dir, const char *show, sw_lock **out, bool *gone, sw_status *st);

/* Local. Fails with SW_EIO when the lock is no longer ours: this process slept so long that another run took it for dead. */
sw_code sw_lock_check(const sw_lock *l, sw_status *st);

/* Local. Remove the lock file if it is ours, let go, free. NULL is fine. st may already hold an error, which stays. */
void sw_lock_drop(sw_lock *l, sw_status *st);

#endif
