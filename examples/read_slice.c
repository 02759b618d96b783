/* Each rank reads its slice of a checkpoint, sharded or consolidated, whatever number of ranks
 * saved it. No MPI is needed to build it; under a launcher the library loads what it needs:
 *
 *     cc read_slice.c $(pkg-config --cflags --libs shardweld) -o read_slice
 *     ./read_slice DIR
 *     mpirun -n 4 ./read_slice DIR
 *
 * Every floating-point tensor is cut into slices along its first dimension; a rank reads its own as
 * F32, all of them in one call, and the ranks add up what they hold. Rank 0 prints a line for each
 * tensor: name, shape, sum. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <shardweld.h>

/* What this rank takes of one tensor. */
typedef struct slice {
    sw_tensor_info tensor;
    uint64_t offsets[SW_READ_DIMS], shape[SW_READ_DIMS];
    uint64_t elements;
} slice;

static bool is_floating(const char *dtype)
{
    return strcmp(dtype, "F64") == 0 || strcmp(dtype, "F32") == 0 || strcmp(dtype, "BF16") == 0 ||
           strcmp(dtype, "F16") == 0;
}

/* Rank's share of n things, as even as can be. */
static void share(uint64_t n, const sw_comm *comm, uint64_t *first, uint64_t *count)
{
    uint64_t size = (uint64_t)comm->size, rank = (uint64_t)comm->rank, each = n / size, more = n % size;

    *first = rank * each + (rank < more ? rank : more);
    *count = each + (rank < more);
}

static void make_slice(const sw_checkpoint *cp, uint64_t i, const sw_comm *comm, slice *s)
{
    sw_checkpoint_tensor(cp, i, &s->tensor);
    s->elements = 1;
    for (unsigned d = 0; d < s->tensor.ndim; d++) {
        s->offsets[d] = 0;
        s->shape[d] = s->tensor.shape[d];
        if (d == 0)
            share(s->tensor.shape[0], comm, &s->offsets[0], &s->shape[0]);
        s->elements *= s->shape[d];
    }
    /* A single number cannot be shared: the first rank takes it. */
    if (!is_floating(s->tensor.dtype) || (s->tensor.ndim == 0 && comm->rank > 0))
        s->elements = 0;
}

/* All slices one after the other in memory. */
static sw_code read_slices(const sw_comm *comm, const sw_checkpoint *cp, const slice *slices, uint64_t n,
                           float *memory, sw_status *st)
{
    sw_read *reads = calloc(n + 1, sizeof *reads);
    sw_read_options opt = SW_READ_OPTIONS_INIT;
    size_t wanted = 0;
    sw_code code;

    for (uint64_t i = 0; reads && i < n; i++) {
        const slice *s = &slices[i];

        if (s->elements == 0)
            continue;
        reads[wanted++] = (sw_read){ .name = s->tensor.name,
                                     .ndim = s->tensor.ndim,
                                     .offsets = s->offsets,
                                     .shape = s->shape,
                                     .data = memory,
                                     .size = s->elements * sizeof *memory,
                                     .dtype = "F32" };
        memory += s->elements;
    }
    opt.threads = 2;
    code = sw_checkpoint_read_all(comm, cp, reads, wanted, &opt, st);
    free(reads);
    return code;
}

/* What each rank holds of each tensor, added up, and that of all ranks: sums has room for n words
 * of each of them. */
static sw_code add_up(const sw_comm *comm, const slice *slices, uint64_t n, const float *memory, double *sums,
                      sw_status *st)
{
    double *mine = calloc(n + 1, sizeof *mine);
    size_t *counts = calloc((size_t)comm->size, sizeof *counts);

    if (!mine || !counts)
        st->code = SW_ENOMEM;
    if (sw_agree(comm, st))
        goto out;
    for (uint64_t i = 0; i < n; i++)
        for (uint64_t e = 0; e < slices[i].elements; e++)
            mine[i] += *memory++;
    for (int r = 0; r < comm->size; r++)
        counts[r] = n * sizeof *mine;
    if (comm->allgather(comm->ctx, mine, sums, counts))
        st->code = SW_ECOMM;
out:
    free(counts);
    free(mine);
    return st->code;
}

/* A line for each floating-point tensor. */
static void print_sums(const sw_comm *comm, const slice *slices, uint64_t n, const double *sums)
{
    for (uint64_t i = 0; i < n; i++) {
        double sum = 0;

        if (!is_floating(slices[i].tensor.dtype))
            continue;
        for (int r = 0; r < comm->size; r++)
            sum += sums[(uint64_t)r * n + i];
        printf("%s [", slices[i].tensor.name);
        for (unsigned d = 0; d < slices[i].tensor.ndim; d++)
            printf("%s%" PRIu64, d ? ", " : "", slices[i].tensor.shape[d]);
        printf("] %.9g\n", sum);
    }
}

static sw_code run(const sw_comm *comm, const char *path, sw_status *st)
{
    sw_checkpoint *cp = NULL;
    sw_checkpoint_info info;
    slice *slices = NULL;
    float *memory = NULL;
    double *sums;
    uint64_t elements = 0;

    if (sw_checkpoint_open(comm, path, NULL, &cp, st))
        return st->code;
    sw_checkpoint_info_get(cp, &info);
    slices = calloc(info.ntensors + 1, sizeof *slices);
    for (uint64_t i = 0; slices && i < info.ntensors; i++) {
        make_slice(cp, i, comm, &slices[i]);
        elements += slices[i].elements;
    }
    memory = calloc(elements + 1, sizeof *memory);
    sums = calloc((size_t)comm->size * (info.ntensors + 1), sizeof *sums);
    if (!slices || !memory || !sums)
        st->code = SW_ENOMEM;
    /* A rank that has no memory tells the others, who would wait for it else. */
    if (!sw_agree(comm, st) && !read_slices(comm, cp, slices, info.ntensors, memory, st) &&
        !add_up(comm, slices, info.ntensors, memory, sums, st) && comm->rank == 0)
        print_sums(comm, slices, info.ntensors, sums);
    free(sums);
    free(memory);
    free(slices);
    sw_checkpoint_free(cp);
    return st->code;
}

int main(int argc, char **argv)
{
    sw_status st = SW_STATUS_INIT;
    char text[2048];
    sw_comm comm;

    if (argc != 2) {
        fprintf(stderr, "usage: read_slice CHECKPOINT\n");
        return 2;
    }
    /* The ranks of mpirun or srun, or this process alone. */
    if (sw_comm_world(&comm, &st)) {
        fprintf(stderr, "read_slice: %s\n", sw_status_message(&st, text, sizeof text));
        sw_comm_abort(1);
        return 1;
    }
    run(&comm, argv[1], &st);
    /* The error is the same on every rank. It is printed before MPI ends: mpirun ends the others as
     * soon as one rank has returned an exit status that is not 0. */
    if (st.code && comm.rank == 0)
        fprintf(stderr, "read_slice: %s\n", sw_status_message(&st, text, sizeof text));
    sw_comm_mpi_release(&comm);
    return sw_code_exit_status(st.code);
}
