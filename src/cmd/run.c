/* One run of a command; see run.h. What is said is said by rank 0, before any rank leaves: mpirun ends a job at the
 * first rank that exits with an error, and the message must be out by then. */
#include "run.h"

#include <stdlib.h>
#include <string.h>

#include "launch.h"
#include "report.h"
#include "say.h"
#include "shardweld_mpi.h"

/* ---- what the library calls, on rank 0 ---------------------------------------------------------- */

/* Kept for the report; one that finds no memory is only printed. */
static void keep_warning(sw_run *run, const char *text)
{
    char **grown = realloc(run->warnings, (run->nwarnings + 1) * sizeof *grown);

    if (!grown)
        return;
    run->warnings = grown;
    grown[run->nwarnings] = strdup(text);
    if (grown[run->nwarnings])
        run->nwarnings++;
}

static void on_warning(void *user, const char *text)
{
    sw_run *run = user;

    keep_warning(run, text);
    if (run->args->quiet)
        return;
    sw_progress_pause(&run->progress);
    sw_say_warning(text);
}

static void on_progress(void *user, uint64_t done, uint64_t total)
{
    sw_run *run = user;

    sw_progress_update(&run->progress, done, total);
}

/* ---- agreement ---------------------------------------------------------------------------------- */

/* Collective. The lowest failing rank's status becomes everybody's. */
static sw_code agree(sw_status *st)
{
    int rank, size, mine, first;

    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    mine = st->code ? rank : size;
    if (MPI_Allreduce(&mine, &first, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD) ||
        (first < size && MPI_Bcast(st, (int)sizeof *st, MPI_BYTE, first, MPI_COMM_WORLD)))
        return sw_refuse(st, SW_EINTERNAL, NULL, "MPI cannot tell the ranks of one another's errors");
    return st->code;
}

/* Collective. Ranks that plan differently would wait for one another for ever. */
static sw_code check_same_options(const sw_args *args, int rank, sw_status *st)
{
    char *mine = sw_options_text(args);
    size_t n = mine ? strlen(mine) : 0;
    uint64_t len = n;
    char *first = NULL;

    if (MPI_Bcast(&len, 1, MPI_UINT64_T, 0, MPI_COMM_WORLD))
        sw_refuse(st, SW_EINTERNAL, NULL, "MPI cannot broadcast");
    first = malloc((size_t)len + 1);
    if (!mine || !first)
        sw_refuse(st, SW_ENOMEM, NULL, "out of memory");
    if (agree(st))
        goto out;
    memcpy(first, mine, n < len ? n : (size_t)len);
    if (MPI_Bcast(first, (int)len, MPI_BYTE, 0, MPI_COMM_WORLD))
        sw_refuse(st, SW_EINTERNAL, NULL, "MPI cannot broadcast");
    else if (n != len || memcmp(first, mine, n) != 0)
        sw_refuse(st, SW_EUSAGE, NULL, "rank %d was started with other options than rank 0", rank);
    agree(st);
out:
    free(first);
    free(mine);
    return st->code;
}

/* ---- the run ------------------------------------------------------------------------------------ */

/* Local, for rank 0. All that the run leaves behind for people. The first error is the one that counts. */
static void tell(sw_run *run, sw_status *st)
{
    sw_status err = SW_STATUS_INIT;
    char text[sizeof(sw_status) + 64];

    sw_progress_end(&run->progress, st->code == SW_OK);
    if (run->args->command)
        run->args->command->tell(run, st);
    if (run->args->report && sw_report_write(run, st, &err)) {
        if (st->code == SW_OK)
            sw_refuse(st, err.code, err.file, "%s; all else was done", err.reason);
        else if (!run->args->quiet)
            sw_say_warning(sw_status_message(&err, text, sizeof text));
    }
    if (st->code)
        sw_say_error(st);
}

static void release(sw_run *run)
{
    sw_result_release(&run->result);
    sw_verification_release(&run->verification);
    sw_checkpoint_free(run->checkpoint);
    for (size_t i = 0; i < run->nwarnings; i++)
        free(run->warnings[i]);
    free(run->warnings);
}

/* Collective. The library's part. */
static void work(sw_run *run, double begun, sw_status *st)
{
    double ready = sw_clock();

    run->seconds_start = ready - begun;
    if (run->comm.rank == 0)
        sw_progress_begin(&run->progress, run->args->progress, run->args->quiet);
    run->args->command->run(run, st);
    run->seconds = sw_clock() - ready;
}

int sw_run_refused(const sw_args *args, sw_status *st)
{
    sw_run run = { .args = args, .comm = { .size = 1 } };

    tell(&run, st);
    release(&run);
    return sw_code_exit_status(st->code);
}

/* False: MPI is of no use. */
static bool begin_mpi(int *rank, int *size)
{
    int provided;

    return !MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided) &&
           !MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN) &&
           !MPI_Comm_rank(MPI_COMM_WORLD, rank) && !MPI_Comm_size(MPI_COMM_WORLD, size);
}

int sw_run_ranks(const sw_args *args, bool alone, double begun, sw_status *st)
{
    sw_args mine = *args;
    sw_run run = { .args = &mine, .comm = sw_comm_self() };
    int rank, size;

    sw_transport_defaults(args->output);
    if (!begin_mpi(&rank, &size)) {
        sw_refuse(st, SW_EINTERNAL, NULL, "MPI does not start");
        return sw_run_refused(args, st);
    }
    if (!alone && st->code == SW_OK)
        sw_launch_confirm(size, st);
    mine.opt.user = &run;
    mine.opt.warn = on_warning;
    mine.opt.progress = on_progress;
    mine.opt.cancel = sw_signals_flag();
    if (agree(st) == SW_OK && (alone || check_same_options(args, rank, st) == SW_OK)) {
        sw_comm_from_mpi(MPI_COMM_WORLD, &run.comm, st);
        if (agree(st) == SW_OK)
            work(&run, begun, st);
    }
    if (st->code == SW_ECOMM) {
        sw_say_error(st);
        MPI_Abort(MPI_COMM_WORLD, sw_code_exit_status(st->code));
    }
    if (rank == 0)
        tell(&run, st);
    MPI_Bcast(st, (int)sizeof *st, MPI_BYTE, 0, MPI_COMM_WORLD);
    release(&run);
    sw_comm_mpi_release(&run.comm);
    MPI_Finalize();
    return sw_code_exit_status(st->code);
}
