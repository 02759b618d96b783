/* What par needs of MPI: a table of functions, the layer. Its one implementation is src/mpi, the
 * only folder that sees mpi.h.
 *
 * The table is plain C, so that a layer can be a library of its own, made once for each kind of
 * MPI: no type of MPI is in it, nothing is shared but what goes through it, and a layer needs
 * nothing of what lies below. So what is waited for (base/step), and what a test lets fail
 * (SW_FAULT), is said by who calls the table.
 *
 * Unless said otherwise a function returns 0, or a number that error_text() knows. A function of a
 * communicator or of a file is collective over its ranks. */
#ifndef SW_PAR_LAYER_H
#define SW_PAR_LAYER_H

#include "shardweld.h"

/* Raised whenever the table changes: a layer of another one is not taken. */
#define SW_LAYER_VERSION 2
/* The one symbol of a layer that is loaded: its table. */
#define SW_LAYER_SYMBOL "sw_layer_mpi"

/* Numbers of the layer's own, beside MPI's. */
#define SW_LAYER_NOMEM (-1)  /* out of memory */
#define SW_LAYER_FAULT (-2)  /* what a test has made fail: reads as an I/O error of MPI */
#define SW_LAYER_DIMS_MAX 33 /* of a box */

/* A communicator, a request, a file: as MPI has it, in room for a pointer. */
typedef uintptr_t sw_handle;

typedef struct sw_layer_comm {
    sw_handle handle;
    int rank, size;
} sw_layer_comm;

typedef enum sw_layer_state { SW_MPI_UNBORN, SW_MPI_BEGUN, SW_MPI_ENDED, SW_MPI_BROKEN } sw_layer_state;

/* A part of what comes from one rank: ndims = 0, n bytes from byte `at` of the band on; else an
 * array of bytes that begins there, of which rows are taken. */
typedef struct sw_layer_box {
    int64_t at;
    int n, ndims;
} sw_layer_box;

typedef void (*sw_layer_pair_fn)(void *ctx, const char *name, const char *value);

