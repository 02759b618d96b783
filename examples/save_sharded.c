/* Save a sharded array straight into a file that transformers and safetensors load, with no shard
 * files in between; by a program that speaks MPI itself:
 *
 *     cc save_sharded.c $(pkg-config --cflags --libs shardweld-mpi) -o save_sharded
 *     mpirun -n 4 ./save_sharded OUTPUT_DIR [ROWS COLUMNS]
 *
 * Each rank holds some columns of a matrix (its part of a larger array in memory, hence the
 * strides) and the same bias. Element [r, c] of the matrix is r * COLUMNS + c. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include <shardweld_mpi.h>

#define HALO 2 /* columns on either side that are not saved, as simulations have them */

/* The columns [first, first + columns) of all rows, with a halo around. NULL when there is no
 * memory. */
static float *make_part(uint64_t rows, uint64_t first, uint64_t columns, uint64_t all)
{
    uint64_t width = columns + 2 * HALO;
    float *part = calloc((size_t)(rows * width), sizeof *part);

    for (uint64_t r = 0; part && r < rows; r++)
        for (uint64_t c = 0; c < columns; c++)
            part[r * width + HALO + c] = (float)(r * all + first + c);
    return part;
}

/* What this rank gives: its columns of "matrix", and all of "bias", of which one rank's copy will
 * be used. */
static sw_code save(const sw_comm *comm, const char *dir, uint64_t rows, uint64_t columns, sw_status *st)
{
    uint64_t rank = (uint64_t)comm->rank, size = (uint64_t)comm->size;
    uint64_t first = columns * rank / size, mine = columns * (rank + 1) / size - first;
    const uint64_t whole[2] = { rows, columns }, offsets[2] = { 0, first }, shape[2] = { rows, mine };
    const uint64_t bias_shape[1] = { 3 }, bias_offsets[1] = { 0 };
    const int64_t strides[2] = { (int64_t)((mine + 2 * HALO) * sizeof(float)), sizeof(float) };
    const double bias[3] = { 0.5, 1.5, 2.5 };
    float *part = make_part(rows, first, mine, columns);
    const sw_item items[] = {
        { .name = "matrix",
          .dtype = "F32",
          .ndim = 2,
          .global_shape = whole,
          .offsets = offsets,
          .shape = shape,
          .data = part ? part + HALO : NULL,
          .strides = strides },
        { .name = "bias",
          .dtype = "F64",
          .ndim = 1,
          .global_shape = bias_shape,
          .offsets = bias_offsets,
          .shape = bias_shape,
          .data = bias },
    };
    sw_options opt = SW_OPTIONS_INIT;

    /* A rank without memory gives a box without data: every rank then gets the error. */
    opt.single_file = true;
    opt.overwrite = true;
    sw_save_consolidated(comm, dir, items, sizeof items / sizeof *items, &opt, NULL, st);
    free(part);
    return st->code;
}

int main(int argc, char **argv)
{
    uint64_t rows = argc > 3 ? strtoull(argv[2], NULL, 10) : 100,
             columns = argc > 3 ? strtoull(argv[3], NULL, 10) : 60;
    sw_status st = SW_STATUS_INIT;
    char text[2048];
    sw_comm comm;

    if (argc != 2 && argc != 4) {
        fprintf(stderr, "usage: save_sharded OUTPUT_DIR [ROWS COLUMNS]\n");
        return 2;
    }
    sw_transport_defaults(argv[1]);
    if (MPI_Init(&argc, &argv) != MPI_SUCCESS)
        return 1;
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    if (!sw_comm_from_mpi(MPI_COMM_WORLD, &comm, &st))
        save(&comm, argv[1], rows, columns, &st);
    if (st.code && comm.rank == 0)
        fprintf(stderr, "save_sharded: %s\n", sw_status_message(&st, text, sizeof text));
    else if (comm.rank == 0)
        printf("%" PRIu64 " x %" PRIu64 " elements in %s/model.safetensors\n", rows, columns, argv[1]);
    sw_comm_mpi_release(&comm);
    MPI_Finalize();
    return sw_code_exit_status(st.code);
}
