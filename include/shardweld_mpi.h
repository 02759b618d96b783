/* What shardweld.h has for programs that use MPI. */
#ifndef SHARDWELD_MPI_H
#define SHARDWELD_MPI_H

#include <mpi.h>

#include "shardweld.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Collective over mpi. A communicator of the same ranks; mpi itself is duplicated and not used
 * again.
 *   out  free with sw_comm_mpi_release() before MPI_Finalize
 * mpi's error handler should return errors (MPI_ERRORS_RETURN), and so should those of
 * MPI_COMM_WORLD and MPI_COMM_SELF: datatypes and infos report there. Errors: SW_ECOMM when MPI
 * fails, SW_ENOMEM; not agreed upon. */
sw_code sw_comm_from_mpi(MPI_Comm mpi, sw_comm *out, sw_status *st);

#ifdef __cplusplus
}
#endif

#endif
