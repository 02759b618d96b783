/* Communicators and messages by MPI, and the table of all; see par/layer.h. */
#include "mpi/calls.h"

#include <stdio.h>
#include <string.h>

/* ---- the process ----------------------------------------------------------------------------- */

/* What MPI calls itself. */
static void name(char *text, size_t n)
{
    char told[MPI_MAX_LIBRARY_VERSION_STRING + 1] = "";
    int len = 0;

    if (MPI_Get_library_version(told, &len) != MPI_SUCCESS)
        told[0] = '\0';
    snprintf(text, n, "%s", told);
}

/* What MPI says of it, on one line. */
static void error_text(int err, char *text, size_t n)
{
    char told[MPI_MAX_ERROR_STRING + 1] = "";
    int len = 0;

    if (err == SW_LAYER_FAULT)
        err = MPI_ERR_IO;
    if (err == SW_LAYER_NOMEM)
        err = MPI_ERR_NO_MEM;
    if (MPI_Error_string(err, told, &len) != MPI_SUCCESS)
        len = 0;
    told[len] = '\0';
    for (char *line = told; (line = strchr(line, '\n')) != NULL;)
        *line = ' ';
    snprintf(text, n, "%s", len ? told : "unknown MPI error");
}

/* Has MPI begun, or ended? */
static sw_layer_state state(void)
{
    int begun = 0, ended = 0;

    if (MPI_Finalized(&ended) != MPI_SUCCESS || MPI_Initialized(&begun) != MPI_SUCCESS)
        return SW_MPI_BROKEN;
    return ended ? SW_MPI_ENDED : begun ? SW_MPI_BEGUN : SW_MPI_UNBORN;
}

/* Errors come back as codes, and to nobody else. */
static void ignore_error(MPI_Comm *comm, int *err, ...)
{
    (void)comm, (void)err;
}

/* Errors are returned. By a function of ours: Intel MPI, through the standard's ABI, takes
 * MPI_ERRORS_RETURN without an error and aborts all the same. */
static int return_errors(MPI_Comm comm)
{
    MPI_Errhandler ours;
    int err = MPI_Comm_create_errhandler(ignore_error, &ours);

    if (err == MPI_SUCCESS)
        err = MPI_Comm_set_errhandler(comm, ours);
    return err == MPI_SUCCESS ? MPI_Errhandler_free(&ours) : err;
}

/* A communicator that is ours, which is freed if that fails. */
static int wrap(MPI_Comm comm, sw_layer_comm *out)
{
    int err = return_errors(comm);

    if (err == MPI_SUCCESS)
        err = MPI_Comm_rank(comm, &out->rank);
    if (err == MPI_SUCCESS)
        err = MPI_Comm_size(comm, &out->size);
    if (err != MPI_SUCCESS)
        MPI_Comm_free(&comm);
    out->handle = (sw_handle)comm;
    return err;
}

/* A communicator of our own, so that our messages meet nobody else's. */
static int duplicate(sw_handle comm, sw_layer_comm *out)
{
    MPI_Comm dup = MPI_COMM_NULL;
    int err = MPI_Comm_dup((MPI_Comm)comm, &dup);

    return err == MPI_SUCCESS ? wrap(dup, out) : err;
}

/* Datatypes, infos and files report to COMM_WORLD, from MPI 4 on to COMM_SELF. */
static int begin(sw_layer_comm *out, bool *begun)
{
    int err = MPI_SUCCESS, level;

    *begun = false;
    if (state() == SW_MPI_UNBORN) {
        err = MPI_Init_thread(NULL, NULL, MPI_THREAD_SERIALIZED, &level);
        *begun = err == MPI_SUCCESS;
    }
    if (err == MPI_SUCCESS)
        err = return_errors(MPI_COMM_WORLD);
    if (err == MPI_SUCCESS)
        err = return_errors(MPI_COMM_SELF);
    return err == MPI_SUCCESS ? duplicate((sw_handle)MPI_COMM_WORLD, out) : err;
}

/* MPI ends, if it began with us. */
static void end(void)
{
    MPI_Finalize();
}

/* All ranks end, whatever they are at. */
static void end_all(int status)
{
    MPI_Abort(MPI_COMM_WORLD, status);
}

/* ---- messages -------------------------------------------------------------------------------- */

/* Ranks of one color. */
static int split(const sw_layer_comm *comm, int color, sw_layer_comm *out)
{
    MPI_Comm part = MPI_COMM_NULL;
    int err = MPI_Comm_split((MPI_Comm)comm->handle, color, comm->rank, &part);

    return err == MPI_SUCCESS ? wrap(part, out) : err;
}

/* Ranks that share memory. */
static int split_node(const sw_layer_comm *comm, sw_layer_comm *out)
{
    MPI_Comm part = MPI_COMM_NULL;
    int err =
        MPI_Comm_split_type((MPI_Comm)comm->handle, MPI_COMM_TYPE_SHARED, comm->rank, MPI_INFO_NULL, &part);

    return err == MPI_SUCCESS ? wrap(part, out) : err;
}

