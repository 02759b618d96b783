/* What the launcher made of this process, read from the environment before MPI_Init: a rank of a
 * job, a process alone, or one of several that are no ranks of one job, which MPI would treat as so
 * many jobs of one. */
#ifndef SW_CMD_LAUNCH_H
#define SW_CMD_LAUNCH_H

#include "shardweld.h"

typedef struct sw_launch {
    bool alone; /* no launcher of MPI jobs: it does without MPI */
    /* by the launcher's word, 0 when alone: this process's number, and that on its machine */
    int rank, place;
} sw_launch;

/* Local. Look.
 * Errors: SW_EUSAGE for N processes that are not ranks of one job; the message says how to start
 * them, and how to run one copy on purpose. out is filled all the same. Source: SPEC 4. */
sw_code sw_launch_look(sw_launch *out, sw_status *st);

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
