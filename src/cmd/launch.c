/* What the launcher made of this process; see launch.h. */
#include "launch.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "say.h"
#include "shardweld_mpi.h"

/* Who numbers processes, by which variables. */
typedef struct launcher {
    const char *rank, *size, *name;
} launcher;

/* Launchers whose processes are ranks for the MPI that this program was built with. PMIX_RANK goes without a size. */
static const launcher ours[] = {
#ifdef OPEN_MPI
    { "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "mpirun" },
#else
    { "PMI_RANK", "PMI_SIZE", "mpirun" },
#endif
    { "PMIX_RANK", "PMIX_RANK", "a PMIx launcher" },
};

static const launcher others[] = {
    { "RANK", "WORLD_SIZE", "torchrun" },
    { "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "srun without PMIx" },
#ifdef OPEN_MPI
    { "PMI_RANK", "PMI_SIZE", "the mpirun of another MPI" },
#else
    { "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "the mpirun of another MPI" },
#endif
};

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* The number in a variable, or -1. */
static long number(const char *name)
{
    const char *text = getenv(name);
    char *end;
    long n;

    if (!text || text[0] < '0' || text[0] > '9')
        return -1;
    n = strtol(text, &end, 10);
    return *end || n > INT32_MAX ? -1 : n;
}

/* Refuse with the name of the launcher that was seen first and all variables that have to go. */
static sw_code refuse(sw_status *st)
{
    const launcher *first = NULL;
    char vars[256] = "";
    long n = 0;

    for (size_t i = 0; i < COUNT(others); i++) {
        const launcher *l = &others[i];
        size_t len = strlen(vars);

        if (!getenv(l->rank) || number(l->size) <= 1)
            continue;
        if (!first) {
            first = l;
            n = number(l->size);
        }
        snprintf(vars + len, sizeof vars - len, " -u %s -u %s", l->rank, l->size);
    }
    if (!first)
        return SW_OK;
    return sw_refuse(
        st, SW_EUSAGE, NULL,
        "this is one of %ld processes of %s (%s, %s), which are not ranks of one MPI job; start it "
        "with 'mpirun -n %ld shardweld ...' or 'srun --mpi=pmix -n %ld shardweld ...'; to run one "
        "copy on purpose: 'env%s shardweld ...'",
        n, first->name, first->rank, first->size, n, n, vars);
}

sw_code sw_launch_look(sw_launch *out, sw_status *st)
{
    out->alone = true;
    out->rank = 0;
    for (size_t i = 0; i < COUNT(ours); i++) {
        if (!getenv(ours[i].size))
            continue;
        out->alone = false;
        if (number(ours[i].rank) >= 0) {
            out->rank = (int)number(ours[i].rank);
            return SW_OK;
        }
    }
    return out->alone ? refuse(st) : SW_OK;
}

void sw_launch_prepare(const sw_launch *launch)
{
    if (!launch->alone)
        return;
    /* Else Open MPI starts a daemon, which needs ssh or the like; and in a Slurm step it asks Slurm to. */
    setenv("OMPI_MCA_ess_singleton_isolated", "1", 0);
    unsetenv("SLURM_STEP_ID");
}

/* ---- signals ------------------------------------------------------------------------------------ */

/* A handler can reach nothing but what has static storage. */
static volatile sig_atomic_t caught;

static void note(int sig)
{
    caught = sig;
}

void sw_signals_catch(void)
{
    static const int ends[] = { SIGINT, SIGTERM };
    struct sigaction act, old;

    memset(&act, 0, sizeof act);
    sigemptyset(&act.sa_mask);
    act.sa_handler = SIG_IGN;
    sigaction(SIGPIPE, &act, NULL);
    sigaction(SIGXFSZ, &act, NULL);
    act.sa_handler = note;
    act.sa_flags = SA_RESTART | (int)SA_RESETHAND; /* MPI libraries do not expect EINTR */
    for (size_t i = 0; i < COUNT(ends); i++)
        if (sigaction(ends[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
            sigaction(ends[i], &act, NULL);
}

const volatile int *sw_signals_flag(void)
{
    return &caught;
}

void sw_signals_die(void)
{
    int sig = caught;

    if (sig == 0)
        return;
    signal(sig, SIG_DFL);
    raise(sig);
}
