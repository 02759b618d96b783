/* Launchers of MPI jobs, by what they leave in the environment; see launcher.h. */
#include "par/launcher.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Open MPI's mpirun sets PMIX_RANK too, so it comes first; so do the launchers that give a size.
 * Those at the end start processes that are so many jobs of one. */
static const sw_launcher launchers[] = {
    { "Open MPI's mpirun",
      "OMPI_COMM_WORLD_RANK",
      "OMPI_COMM_WORLD_SIZE",
      { "OMPI_COMM_WORLD_SIZE" },
      { "openmpi", "abi" },
      true },
    { "an mpiexec of MPICH's kind",
      "PMI_RANK",
      "PMI_SIZE",
      { "PMI_SIZE", "PMI_FD", "PMI_PORT" },
      { "mpich", "abi" },
      false },
    { "srun --mpi=pmix",
      "SLURM_PROCID",
      "SLURM_STEP_NUM_TASKS",
      { "PMIX_RANK" },
      { "openmpi", "mpich", "abi" },
      false },
    { "torchrun", "RANK", "WORLD_SIZE", { NULL }, { NULL }, false },
    { "srun without PMI", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", { NULL }, { NULL }, false },
};

#define LAUNCHERS (sizeof launchers / sizeof *launchers)

/* Does the environment have a mark of this launcher? */
static bool has_mark(const sw_launcher *l)
{
    for (size_t m = 0; m < SW_LAUNCHER_MARKS && l->marks[m]; m++)
        if (getenv(l->marks[m]))
            return true;
    return false;
}

const sw_launcher *sw_launcher_here(void)
{
    for (size_t i = 0; i < LAUNCHERS; i++)
        if (has_mark(&launchers[i]))
            return &launchers[i];
    return NULL;
}

int sw_launcher_size(const sw_launcher *l)
{
    const char *text = getenv(l->size);
    char *end;
    long n;

    if (!text || text[0] < '0' || text[0] > '9')
        return 0;
    n = strtol(text, &end, 10);
    return *end || n > INT_MAX ? 0 : (int)n;
}

bool sw_launcher_knows(const sw_launcher *l, const char *kind)
{
    for (size_t i = 0; i < SW_LAUNCHER_KINDS && l->kinds[i]; i++)
        if (strcmp(l->kinds[i], kind) == 0)
            return true;
    return false;
}

/* ---- where its MPI lies ---------------------------------------------------------------------- */

#define GENERATIONS 8

/* Programs that start ranks, and what stands between them and the ranks on each machine. What comes
 * behind a dot or a line below tells of the kind ("mpiexec.hydra", "hydra_pmi_proxy"). */
static bool is_of_mpi(const char *program)
{
    static const char *const names[] = { "mpirun", "mpiexec", "orterun", "prterun", "prte",
                                         "orted",  "prted",   "hydra",   "pmi" };
    size_t n = strcspn(program, "._");

    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strlen(names[i]) == n && strncmp(program, names[i], n) == 0)
            return true;
    return false;
}

/* The parent of a process; 0 = it cannot be told. Its name, in parentheses, may hold anything. */
static int parent_of(int pid)
{
    char path[64], text[512], *at;
    int parent = 0;
    FILE *f;
    size_t n;

    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    f = fopen(path, "re");
    if (!f)
        return 0;
    n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = '\0';
    at = strrchr(text, ')');
    return at && sscanf(at + 1, " %*c %d", &parent) == 1 ? parent : 0;
}

bool sw_launcher_prefix(char *prefix, size_t n)
{
    char path[64], program[PATH_MAX];
    int pid = getppid();

    for (int i = 0; i < GENERATIONS && pid > 1; i++, pid = parent_of(pid)) {
        ssize_t len;
        char *name, *bin;

        snprintf(path, sizeof path, "/proc/%d/exe", pid);
        len = readlink(path, program, sizeof program - 1);
        if (len <= 0)
            continue;
        program[len] = '\0';
        name = strrchr(program, '/');
        if (!name || !is_of_mpi(name + 1))
            continue;
        *name = '\0';
        bin = strrchr(program, '/');
        if (bin)
            *bin = '\0';
        return (size_t)snprintf(prefix, n, "%s", program) < n;
    }
    return false;
}

/* ---- refusing -------------------------------------------------------------------------------- */

/* Did it start more than this process? */
static bool is_one_of_many(const sw_launcher *l)
{
    return getenv(l->rank) && sw_launcher_size(l) > 1;
}

/* " -u NAME", once. */
static void add_variable(char *words, size_t n, const char *name)
{
    char word[64];

    snprintf(word, sizeof word, " -u %s", name);
    if (getenv(name) && !strstr(words, word))
        snprintf(words + strlen(words), n - strlen(words), "%s", word);
}

/* All that has to go from the environment of a copy that is meant to be alone. */
static void list_variables(char *words, size_t n)
{
    words[0] = '\0';
    for (size_t i = 0; i < LAUNCHERS; i++) {
        const sw_launcher *l = &launchers[i];

        if (!(l->marks[0] ? has_mark(l) : is_one_of_many(l)))
            continue;
        add_variable(words, n, l->rank);
        add_variable(words, n, l->size);
        for (size_t m = 0; m < SW_LAUNCHER_MARKS && l->marks[m]; m++)
            add_variable(words, n, l->marks[m]);
    }
}

/* How to start so many ranks of this kind of MPI. */
static void say_start(char *text, size_t size, const char *kind, int n)
{
    bool open_mpi = strcmp(kind, "openmpi") == 0;

    if (strcmp(kind, "none") == 0)
        snprintf(text, size, "run it as one process");
    else
        snprintf(text, size, "start it with %s -n %d shardweld ...' or 'srun --mpi=%s -n %d shardweld ...'",
                 open_mpi ? "Open MPI's 'mpirun" : "MPICH's 'mpiexec", n, open_mpi ? "pmix" : "pmi2", n);
}

sw_code sw_launcher_refuse(const sw_launcher *l, const char *why, const char *cure, const char *kind,
                           sw_status *st)
{
    char many[32] = "several", vars[200], start[160];
    int n = sw_launcher_size(l);

    if (n)
        snprintf(many, sizeof many, "%d", n);
    list_variables(vars, sizeof vars);
    say_start(start, sizeof start, kind, n ? n : 2);
    return sw_fail(st, SW_EUSAGE, NULL, NULL,
                   "this is one of %s processes of %s (%s, %s), which are not ranks of one MPI job%s%.350s; "
                   "%s%s%s; to run one copy on purpose: 'env%s shardweld ...'",
                   many, l->name, l->rank, l->size, why ? ": " : "", why ? why : "", cure ? cure : "",
                   cure ? ", or " : "", start, vars);
}

sw_code sw_comm_check_alone(sw_status *st)
{
    for (size_t i = 0; !sw_launcher_here() && i < LAUNCHERS; i++)
        if (!launchers[i].marks[0] && is_one_of_many(&launchers[i]))
            return sw_launcher_refuse(&launchers[i], NULL, NULL, sw_mpi_kind(), st);
    return SW_OK;
}
