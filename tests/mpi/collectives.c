/* Counts what all ranks do together: to be preloaded into a program that uses MPI (LD_PRELOAD).
 * Each rank appends a line to the file SHARDWELD_COLLECTIVES when it first opens a file by MPI-IO,
 * and when it ends: "open" or "end", its rank, how many there were, and of each kind how many and
 * the bytes of which this rank holds the result, "KIND=COUNT:BYTES". To duplicate or to split a
 * communicator counts as one, and so does what only begins; messages between two ranks are told,
 * but not counted with the others. */
#include <fcntl.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    BCAST,
    ALLREDUCE,
    IALLREDUCE,
    ALLGATHER,
    ALLGATHERV,
    ALLTOALLW,
    BARRIER,
    DUP,
    SPLIT,
    WINDOW,
    RECV,
    KINDS
};

static const char *const names[KINDS] = { "bcast",      "allreduce", "iallreduce", "allgather",
                                          "allgatherv", "alltoallw", "barrier",    "dup",
                                          "split",      "window",    "recv" };
static int counts[KINDS];
static long long bytes[KINDS];

/* One of a kind: n elements of a type come to this rank. */
static void count(int kind, long long n, MPI_Datatype type)
{
    int size = 0;

    PMPI_Type_size(type, &size);
    counts[kind]++;
    bytes[kind] += n * size;
}

static int size_of(MPI_Comm comm)
{
    int size = 0;

    PMPI_Comm_size(comm, &size);
    return size;
}

static void tell(const char *when)
{
    const char *path = getenv("SHARDWELD_COLLECTIVES");
    char line[1024];
    int rank = 0, total = 0, fd, n;

    PMPI_Comm_rank(MPI_COMM_WORLD, &rank);
    for (int k = 0; k < RECV; k++)
        total += counts[k];
    n = snprintf(line, sizeof line, "%s %d %d", when, rank, total);
    for (int k = 0; k < KINDS; k++)
        if (counts[k])
            n += snprintf(line + n, sizeof line - (size_t)n, " %s=%d:%lld", names[k], counts[k], bytes[k]);
    line[n++] = '\n';
    if (!path || (fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0666)) < 0)
        return;
    if (write(fd, line, (size_t)n) != n)
        abort();
    close(fd);
}

int MPI_Bcast(void *buf, int n, MPI_Datatype type, int root, MPI_Comm comm)
{
    count(BCAST, n, type);
    return PMPI_Bcast(buf, n, type, root, comm);
}

int MPI_Allreduce(const void *mine, void *all, int n, MPI_Datatype type, MPI_Op op, MPI_Comm comm)
{
    count(ALLREDUCE, n, type);
    return PMPI_Allreduce(mine, all, n, type, op, comm);
}

int MPI_Iallreduce(const void *mine, void *all, int n, MPI_Datatype type, MPI_Op op, MPI_Comm comm,
                   MPI_Request *request)
{
    count(IALLREDUCE, n, type);
    return PMPI_Iallreduce(mine, all, n, type, op, comm, request);
}

int MPI_Allgather(const void *mine, int n, MPI_Datatype type, void *all, int each, MPI_Datatype of,
                  MPI_Comm comm)
{
    count(ALLGATHER, (long long)each * size_of(comm), of);
    return PMPI_Allgather(mine, n, type, all, each, of, comm);
}

int MPI_Allgatherv(const void *mine, int n, MPI_Datatype type, void *all, const int *each, const int *places,
                   MPI_Datatype of, MPI_Comm comm)
{
    long long total = 0;

    for (int r = 0; r < size_of(comm); r++)
        total += each[r];
    count(ALLGATHERV, total, of);
    return PMPI_Allgatherv(mine, n, type, all, each, places, of, comm);
}

int MPI_Alltoallw(const void *mine, const int *counts_out, const int *places_out, const MPI_Datatype *out,
                  void *all, const int *counts_in, const int *places_in, const MPI_Datatype *in,
                  MPI_Comm comm)
{
    counts[ALLTOALLW]++;
    return PMPI_Alltoallw(mine, counts_out, places_out, out, all, counts_in, places_in, in, comm);
}

int MPI_Barrier(MPI_Comm comm)
{
    counts[BARRIER]++;
    return PMPI_Barrier(comm);
}

int MPI_Comm_dup(MPI_Comm comm, MPI_Comm *out)
{
    counts[DUP]++;
    return PMPI_Comm_dup(comm, out);
}

int MPI_Comm_split(MPI_Comm comm, int color, int key, MPI_Comm *out)
{
    counts[SPLIT]++;
    return PMPI_Comm_split(comm, color, key, out);
}

int MPI_Comm_split_type(MPI_Comm comm, int type, int key, MPI_Info info, MPI_Comm *out)
{
    counts[SPLIT]++;
    return PMPI_Comm_split_type(comm, type, key, info, out);
}

int MPI_Win_allocate_shared(MPI_Aint n, int unit, MPI_Info info, MPI_Comm comm, void *at, MPI_Win *win)
{
    counts[WINDOW]++;
    bytes[WINDOW] += n;
    return PMPI_Win_allocate_shared(n, unit, info, comm, at, win);
}

int MPI_Recv(void *buf, int n, MPI_Datatype type, int from, int tag, MPI_Comm comm, MPI_Status *status)
{
    MPI_Status own;
    int err = PMPI_Recv(buf, n, type, from, tag, comm, status == MPI_STATUS_IGNORE ? &own : status), got = 0;

    if (err == MPI_SUCCESS)
        PMPI_Get_count(status == MPI_STATUS_IGNORE ? &own : status, type, &got);
    count(RECV, got, type);
    return err;
}

int MPI_File_open(MPI_Comm comm, const char *path, int mode, MPI_Info info, MPI_File *file)
{
    static int opened;

    if (!opened++)
        tell("open");
    return PMPI_File_open(comm, path, mode, info, file);
}

int MPI_Finalize(void)
{
    tell("end");
    return PMPI_Finalize();
}
