/* What shardweld.h has for programs that use MPI. */
#ifndef SHARDWELD_MPI_H
#define SHARDWELD_MPI_H

#include <mpi.h>

#include "shardweld.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The ABI of this MPI: which layer the library takes for it. */
#if defined(OPEN_MPI)
#define SW_MPI_KIND "openmpi"
#elif defined(MPI_ABI_VERSION)
#define SW_MPI_KIND "abi"
#else
#define SW_MPI_KIND "mpich"
#endif

/* Collective over mpi. A communicator of the same ranks; mpi itself is duplicated and not used
 * again. The library itself needs no MPI: it loads the layer for this one, which is in the process
 * already (in a static program it is linked in).
 *   out  free with sw_comm_mpi_release() before MPI_Finalize
 * mpi's error handler should return errors (MPI_ERRORS_RETURN), and so should those of
 * MPI_COMM_WORLD and MPI_COMM_SELF: datatypes and infos report there. Errors: SW_ECOMM when MPI
 * fails, SW_EUSAGE where there is no layer for it, SW_ENOMEM; not agreed upon. */
static inline sw_code sw_comm_from_mpi(MPI_Comm mpi, sw_comm *out, sw_status *st)
{
    return sw_comm_from_handle(SW_MPI_KIND, (uintptr_t)mpi, out, st);
}

#ifdef __cplusplus
}
#endif

#endif
