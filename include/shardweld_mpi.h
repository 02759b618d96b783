/* What shardweld.h has for programs that use MPI. */
#ifndef SHARDWELD_MPI_H
#define SHARDWELD_MPI_H

#include <mpi.h>

#include "shardweld.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Collective over mpi. A communicator of the same ranks; mpi itself is duplicated and not used again.
 *   out  free with sw_comm_mpi_release() before MPI_Finalize
 * Errors: SW_EINTERNAL when MPI fails. */
sw_code sw_comm_from_mpi(MPI_Comm mpi, sw_comm *out, sw_status *st);

/* Collective. Free what sw_comm_from_mpi() made; harmless on any other communicator. */
void sw_comm_mpi_release(sw_comm *comm);

#ifdef __cplusplus
}
#endif

#endif
