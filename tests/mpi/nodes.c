/* Makes nodes of the ranks of one machine: to be preloaded into a program that uses MPI. Those of
 * which the number leaves the same rest by SHARDWELD_NODES share memory, and no others do. */
#include <mpi.h>
#include <stdlib.h>

int MPI_Comm_split_type(MPI_Comm comm, int type, int key, MPI_Info info, MPI_Comm *out)
{
    const char *nodes = getenv("SHARDWELD_NODES");
    int rank = 0, err = MPI_Comm_rank(comm, &rank);

    (void)info;
    if (err != MPI_SUCCESS)
        return err;
    if (!nodes || type != MPI_COMM_TYPE_SHARED)
        abort();
    return PMPI_Comm_split(comm, rank % atoi(nodes), key, out);
}
