/* Launchers of MPI jobs by the environment, what is said to processes that are no ranks, and what
 * SHARDWELD_MPI may be. No MPI library is needed. */
#include <string.h>

#include "environment_help.h"
#include "par/launcher.h"
#include "par/layer.h"
#include "unit.h"

TEST(here)
{
    static const struct {
        const char *environment, *name; /* NULL = none */
        int size;
        const char *knows, *not ;
    } cases[] = {
        { "", NULL, 0, NULL, NULL },
        { "RANK=0 WORLD_SIZE=4", NULL, 0, NULL, NULL },
        { "SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=4", NULL, 0, NULL, NULL },
        { "OMPI_COMM_WORLD_SIZE=4 PMIX_RANK=0", "Open MPI's mpirun", 4, "openmpi", "mpich" },
        { "PMI_SIZE=3 PMI_RANK=1", "an mpiexec of MPICH's kind", 3, "mpich", "openmpi" },
        { "PMI_FD=7", "an mpiexec of MPICH's kind", 0, "abi", "openmpi" },
        { "PMI_PORT=a:1", "an mpiexec of MPICH's kind", 0, "abi", "openmpi" },
        { "PMIX_RANK=1 SLURM_STEP_NUM_TASKS=8", "srun --mpi=pmix", 8, "mpich", "none" },
        { "PMIX_RANK=1 SLURM_STEP_NUM_TASKS=-8", "srun --mpi=pmix", 0, "openmpi", "" },
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        const sw_launcher *l;

        set_environment(cases[i].environment);
        l = sw_launcher_here();
        if ((l != NULL) != (cases[i].name != NULL) || (l && strcmp(l->name, cases[i].name) != 0))
            fail_msg("%s: %s", cases[i].environment, l ? l->name : "none");
        if (l && (sw_launcher_size(l) != cases[i].size || !sw_launcher_knows(l, cases[i].knows) ||
                  sw_launcher_knows(l, cases[i].not )))
            fail_msg("%s: size %d", cases[i].environment, sw_launcher_size(l));
    }
}

TEST(refuse)
{
    static const struct {
        const char *environment, *kind, *says;
    } cases[] = {
        { "PMI_RANK=0 PMI_SIZE=3 PMI_FD=7", "openmpi",
          "this is one of 3 processes of an mpiexec of MPICH's kind (PMI_RANK, PMI_SIZE), which are not "
          "ranks of "
          "one MPI job: no luck; pray, or start it with Open MPI's 'mpirun -n 3 shardweld ...' or 'srun "
          "--mpi=pmix -n 3 shardweld ...'; to run one copy on purpose: 'env -u PMI_RANK -u PMI_SIZE -u "
          "PMI_FD "
          "shardweld ...'" },
        { "OMPI_COMM_WORLD_RANK=1 OMPI_COMM_WORLD_SIZE=2 PMIX_RANK=1", "mpich",
          "MPICH's 'mpiexec -n 2 shardweld ...' or 'srun --mpi=pmi2 -n 2 shardweld ...'; to run one copy on "
          "purpose: 'env -u OMPI_COMM_WORLD_RANK -u OMPI_COMM_WORLD_SIZE -u PMIX_RANK shardweld ...'" },
        { "PMIX_RANK=1 SLURM_PROCID=1 SLURM_STEP_NUM_TASKS=3", "none",
          "pray, or run it as one process; to run one copy on purpose: 'env -u SLURM_PROCID -u "
          "SLURM_STEP_NUM_TASKS -u PMIX_RANK shardweld ...'" },
        { "PMIX_RANK=1", "none", "this is one of several processes of srun --mpi=pmix (" },
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        sw_status st = SW_STATUS_INIT;

        set_environment(cases[i].environment);
        sw_launcher_refuse(sw_launcher_here(), "no luck", "pray", cases[i].kind, &st);
        if (st.code != SW_EUSAGE || !strstr(st.reason, cases[i].says))
            fail_msg("%s: '%s'", cases[i].environment, st.reason);
    }
}

/* None of these leads to a layer. */
TEST(no_layer)
{
    static const struct {
        const char *wish, *says;
    } cases[] = {
        { "SHARDWELD_MPI=none", "SHARDWELD_MPI is none" },
        { "SHARDWELD_MPI=openmp", "expected openmpi, mpich, abi, none or a path" },
        { "SHARDWELD_MPI=/nonexistent", "neither a layer of shardweld nor an MPI library" },
        { "SHARDWELD_MPI=/nonexistent/libmpi.so.40", "libshardweld-mpi-openmpi.so is neither in" },
        { "SHARDWELD_MPI=/nonexistent/libshardweld-mpi-abi.so", "abi.so" },
    };

    for (size_t i = 0; i < COUNT(cases); i++) {
        sw_status st = SW_STATUS_INIT;

        set_environment(cases[i].wish);
        if (sw_layer_find(NULL, &st) || st.code != SW_EUSAGE || !strstr(st.reason, cases[i].says))
            fail_msg("%s: '%s'", cases[i].wish, st.reason);
    }
    assert_null(sw_layer_here());
    assert_int_equal(sw_layer_begun(), SW_MPI_UNBORN);
}
