/* What the launcher made of this process; see launch.h. */
#include "launch.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "say.h"
#include "text.h"

/* Who numbers processes, by which variables. */
typedef struct launcher {
    const char *rank, *size, *name;
} launcher;

/* The launcher whose processes are ranks for an MPI; how to start them; and the launchers whose
 * processes are so many jobs of one for it. */
typedef struct family {
    launcher ours, others[3];
    const char *start, *pmi; /* how to start them: a command, and srun's --mpi= */
} family;

static const family open_mpi = {
    { "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "mpirun" },
    { { "RANK", "WORLD_SIZE", "torchrun" },
      { "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "srun without PMIx" },
      { "PMI_RANK", "PMI_SIZE", "the mpirun of another MPI" } },
    "Open MPI's 'mpirun",
    "pmix",
};
static const family mpich = {
    { "PMI_RANK", "PMI_SIZE", "mpiexec" },
    { { "RANK", "WORLD_SIZE", "torchrun" },
      { "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "srun without PMI" },
      { "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "the mpirun of another MPI" } },
    "MPICH's 'mpiexec",
    "pmi2",
};

static const family *mine(void)
{
    return strcmp(sw_mpi_kind(), "openmpi") == 0 ? &open_mpi : &mpich;
}

/* PMIx gives a rank but no size; Slurm gives the size of its step. */
static const char pmix_rank[] = "PMIX_RANK";
static const launcher pmix_step = { "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "srun --mpi=pmix" };

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

static bool is_one_of_many(const launcher *l)
{
    return getenv(l->rank) && number(l->size) > 1;
}

/* vars: what has to go from the environment of a copy that is meant to be alone. */
static sw_code refuse(const launcher *l, const char *vars, sw_status *st)
{
    long n = number(l->size);

    return sw_refuse(
        st, SW_EUSAGE, NULL,
        "this is one of %ld processes of %s (%s, %s), which are not ranks of one MPI job; start it "
        "with %s -n %ld shardweld ...' or 'srun --mpi=%s -n %ld shardweld ...'; to run one copy "
        "on purpose: 'env%s shardweld ...'",
        n, l->name, l->rank, l->size, mine()->start, n, mine()->pmi, n, vars);
}

/* Refuse with the name of the launcher that was seen first and all variables that have to go. */
static sw_code refuse_others(sw_status *st)
{
    const launcher *first = NULL;
    char vars[256] = "";

    for (size_t i = 0; i < SW_COUNT(mine()->others); i++) {
        const launcher *l = &mine()->others[i];
        size_t len = strlen(vars);

        if (!is_one_of_many(l))
            continue;
        first = first ? first : l;
        snprintf(vars + len, sizeof vars - len, " -u %s -u %s", l->rank, l->size);
    }
    return first ? refuse(first, vars, st) : SW_OK;
}

sw_code sw_launch_look(sw_launch *out, sw_status *st)
{
    long rank = number(mine()->ours.rank);

    if (rank < 0)
        rank = number(pmix_rank);
    out->alone = !sw_comm_launched();
    out->rank = out->alone || rank < 0 ? 0 : (int)rank;
    return out->alone ? refuse_others(st) : SW_OK;
}

sw_code sw_launch_confirm(int ranks, sw_status *st)
{
    const launcher *l = getenv(mine()->ours.size) ? &mine()->ours : &pmix_step;
    char vars[256];

    if (ranks > 1 || !is_one_of_many(l))
        return SW_OK;
    snprintf(vars, sizeof vars, " -u %s -u %s -u %s", pmix_rank, l->rank, l->size);
    return refuse(l, vars, st);
}

/* ---- signals --------------------------------------------------------------------------------- */

/* A handler can reach nothing but what has static storage. */
static volatile sig_atomic_t caught;
static char announcement[1024]; /* "" = none */

/* The handler: what it does must be safe at any moment. */
static void note(int sig)
{
    int err = errno;

    caught = sig;
    if (announcement[0] && write(STDERR_FILENO, announcement, strlen(announcement)) < 0)
        announcement[0] = '\0'; /* nobody hears us */
    errno = err;
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
    for (size_t i = 0; i < SW_COUNT(ends); i++)
        if (sigaction(ends[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
            sigaction(ends[i], &act, NULL);
}

/* The first byte last: a signal may come in between. */
void sw_signals_announce(const char *staging)
{
    char text[sizeof announcement] = "";
    size_t n;

    snprintf(text, sizeof text - 1, "shardweld: interrupted%s%s%s", staging ? "; if " : "",
             staging ? staging : "", staging ? " stays behind, the next run removes it" : "");
    n = strlen(text);
    sw_text_clean(text, n);
    text[n] = '\n';
    memcpy(announcement + 1, text + 1, sizeof text - 1);
    announcement[0] = text[0];
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
