/* What the environment says of the launcher: a rank, alone, or one of several that are no ranks of
 * one job. */
#include <signal.h>

#include "cmd/launch.h"
#include "environment_help.h"
#include "unit.h"

#define OPEN_MPI_JOB "OMPI_COMM_WORLD_SIZE=4 OMPI_COMM_WORLD_RANK=3 PMIX_RANK=3"

TEST(look)
{
    static const struct {
        const char *environment;
        bool alone;
        int rank;
        const char *says; /* NULL = taken */
    } cases[] = {
        { "", true, 0, NULL },
        { OPEN_MPI_JOB, false, 3, NULL },
        { OPEN_MPI_JOB " RANK=0 WORLD_SIZE=4", false, 3, NULL },
        { OPEN_MPI_JOB " SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=4", false, 3, NULL },
        { "PMI_RANK=3 PMI_SIZE=4", false, 3, NULL },
        { "PMI_RANK=3 PMI_FD=7", false, 3, NULL },
        { "PMIX_RANK=2", false, 2, NULL },
        { "PMIX_RANK=2 SLURM_PROCID=2 SLURM_STEP_NUM_TASKS=4", false, 2, NULL },
        { "RANK=3 WORLD_SIZE=4", true, 0, "one of 4 processes of torchrun" },
        { "RANK=0 WORLD_SIZE=2", true, 0, "env -u RANK -u WORLD_SIZE shardweld" },
        { "RANK=0 WORLD_SIZE=1", true, 0, NULL },
        { "RANK=3", true, 0, NULL },
        { "WORLD_SIZE=4", true, 0, NULL },
        { "RANK=0 WORLD_SIZE=many", true, 0, NULL },
        { "RANK=0 WORLD_SIZE=-4", true, 0, NULL },
        { "SLURM_PROCID=1 SLURM_STEP_NUM_TASKS=8", true, 0, "one of 8 processes of srun without PMI" },
        { "SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=1", true, 0, NULL },
        { "SLURM_PROCID=0 SLURM_NTASKS=8", true, 0, NULL },
        { "RANK=1 WORLD_SIZE=4 SLURM_PROCID=1 SLURM_STEP_NUM_TASKS=4", true, 0,
          "env -u RANK -u WORLD_SIZE -u SLURM_PROCID -u SLURM_STEP_NUM_TASKS shardweld" },
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sw_status st = SW_STATUS_INIT;
        sw_launch l;

        set_environment(cases[i].environment);
        sw_launch_look(&l, &st);
        if (l.alone != cases[i].alone || l.rank != cases[i].rank ||
            st.code != (cases[i].says ? SW_EUSAGE : SW_OK) ||
            (cases[i].says && !strstr(st.reason, cases[i].says)))
            fail_msg("%s: alone %d, rank %d, '%s'", cases[i].environment, l.alone, l.rank, st.reason);
    }
}

TEST(signals)
{
    struct sigaction now;

    signal(SIGINT, SIG_IGN); /* as under nohup, or in the background */
    signal(SIGTERM, SIG_DFL);
    sw_signals_catch();
    assert_int_equal(*sw_signals_flag(), 0);
    raise(SIGINT);
    assert_int_equal(*sw_signals_flag(), 0);
    raise(SIGPIPE);
    raise(SIGXFSZ);
    raise(SIGTERM);
    assert_int_equal(*sw_signals_flag(), SIGTERM);
    /* The next one kills. */
    assert_int_equal(sigaction(SIGTERM, NULL, &now), 0);
    assert_true(now.sa_handler == SIG_DFL);
}
