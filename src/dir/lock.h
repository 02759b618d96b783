/* The lock of a staging directory: one run at a time, across machines (SPEC 6). */
#ifndef SW_DIR_LOCK_H
#define SW_DIR_LOCK_H

#include "base/below.h"

#define SW_LOCK_NAME "lock"

typedef struct sw_lock sw_lock;

typedef struct sw_lock_rule {
    const char *show;           /* what is locked, for messages */
    const volatile int *cancel; /* ends the waiting; may be NULL */
    bool stream;                /* files there can only be streamed: a weaker lock */
} sw_lock_rule;

/* Local. Take the lock file of dir; while it is held a thread gives a sign of life every 30 s (it
 * touches the file; it takes no signals).
 *   dir     open and ours; borrowed as long as the lock lives
 *   rule    borrowed for the call
 *   gone    set, with SW_OK and *out NULL, when dir is not there (any more)
 * Errors: SW_EUSAGE when another run holds it (names host, pid and job); SW_EIO, also for a lock
 * file that no run of ours can have made; SW_ECANCEL; SW_ENOMEM.
 * Cost: at once; but up to 35 s for what a run on another machine left in the last two minutes on a
 * shared file system. */
sw_code sw_lock_take(const sw_below *dir, const sw_lock_rule *rule, sw_lock **out, bool *gone, sw_status *st);

/* Local. The random number that stands in the file: drawn by the first run in the directory, kept
 * by those that take its place. */
uint64_t sw_lock_number(const sw_lock *l);

/* Local. Fails with SW_EIO when the lock is no longer ours: this process slept so long that another
 * run took it for dead. */
sw_code sw_lock_check(const sw_lock *l, sw_status *st);

/* Local. Let go and free; the lock file, if it is ours, is removed. NULL is fine. st may already
 * hold an error, which stays.
 *   stays  the directory stays, with a journal in it: so does the file with its number, which says
 *          that nobody holds it */
void sw_lock_drop(sw_lock *l, bool stays, sw_status *st);

#endif
