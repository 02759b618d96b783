/* Memory that the ranks of a node share, by a window of MPI's; see par/layer.h. Two barriers each
 * time: it is for what is large or rare. */
#include <stdlib.h>

#include "mpi/calls.h"

typedef struct window {
    MPI_Win win;
    MPI_Comm comm;
} window;

static window *of(sw_handle handle)
{
    return (window *)handle; // NOLINT: it came from a pointer
}

/* Every rank's comes with errors returned, and open to loads and stores until it is freed. A rank
 * without memory for what it keeps takes part all the same: the others would wait for it. */
int sw_mpi_share(sw_handle comm, int64_t n, void **mine, sw_handle *out)
{
    window *w = malloc(sizeof *w);
    MPI_Win win = MPI_WIN_NULL;
    int err = MPI_Win_allocate_shared((MPI_Aint)n, 1, MPI_INFO_NULL, (MPI_Comm)comm, mine, &win);

    *out = 0;
    if (err == MPI_SUCCESS)
        err = MPI_Win_set_errhandler(win, MPI_ERRORS_RETURN);
    if (err == MPI_SUCCESS)
        err = MPI_Win_lock_all(MPI_MODE_NOCHECK, win);
    if (err != MPI_SUCCESS || !w) {
        free(w);
        return err != MPI_SUCCESS ? err : SW_LAYER_NOMEM;
    }
    *w = (window){ win, (MPI_Comm)comm };
    *out = (sw_handle)w;
    return MPI_SUCCESS;
}

int sw_mpi_shared(sw_handle share, int rank, void **at, int64_t *n)
{
    MPI_Aint size = 0;
    int unit, err;

    *at = NULL;
    err = MPI_Win_shared_query(of(share)->win, rank, &size, &unit, at);
    *n = (int64_t)size;
    if (size == 0)
        *at = NULL;
    return err;
}

int sw_mpi_share_sync(sw_handle share)
{
    const window *w = of(share);
    int err = MPI_Win_sync(w->win);

    if (err == MPI_SUCCESS)
        err = MPI_Barrier(w->comm);
    return err == MPI_SUCCESS ? MPI_Win_sync(w->win) : err;
}

int sw_mpi_unshare(sw_handle *share)
{
    window *w = of(*share);
    int err, freed;

    *share = 0;
    err = MPI_Win_unlock_all(w->win);
    freed = MPI_Win_free(&w->win);
    free(w);
    return err != MPI_SUCCESS ? err : freed;
}
