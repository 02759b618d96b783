/* Errors as values: the first cause is kept, with file, tensor and reason.
 *
 * One status goes through all calls of a job, and what it holds first stays (sw_fail()). So a
 * callee may meet one that already holds an error, and there are two kinds:
 * - most do their part only where all went well before: their callers look (`if (a(st) || b(st))`,
 *   `while (... && !st->code)`), and what they return is st->code;
 * - what lets go or tidies up (release, close, unlink, sync) does its work whatever st holds, and
 *   returns its own code, SW_OK when that went well: so do all functions of base/path.h and
 *   base/below.h, and what allocates (base/buf.h).
 * On an error whatever a function was to fill is empty, so that releasing it is fine. */
#ifndef SW_BASE_STATUS_H
#define SW_BASE_STATUS_H

#include "shardweld.h"

#if defined(__GNUC__)
#define SW_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define SW_PRINTF(fmt, args)
#endif

/* How structs are born, most of them: all zero, so that to release them is fine. */
#define SW_EMPTY                                                                                             \
    {                                                                                                        \
        0                                                                                                    \
    }

/* Local. Record an error and return its code. A status that already holds one keeps it (and its
 * code is returned): the first cause wins. file and tensor may be NULL; they are made harmless. */
sw_code sw_fail(sw_status *st, sw_code code, const char *file, const char *tensor, const char *fmt, ...)
    SW_PRINTF(5, 6);

/* Local. The same for a failed system call: the reason is "what: strerror(err)"; the code is
 * SW_EIO, or SW_ENOMEM for ENOMEM. what says what was tried, e.g. "cannot open". */
sw_code sw_fail_errno(sw_status *st, const char *file, int err, const char *what);

/* Local. An allocation of n bytes failed. */
sw_code sw_fail_nomem(sw_status *st, uint64_t n);

/* Local. SW_ECANCEL when the flag is raised; NULL = there is none. */
sw_code sw_check_cancel(const volatile int *cancel, sw_status *st);

void sw_status_clear(sw_status *st);

/* Local. The name of this machine; n bytes of room. A name that is too long is cut. */
void sw_host_name(char *host, size_t n);

#endif
