/* Exchange by MPI_Alltoallw: bytes as they lie on the sending side, boxes of the band on the
 * receiving side; see par/layer.h. One call for each part of a round. */
#include <stdlib.h>
#include <string.h>

#include "mpi/calls.h"

typedef struct exchange {
    MPI_Comm comm;
    int size;
    int *zeros, *counts; /* where types begin; how many of them come from each rank: 0 or 1 */
    MPI_Datatype *bytes, *types;
} exchange;

static exchange *of(sw_handle handle)
{
    return (exchange *)handle; // NOLINT: it came from a pointer
}

/* What comes from a rank, or goes to it, is nothing again. */
static void forget(exchange *x, int from)
{
    if (x->counts[from])
        MPI_Type_free(&x->types[from]);
    x->types[from] = MPI_BYTE;
    x->counts[from] = 0;
}

void sw_mpi_exchange_free(sw_handle handle)
{
    exchange *x = of(handle);

    if (!x)
        return;
    for (int r = 0; x->counts && x->types && r < x->size; r++)
        forget(x, r);
    free(x->zeros);
    free(x->counts);
    free(x->bytes);
    free(x->types);
    free(x);
}

int sw_mpi_exchange_new(sw_handle comm, int size, sw_handle *out)
{
    exchange *x = calloc(1, sizeof *x);
    size_t n = (size_t)size;

    if (!x)
        return SW_LAYER_NOMEM;
    x->comm = (MPI_Comm)comm;
    x->size = size;
    x->zeros = calloc(n, sizeof *x->zeros);
    x->counts = calloc(n, sizeof *x->counts);
    x->bytes = calloc(n, sizeof *x->bytes);
    x->types = calloc(n, sizeof *x->types);
    if (!x->zeros || !x->counts || !x->bytes || !x->types) {
        sw_mpi_exchange_free((sw_handle)x);
        return SW_LAYER_NOMEM;
    }
    for (size_t r = 0; r < n; r++)
        x->bytes[r] = x->types[r] = MPI_BYTE;
    *out = (sw_handle)x;
    return MPI_SUCCESS;
}

/* Parts of a datatype. */
typedef struct parts {
    int *lengths;
    MPI_Aint *places;
    MPI_Datatype *types;
} parts;

/* A type for each box, of bytes; where boxes begin, and how many there are of its type. */
static int make_parts(const parts *p, const sw_layer_box *boxes, size_t n, const int *dims)
{
    static const int starts[SW_LAYER_DIMS_MAX];
    int err = MPI_SUCCESS;

    for (size_t i = 0; i < n; i++)
        p->types[i] = MPI_BYTE;
    for (size_t i = 0; i < n && err == MPI_SUCCESS; i++) {
        const sw_layer_box *b = &boxes[i];

        p->places[i] = (MPI_Aint)b->at;
        p->lengths[i] = b->ndims ? 1 : b->n;
        if (b->ndims)
            err = MPI_Type_create_subarray(b->ndims, dims, dims + b->ndims, starts, MPI_ORDER_C, MPI_BYTE,
                                           &p->types[i]);
        dims += 2 * b->ndims;
    }
    return err;
}

int sw_mpi_exchange_expect(sw_handle handle, int from, const sw_layer_box *boxes, size_t n, const int *dims)
{
    exchange *x = of(handle);
    parts p;
    int err = SW_LAYER_NOMEM;

    forget(x, from);
    if (n == 0)
        return MPI_SUCCESS;
    p = (parts){ calloc(n, sizeof *p.lengths), calloc(n, sizeof *p.places), calloc(n, sizeof *p.types) };
    if (p.lengths && p.places && p.types) {
        err = make_parts(&p, boxes, n, dims);
        if (err == MPI_SUCCESS) {
            err = MPI_Type_create_struct((int)n, p.lengths, p.places, p.types, &x->types[from]);
            x->counts[from] = err == MPI_SUCCESS;
        }
        if (err == MPI_SUCCESS)
            err = MPI_Type_commit(&x->types[from]);
        for (size_t i = 0; i < n; i++)
            if (p.types[i] != MPI_BYTE)
                MPI_Type_free(&p.types[i]);
    }
    free(p.lengths);
    free(p.places);
    free(p.types);
    return err;
}

int sw_mpi_exchange_go(sw_handle handle, const void *send, const int *counts, const int *at, void *band)
{
    exchange *x = of(handle);
    int err = MPI_Alltoallw(send, counts, at, x->bytes, band, x->counts, x->zeros, x->types, x->comm);

    for (int r = 0; r < x->size; r++)
        forget(x, r);
    return err;
}
