/* What the launcher made of this process, read from the environment before MPI_Init: a rank of a
 * job, a process alone, or one of several that are no ranks of one job, which MPI would treat as so
 * many jobs of one. */
#ifndef SW_CMD_LAUNCH_H
#define SW_CMD_LAUNCH_H

#include "shardweld.h"

typedef struct sw_launch {
    bool alone; /* no launcher that MPI knows of: it does without MPI */
    int rank;   /* by the launcher's word, 0 when alone */
} sw_launch;

/* Local. Look.
 * Errors: SW_EUSAGE for N processes that are not ranks of one job; the message says how to start
 * them, and how to run one copy on purpose. out is filled all the same. Source: SPEC 4. */
sw_code sw_launch_look(sw_launch *out, sw_status *st);

/* Local. After MPI_Init, for what is not alone: has MPI made one job of the processes that the
 * launcher started? It has not where it does not speak the launcher's protocol (MPICH without PMIx
 * under srun --mpi=pmix): then each of them is the only rank of its own job.
 *   ranks  of MPI_COMM_WORLD
 * Errors: SW_EUSAGE, as above. */
sw_code sw_launch_confirm(int ranks, sw_status *st);

/* Local. From now on the first SIGINT or SIGTERM sets the flag, a second one of the kind kills.
 * Signals that were ignored (nohup, a background job) stay so. SIGPIPE and SIGXFSZ become errors of
 * the call that met them. */
void sw_signals_catch(void);

/* Local. From now on the first signal says so at once: a launcher that passes it on may kill us
 * before there is an end to tell of.
 *   staging  a directory that may stay then; NULL = none */
void sw_signals_announce(const char *staging);

/* Local. The flag, for sw_options.cancel: the number of the signal that came, or 0. */
const volatile int *sw_signals_flag(void);

/* Local. Die of the signal that came, so that a shell sees which; returns when there was none. */
void sw_signals_die(void);

#endif
