/* The environment as launchers leave it. */
#ifndef ENVIRONMENT_HELP_H
#define ENVIRONMENT_HELP_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "A=1 B=2" and nothing else that tells of a launcher or of MPI. */
static inline void set_environment(const char *words)
{
    static const char *const variables[] = {
        "OMPI_COMM_WORLD_SIZE",
        "OMPI_COMM_WORLD_RANK",
        "PMIX_RANK",
        "PMI_RANK",
        "PMI_SIZE",
        "PMI_FD",
        "PMI_PORT",
        "RANK",
        "WORLD_SIZE",
        "SLURM_PROCID",
        "SLURM_STEP_NUM_TASKS",
        "SHARDWELD_MPI",
        "SLURM_STEP_ID",
        "SLURM_NTASKS",
    };
    char text[256], *rest = text, *word;

    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++)
        unsetenv(variables[i]);
    snprintf(text, sizeof text, "%s", words);
    while ((word = strtok_r(rest, " ", &rest)) != NULL) {
        char *equals = strchr(word, '=');

        *equals = '\0';
        setenv(word, equals + 1, 1);
    }
}

#endif
