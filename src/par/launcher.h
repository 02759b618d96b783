/* What started this process, read from the environment: a launcher of MPI jobs, one that starts
 * processes which are no ranks of a job, or none. No MPI function is called. */
#ifndef SW_PAR_LAUNCHER_H
#define SW_PAR_LAUNCHER_H

#include "base/status.h"

#define SW_LAUNCHER_KINDS 3
#define SW_LAUNCHER_MARKS 3

typedef struct sw_launcher {
    const char *name;
    const char *rank, *size; /* the variables that number the processes; they may be absent */
    /* of a launcher of MPI jobs: one of these is set; layers whose MPI may know it, the best
     * first */
    const char *marks[SW_LAUNCHER_MARKS], *kinds[SW_LAUNCHER_KINDS];
    bool of_open_mpi; /* an MPI of the standard's ABI must be Open MPI */
} sw_launcher;

/* Local. The launcher of MPI jobs that has started this process; NULL = none has. */
const sw_launcher *sw_launcher_here(void);

/* Local. How many processes it has started; 0 = nobody tells. */
int sw_launcher_size(const sw_launcher *l);

/* Local. May an MPI of this kind know it? */
bool sw_launcher_knows(const sw_launcher *l, const char *kind);

/* Local. The directory of the MPI that the launcher belongs to, ".../bin/.." of the nearest process
 * above this one whose program is one of MPI's, into prefix (n bytes); false = none is. */
bool sw_launcher_prefix(char *prefix, size_t n);

/* Local. These processes are no ranks of one MPI job: SW_EUSAGE, with how many they are, why, what
 * to do, and how to run one copy on purpose.
 *   why   NULL = nothing is to be said
 *   cure  beside starting it otherwise; NULL = none
 *   kind  of the MPI that it can be started with; "none" = none */
sw_code sw_launcher_refuse(const sw_launcher *l, const char *why, const char *cure, const char *kind,
                           sw_status *st);

#endif