/* The communicator is given back. */
static void release(sw_layer_comm *comm)
{
    MPI_Comm mpi = (MPI_Comm)comm->handle;

    MPI_Comm_free(&mpi);
}

/* From root to all. */
static int bcast(sw_handle comm, void *buf, int n, int root)
{
    return MPI_Bcast(buf, n, MPI_BYTE, root, (MPI_Comm)comm);
}

/* Of each rank as much as it has. */
static int allgather(sw_handle comm, const void *mine, int n, void *all, const int *counts, const int *places)
{
    return MPI_Allgatherv(mine, n, MPI_BYTE, all, counts, places, MPI_BYTE, (MPI_Comm)comm);
}

/* Of each rank as much as of any. */
static int allgather_equal(sw_handle comm, const void *mine, int n, void *all)
{
    return MPI_Allgather(mine, n, MPI_BYTE, all, n, MPI_BYTE, (MPI_Comm)comm);
}

/* The largest of all ranks' words; with request it only begins. */
static int most(sw_handle comm, const uint64_t *mine, uint64_t *out, int n, sw_handle *request)
{
    MPI_Request r = MPI_REQUEST_NULL;
    int err;

    if (!request)
        return MPI_Allreduce(mine, out, n, MPI_UINT64_T, MPI_MAX, (MPI_Comm)comm);
    err = MPI_Iallreduce(mine, out, n, MPI_UINT64_T, MPI_MAX, (MPI_Comm)comm, &r);
    *request = err == MPI_SUCCESS ? (sw_handle)r : 0;
    return err;
}

/* Begin to send. */
static int send(sw_handle comm, const void *buf, int n, int to, int tag, sw_handle *request)
{
    MPI_Request r = MPI_REQUEST_NULL;
    int err = MPI_Isend(buf, n, MPI_BYTE, to, tag, (MPI_Comm)comm, &r);

    *request = err == MPI_SUCCESS ? (sw_handle)r : 0;
    return err;
}

/* Wait for a message. */
static int receive(sw_handle comm, void *buf, int n, int from, int tag, int *got)
{
    MPI_Status status;
    int err = MPI_Recv(buf, n, MPI_BYTE, from, tag, (MPI_Comm)comm, &status);

    return err == MPI_SUCCESS ? MPI_Get_count(&status, MPI_BYTE, got) : err;
}

/* Has a message come? */
static int probe(sw_handle comm, int tag, int *come)
{
    return MPI_Iprobe(MPI_ANY_SOURCE, tag, (MPI_Comm)comm, come, MPI_STATUS_IGNORE);
}

/* Wait for what was begun; with done only look. */
static int finish(sw_handle *request, int *done)
{
    MPI_Request r = (MPI_Request)*request;
    int is = 1, err = MPI_SUCCESS;

    if (*request)
        err = done ? MPI_Test(&r, &is, MPI_STATUS_IGNORE) : MPI_Wait(&r, MPI_STATUS_IGNORE);
    if (is)
        *request = 0;
    if (done)
        *done = is;
    return err;
}

/* ---- the table ------------------------------------------------------------------------------- */

#if defined OPEN_MPI
#define KIND "openmpi"
#elif defined MPI_ABI_VERSION
#define KIND "abi"
#else
#define KIND "mpich" /* and all that descend from it */
#endif

const sw_layer sw_layer_mpi = {
    .version = SW_LAYER_VERSION,
    .kind = KIND,
    .hint_key_max = MPI_MAX_INFO_KEY,
    .hint_value_max = MPI_MAX_INFO_VAL,
    .name = name,
    .error_text = error_text,
    .state = state,
    .begin = begin,
    .end = end,
    .duplicate = duplicate,
    .abort = end_all,
    .settings = sw_mpi_settings,
    .split = split,
    .split_node = split_node,
    .free = release,
    .bcast = bcast,
    .allgather = allgather,
    .allgather_equal = allgather_equal,
    .most = most,
    .send = send,
    .receive = receive,
    .probe = probe,
    .finish = finish,
    .exchange_new = sw_mpi_exchange_new,
    .exchange_free = sw_mpi_exchange_free,
    .exchange_expect = sw_mpi_exchange_expect,
    .exchange_go = sw_mpi_exchange_go,
    .share = sw_mpi_share,
    .shared = sw_mpi_shared,
    .share_sync = sw_mpi_share_sync,
    .unshare = sw_mpi_unshare,
    .file_open = sw_mpi_file_open,
    .file_set_hints = sw_mpi_file_set_hints,
    .file_hints = sw_mpi_file_hints,
    .file_write = sw_mpi_file_write,
    .file_sync = sw_mpi_file_sync,
    .file_close = sw_mpi_file_close,
};
