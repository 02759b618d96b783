/* Injected failures, for tests. In a build with SW_FAULTS the environment says what goes wrong:
 *   SHARDWELD_FAULT=SITE:RANK:NTH[+][:ERRNO|kill|stop|halt|slow] the NTH call (from 1) at SITE on
 *       RANK (-1 = any rank) fails with ERRNO (a number; EIO unless given), or hangs (hang: until
 *       it is killed, as a call to a file server that does not answer), or the process kills
 *       (SIGKILL) or stops (SIGSTOP) itself there, or sleeps for 50 ms; halt: it stops, and once
 *       continued sleeps for 3 s or until a signal, because who cancels it continues it first; with
 *       + all calls from the NTH on. At "band" the one action is flip: a bit of what is about to be
 *       written changes
 *   SHARDWELD_FAULT_LIST=FILE   appends a line "SITE RANK" for each call, so that a test knows what
 *                               there is
 *   SHARDWELD_NO_RESERVE=1      space is not reserved, so that a disk fills while it is written
 * Without SW_FAULTS all of it is nothing. Thread-safe. */
#ifndef SW_BASE_FAULT_H
#define SW_BASE_FAULT_H

#include <stdint.h>

#ifdef SW_FAULTS
/* Local. True: the call must not be made (or counts as failed); errno is set. */
int sw_fault(const char *site);
#define SW_FAULT(site) sw_fault(site)
/* Local. Change a bit in the middle of n bytes, if it is their turn. */
void sw_fault_flip(const char *site, char *data, uint64_t n);
#define SW_FAULT_FLIP(site, data, n) sw_fault_flip(site, data, n)
#else
#define SW_FAULT(site) 0
#define SW_FAULT_FLIP(site, data, n) ((void)(data), (void)(n))
#endif

/* Local. True: leave the reservation of space out. 0 in a normal build. */
int sw_fault_no_reserve(void);

#endif