typedef struct sw_layer {
    int version;
    const char *kind;                    /* the ABI: "openmpi", "mpich" or "abi" (MPI's own) */
    size_t hint_key_max, hint_value_max; /* bytes, with the NUL */

    /* ---- the process; all local but begin() ---- */
    /* what MPI calls itself, at most n bytes with the NUL; also before it has begun */
    void (*name)(char *text, size_t n);
    /* one line, at most n bytes with the NUL */
    void (*error_text)(int err, char *text, size_t n);
    sw_layer_state (*state)(void);
    /* a duplicate of all ranks of the job; MPI is begun if it has not (*begun), for threads that
     * call one at a time */
    int (*begin)(sw_layer_comm *out, bool *begun);
    void (*end)(void);
    /* a duplicate of a communicator that is the program's */
    int (*duplicate)(sw_handle comm, sw_layer_comm *out);
    /* end all ranks of the job; does not return */
    void (*abort)(int status);
    /* what MPI is set to, as far as it tells and it is wanted */
    void (*settings)(bool (*wanted)(const char *name), sw_layer_pair_fn each, void *ctx);

    /* ---- messages ---- */
    /* ranks of equal color, in rank order */
    int (*split)(const sw_layer_comm *comm, int color, sw_layer_comm *out);
    /* ranks that share memory, in rank order */
    int (*split_node)(const sw_layer_comm *comm, sw_layer_comm *out);
    void (*free)(sw_layer_comm *comm);
    int (*bcast)(sw_handle comm, void *buf, int n, int root);
    /* counts[r] bytes of rank r to place places[r] */
    int (*allgather)(sw_handle comm, const void *mine, int n, void *all, const int *counts,
                     const int *places);
    /* the same number of bytes from each */
    int (*allgather_equal)(sw_handle comm, const void *mine, int n, void *all);
    /* for each of n words the largest of all ranks'; both must stay until it is finished. request:
     * NULL = now */
    int (*most)(sw_handle comm, const uint64_t *mine, uint64_t *most, int n, sw_handle *request);
    /* local: n bytes to a rank, at buf until it is finished / from a rank, at most n bytes, *got of
     * them; waits / has one come that waits to be received? */
    int (*send)(sw_handle comm, const void *buf, int n, int to, int tag, sw_handle *request);
    int (*receive)(sw_handle comm, void *buf, int n, int from, int tag, int *got);
    int (*probe)(sw_handle comm, int tag, int *come);
    /* local: is it? done: NULL = wait until it is. 0 is a request that is finished. */
    int (*finish)(sw_handle *request, int *done);

    /* ---- exchange ---- */
    /* local: room for what comm's ranks exchange at once */
    int (*exchange_new)(sw_handle comm, int size, sw_handle *out);
    void (*exchange_free)(sw_handle exchange);
    /* local: what comes from a rank next time, in that order.
     *   dims  for each box with dimensions, one after the other: the array's sizes, then how many
     *         of each are taken, outermost first; the last dimension is bytes */
    int (*exchange_expect)(sw_handle exchange, int from, const sw_layer_box *boxes, size_t n,
                           const int *dims);
    /* send[at[r]], counts[r] bytes, to each rank; what was expected of each into the band, once */
    int (*exchange_go)(sw_handle exchange, const void *send, const int *counts, const int *at, void *band);

    /* ---- memory that the ranks of a node share ---- */
    /* n bytes of this rank's, zeroed by nobody, where all ranks of comm (split_node's) reach them;
     * 0 is fine */
    int (*share)(sw_handle comm, int64_t n, void **mine, sw_handle *out);
    /* local: where the bytes of a rank are in this process, and how many; *at NULL = none */
    int (*shared)(sw_handle share, int rank, void **at, int64_t *n);
    /* what any rank has written before is seen by all behind it */
    int (*share_sync)(sw_handle share);
    int (*unshare)(sw_handle *share);

    /* ---- files that all ranks of a communicator write ---- */
    /* hints: lists of "KEY=VALUE", each NULL-terminated, the later wins; the list of lists too */
    int (*file_open)(sw_handle comm, const char *path, const char *const *const *hints, sw_handle *out);
    int (*file_set_hints)(sw_handle file, const char *const *const *hints);
    /* local: the hints that are in effect, as the library tells */
    void (*file_hints)(sw_handle file, sw_layer_pair_fn each, void *ctx);
    /* n bytes at position `at` of the file; *written of them */
    int (*file_write)(sw_handle file, int64_t at, const void *data, int n, int64_t *written);
    int (*file_sync)(sw_handle file);
    int (*file_close)(sw_handle *file);
} sw_layer;

/* Local. The layer that this process has taken; NULL = none yet. Who holds a communicator of MPI's
 * has one. */
const sw_layer *sw_layer_here(void);

/* Local. Take a layer, once, and keep it: the one that is linked in; else, as SHARDWELD_MPI says or
 * where that is not set, one for an MPI library that is in the process; for the launcher's MPI; for
 * any that can be loaded. Thread-safe.
 *   kind  NULL = any; else this one, which may take the place of another one that has not begun
 * Errors: SW_EUSAGE; the reason says what was looked for and what is missing. */
const sw_layer *sw_layer_find(const char *kind, sw_status *st);

/* Local. Has MPI begun in this process? Loads nothing where no MPI library is in it. */
sw_layer_state sw_layer_begun(void);

/* Local. The kinds that layers were found for, with blanks between, at most n bytes with the
 * NUL. */
void sw_layer_kinds(char *text, size_t n);

/* Local. A communicator of the library's own of what is from now on out's to free.
 *   err, what  not 0: it could not be made, because of that */
sw_code sw_layer_adopt(const sw_layer_comm *comm, int err, const char *what, sw_comm *out, sw_status *st);

/* The layer that is linked in; NULL = none. */
extern const sw_layer *const sw_layer_linked;

/* A layer's table. */
extern const sw_layer sw_layer_mpi;

#endif
