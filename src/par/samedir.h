/* OUTPUT_DIR is one directory for all ranks, or the run ends before any work. */
#ifndef SW_PAR_SAMEDIR_H
#define SW_PAR_SAMEDIR_H

#include "par/comm.h"

/* Collective, once rank 0 holds the lock. Each rank looks at the lock file, in which a number
 * stands that no other has: one that does not come to see it within SW_LOOKUP_SECONDS, or sees
 * another, has another directory of that name.
 *   staging  OUTPUT_DIR/.shardweld-staging as this rank calls it. NULL on rank 0 = there is none,
 *            and nothing to look at; on another rank = as rank 0 calls it
 *   show     OUTPUT_DIR
 *   share    n bytes of rank 0's that all get to know with it (sw_agree_share())
 * Errors: SW_EUSAGE, naming both machines; SW_EIO. All ranks return the same. */
#define SW_LOOKUP_SECONDS 10
sw_code sw_check_same_dir(const sw_comm *comm, const char *staging, const char *show, void *share, size_t n,
                          sw_status *st);

#endif
