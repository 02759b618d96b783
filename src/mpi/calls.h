/* The layer (par/layer.h) by MPI, in four files: communicators and messages, exchange, memory of a
 * node, files. It needs nothing but MPI and libc, so that it can be a library of its own. */
#ifndef SW_MPI_CALLS_H
#define SW_MPI_CALLS_H

#include <mpi.h>

#include "par/layer.h"

_Static_assert(sizeof(MPI_Comm) <= sizeof(sw_handle) && sizeof(MPI_File) <= sizeof(sw_handle) &&
                   sizeof(MPI_Request) <= sizeof(sw_handle),
               "a handle of MPI is at most a pointer");

int sw_mpi_exchange_new(sw_handle comm, int size, sw_handle *out);
void sw_mpi_exchange_free(sw_handle exchange);
int sw_mpi_exchange_expect(sw_handle exchange, int from, const sw_layer_box *boxes, size_t n,
                           const int *dims);
int sw_mpi_exchange_go(sw_handle exchange, const void *send, const int *counts, const int *at, void *band);

int sw_mpi_share(sw_handle comm, int64_t n, void **mine, sw_handle *out);
int sw_mpi_shared(sw_handle share, int rank, void **at, int64_t *n);
int sw_mpi_share_sync(sw_handle share);
int sw_mpi_unshare(sw_handle *share);

int sw_mpi_file_open(sw_handle comm, const char *path, const char *const *const *hints, sw_handle *out);
int sw_mpi_file_set_hints(sw_handle file, const char *const *const *hints);
void sw_mpi_file_hints(sw_handle file, sw_layer_pair_fn each, void *ctx);
int sw_mpi_file_write(sw_handle file, int64_t at, const void *data, int n, int64_t *written);
int sw_mpi_file_sync(sw_handle file);
int sw_mpi_file_close(sw_handle *file);

/* Local. What Open MPI is set to, by its control variables (MPI_T); of another MPI little. */
void sw_mpi_settings(bool (*wanted)(const char *name), sw_layer_pair_fn each, void *ctx);

#endif
